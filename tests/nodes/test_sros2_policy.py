"""The permissions of config/sros2 against what the running nodes use."""

import time
from fnmatch import fnmatchcase
from pathlib import Path
from xml.etree import ElementTree

import pytest
from rig import Launcher
from scenarios import Probe

POLICY = Path(__file__).parents[2] / "config" / "sros2" / "polyreach.policy.xml"
KINDS = {
    "publisher": "topics publish",
    "subscriber": "topics subscribe",
    "service": "services reply",
    "client": "services request",
}
# the controller subscribes to its own commands only while another node publishes them
AT_TIMES = {("/polyreach_controller", "topics subscribe", "/polyreach_controller/commands")}
Permission = tuple[str, str, str]  # node, what is allowed, name


def permissions() -> set[Permission]:
    """All that the policy file allows; an action as its topics and services."""
    allowed = set()
    for profile in ElementTree.parse(POLICY).iter("profile"):
        assert profile.get("ns") == "/"
        node = f"/{profile.get('node')}"
        for group in profile:
            ((how, _),) = group.items()
            for entry in group:
                name = (entry.text or "").replace("~", node)
                name = name if name.startswith("/") else f"/{name}"
                if group.tag == "actions":
                    assert how == "execute"
                    parts = ("send_goal", "get_result", "cancel_goal")
                    allowed |= {
                        (node, "services reply", f"{name}/_action/{part}") for part in parts
                    }
                    parts = ("feedback", "status")
                    allowed |= {
                        (node, "topics publish", f"{name}/_action/{part}") for part in parts
                    }
                else:
                    allowed.add((node, f"{group.tag} {how}", name))
    return allowed


def uses(probe: Probe, nodes: set[str]) -> set[Permission]:
    """What nodes publish, subscribe to, reply to and request now."""
    permissions = set()
    for node in nodes:
        for kind, how in KINDS.items():
            names = getattr(probe.node, f"get_{kind}_names_and_types_by_node")(node[1:], "/")
            permissions |= {(node, how, name) for name, _ in names}
    return permissions


def covers(permission: Permission, use: Permission) -> bool:
    return permission[:2] == use[:2] and fnmatchcase(use[2], permission[2])


def test_the_sros2_policy_lists_exactly_what_the_nodes_use(
    start: Launcher, probe: Probe, policy_file: Path
) -> None:
    pytest.importorskip("polyreach_interfaces")
    allowed = permissions()
    nodes = {node for node, _, _ in allowed}
    start("sim_node", {"robot": "planar8"})
    start("controller_node", {"policy": str(policy_file), "autostart": True})
    start("command_watchdog_node")
    start("reach_node")
    probe.wait_state("IDLE")
    probe.wait(lambda: nodes <= {f"/{name}" for name in probe.node.get_node_names()}, "all nodes")

    def unused() -> set[Permission]:
        seen = uses(probe, nodes)
        return {
            entry for entry in allowed - AT_TIMES if not any(covers(entry, use) for use in seen)
        }

    deadline = time.monotonic() + 30
    while (left := unused()) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not left, "allowed, but not used"
    missing = {use for use in uses(probe, nodes) if not any(covers(p, use) for p in allowed)}
    assert not missing, "used, but not allowed"
