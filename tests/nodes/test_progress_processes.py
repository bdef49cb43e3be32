"""A robot without progress, with real processes: status, action and `polyreach goal`."""

import re
from collections.abc import Iterator

import numpy as np
import pytest
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rig import FakeHardware, Launcher, set_parameter
from scenarios import Probe

from polyreach_description import load_robot

pytestmark = pytest.mark.fault

CLASH = np.array([0.3, 0.0, 0.25])  # [m], where both hands of humanoid27 cannot be
BODIES = "'left_hand_geom' and 'right_hand_geom' are "
# either the policy keeps them apart, or their distance holds what it still commands
NO_PROGRESS = re.compile(rf"BLOCKED: no progress: (the policy commands no motion: )?{BODIES}")


@pytest.fixture
def humanoid(ros_domain_id: int) -> Iterator[Probe]:
    with Probe(load_robot("humanoid27"), ros_domain_id) as probe:
        yield probe


def start_controller(start: Launcher, probe: Probe) -> FakeHardware:
    hardware = FakeHardware(probe)
    # joint states may be as late as the test's process is on a busy machine
    parameters = {"robot": "humanoid27", "autostart": True, "joint_state_timeout": 0.5}
    start("controller_node", parameters)
    probe.wait_goals_subscribed()
    probe.wait_state("IDLE")
    return hardware


def test_status_diagnostics_and_goal_report_two_bodies(start: Launcher, humanoid: Probe) -> None:
    diagnostics: list[DiagnosticArray] = []
    humanoid.node.create_subscription(DiagnosticArray, "/diagnostics", diagnostics.append, 10)
    start_controller(start, humanoid)
    assert not set_parameter(humanoid, "progress_timeout", 61.0)[0]
    humanoid.send_goal("left_hand", CLASH)
    words = [f"{value:g}" for value in CLASH]
    sent = start("goal_node", None, "right_hand", *words, "--wait", "60")
    humanoid.wait_state("BLOCKED")
    assert NO_PROGRESS.match(humanoid.message)
    assert NO_PROGRESS.match(f"BLOCKED: {humanoid.value('no progress')}")
    assert humanoid.value("reached") == "false"

    def reported() -> bool:
        statuses = [status for array in diagnostics for status in array.status]
        return any(
            NO_PROGRESS.match(status.message) and status.level == DiagnosticStatus.WARN
            for status in statuses
        )

    humanoid.wait(reported, "the reason in /diagnostics")
    assert sent.popen.wait(timeout=60) == 1
    assert NO_PROGRESS.search(sent.output)
    # it goes on trying: one hand gives way, and the other one gets there
    home = humanoid.robot.forward_kinematics(humanoid.robot.home)
    humanoid.send_goal("left_hand", home[0])
    humanoid.wait(lambda: humanoid.value("reached") == "true", "both goals")
    assert humanoid.value("state") == "ACTIVE" and humanoid.value("no progress") == ""


def test_the_action_aborts_with_the_two_bodies(start: Launcher, humanoid: Probe) -> None:
    pytest.importorskip(
        "polyreach_interfaces.action",
        reason="polyreach_interfaces is not built (make interfaces)",
    )
    from test_reach_node import ABORTED, Reach

    start_controller(start, humanoid)
    start("reach_node", {})
    reach = Reach(humanoid)
    sent = reach.send(["left_hand", "right_hand"], [CLASH, CLASH], timeout=120.0)
    status, result = sent.ended(90.0)
    assert status == ABORTED and not result.success
    assert NO_PROGRESS.search(result.message)
    assert " mm away, 'right_hand' is " in result.message and result.elapsed < 100.0
    humanoid.wait_state("IDLE")
    reach.client.destroy()
