"""Commanded positions keep within limits, whatever is commanded and measured; without ROS."""

from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from polyreach_description import Robot
from polyreach_description.policy_tensors import PolicyInputs, PolicyOutputs
from polyreach_nodes.control.limits import JointLimits
from polyreach_nodes.control.position_command import PositionCommand
from polyreach_nodes.control.reach_control import ReachControl
from polyreach_nodes.control.watchdog import State
from polyreach_nodes.parameters import CommandInterface

PERIOD = 0.02
POS = np.array([[-1.0, 1.0], [-2.0, 0.5], [0.0, 3.0]])
VEL = np.array([2.0, 1.0, 0.5])
ACC = np.array([20.0, 5.0, 2.0])
ROUNDING = 1e-9
START = np.array([0.0, -0.5, 1.0])

velocities = arrays(np.float64, 3, elements=st.floats(-1e3, 1e3))
shares = arrays(np.float64, 3, elements=st.floats(-1.0, 1.0))
anywhere = arrays(np.float64, 3, elements=st.floats(-1e4, 1e4))
within = arrays(np.float64, 3, elements=st.floats(0.0, 1.0)).map(
    lambda s: POS[:, 0] + s * (POS[:, 1] - POS[:, 0])
)
times = st.sampled_from([PERIOD, PERIOD, PERIOD, 0.5 * PERIOD, 0.0, 3.0 * PERIOD, -1.0])


def joint_limits() -> JointLimits:
    return JointLimits(POS, VEL, ACC, PERIOD)


def started(joint_pos: np.ndarray = START) -> PositionCommand:
    command = PositionCommand(joint_limits(), VEL, PERIOD)
    command.step(np.zeros(3), joint_pos, 0.0)
    return command


def test_a_step_by_hand() -> None:
    command = started()
    assert command.position is not None and (command.position == START).all()
    # h = 3 periods of 0.02 s, and one more
    assert command.lead == pytest.approx(VEL * 0.08)
    command.step(np.array([1.0, -0.5, 0.0]), START, 0.5 * PERIOD)
    assert command.position == pytest.approx([0.01, -0.505, 1.0])
    assert command.velocity == pytest.approx([1.0, -0.5, 0.0])
    command.step(np.array([1.0, 0.0, 0.0]), None, 10.0)  # counts for one period
    assert command.position == pytest.approx([0.03, -0.505, 1.0])
    rest, time_s = command.rest()
    # v / a = 1 / 20 s; the way is v t / 2
    assert time_s == pytest.approx(0.05)
    assert rest == pytest.approx([0.03 + 0.5 * 1.0 * 0.05, -0.505, 1.0])


def test_joints_brake_together_and_none_with_more_than_its_limit() -> None:
    command = started()
    command.step(np.array([2.0, 0.5, -0.1]), START, PERIOD)
    before, velocity = command.position, command.velocity
    rest, time_s = command.rest()
    assert before is not None
    assert time_s == pytest.approx(max(2.0 / 20.0, 0.5 / 5.0, 0.1 / 2.0))
    # braking evenly from v in t takes v t / 2, in the direction of the motion
    assert rest - before == pytest.approx(0.5 * time_s * velocity)
    assert (np.abs(velocity) / time_s <= ACC + ROUNDING).all()


def test_nothing_is_commanded_before_a_joint_state_and_after_restart() -> None:
    command = PositionCommand(joint_limits(), VEL, PERIOD)
    command.step(VEL, None, PERIOD)
    assert command.position is None
    command.step(np.zeros(3), START, PERIOD)
    assert command.position is not None
    command.restart()
    assert command.position is None and not command.velocity.any()


def test_a_blocked_joint_does_not_wind_up_in_an_outage() -> None:
    command = started()
    for _ in range(10):
        command.step(VEL, START, PERIOD)
    blocked = command.position
    assert blocked == pytest.approx(START + command.lead)
    for _ in range(5):
        command.step(VEL, None, PERIOD)
    assert (command.position == blocked).all()


@given(
    st.one_of(within, anywhere),
    st.lists(st.tuples(velocities, st.one_of(st.none(), within, anywhere), times), max_size=30),
)
def test_velocity_and_position_limits_hold_for_any_command_and_any_measurement(
    start: np.ndarray, steps: list[tuple[np.ndarray, np.ndarray | None, float]]
) -> None:
    command = started(start)
    low, high = np.minimum(POS[:, 0], start), np.maximum(POS[:, 1], start)
    for joint_vel, joint_pos, elapsed_s in steps:
        before = command.position
        command.step(joint_vel, joint_pos, elapsed_s)
        assert before is not None and command.position is not None
        most = VEL * max(0.0, min(elapsed_s, PERIOD))
        rounding = ROUNDING * (1.0 + np.abs(before))
        assert (np.abs(command.position - before) <= most + rounding).all()
        assert (np.abs(command.velocity) <= VEL + ROUNDING).all()
        assert (command.position >= low).all() and (command.position <= high).all()


