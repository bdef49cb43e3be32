"""ROS 2 on this computer only: no socket that can be reached from a network."""

from collections.abc import Mapping
from pathlib import Path

PROFILE = Path(__file__).with_name("loopback.xml")
OUTWARD = (
    "FASTDDS_BUILTIN_TRANSPORTS",
    "ROS_DISCOVERY_SERVER",
    "ROS_LOCALHOST_ONLY",
    "ROS_STATIC_PEERS",
    "ROS_SUPER_CLIENT",
)


def loopback_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """`environment` with the variables that keep ROS nodes on the loopback.

    LOCALHOST alone does not with Fast DDS, the middleware by default: its sockets are bound to all
    addresses, and answer everybody who sends to them. With another RMW_IMPLEMENTATION, LOCALHOST is
    all that is set.
    """
    kept = {name: value for name, value in environment.items() if name not in OUTWARD}
    if not (kept.get("RMW_IMPLEMENTATION") or "rmw_fastrtps_cpp").startswith("rmw_fastrtps"):
        return {**kept, "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST"}
    return {
        **kept,
        "FASTRTPS_DEFAULT_PROFILES_FILE": str(PROFILE),  # of Fast DDS 2, as in Jazzy
        "FASTDDS_DEFAULT_PROFILES_FILE": str(PROFILE),  # of Fast DDS 3
        # any other range makes rmw_fastrtps add its own transports, bound to all addresses
        "ROS_AUTOMATIC_DISCOVERY_RANGE": "SYSTEM_DEFAULT",
    }
