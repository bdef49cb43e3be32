"""One control period after another, without ROS."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from polyreach_description import Robot
from polyreach_nodes.control import ReachControl, Received
from polyreach_nodes.policy import Policy
from polyreach_nodes.watchdog import State

NOW = 100.0


@pytest.fixture(scope="module")
def policy(policy_file: Path, planar8: Robot) -> Policy:
    return Policy.load(policy_file, planar8)


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
        assert control.set_goal(effector, "base_link", tuple(goal), NOW) == ""
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


def test_messages_of_other_devices_are_ignored(control: ReachControl) -> None:
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
    assert control.joint_pos == pytest.approx(position)
    assert control.receive(["neck", "wheel"], [1.0, 2.0], NOW + 1) is Received.NOTHING
    assert control.watchdog.age_s(NOW + 1) == pytest.approx(1.0)


def test_joint_states_may_come_in_parts(control: ReachControl) -> None:
    assert control.receive(names(control)[:5], [0.1] * 5, NOW) is Received.NOTHING
    assert control.state(NOW) is State.WAITING
    assert control.receive(names(control)[5:], [0.2] * 3, NOW) is Received.FRESH
    assert control.state(NOW) is State.IDLE
    assert control.joint_pos == pytest.approx([0.1] * 5 + [0.2] * 3)


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
def test_rejected_goal_leaves_the_old_one(
    control: ReachControl, effector: str, frame: str, position: tuple, reason: str
) -> None:
    give_goals(control)
    goals, active = control.goals.copy(), control.active.copy()
    assert reason in control.set_goal(effector, frame, position, NOW)
    assert reason in control.rejected_goal
    assert np.array_equal(control.goals, goals)
    assert np.array_equal(control.active, active)


def test_an_accepted_goal_forgets_the_rejection_of_its_effector_only(control: ReachControl) -> None:
    control.set_goal("left", "world", (0.5, 0.0, 0.0), NOW)
    control.set_goal("right", "", (0.5, 0.0, 0.0), NOW)
    assert "'left'" in control.rejected_goal
    control.set_goal("left", "", (0.5, 0.0, 0.0), NOW)
    assert control.rejected_goal == ""


def test_without_goals_the_joints_slow_down_within_limits_and_hold(
    control: ReachControl, planar8: Robot
) -> None:
    give_goals(control)
    for period in range(10):
        control.receive(names(control), planar8.home, NOW + period * 0.02)
        before = control.tick(NOW + period * 0.02)
    assert before.any()
    control.clear_goals()
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

    def compute(*_: object) -> tuple:
        if isinstance(output, Exception):
            raise output
        return output, np.zeros((3, 3))

    with monkeypatch.context() as patch:
        patch.setattr(control.policy, "compute", compute)
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
        control.speed_scale = scale
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
                control.set_goal("left", "", (value, 0.5, 0.0), NOW)
            case "clear":
                control.clear_goals()
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
