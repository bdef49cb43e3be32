"""What all tests share: a ROS domain of its own for every test that asks for one."""

import fcntl
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE / "nodes")]  # for scenarios.py and nodes/rig.py

# the same cases in every run, however busy the machine is
settings.register_profile("polyreach", derandomize=True, deadline=None)
settings.load_profile("polyreach")

os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"
DOMAINS = range(1, 100)  # with higher ids, the ports reach into those that the system hands out


@pytest.fixture
def ros_domain_id(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """A domain id that no other test on this machine holds; set in the environment, too."""
    folder = Path(tempfile.gettempdir()) / "polyreach-ros-domains"
    folder.mkdir(exist_ok=True)
    start = os.getpid() % len(DOMAINS)
    for offset in range(len(DOMAINS)):
        domain = DOMAINS[(start + offset) % len(DOMAINS)]
        with (folder / str(domain)).open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            monkeypatch.setenv("ROS_DOMAIN_ID", str(domain))
            yield domain
            return
    pytest.fail(f"all ROS domain ids from {DOMAINS.start} to {DOMAINS.stop - 1} are in use")
