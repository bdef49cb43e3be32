"""Which addresses the sockets of running nodes are bound to."""

import os
import subprocess
import sys
from contextlib import suppress
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path
from time import monotonic, sleep

import pytest

from polyreach_nodes.demo import Processes
from polyreach_nodes.loopback import PROFILE, loopback_environment

Address = IPv4Address | IPv6Address


def addresses_of(process_id: int) -> list[Address]:
    """Local addresses of the UDP and TCP sockets that a process has open."""
    sockets = set()
    for file in Path(f"/proc/{process_id}/fd").iterdir():
        with suppress(FileNotFoundError):  # closed meanwhile
            if (name := os.readlink(file)).startswith("socket:["):
                sockets.add(name[8:-1])
    found = []
    for table in ("udp", "udp6", "tcp", "tcp6"):
        for line in Path(f"/proc/{process_id}/net/{table}").read_text().splitlines()[1:]:
            _, local, *_, inode = line.split()[:10]
            if inode in sockets:
                host = local.partition(":")[0]
                words = [bytes.fromhex(host[i : i + 8])[::-1] for i in range(0, len(host), 8)]
                found.append(ip_address(b"".join(words)))
    return found


def wait_for_sockets(process: "subprocess.Popen[bytes]", count: int) -> list[Address]:
    deadline = monotonic() + 60
    while len(found := addresses_of(process.pid)) < count:
        assert process.poll() is None and monotonic() < deadline
        sleep(0.05)
    return found


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


def test_the_range_localhost_alone_leaves_sockets_open_to_the_network(ros_domain_id: int) -> None:
    # if this fails, the profile may have become superfluous
    node = subprocess.Popen(
        [sys.executable, "-m", "polyreach_nodes.sim_node"],
        env={
            **{key: value for key, value in os.environ.items() if "PROFILES_FILE" not in key},
            "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST",
        },
    )
    try:
        assert any(address.is_unspecified for address in wait_for_sockets(node, 4))
    finally:
        node.kill()
        node.wait()


def test_what_leads_elsewhere_is_dropped() -> None:
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
def test_the_range_is_that_of_the_middleware(middleware: dict[str, str], expected: str) -> None:
    environment = loopback_environment({**middleware, "ROS_AUTOMATIC_DISCOVERY_RANGE": "SUBNET"})
    assert environment["ROS_AUTOMATIC_DISCOVERY_RANGE"] == expected
