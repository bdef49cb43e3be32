"""robot_description against the controller's model, as processes: off, warn and refuse."""

from collections.abc import Callable
from itertools import pairwise
from time import monotonic

import pytest
from rig import FakeHardware, Launcher, move, set_parameter
from scenarios import LATCHED, Probe, assert_within_limits
from std_msgs.msg import String

from polyreach_description.urdf_export import robot_to_urdf

WRONG_AXIS = "axis of joint 'shared_2' at home is (0, 0, -1) in the description"
Describe = Callable[[str], None]


@pytest.fixture
def describe(probe: Probe) -> Describe:
    """Publish a description as robot_state_publisher does."""
    publisher = probe.node.create_publisher(String, "robot_description", LATCHED)
    return lambda text: publisher.publish(String(data=text))


def urdf(probe: Probe) -> str:
    return robot_to_urdf(probe.robot)


def with_wrong_axis(probe: Probe) -> str:
    """The URDF with the axis of shared_2 pointing down."""
    before, joint, after = urdf(probe).partition('<joint name="shared_2" type')
    return before + joint + after.replace('<axis xyz="0 0 1"', '<axis xyz="0 0 -1"', 1)


def status(probe: Probe) -> dict[str, str]:
    return {pair.key: pair.value for pair in probe.statuses[-1].values} if probe.statuses else {}


def test_nothing_moves_before_a_description_that_agrees(
    start: Launcher,
    hardware: FakeHardware,
    probe: Probe,
    describe: Describe,
    autostart: dict[str, object],
) -> None:
    controller = start("controller_node", {**autostart, "description_check": "refuse"})
    probe.wait_state("WAITING")
    assert "no robot_description yet (description_check: refuse)" in probe.statuses[-1].message
    assert not set_parameter(probe, "description_check", "off")[0]  # not while active
    assert all(command.is_zero for command in probe.commands)
    describe(urdf(probe))
    probe.wait_state("IDLE")
    move(probe, 0.5)
    assert status(probe)["description"] == ""
    probe.wait(lambda: "robot_description agrees" in controller.output, "agreement in the log")
    # received once: a later one that differs is not even subscribed to
    describe(with_wrong_axis(probe))
    assert probe.node.count_subscribers("robot_description") == 0
    assert_within_limits(probe.robot, probe.commands)


def test_another_robot_is_refused_by_the_joint_and_resume_does_not_help(
    start: Launcher,
    hardware: FakeHardware,
    probe: Probe,
    describe: Describe,
    autostart: dict[str, object],
) -> None:
    describe(with_wrong_axis(probe))
    start("controller_node", {**autostart, "description_check": "refuse"})
    probe.wait_state("FAULT")
    assert WRONG_AXIS in probe.statuses[-1].message and WRONG_AXIS in status(probe)["description"]
    probe.call("resume")
    goals = probe.robot.forward_kinematics(probe.robot.home + 0.5)
    for effector, goal in zip(probe.robot.effector_names, goals, strict=True):
        probe.send_goal(effector, goal)
    until_s = monotonic() + 0.5
    probe.wait(lambda: monotonic() > until_s, "half a second")
    assert probe.statuses[-1].message.startswith("FAULT")
    assert all(command.is_zero for command in probe.commands)


def test_by_default_a_difference_is_a_warning_and_the_robot_moves(
    start: Launcher,
    hardware: FakeHardware,
    probe: Probe,
    describe: Describe,
    autostart: dict[str, object],
) -> None:
    controller = start("controller_node", autostart)
    probe.wait_state("IDLE")
    describe(with_wrong_axis(probe))
    probe.wait(lambda: WRONG_AXIS in status(probe).get("description", ""), "the difference")
    assert probe.statuses[-1].message.startswith("IDLE (robot_description differs")
    move(probe, 0.5)
    assert controller.output.count(WRONG_AXIS) == 1
    assert_within_limits(probe.robot, probe.commands)


def test_a_description_that_is_no_urdf_does_not_stop_the_loop(
    start: Launcher,
    hardware: FakeHardware,
    probe: Probe,
    describe: Describe,
    autostart: dict[str, object],
) -> None:
    start("controller_node", autostart)
    move(probe, 0.5)
    describe("<robot>" + "<a>" * 900_000)
    probe.wait(lambda: "cannot be" in status(probe).get("description", ""), "the reason")
    move(probe, -0.5)
    assert_within_limits(probe.robot, probe.commands)
    times = [command.time_s for command in probe.commands]
    assert max(b - a for a, b in pairwise(times)) < 0.5


def test_off_receives_nothing(
    start: Launcher,
    hardware: FakeHardware,
    probe: Probe,
    describe: Describe,
    autostart: dict[str, object],
) -> None:
    describe(with_wrong_axis(probe))
    start("controller_node", {**autostart, "description_check": "off"})
    probe.wait_state("IDLE")
    assert probe.node.count_subscribers("robot_description") == 0
    move(probe, 0.5)
    assert status(probe)["description"] == ""
    assert "robot_description" not in probe.statuses[-1].message
