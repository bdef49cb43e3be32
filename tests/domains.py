"""Reservation of one ROS domain per test."""

import fcntl
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

DOMAINS = range(1, 100)  # ports of higher ids overlap the ephemeral ports of the system


@contextmanager
def reserved_domain() -> Iterator[int]:
    """Reserve a domain id that no other test on this machine uses."""
    folder = Path(tempfile.gettempdir()) / f"polyreach-ros-domains-{os.getuid()}"
    folder.mkdir(exist_ok=True)
    start = os.getpid() % len(DOMAINS)
    for offset in range(len(DOMAINS)):
        domain = DOMAINS[(start + offset) % len(DOMAINS)]
        with (folder / str(domain)).open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            yield domain
            return
    raise RuntimeError(f"all ROS domain ids from {DOMAINS[0]} to {DOMAINS[-1]} are in use")
