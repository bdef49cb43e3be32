"""Detection that no effector approaches its goal, and the reason."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import pytest
from hostile import UNAWARE
from hypothesis import given
from hypothesis import strategies as st
from velocity_servos import VelocityServos

from polyreach_description import Robot, load_robot
from polyreach_description.policy_search import find_policy
from polyreach_nodes.control.policy import Policy
from polyreach_nodes.control.progress import ProgressChecker
from polyreach_nodes.control.reach_control import ReachControl
from polyreach_nodes.control.watchdog import STUCK_STATES, State

PERIOD_S = 0.1
TIMEOUT_S = 5.0
TOLERANCE = 0.02  # [m]
LIMITS = np.array([2.0, 2.5])  # [rad/s]
LATE_S = 0.3  # [s] for sampling and rounding
NEAR = "'a' and 'b' are 20 mm apart"


@dataclass
class Trace:
    """A checker of two joints within +-3 rad, and the time; one call of `step` is one period."""

    speed_scale: float = 1.0
    time_s: float = 0.0

    def __post_init__(self) -> None:
        self.checker = ProgressChecker(("hip", "knee"), LIMITS, np.full(2, -3.0), np.full(2, 3.0))
        self.checker.set_timeout(TIMEOUT_S)

    def step(
        self,
        errors: Sequence[float],
        joint_pos: Sequence[float] = (0.0, 0.0),
        wanted: Sequence[float] = (1.0, 0.0),
        command: Sequence[float] = (0.0, 0.0),
        slowed: float = 1.0,
        obstacle: str = "",
    ) -> State:
        self.time_s += PERIOD_S
        if self.checker.due(PERIOD_S, self.speed_scale):
            arrays = (np.array(values) for values in (joint_pos, wanted, command))
            state = (self.speed_scale, slowed, lambda: obstacle)
            self.checker.update(list(errors), [], *arrays, *state)
        return self.checker.state

    def until_reported(self, errors: Callable[[float], Sequence[float]], **rest: object) -> float:
        """Steps with errors(time) until the state is not ACTIVE; the time that took [s]."""
        start_s = self.time_s
        while self.step(errors(self.time_s), **rest) is State.ACTIVE:
            assert self.time_s - start_s < 100.0, "never reported"
        return self.time_s - start_s


@pytest.mark.parametrize(
    ("rest", "reason"),
    [
        ({"slowed": 0.0, "obstacle": NEAR}, NEAR),
        ({"slowed": 0.9, "obstacle": NEAR}, "the joints stay where they are"),
        ({"joint_pos": (2.99, -2.99)}, "joint 'hip' is at a position limit"),
        (
            {"joint_pos": (2.99, -2.99), "wanted": (1.0, -1.5)},
            "joints 'knee', 'hip' are at a position limit",
        ),
        ({"joint_pos": (-2.99, 0.0)}, "the joints stay where they are"),
        (
            {"wanted": (0.03, -0.04), "slowed": 0.0, "obstacle": NEAR},
            f"the policy commands no motion: {NEAR}",
        ),
        (
            {"wanted": (0.03, -0.04)},
            "the policy commands no motion; a goal may be out of reach",
        ),
    ],
)
@pytest.mark.parametrize("speed_scale", [1.0, 0.1])
def test_joints_at_rest_before_their_goals_are_blocked(
    rest: dict, reason: str, speed_scale: float
) -> None:
    trace = Trace(speed_scale)
    took_s = trace.until_reported(lambda _: (0.1, 0.01), **rest)
    assert trace.checker.state is State.BLOCKED
    assert trace.checker.reason == f"no progress: {reason}"
    assert TIMEOUT_S <= took_s <= TIMEOUT_S + LATE_S


@given(
    start=st.floats(0.05, 2.0),
    end_share=st.floats(0.0, 1.0),
    way_s=st.floats(0.5, 8.0),
    noise=st.floats(0.0, 0.002),
    speed_scale=st.sampled_from([1.0, 0.3, 0.1]),
)
def test_a_robot_that_stops_moving_is_always_reported(
    start: float, end_share: float, way_s: float, noise: float, speed_scale: float
) -> None:
    """It approaches for way_s, then stands at some error, while the errors are noisy."""
    end = 0.04 + end_share * (start - 0.04)
    trace, rng = Trace(speed_scale), np.random.default_rng(0)

    def errors(time_s: float) -> list[float]:
        share = min(time_s / way_s, 1.0)
        return [start + share * (end - start) + noise * rng.uniform(-1, 1)]

    while trace.time_s < way_s:
        trace.step(errors(trace.time_s), command=(speed_scale, 0.0))
    if trace.checker.state is State.ACTIVE:
        # noise may lower the error by the margin once more since the last motion, but not twice
        assert trace.until_reported(errors) <= 2 * TIMEOUT_S + LATE_S
    assert trace.checker.state is State.BLOCKED


@given(
    start=st.lists(st.floats(0.03, 2.0), min_size=1, max_size=3),
    rate=st.floats(0.3, 5.0),
    speed_scale=st.sampled_from([1.0, 0.3, 0.1]),
)
def test_an_approaching_effector_is_never_reported(
    start: list[float], rate: float, speed_scale: float
) -> None:
    """Errors fall by exp(-rate t) at full speed, slower at a lower scale; a lever of 0.5 m."""
    trace = Trace(speed_scale)
    for _ in range(round(20.0 / speed_scale / PERIOD_S)):
        fallen = math.exp(-rate * speed_scale * trace.time_s)
        position = (2.0 * max(start) * (1.0 - fallen), 0.0)
        command = (2.0 * max(start) * rate * fallen * speed_scale, 0.0)
        errors = [fallen * error for error in start]
        assert trace.step(errors, position, command=command) is State.ACTIVE


@pytest.mark.parametrize("period_s", [0.3, 0.6, 1.1])
@pytest.mark.parametrize("least", [0.0, 0.05])
def test_an_oscillation_through_the_goal_is_reported_with_its_joints(
    period_s: float, least: float
) -> None:
    trace = Trace()
    states = set()
    for _ in range(round(20.0 / PERIOD_S)):
        angle = 2.0 * math.pi * trace.time_s / period_s
        error = least + 0.2 * abs(math.sin(angle))
        knee = 0.4 * math.sin(angle)
        if trace.step([error], (0.2 * trace.time_s / 20.0, knee), command=(0.01, 1.0)):
            states.add((trace.time_s > TIMEOUT_S + 2.0, trace.checker.state))
    assert states - {(False, State.OSCILLATING)} == {
        (False, State.ACTIVE),
        (True, State.OSCILLATING),
    }
    assert trace.checker.reason == "no progress: joint 'knee' is moving to and fro"


def test_a_policy_with_small_oscillations_is_blocked_not_oscillating() -> None:
    trace = Trace()
    for number in range(round(12.0 / PERIOD_S)):
        sign = (-1.0) ** number
        trace.step([0.1], (0.004 * sign, 0.0), (sign, 0.0), (sign, 0.0))
    assert trace.checker.state is State.BLOCKED
    assert trace.checker.reason == "no progress: the joints stay where they are"


def test_a_joint_that_moves_on_has_a_second_window() -> None:
    trace = Trace()
    moving = {"command": (0.2, 0.0)}
    while trace.step([0.5], (0.2 * trace.time_s, 0.0), **moving) is State.ACTIVE:
        assert trace.time_s < 3 * TIMEOUT_S
    assert 2 * TIMEOUT_S <= trace.time_s <= 2 * TIMEOUT_S + LATE_S
    assert trace.checker.state is State.OSCILLATING
    assert trace.checker.reason == "no progress: joint 'hip' is moving"


def test_one_approaching_effector_is_progress_until_it_arrives() -> None:
    trace = Trace()
    for _ in range(round(40.0 / PERIOD_S)):
        nearer = 1.0 * math.exp(-0.1 * trace.time_s)
        assert trace.step([0.3, nearer], (trace.time_s, 0.0), command=(1.0, 0.0)) is State.ACTIVE
    assert nearer < TOLERANCE
    assert trace.until_reported(lambda _: (0.3, 0.015)) <= TIMEOUT_S + LATE_S
    assert trace.checker.state is State.BLOCKED


def test_progress_a_goal_and_resume_end_the_report() -> None:
    trace = Trace()
    trace.checker.set_goal(0, (0.5, 0.0, 0.0))
    ends: list[Callable[[], object]] = [
        lambda: trace.checker.set_goal(0, (0.6, 0.0, 0.0)),
        lambda: trace.checker.clear_goal(0),
        lambda: trace.checker.set_goal(0, (0.5, 0.0, 0.0)),
        trace.checker.restart,
    ]
    for end in ends:
        trace.until_reported(lambda _: [0.3])
        end()
        assert trace.checker.state is State.ACTIVE and trace.checker.reason == ""
    trace.until_reported(lambda _: [0.3])
    trace.checker.set_goal(0, (0.51, 0.0, 0.0))  # within the tolerance: the same goal
    assert trace.checker.state is State.BLOCKED
    for _ in range(round(2.0 / PERIOD_S)):
        trace.step([0.25], command=(1.0, 0.0))
    assert trace.checker.state is State.ACTIVE
    trace.until_reported(lambda _: [0.25])
    for _ in range(round(2.0 / PERIOD_S)):
        trace.step([0.019], command=(1.0, 0.0))
    assert trace.checker.state is State.ACTIVE


@pytest.mark.parametrize(("timeout_s", "speed_scale"), [(0.0, 1.0), (TIMEOUT_S, 0.0)])
def test_without_a_timeout_or_speed_nothing_is_reported(
    timeout_s: float, speed_scale: float
) -> None:
    trace = Trace(speed_scale)
    trace.checker.set_timeout(timeout_s)
    for _ in range(round(100.0 / PERIOD_S)):
        assert trace.step([0.3]) is State.ACTIVE


DISTANCES = {"planar8": (0.025, 0.01), "humanoid27": (0.06, 0.02)}  # [m], slow and stop: config/


@cache
def loaded(name: str) -> tuple[Robot, Policy]:
    robot = load_robot(name)
    return robot, Policy.load(find_policy(name, UNAWARE), robot)


class Run:
    """The controller with joints that respond with a delay, without ROS."""

    def __init__(
        self, name: str, start: np.ndarray, goals: np.ndarray, delay_s: float, speed_scale: float
    ) -> None:
        self.robot, policy = loaded(name)
        self.control = control = ReachControl(self.robot, policy)
        control.pipeline.proximity.set_distances(*DISTANCES[name])
        control.pipeline.speed_scale = speed_scale
        control.pipeline.progress.set_timeout(TIMEOUT_S)
        self.goals = goals
        for effector, goal in zip(self.robot.effector_names, goals, strict=True):
            assert control.goals.set(effector, "", tuple(goal), 0.0) == ""
        self.servos = VelocityServos(start, delay_s)
        self.period = 0

    def states(self, seconds: float) -> Iterator[tuple[float, State]]:
        """Time [s] and state after each control period."""
        control, names = self.control, list(self.robot.joint_names)
        for _ in range(round(seconds / control.period_s)):
            self.period += 1
            now_s = self.period * control.period_s
            self.servos.advance(now_s)
            control.receive(names, self.servos.position.tolist(), now_s)
            self.servos.command(control.tick(now_s), now_s)
            assert not control.watchdog.fault, control.watchdog.fault
            yield now_s, control.state(now_s)

    @property
    def now_s(self) -> float:
        return self.period * self.control.period_s

    def reached(self) -> bool:
        position = self.robot.forward_kinematics(self.servos.position)
        return bool(np.linalg.norm(position - self.goals, axis=-1).max() <= TOLERANCE)


def honest_and_not(name: str, speed_scale: float, count: int) -> tuple[int, int, int]:
    """Runs that reached their goals; of these, those that were reported before; reported others.

    A run is over when all effectors have been at their goals for 0.5 s at full speed.
    """
    robot, _ = loaded(name)
    configurations = robot.sample_configuration(np.random.default_rng(21), 2 * count)
    good = false = stuck = 0
    for start, end in configurations.reshape(count, 2, -1):
        run = Run(name, start, robot.forward_kinematics(end), 0.02, speed_scale)
        reported, near_s = False, 0.0
        for _, state in run.states(15.0 / speed_scale):
            reported |= state is not State.ACTIVE
            near_s = near_s + run.control.period_s if run.reached() else 0.0
            if near_s * speed_scale >= 0.5:
                good, false = good + 1, false + reported
                break
        else:
            assert reported, f"neither reached nor reported: {start.tolist()} {end.tolist()}"
            stuck += 1
    return good, false, stuck


@pytest.mark.parametrize("name", DISTANCES)
@pytest.mark.parametrize(
    ("speed_scale", "count"),
    [(1.0, 100), (0.1, 10), pytest.param(0.1, 100, marks=pytest.mark.exhaustive)],
)
def test_motions_that_reach_their_goals_are_not_reported(
    name: str, speed_scale: float, count: int
) -> None:
    good, false, _ = honest_and_not(name, speed_scale, count)
    assert good >= 0.97 * count and false == 0


def test_swapped_hands_that_block_each_other_are_reported() -> None:
    """One arm may hold while the other one comes nearer, at a tenth of its speed."""
    name = "humanoid27"
    robot, _ = loaded(name)
    blocked = 0
    for joint_pos in robot.sample_configuration(np.random.default_rng(0), 6):
        goals = robot.forward_kinematics(joint_pos)[::-1]
        run = Run(name, robot.home, goals, 0.02, 1.0)
        *_, (_, state) = run.states(30.0)
        if run.reached():
            assert state is State.ACTIVE
            continue
        assert state in STUCK_STATES
        assert run.control.reason(run.now_s).startswith("no progress: ")
        if "' and '" in run.control.pipeline.progress.reason:
            assert state is State.BLOCKED and "mm apart" in run.control.pipeline.slowed_reason
            blocked += 1
        # another goal frees them, and is reached
        goals = robot.forward_kinematics(robot.home)
        for effector, goal in zip(robot.effector_names, goals, strict=True):
            run.control.goals.set(effector, "", tuple(goal), run.now_s)
        run.goals = goals
        assert {state for _, state in run.states(4.0)} == {State.ACTIVE} and run.reached()
    assert blocked >= 2


def test_delay_at_full_speed_oscillates() -> None:
    """Motions that settle with 20 ms of delay, but not with 60 or 100 ms."""
    robot, _ = loaded("planar8")
    configurations = robot.sample_configuration(np.random.default_rng(0), 30)
    goals = [robot.forward_kinematics(joint_pos) for joint_pos in configurations[::-1]]
    swinging = {0.06: 0, 0.1: 0}
    for delay_s in swinging:
        for start, goal in zip(configurations, goals, strict=True):
            run = Run("planar8", start, goal, delay_s, 1.0)
            near_s = 0.0
            for _ in run.states(20.0):
                near_s = near_s + run.control.period_s if run.reached() else 0.0
                if near_s > 2.0:
                    break
            if run.control.state(run.now_s) is State.OSCILLATING:
                swinging[delay_s] += 1
                assert not run.reached()
                assert "moving to and fro" in run.control.pipeline.progress.reason
                slow = Run("planar8", start, goal, delay_s, 0.3)
                assert {state for _, state in slow.states(20.0)} == {State.ACTIVE}
    assert swinging[0.06] >= 1 and swinging[0.1] >= 2