@given(within, st.lists(st.tuples(velocities, shares, times), max_size=40))
def test_the_difference_from_joints_that_move_at_most_at_their_limit_is_bounded(
    start: np.ndarray, steps: list[tuple[np.ndarray, np.ndarray, float]]
) -> None:
    command, joint_pos = started(start), start
    for joint_vel, share, elapsed_s in steps:
        joint_pos = joint_pos + share * VEL * max(0.0, min(elapsed_s, PERIOD))
        joint_pos = np.clip(joint_pos, POS[:, 0], POS[:, 1])
        command.step(joint_vel, joint_pos, elapsed_s)
        assert command.position is not None
        # the margin of the position limits, which a command does not enter again
        low, high = command._limits.low, command._limits.high
        beyond = np.maximum(0.0, np.maximum(low - joint_pos, joint_pos - high))
        assert (np.abs(command.position - joint_pos) <= command.lead + beyond + ROUNDING).all()


@given(within, within)
def test_after_a_jump_the_command_follows_at_the_velocity_limit_and_stays(
    start: np.ndarray, joint_pos: np.ndarray
) -> None:
    low, high = joint_limits().low, joint_limits().high
    joint_pos = np.clip(joint_pos, low, high)
    command = started(np.clip(start, low, high))
    zero, periods = np.zeros(3), int(np.ceil((np.ptp(POS, axis=1) / VEL).max() / PERIOD))
    for _ in range(periods):
        before = command.position
        command.step(zero, joint_pos, PERIOD)
        assert before is not None and command.position is not None
        away = np.abs(before - joint_pos) - command.lead
        expected = np.clip(away, 0.0, VEL * PERIOD)
        assert np.abs(command.position - before) == pytest.approx(expected, abs=ROUNDING)
    before = command.position
    command.step(zero, joint_pos, PERIOD)
    assert (np.abs(command.position - joint_pos) <= command.lead + ROUNDING).all()
    assert command.position == pytest.approx(before, abs=ROUNDING)


@given(within, st.lists(velocities, min_size=5, max_size=60), st.integers(0, 3))
def test_acceleration_limits_hold_for_joints_that_follow_within_the_reaction_time(
    start: np.ndarray, wanted: list[np.ndarray], delay: int
) -> None:
    law = joint_limits()
    start = np.clip(start, law.low, law.high)
    command, joint_vel = PositionCommand(law, VEL, PERIOD), np.zeros(3)
    commanded = [start] * (delay + 1)
    previous = np.zeros(3)
    for number, target in enumerate([*wanted, *[np.zeros(3)] * 30]):
        joint_pos = commanded[-1 - delay]
        joint_vel = joint_vel + np.clip(target - joint_vel, -ACC * PERIOD, ACC * PERIOD)
        joint_vel = np.clip(joint_vel, -VEL, VEL)
        command.step(joint_vel, joint_pos, PERIOD)
        assert command.position is not None
        change = np.abs(command.velocity - previous)
        assert (change <= ACC * PERIOD + 1e-6).all(), number
        commanded.append(command.position)
        previous = command.velocity
    assert (np.abs(previous) <= 1e-6).all()


@dataclass
class AnyPolicy:
    """A policy whose output a test sets."""

    robot: Robot
    joint_vel: np.ndarray = field(default_factory=lambda: np.zeros(8))
    takes_obstacles = False

    def compute(self, inputs: PolicyInputs) -> PolicyOutputs:
        positions = np.zeros_like(np.asarray(inputs.goals))
        return PolicyOutputs(joint_vel=self.joint_vel, effector_pos=positions)


