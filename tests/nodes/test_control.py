"""Sequences of control periods, without ROS."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from polyreach_description import Robot, load_robot
from polyreach_description.policy_search import find_policy
from polyreach_description.policy_tensors import PolicyInputs, PolicyOutputs
from polyreach_nodes.control.joint_states import Received
from polyreach_nodes.control.policy import Policy
from polyreach_nodes.control.reach_control import ReachControl
from polyreach_nodes.control.watchdog import State

NOW = 100.0


@pytest.fixture
def control(policy: Policy, planar8: Robot) -> ReachControl:
    control = ReachControl(planar8, policy)
    control.activate()
    return control


def names(control: ReachControl) -> list[str]:
    return list(control.robot.joint_names)


def give_goals(control: ReachControl) -> np.ndarray:
    goals = control.robot.forward_kinematics(control.robot.home + 0.3)
    for effector, goal in zip(control.robot.effector_names, goals, strict=True):
        assert control.goals.set(effector, "base_link", tuple(goal), NOW) == ""
    return goals


def test_closed_loop_reaches_the_goals_within_all_limits(
    control: ReachControl, planar8: Robot
) -> None:
    goals, joint_pos, before = give_goals(control), planar8.home.copy(), np.zeros(8)
    for period in range(200):
        now_s = NOW + period * control.period_s
        assert control.receive(names(control), joint_pos, now_s) is Received.FRESH
        command = control.tick(now_s)
        assert (np.abs(command) <= planar8.joint_vel_limits).all()
        assert (
            np.abs(command - before) <= planar8.joint_acc_limits * control.period_s + 1e-9
        ).all()
        joint_pos, before = joint_pos + command * control.period_s, command
    assert np.linalg.norm(planar8.forward_kinematics(joint_pos) - goals, axis=-1).max() < 0.005


def test_joint_states_of_other_devices_are_ignored(control: ReachControl) -> None:
    assert control.receive(names(control), control.robot.home.tolist(), NOW) is Received.FRESH
    wheels = ["left_wheel", "right_wheel"]
    assert control.receive(wheels, [], NOW) is Received.NOTHING
    assert control.state(NOW) is State.IDLE
    assert control.receive(names(control), [], NOW) is Received.INVALID
    assert control.state(NOW) is State.STALE


def test_joints_are_matched_by_name_and_others_ignored(control: ReachControl) -> None:
    position = np.linspace(-0.4, 0.4, 8)
    shuffled = [*reversed(list(zip(names(control), position, strict=True))), ("neck", np.nan)]
    assert (
        control.receive([n for n, _ in shuffled], [q for _, q in shuffled], NOW) is Received.FRESH
    )
    assert control.joint_states.joint_pos == pytest.approx(position)
    assert control.receive(["neck", "wheel"], [1.0, 2.0], NOW + 1) is Received.NOTHING
    assert control.watchdog.age_s(NOW + 1) == pytest.approx(1.0)


def test_joint_states_may_come_in_parts(control: ReachControl) -> None:
    assert control.receive(names(control)[:5], [0.1] * 5, NOW) is Received.NOTHING
    assert control.state(NOW) is State.WAITING
    assert control.receive(names(control)[5:], [0.2] * 3, NOW) is Received.FRESH
    assert control.state(NOW) is State.IDLE
    assert control.joint_states.joint_pos == pytest.approx([0.1] * 5 + [0.2] * 3)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda n, q: (n, [np.nan, *q[1:]]), "'shared_1' is nan"),
        (lambda n, q: (n, [*q[:-1], -np.inf]), "'right_3' is -inf"),
        (lambda n, q: (n, [*q[:-1], 1e300]), "'right_3' is 1e+300"),
        (lambda n, q: (n, q[:-1]), "8 names, but 7 positions"),
        (lambda n, q: (n, []), "8 names, but 0 positions"),
        (lambda n, q: ([*n, n[0]], [*q, 0.0]), "names a joint twice"),
    ],
)
def test_malformed_joint_state_stops_until_a_good_one(
    control: ReachControl, change: object, reason: str
) -> None:
    give_goals(control)
    good = (names(control), [0.0] * 8)
    control.receive(*good, NOW)
    assert control.tick(NOW).any()
    assert control.receive(*change(*good), NOW) is Received.INVALID
    assert control.state(NOW) is State.STALE
    assert reason in control.reason(NOW)
    assert not control.tick(NOW + 0.01).any()
    control.receive(*good, NOW)
    assert control.tick(NOW + 0.02).any()


def follow(control: ReachControl, joint_pos: np.ndarray, now_s: float) -> Received:
    return control.receive(names(control), joint_pos.tolist(), now_s)


def test_a_jump_is_accepted_when_the_joint_states_are_consistent_again(
    control: ReachControl,
) -> None:
    give_goals(control)
    here, there = np.zeros(8), np.eye(8)[2]
    times = NOW + 0.01 * np.arange(9)
    assert follow(control, here, times[0]) is Received.FRESH and control.tick(times[0]).any()
    assert follow(control, there, times[1]) is Received.INVALID
    assert control.reason(times[1]) == "joint state of 'left_1' jumped by 1"
    assert not control.tick(times[1]).any() and (control.joint_states.joint_pos == here).all()
    for now_s in times[2:5]:  # near where it was, but not for two periods
        assert follow(control, here, now_s) is Received.INVALID and not control.tick(now_s).any()
    assert follow(control, here, times[6]) is Received.FRESH and control.tick(times[6]).any()
    assert control.joint_states.refused_count == 1


def test_an_intermittent_sensor_stops_the_robot_while_it_fails(control: ReachControl) -> None:
    give_goals(control)
    follow(control, np.zeros(8), NOW)
    for number in range(1, 300):
        now_s = NOW + 0.01 * number
        position = np.eye(8)[2] * (number % 2)
        assert follow(control, position, now_s) is Received.INVALID
        assert not control.tick(now_s).any() and control.state(now_s) is State.STALE


def test_a_persistent_jump_is_a_fault_until_resumed(control: ReachControl) -> None:
    give_goals(control)
    there = np.eye(8)[2]
    follow(control, np.zeros(8), NOW)
    assert control.tick(NOW).any()
    states = []
    for number in range(1, 200):  # time does not make it plausible
        now_s = NOW + 0.01 * number
        assert follow(control, there, now_s) is Received.INVALID
        assert not control.tick(now_s).any()
        states.append(control.state(now_s))
    assert states[:4] == [State.STALE] * 4 and set(states[5:]) == {State.FAULT}
    assert "'left_1' jumped by 1 and stays there" in control.reason(now_s)
    control.resume()
    assert control.state(now_s) is State.WAITING
    assert follow(control, there, now_s) is Received.FRESH
    assert control.tick(now_s + control.period_s).any()
    assert (control.joint_states.joint_pos == there).all()


def test_a_jump_of_one_publisher_is_not_excused_by_another(control: ReachControl) -> None:
    give_goals(control)
    first, rest = names(control)[:4], names(control)[4:]
    for part in (first, rest):
        control.receive(part, [0.0] * 4, NOW)
    assert control.tick(NOW).any()
    assert control.receive(first, [1.0, 0.0, 0.0, 0.0], NOW + 0.01) is Received.INVALID
    control.receive(rest, [0.0] * 4, NOW + 0.011)
    assert control.state(NOW + 0.011) is State.STALE and not control.tick(NOW + 0.011).any()


def test_after_a_long_outage_any_position_is_accepted(control: ReachControl) -> None:
    give_goals(control)
    follow(control, np.zeros(8), NOW)
    assert follow(control, np.full(8, 0.9), NOW + 1.0) is Received.FRESH


def hands_at_the_hips(robot: Robot, policy_file: Path) -> ReachControl:
    control = ReachControl(robot, Policy.load(policy_file, robot))
    control.activate()
    return control


def test_uncontrolled_joints_are_modelled_at_their_measured_positions() -> None:
    robot = load_robot("humanoid27")
    control = hands_at_the_hips(robot, find_policy(robot.name))
    hips = [joint for joint in robot.held_joints if "hip" in joint.name]
    assert hips and not any(joint.carries for joint in hips)
    hip = next(joint for joint in hips if "pitch" in joint.name)
    everyone = [*robot.joint_names, hip.name]
    now, there = control.pipeline.proximity._clearance._qpos
    assert control.receive(everyone, [*robot.home, hip.value], NOW) is Received.FRESH
    before = now.copy()
    assert control.receive(everyone, [*robot.home, -1.5], NOW + 0.01) is Received.FRESH
    assert np.flatnonzero(now != before).tolist() == [hip.qpos_adr]
    assert now[hip.qpos_adr] == there[hip.qpos_adr] == -1.5
    # what is not known stays where it was
    assert control.receive(everyone, [*robot.home, np.nan], NOW + 0.02) is Received.FRESH
    assert now[hip.qpos_adr] == -1.5


def test_a_joint_below_the_effectors_must_stay_at_home(
    tmp_path: Path, planar8: Robot, policy_file: Path
) -> None:
    shutil.copytree(planar8.file.path.parent, tmp_path / "arm")
    path = tmp_path / "arm" / "robot.yaml"
    content = yaml.safe_load(path.read_text())
    del content["joints"]["shared_1"]
    path.write_text(yaml.safe_dump(content))
    robot = load_robot(path)
    assert [(joint.name, joint.carries) for joint in robot.held_joints] == [("shared_1", True)]
    control = ReachControl(robot, StandStill(robot))  # type: ignore[arg-type]
    control.activate()
    everyone = [*robot.joint_names, "shared_1"]
    assert control.receive(everyone, [0.0] * 8, NOW) is Received.FRESH
    for off in (0.06, -1.0, np.nan):
        assert control.receive(everyone, [*[0.0] * 7, off], NOW + 0.01) is Received.INVALID
        assert control.state(NOW + 0.01) is State.STALE
        assert "'shared_1' is not controlled and must stay at 0" in control.reason(NOW + 0.01)
    # a joint with its own publisher is not excused by the others
    assert control.receive(list(robot.joint_names), [0.0] * 7, NOW + 0.02) is Received.FRESH
    assert control.state(NOW + 0.02) is State.STALE
    control.receive(["shared_1"], [0.01], NOW + 0.02)
    assert control.state(NOW + 0.02) is State.IDLE


class StandStill:
    def __init__(self, robot: Robot) -> None:
        self.robot = robot


@pytest.mark.parametrize(("speed_scale", "latest_s"), [(1.0, 1.0), (0.1, 2.0)])
def test_joints_that_do_not_track_their_commands_are_a_fault(
    control: ReachControl, planar8: Robot, speed_scale: float, latest_s: float
) -> None:
    """latest_s: when enough motion of the slowest of them has been commanded."""
    give_goals(control)
    control.pipeline.tracking.timeout_s = 0.5
    control.pipeline.speed_scale = speed_scale
    stands = 0
    for period in range(500):
        now_s = NOW + period * control.period_s
        follow(control, planar8.home, now_s)
        if not control.tick(now_s).any():
            break
        stands += 1
    # the reaction time is three periods, and the speed grows from 0
    assert 0.5 < stands * control.period_s < latest_s
    assert control.state(now_s) is State.FAULT
    assert "does not track its command: are the drives on" in control.reason(now_s)
    control.resume()
    follow(control, planar8.home, now_s)
    assert control.tick(now_s + control.period_s).any()


@pytest.mark.parametrize("share", [1.0, 0.2])
def test_joints_that_track_their_commands_are_not_a_fault(
    control: ReachControl, planar8: Robot, share: float
) -> None:
    """share: of the speed that was commanded, as in a slow simulation."""
    goals = give_goals(control)
    control.pipeline.tracking.timeout_s = 0.5
    joint_pos = planar8.home.copy()
    for period in range(1000):
        now_s = NOW + period * control.period_s
        follow(control, joint_pos, now_s)
        joint_pos = joint_pos + share * control.tick(now_s) * control.period_s
        assert control.state(now_s) is State.ACTIVE
    assert np.linalg.norm(planar8.forward_kinematics(joint_pos) - goals, axis=-1).max() < 0.005


def test_acceleration_goes_with_the_time_of_the_robot(control: ReachControl) -> None:
    """A simulation at five times the speed has five periods in the time of one."""
    control.pipeline.policy = FullSpeed()  # type: ignore[assignment]
    give_goals(control)
    speeds = []
    for period in range(4):
        now_s = NOW + 0.2 * period * control.period_s
        follow(control, np.zeros(8), now_s)
        speeds.append(control.tick(now_s, control.period_s)[7])
    change = control.robot.joint_acc_limits[7] * control.period_s
    assert speeds == pytest.approx([change, 2 * change, 3 * change, 4 * change], rel=1e-6)


class FullSpeed:
    takes_obstacles = False

    def compute(self, _: PolicyInputs) -> PolicyOutputs:
        return PolicyOutputs(np.array([0.0] * 7 + [9.0]), np.zeros((3, 3)))


@pytest.mark.parametrize(
    ("effector", "frame", "position", "reason"),
    [
        ("left", "base_link", (np.nan, 0.0, 0.0), "must be finite"),
        ("left", "", (0.0, np.inf, 0.0), "must be finite"),
        ("left", "world", (0.5, 0.0, 0.0), "frame is 'world', but must be 'base_link' or empty"),
        ("left", "", (1e3, 0.0, 0.0), "more than 100 m away"),
        (
            "lefthand",
            "",
            (0.5, 0.0, 0.0),
            "unknown effector 'lefthand' (robot 'planar8' has: left, middle, right)",
        ),
    ],
)
def test_a_rejected_goal_keeps_the_previous_one(
    control: ReachControl, effector: str, frame: str, position: tuple, reason: str
) -> None:
    give_goals(control)
    goals, active = control.goals.positions.copy(), control.goals.active.copy()
    assert reason in control.goals.set(effector, frame, position, NOW)
    assert reason in control.goals.rejection
    assert control.goals.rejected_effector == effector
    assert np.array_equal(control.goals.positions, goals)
    assert np.array_equal(control.goals.active, active)


def test_an_accepted_goal_clears_the_rejection_of_its_effector_only(control: ReachControl) -> None:
    control.goals.set("left", "world", (0.5, 0.0, 0.0), NOW)
    control.goals.set("right", "", (0.5, 0.0, 0.0), NOW)
    assert "'left'" in control.goals.rejection and control.goals.rejected_effector == "left"
    control.goals.set("left", "", (0.5, 0.0, 0.0), NOW)
    assert control.goals.rejection == control.goals.rejected_effector == ""


def test_without_goals_the_joints_slow_down_within_limits_and_hold(
    control: ReachControl, planar8: Robot
) -> None:
    give_goals(control)
    for period in range(10):
        control.receive(names(control), planar8.home, NOW + period * 0.02)
        before = control.tick(NOW + period * 0.02)
    assert before.any()
    control.goals.clear_all()
    for period in range(10, 30):
        control.receive(names(control), planar8.home, NOW + period * 0.02)
        command = control.tick(NOW + period * 0.02)
        assert (np.abs(command) <= np.abs(before) + 1e-12).all()
        assert (np.abs(command - before) <= planar8.joint_acc_limits * 0.02 + 1e-9).all()
        before = command
    assert not command.any()


@pytest.mark.parametrize("output", [np.full(8, np.nan), np.zeros(3), RuntimeError("no memory")])
def test_policy_failure_is_a_fault_until_resumed(
    control: ReachControl, monkeypatch: pytest.MonkeyPatch, output: object
) -> None:
    give_goals(control)
    control.receive(names(control), [0.0] * 8, NOW)
    assert control.tick(NOW).any()

    def compute(_: PolicyInputs) -> PolicyOutputs:
        if isinstance(output, Exception):
            raise output
        return PolicyOutputs(output, np.zeros((3, 3)))

    with monkeypatch.context() as patch:
        patch.setattr(control.pipeline.policy, "compute", compute)
        assert not control.tick(NOW + 0.005).any()
        assert control.state(NOW) is State.FAULT
        assert "policy output is" in control.reason(NOW) or "no memory" in control.reason(NOW)
    assert not control.tick(NOW + 0.01).any()
    control.watchdog.fault = ""
    assert control.tick(NOW + 0.02).any()


def test_speed_scale_slows_the_motion(control: ReachControl, planar8: Robot) -> None:
    speeds = []
    for scale in (1.0, 0.5, 0.0):
        control.activate()
        control.pipeline.speed_scale = scale
        give_goals(control)
        for period in range(20):
            control.receive(names(control), planar8.home, NOW + period * 0.02)
            command = control.tick(NOW + period * 0.02)
        speeds.append(np.abs(command).max())
    assert speeds[1] == pytest.approx(0.5 * speeds[0])
    assert speeds[2] == 0.0


events = st.lists(
    st.tuples(
        st.sampled_from(["state", "nan", "goal", "clear", "halt", "resume", "tick", "wait"]),
        st.floats(-3, 3),
    ),
    max_size=60,
)


@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=150
)
@given(events)
def test_no_sequence_of_events_moves_the_robot_when_it_must_not(
    policy: Policy, planar8: Robot, sequence: list[tuple[str, float]]
) -> None:
    control, now_s = ReachControl(planar8, policy), NOW
    control.activate()
    halted, last_state_s, valid = False, -np.inf, True
    for event, value in sequence:
        match event:
            case "state":
                control.receive(names(control), [value] * 8, now_s)
                last_state_s, valid = now_s, True
            case "nan":
                control.receive(names(control), [np.nan] * 8, now_s)
                valid = False
            case "goal":
                control.goals.set("left", "", (value, 0.5, 0.0), NOW)
            case "clear":
                control.goals.clear_all()
            case "halt":
                control.watchdog.halted = halted = True
            case "resume":
                control.watchdog.halted = halted = False
            case "wait":
                now_s += 0.005 * abs(value)
        command = control.tick(now_s)
        assert (np.abs(command) <= planar8.joint_vel_limits).all()
        if halted or not valid or now_s - last_state_s > 0.03:
            assert not command.any()
