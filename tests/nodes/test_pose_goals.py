"""Goals with an orientation in the controller without ROS, with a robot of a pose and an axis."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from pose_policy import WELDER, export_pose_least_squares, reachable_poses
from scipy.spatial.transform import Rotation
from visualization_msgs.msg import Marker

from polyreach_description import Robot, load_robot
from polyreach_description.policy_tensors import PolicyInputs, PolicyOutputs
from polyreach_nodes.control.policy import Policy
from polyreach_nodes.control.reach_control import ReachControl
from polyreach_nodes.control.watchdog import State
from polyreach_nodes.ros.markers import markers
from polyreach_nodes.ros.reports import controller_status

NOW = 100.0
QUARTER = (0.0, 0.0, np.sqrt(0.5), np.sqrt(0.5))  # about z


@pytest.fixture(scope="module")
def welder() -> Robot:
    return load_robot(WELDER)


@pytest.fixture(scope="module")
def policy_path(welder: Robot, once: Callable[[str, Callable[[Path], object]], Path]) -> Path:
    return once("welder.onnx", lambda path: export_pose_least_squares(welder, path))


@pytest.fixture
def control(welder: Robot, policy_path: Path) -> ReachControl:
    control = ReachControl(welder, Policy.load(policy_path, welder))
    control.activate()
    return control


def give_poses(control: ReachControl, seed: int = 2) -> tuple[np.ndarray, np.ndarray]:
    robot = control.robot
    positions, orientations = reachable_poses(robot, seed)
    for name, position, orientation in zip(
        robot.effector_names, positions, orientations, strict=True
    ):
        assert control.goals.set(name, "", tuple(position), NOW, tuple(orientation)) == ""
    return positions, orientations


def run(control: ReachControl, joint_pos: np.ndarray, periods: int) -> np.ndarray:
    """Joint positions (nu,) after so many periods of joints that track their commands."""
    names, period_s = list(control.robot.joint_names), control.period_s
    start_s = control._last_tick_s if np.isfinite(control._last_tick_s) else NOW
    for period in range(1, periods + 1):
        now_s = start_s + period * period_s
        control.receive(names, joint_pos, now_s, now_s)
        joint_pos = joint_pos + period_s * control.tick(now_s, period_s)
    return joint_pos


def test_the_pipeline_reaches_poses_and_reports_both_errors(control: ReachControl) -> None:
    positions, orientations = give_poses(control)
    robot = control.robot
    joint_pos = run(control, robot.home, 1)  # the joint state of the last period is home
    status = controller_status(control, "ACTIVE", "", has_valid_state=True)
    assert not status.reached
    wanted = Rotation.from_quat(orientations)
    here = Rotation.from_quat(robot.effector_poses(robot.home)[1])
    angle = np.degrees((here[0].inv() * wanted[0]).magnitude())
    assert status.effector("gripper").angle_deg == pytest.approx(angle)
    flames = here[1].apply([1, 0, 0]) @ wanted[1].apply([1, 0, 0])
    assert status.effector("torch").angle_deg == pytest.approx(np.degrees(np.arccos(flames)))
    joint_pos = run(control, joint_pos, 250)
    status = controller_status(control, "ACTIVE", "", has_valid_state=True)
    assert status.reached
    for name, position in zip(robot.effector_names, positions, strict=True):
        effector = status.effector(name)
        assert effector.goal == tuple(position)
        assert effector.error < 0.005 and effector.angle_deg < 1.0


def test_a_goal_is_reached_only_with_its_orientation(control: ReachControl) -> None:
    robot = control.robot
    positions, orientations = robot.effector_poses(robot.home)
    turned = (Rotation.from_quat(orientations[0]) * Rotation.from_euler("x", 0.06)).as_quat()
    flame = (Rotation.from_quat(orientations[1]) * Rotation.from_euler("x", 2.0)).as_quat()
    control.receive(list(robot.joint_names), robot.home, NOW, NOW)
    assert control.goals.set("torch", "", tuple(positions[1]), NOW, tuple(flame)) == ""
    status = controller_status(control, "ACTIVE", "", has_valid_state=True)
    assert status.reached, "a turn about the axis does not count"
    control.goals.set("gripper", "", tuple(positions[0]), NOW, tuple(turned))
    status = controller_status(control, "ACTIVE", "", has_valid_state=True)
    assert not status.reached
    assert status.effector("gripper").error == pytest.approx(0.0, abs=1e-9)
    assert status.effector("gripper").angle == pytest.approx(0.06)
    control.pipeline.progress.angle_tolerance = 0.061
    assert controller_status(control, "ACTIVE", "", has_valid_state=True).reached


@pytest.mark.parametrize(
    ("quaternion", "reason"),
    [
        ((0.0, 0.0, 0.0, 0.0), "orientation (0, 0, 0, 0) has norm 0, expected a unit quaternion"),
        ((1.0, 1.0, 1.0, 1.0), "has norm 2, expected"),
        ((0.0, 0.0, np.nan, 1.0), "has norm nan, expected"),
    ],
)
def test_a_quaternion_that_is_no_rotation_is_refused_with_its_norm(
    control: ReachControl, planar8: Robot, quaternion: tuple, reason: str
) -> None:
    give_poses(control)
    before = control.goals.orientations.copy()
    for name in control.robot.effector_names:
        assert reason in control.goals.set(name, "", (0.5, 0.0, 0.3), NOW, quaternion)
        assert control.goals.rejected_effector == name
    assert np.array_equal(control.goals.orientations, before)
    # where goals are positions, the orientation does not count
    of_positions = ReachControl(planar8, control.pipeline.policy).goals
    assert of_positions.set("left", "", (0.5, 0.0, 0.0), NOW, quaternion) == ""
    assert not of_positions.oriented.any()


def test_a_quaternion_is_taken_at_unit_length(control: ReachControl) -> None:
    control.goals.set("gripper", "", (0.5, 0.0, 0.3), NOW, (0.0, 0.0, 0.0, 1.009))
    assert control.goals.orientations[0].tolist() == [0.0, 0.0, 0.0, 1.0]
    assert control.goals.oriented.tolist() == [1.0, 0.0]
    control.goals.clear("gripper")
    assert control.goals.oriented.tolist() == [0.0, 0.0]


class Recorder:
    """A policy that records its inputs and whose memory counts the periods."""

    takes_obstacles = False

    def __init__(self, joints: int, memory: float = 1.0) -> None:
        self.inputs: list[PolicyInputs] = []
        self.joints, self.memory = joints, memory

    def compute(self, inputs: PolicyInputs) -> PolicyOutputs:
        self.inputs.append(inputs)
        memory = np.zeros(1) if inputs.memory is None else inputs.memory
        return PolicyOutputs(
            np.full(self.joints, 9.0), np.zeros((2, 3)), next_memory=memory + self.memory
        )


def test_the_policy_gets_the_last_command_the_orientations_and_its_memory(
    control: ReachControl,
) -> None:
    recorder = Recorder(12)
    control.pipeline.policy = recorder  # type: ignore[assignment]
    control.pipeline.speed_scale = 0.1
    _, orientations = give_poses(control)
    control.goals.clear("torch")
    joint_pos, commands = control.robot.home, []
    for _ in range(3):
        joint_pos = run(control, joint_pos, 1)
        commands.append(control.pipeline.command)
    previous = [inputs.previous_joint_vel for inputs in recorder.inputs]
    assert not previous[0].any()
    assert np.array_equal(previous[1:], commands[:2])
    # what is published, not what the policy wanted
    assert 0.0 < np.abs(commands).max() <= 0.1 * control.robot.joint_vel_limits.max()
    assert np.array_equal(recorder.inputs[0].goal_orientations[0], orientations[0])
    assert recorder.inputs[0].oriented.tolist() == [1.0, 0.0]
    assert [inputs.memory for inputs in recorder.inputs] == [None, [1.0], [2.0]]


@pytest.mark.parametrize("event", ["halt", "activate", "stop", "fault", "stale", "no goals"])
def test_the_memory_starts_anew_after_every_stop(control: ReachControl, event: str) -> None:
    recorder = Recorder(12)
    control.pipeline.policy = recorder  # type: ignore[assignment]
    give_poses(control)
    joint_pos = run(control, control.robot.home, 3)
    if event == "halt":
        control.watchdog.halted = True
        run(control, joint_pos, 1)
        control.resume()
    elif event == "activate":
        control.activate()
    elif event == "stop":
        control.stop()
    elif event == "fault":
        control.fail(RuntimeError("a test"))
        control.resume()
    elif event == "stale":
        control.tick(control._last_tick_s + 0.3, 0.02)
    else:
        control.goals.clear_all()
        run(control, joint_pos, 100)
    give_poses(control)
    run(control, joint_pos, 2)
    assert [inputs.memory for inputs in recorder.inputs][-2:] == [None, [1.0]]


def test_a_memory_that_is_not_finite_is_a_fault(control: ReachControl) -> None:
    control.pipeline.policy = Recorder(12, memory=np.nan)  # type: ignore[assignment]
    give_poses(control)
    run(control, control.robot.home, 1)
    assert control.state(NOW) is State.FAULT
    assert "policy output 'next_memory' is not finite" in control.watchdog.fault


def test_a_turn_is_progress_and_a_standstill_before_it_is_not(control: ReachControl) -> None:
    robot, progress = control.robot, control.pipeline.progress
    progress.set_timeout(1.0)
    still, moving = np.zeros(12), np.full(12, 0.5)
    for reached in (False, True):
        progress.restart()
        for _ in range(60):
            if progress.due(0.1, 1.0):
                angle = 0.04 if reached else 0.5
                progress.update([0.001], [angle], robot.home, moving, still, 1.0, 1.0, "")
        assert (progress.state is State.BLOCKED) is not reached
    progress.restart()
    for step in range(60):
        if progress.due(0.1, 1.0):
            angle = 2.0 * 0.94**step
            joint_pos = robot.home + 0.1 * step
            progress.update([0.001], [angle], joint_pos, moving, moving, 1.0, 1.0, "")
            assert progress.state is State.ACTIVE


def test_a_turned_goal_is_a_new_goal_for_the_progress(control: ReachControl) -> None:
    progress = control.pipeline.progress
    progress.set_goal(0, (0.5, 0.0, 0.3), (0.0, 0.0, 0.0, 1.0))
    progress.state = State.BLOCKED
    progress.set_goal(0, (0.5, 0.0, 0.3), (0.0, 0.0, 0.02, 0.9998))
    assert progress.state is State.BLOCKED
    progress.set_goal(0, (0.5, 0.0, 0.3), QUARTER)
    assert progress.state is State.ACTIVE


def test_markers_show_axes_and_errors(control: ReachControl) -> None:
    robot = control.robot
    positions, orientations = robot.effector_poses(robot.home)
    control.receive(list(robot.joint_names), robot.home, NOW, NOW)
    place = positions[0] + [0.012, 0.0, 0.0]
    turned = Rotation.from_euler("z", np.radians(3.1)) * Rotation.from_quat(orientations[0])
    control.goals.set("gripper", "", tuple(place), NOW, tuple(turned.as_quat()))
    shown = {(marker.ns, marker.id): marker for marker in markers(control).markers}
    assert shown["errors", 0].text == "12 mm, 3.1 deg"
    assert shown["goal_axes", 0].type == Marker.LINE_LIST
    q = shown["goal_axes", 0].pose.orientation
    assert abs(np.dot([q.x, q.y, q.z, q.w], turned.as_quat())) == pytest.approx(1.0)
    assert len(shown["goal_axes", 0].points) == len(shown["goal_axes", 0].colors) == 6
    tip = shown["effector_axes", 1].points[1]
    assert len(shown["effector_axes", 1].points) == 2
    assert tip.x > 0.0 and tip.y == tip.z == 0.0, "the flame is the x axis"
    deleted = {key for key, marker in shown.items() if marker.action == Marker.DELETE}
    assert deleted == {("goals", 1), ("goal_axes", 1), ("errors", 1)}
