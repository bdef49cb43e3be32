"""The connection to a Ray cluster: one that runs already, or one of this machine alone."""

import os
import secrets
import signal
import socket
from typing import Any

from polyreach.errors import UserError

LOOPBACK = "127.0.0.1"
CONNECT_S = 5.0
OBJECTS = 256 * 2**20  # [byte] of shared memory for objects on a cluster of this machine
LEGAL = (
    "HOST:PORT as `ray start --head` prints it; auto: the cluster that this machine is a node of; "
    "without ray_address, a cluster of this machine alone"
)


def import_ray(address: str) -> Any:
    """The package, for a cluster at `address`; empty: of this machine alone. Raises UserError if it
    is not installed.

    Ray reads its environment when it is imported. On one machine it then listens on the loopback
    alone, and takes only what has the token that this process and its children know.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    if not address:
        os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"  # no cluster of several machines
        os.environ.setdefault("RAY_worker_niceness", "0")  # as processes of --on local
        if "RAY_AUTH_MODE" not in os.environ:
            os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    try:
        import ray
    except ImportError as error:
        raise UserError(
            f"on is 'ray', but Ray cannot be imported ({error}): pip install 'polyreach[ray]' "
            "(legal without it: local, slurm)"
        ) from None
    return ray


def connect(address: str) -> None:
    """Connect this process to the cluster at `address`, or start one; handlers of signals stay.

    Raises UserError if there is none, or if it cannot be used from here.
    """
    ray = import_ray(address)
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    common = {"include_dashboard": False, "log_to_driver": False, "logging_level": "ERROR"}
    try:
        if address:
            _check_reachable(address)
            del common["include_dashboard"]
            ray.init(address=address, **common)
        else:
            # "local": not the cluster that RAY_ADDRESS or a file of `ray start` names
            ray.init(address="local", object_store_memory=OBJECTS, **common)
            _check_loopback(ray)
    except (OSError, ValueError, RuntimeError) as error:
        ray.shutdown()
        if isinstance(error, UserError):
            raise
        reason = next(iter(str(error).splitlines()), repr(error))
        where = f"ray_address '{address}'" if address else "a Ray cluster of this machine"
        raise UserError(f"{where} cannot be used: {reason} (legal: {LEGAL})") from None
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


def _check_reachable(address: str) -> None:
    """Raise UserError unless something listens there; Ray itself would try for a minute."""
    if address == "auto":
        return
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit() or "/" in host:
        raise UserError(f"ray_address '{address}' is no address (legal: {LEGAL})")
    try:
        socket.create_connection((host.strip("[]"), int(port)), CONNECT_S).close()
    except (OSError, OverflowError) as error:
        raise UserError(
            f"ray_address '{address}' cannot be reached: {error} (legal: {LEGAL})"
        ) from None


def _check_loopback(ray: Any) -> None:
    """Raise UserError if the cluster that was started can be reached from other machines."""
    addresses = {node["NodeManagerAddress"] for node in ray.nodes()}
    if addresses != {LOOPBACK}:
        raise UserError(
            f"Ray {ray.__version__} listens on {', '.join(sorted(addresses))} instead of {LOOPBACK}"
            ": start a cluster yourself, and give its ray_address"
        )
