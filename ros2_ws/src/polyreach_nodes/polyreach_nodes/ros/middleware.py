"""Environment variables of the ROS 2 middleware that keep nodes on the loopback and on UDP."""

import os
from collections.abc import Mapping
from pathlib import Path

PROFILE = Path(__file__).with_name("loopback.xml")
PROFILE_VARIABLES = (
    "FASTRTPS_DEFAULT_PROFILES_FILE",  # of Fast DDS 2, as in Jazzy
    "FASTDDS_DEFAULT_PROFILES_FILE",  # of Fast DDS 3
)
REMOTE_VARIABLES = (  # by which nodes may reach other machines
    "FASTDDS_BUILTIN_TRANSPORTS",
    "ROS_DISCOVERY_SERVER",
    "ROS_LOCALHOST_ONLY",
    "ROS_STATIC_PEERS",
    "ROS_SUPER_CLIENT",
)


def loopback_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """`environment` with the variables that keep ROS nodes on the loopback.

    With Fast DDS, the default middleware, the discovery range LOCALHOST is not enough: its sockets
    are bound to all addresses and answer every sender. With another RMW_IMPLEMENTATION, only
    LOCALHOST is set.
    """
    kept = {name: value for name, value in environment.items() if name not in REMOTE_VARIABLES}
    if not _is_fast_dds(kept):
        return {**kept, "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST"}
    return {
        **kept,
        **dict.fromkeys(PROFILE_VARIABLES, str(PROFILE)),
        # with any other range, rmw_fastrtps adds transports that are bound to all addresses
        "ROS_AUTOMATIC_DISCOVERY_RANGE": "SYSTEM_DEFAULT",
    }


def without_shared_memory(environment: Mapping[str, str]) -> dict[str, str]:
    """`environment` with Fast DDS on UDP alone, unless it chooses a profile or transports.

    A process that is killed while it holds a mutex of Fast DDS in shared memory (2.14) leaves it
    locked: a node that publishes to that process then waits for 0.3 to 1 s, or for ever. UDP has no
    such lock.

    The range LOCALHOST becomes the loopback profile, because rmw_fastrtps always adds shared memory
    with that range. A profile or transports of the user's choice, LOCALHOST with static peers or a
    discovery server, and other middlewares stay as they are.
    """

    def any_set(*names: str) -> bool:
        return any(environment.get(name) for name in names)

    if not _is_fast_dds(environment) or any_set(*PROFILE_VARIABLES):
        return dict(environment)
    discovery = environment.get("ROS_AUTOMATIC_DISCOVERY_RANGE", "").upper()
    if discovery == "LOCALHOST" or (not discovery and environment.get("ROS_LOCALHOST_ONLY") == "1"):
        if any_set("ROS_STATIC_PEERS", "ROS_DISCOVERY_SERVER"):
            return dict(environment)
        return loopback_environment(environment)
    return {"FASTDDS_BUILTIN_TRANSPORTS": "UDPv4", **environment}


def leave_shared_memory() -> None:
    """Apply without_shared_memory to this process; to be called before rclpy.init."""
    environment = without_shared_memory(os.environ)
    for name in os.environ.keys() - environment.keys():
        del os.environ[name]
    os.environ.update(environment)


def _is_fast_dds(environment: Mapping[str, str]) -> bool:
    return (environment.get("RMW_IMPLEMENTATION") or "rmw_fastrtps_cpp").startswith("rmw_fastrtps")
