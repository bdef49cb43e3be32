"""Socket addresses and shared memory of running nodes."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path
from time import monotonic, sleep

import pytest

from polyreach_nodes.demo.processes import Processes
from polyreach_nodes.ros.middleware import (
    PROFILE,
    PROFILE_VARIABLES,
    loopback_environment,
    without_shared_memory,
)

Address = IPv4Address | IPv6Address


def addresses_of(process_id: int) -> list[Address]:
    """Local addresses of the UDP and TCP sockets that a process has open."""
    sockets = set()
    for file in Path(f"/proc/{process_id}/fd").iterdir():
        with suppress(FileNotFoundError):  # closed meanwhile
            if (name := os.readlink(file)).startswith("socket:["):
                sockets.add(name[8:-1])
    addresses = []
    for table in ("udp", "udp6", "tcp", "tcp6"):
        for line in Path(f"/proc/{process_id}/net/{table}").read_text().splitlines()[1:]:
            _, local, *_, inode = line.split()[:10]
            if inode in sockets:
                host = local.partition(":")[0]
                words = [bytes.fromhex(host[i : i + 8])[::-1] for i in range(0, len(host), 8)]
                addresses.append(ip_address(b"".join(words)))
    return addresses


def wait_for_sockets(process: "subprocess.Popen[bytes]", count: int) -> list[Address]:
    deadline = monotonic() + 60
    while len(addresses := addresses_of(process.pid)) < count:
        assert process.poll() is None and monotonic() < deadline
        sleep(0.05)
    return addresses


def test_the_demo_cannot_be_reached_from_a_network(tmp_path: Path) -> None:
    pytest.importorskip("viser")
    with Processes(tmp_path) as processes:
        nodes = [
            processes.start("sim_node", {"robot": "planar8"}),
            processes.start("controller_node", {"robot": "planar8"}),
            processes.start("view_node", {"robot": "planar8", "port": 0}),
        ]
        for node in nodes:
            wait_for_sockets(node, 4)
        sleep(1.0)  # for those that come later
        for node in nodes:
            assert all(address.is_loopback for address in addresses_of(node.pid))


PLAIN_NODE = """
from time import sleep

import rclpy

rclpy.init()
node = rclpy.create_node("plain")
sleep(60)
"""
NODES = {
    "plain": ["-c", PLAIN_NODE],
    "sim_node": ["-m", "polyreach_nodes.sim_node"],
    "command_watchdog_node": ["-m", "polyreach_nodes.command_watchdog_node"],
}


@contextmanager
def running(name: str, reach: str) -> Iterator["subprocess.Popen[bytes]"]:
    """A node without a profile, with a discovery range ('': the default), once it has sockets."""
    chosen = (*PROFILE_VARIABLES, "ROS_AUTOMATIC_DISCOVERY_RANGE")
    environment = {name: value for name, value in os.environ.items() if name not in chosen}
    if reach:
        environment["ROS_AUTOMATIC_DISCOVERY_RANGE"] = reach
    node = subprocess.Popen([sys.executable, *NODES[name]], env=environment)
    try:
        wait_for_sockets(node, 4)
        sleep(0.5)  # for what comes later
        yield node
    finally:
        node.kill()
        node.wait()


def shares_memory(node: "subprocess.Popen[bytes]") -> bool:
    """Whether it has memory of Fast DDS that other processes have, too."""
    return "/dev/shm/fastrtps" in Path(f"/proc/{node.pid}/maps").read_text()


@pytest.mark.parametrize("reach", ["", "SUBNET", "LOCALHOST"])
@pytest.mark.parametrize("name", ["sim_node", "command_watchdog_node"])
def test_no_killed_process_can_leave_a_node_a_locked_memory(
    name: str, reach: str, ros_domain_id: int
) -> None:
    with running(name, reach) as node:
        assert not shares_memory(node)
        if reach == "LOCALHOST":
            assert all(address.is_loopback for address in addresses_of(node.pid))


def test_a_plain_node_shares_memory_and_listens_to_the_network(ros_domain_id: int) -> None:
    # if this fails, what polyreach_nodes.ros.middleware does may have become superfluous
    with running("plain", "LOCALHOST") as node:
        assert shares_memory(node)
        assert any(address.is_unspecified for address in addresses_of(node.pid))


@pytest.mark.parametrize(
    "chosen",
    [
        {"FASTRTPS_DEFAULT_PROFILES_FILE": "mine.xml"},
        {"FASTDDS_BUILTIN_TRANSPORTS": "DEFAULT"},
        {"RMW_IMPLEMENTATION": "rmw_cyclonedds_cpp"},
        {"ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST", "ROS_STATIC_PEERS": "10.0.0.7"},
    ],
)
def test_user_settings_of_the_middleware_take_precedence(chosen: dict[str, str]) -> None:
    assert without_shared_memory(chosen) == chosen


@pytest.mark.parametrize(
    "local",
    [
        {"ROS_AUTOMATIC_DISCOVERY_RANGE": "localhost"},
        {"ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST", "FASTDDS_BUILTIN_TRANSPORTS": "UDPv4"},
        {"ROS_LOCALHOST_ONLY": "1"},
    ],
)
def test_localhost_discovery_gets_the_loopback_profile(local: dict[str, str]) -> None:
    assert without_shared_memory(local) == loopback_environment(local)


def test_settings_that_reach_other_hosts_are_dropped() -> None:
    given = {
        "HOME": "/home/me",
        "ROS_STATIC_PEERS": "10.0.0.7",
        "ROS_DISCOVERY_SERVER": "10.0.0.8:11811",
        "FASTRTPS_DEFAULT_PROFILES_FILE": "mine.xml",
    }
    environment = loopback_environment(given)
    assert environment["HOME"] == "/home/me"
    assert environment["FASTRTPS_DEFAULT_PROFILES_FILE"] == str(PROFILE) and PROFILE.is_file()
    assert "10.0.0" not in str(environment)


@pytest.mark.parametrize(
    ("middleware", "expected"),
    [
        ({}, "SYSTEM_DEFAULT"),
        ({"RMW_IMPLEMENTATION": ""}, "SYSTEM_DEFAULT"),
        ({"RMW_IMPLEMENTATION": "rmw_fastrtps_dynamic_cpp"}, "SYSTEM_DEFAULT"),
        ({"RMW_IMPLEMENTATION": "rmw_cyclonedds_cpp"}, "LOCALHOST"),
    ],
)
def test_the_discovery_range_depends_on_the_middleware(
    middleware: dict[str, str], expected: str
) -> None:
    environment = loopback_environment({**middleware, "ROS_AUTOMATIC_DISCOVERY_RANGE": "SUBNET"})
    assert environment["ROS_AUTOMATIC_DISCOVERY_RANGE"] == expected