any_output = st.one_of(
    arrays(np.float64, 8, elements=st.floats(-1e3, 1e3)),
    arrays(np.float64, 8, elements=st.floats(-1.0, 1.0)),
    st.just(np.full(8, np.nan)),
    st.just(np.zeros(3)),
)
events = st.sampled_from(
    ["follow"] * 10 + ["outage", "stand", "jump", "nan", "halt", "resume", "clear", "late"]
)


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(st.tuples(any_output, events), min_size=5, max_size=40), st.booleans())
def test_any_policy_and_any_joint_states(
    planar8: Robot, periods: list[tuple[np.ndarray, str]], stop: bool
) -> None:
    """Limits hold in all states; when the controller stops, the command comes to rest and stays."""
    policy = AnyPolicy(planar8)
    control = ReachControl(planar8, policy, CommandInterface.POSITION)  # type: ignore[arg-type]
    control.activate()
    assert control.positions is not None
    names, now_s = list(planar8.joint_names), 100.0
    joint_pos = planar8.home.copy()
    goals = planar8.forward_kinematics(planar8.home + 0.3)
    vel, (low, high) = planar8.joint_vel_limits, planar8.joint_pos_limits.T

    def tick(elapsed_s: float) -> np.ndarray:
        before = control.positions.position
        control.tick(now_s, elapsed_s)
        after = control.positions.position
        if before is not None and after is not None:
            most = vel * min(elapsed_s, control.period_s)
            assert (np.abs(after - before) <= most + ROUNDING).all()
            assert (after >= low).all() and (after <= high).all()
            assert np.isfinite(after).all()
        return planar8.home if after is None else after

    control.receive(names, joint_pos.tolist(), now_s)
    tick(0.0)
    for output, event in periods:
        policy.joint_vel = output
        for effector, goal in zip(planar8.effector_names, goals, strict=True):
            control.goals.set(effector, "", tuple(goal), now_s)
        elapsed_s = 3.0 * control.period_s if event == "late" else control.period_s
        now_s += elapsed_s
        commanded = control.positions.position
        if event in ("follow", "late") and commanded is not None:
            joint_pos = joint_pos + np.clip(commanded - joint_pos, -vel * 0.02, vel * 0.02)
        if event == "jump":
            joint_pos = np.clip(joint_pos + 2.0 * vel * control.period_s, low, high)
        if event == "halt":
            control.watchdog.halted = True
            control.stop()
        if event == "resume":
            control.resume()
        if event == "clear":
            control.goals.clear_all()
        if event != "outage":
            reading = joint_pos * np.nan if event == "nan" else joint_pos
            control.receive(names, reading.tolist(), now_s)
        tick(elapsed_s)
    if stop:
        control.watchdog.halted = True
    else:
        now_s += 1.0  # an outage
    control.stop()
    slowest_s = float((vel / planar8.joint_acc_limits).max())
    for _ in range(int(np.ceil(slowest_s / control.period_s)) + 1):
        now_s += control.period_s
        tick(control.period_s)
    assert control.state(now_s) in (State.HALTED, State.STALE, State.FAULT)
    assert not control.pipeline.command.any()
    rest = tick(control.period_s)
    for _ in range(5):
        now_s += control.period_s
        assert (tick(control.period_s) == rest).all()


def test_a_halt_in_full_motion_brakes_within_the_acceleration_limits(planar8: Robot) -> None:
    """The way to rest is v^2 / (2 a), less at most one period's rounding."""
    policy = AnyPolicy(planar8, np.array([0.5, 0, 0, 0, 0, 0, 0, 0]))
    control = ReachControl(planar8, policy, CommandInterface.POSITION)  # type: ignore[arg-type]
    control.activate()
    assert control.positions is not None
    goals, names = planar8.forward_kinematics(planar8.home + 0.3), list(planar8.joint_names)
    for effector, goal in zip(planar8.effector_names, goals, strict=True):
        assert control.goals.set(effector, "", tuple(goal), 100.0) == ""
    joint_pos, now_s = planar8.home.copy(), 100.0
    for _ in range(20):
        control.receive(names, joint_pos.tolist(), now_s)
        control.tick(now_s, control.period_s)
        joint_pos = control.positions.position.copy()  # joints that follow at once
        now_s += control.period_s
    speed = float(control.positions.velocity[0])
    assert speed == pytest.approx(0.5, rel=0.01)
    control.watchdog.halted = True
    control.stop()  # between two periods: nothing changes
    assert (control.positions.position == joint_pos).all()
    speeds = []
    while control.pipeline.command.any():
        control.tick(now_s, control.period_s)
        speeds.append(float(control.positions.velocity[0]))
        now_s += control.period_s
    assert (np.diff([speed, *speeds]) <= 0.0).all()
    change = planar8.joint_acc_limits[0] * control.period_s
    assert (np.diff([speed, *speeds]) >= -change - ROUNDING).all()
    way = float(control.positions.position[0] - joint_pos[0])
    expected = speed**2 / (2.0 * planar8.joint_acc_limits[0])
    assert 0.0 <= way <= expected + speed * control.period_s
