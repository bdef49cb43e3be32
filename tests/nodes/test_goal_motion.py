"""Goals that are streamed: estimate, prediction, end of the stream."""

import math
from collections.abc import Iterator

import mujoco
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from polyreach_description.orientation import IDENTITY, from_rpy, rotation_error
from polyreach_nodes.control import goal_motion
from polyreach_nodes.control.goal_motion import MAX_LEAD, GoalMotion
from polyreach_nodes.control.rotations import product, rotated, rotation_vector
from polyreach_nodes.parameters import NO_WORKSPACE

PERIOD_S = 0.02
BOX = np.array(NO_WORKSPACE).reshape(2, 3)
VELOCITY = np.array([0.16, -0.12, 0.0])  # [m/s], 0.2 in all
TURN = 0.5  # [rad/s]

small = st.floats(-1.0, 1.0)
vectors = st.tuples(small, small, small)
quaternions = (
    st.tuples(small, small, small, small)
    .filter(lambda q: math.hypot(*q) > 0.1)
    .map(lambda q: tuple(value / math.hypot(*q) for value in q))
)


class Sender:
    """Sends goals of one effector, which by default is where VELOCITY has brought it."""

    def __init__(self) -> None:
        self.motion = GoalMotion(1, PERIOD_S)
        self.sent, self.turned = np.zeros((1, 3)), np.array([IDENTITY])

    def send(self, position: np.ndarray, now_s: float, yaw: float = 0.0) -> None:
        self.sent[0], self.turned[0] = position, from_rpy(0.0, 0.0, yaw)
        self.motion.observe(0, position, from_rpy(0.0, 0.0, yaw), now_s)

    def target(self, now_s: float, effector: np.ndarray | None = None) -> np.ndarray:
        return self.pose(now_s, effector)[0]

    def pose(
        self, now_s: float, effector: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        at = VELOCITY * now_s if effector is None else effector
        found = self.motion.targets(self.sent, self.turned, lambda: at[None], BOX, now_s)
        return found[0][0].copy(), found[1][0].copy()


def stream(sender: Sender, rate: float, seconds: float = 1.0, start_s: float = 0.0) -> float:
    """Send goals of VELOCITY and TURN; returns the time of the last one [s]."""
    now_s = start_s
    for number in range(round(seconds * rate) + 1):
        now_s = start_s + number / rate
        sender.send(VELOCITY * now_s, now_s, TURN * now_s)
    return now_s


@given(quaternions, quaternions)
def test_products_are_those_of_mujoco(a: tuple, b: tuple) -> None:
    expected = np.zeros(4)
    mujoco.mju_mulQuat(expected, np.roll(a, 1), np.roll(b, 1))
    assert np.roll(product(a, b), 1) == pytest.approx(expected, abs=1e-12)


@given(quaternions, quaternions)
def test_a_rotation_leads_from_one_orientation_to_the_other(a: tuple, b: tuple) -> None:
    rotation = rotation_vector(a, b)
    assert rotation_error(rotated(a, rotation), b) < 1e-6
    assert math.hypot(*rotation) == pytest.approx(float(rotation_error(a, b)), abs=1e-6)


def test_rotations_by_hand() -> None:
    quarter = from_rpy(0.0, 0.0, math.pi / 2)
    assert rotation_vector(IDENTITY, quarter) == pytest.approx((0.0, 0.0, math.pi / 2))
    assert rotated(quarter, (0.0, 0.0, math.pi / 2)) == pytest.approx((0.0, 0.0, 1.0, 0.0))
    assert rotation_vector(quarter, quarter) == pytest.approx((0.0, 0.0, 0.0))


@pytest.mark.parametrize("rate", [5.0, 10.0, 25.0, 50.0, 100.0, 200.0])
def test_a_moving_goal_is_predicted_between_messages(rate: float) -> None:
    sender = Sender()
    last_s = stream(sender, rate, 2.0)
    for age_s in (0.0, 0.5 / rate, 1.0 / rate, 1.4 / rate):
        now_s = last_s + age_s
        target, turned = sender.pose(now_s)
        assert np.linalg.norm(target - VELOCITY * now_s) < 2e-4
        assert rotation_error(turned, from_rpy(0.0, 0.0, TURN * now_s)) < 1e-3


def test_the_estimate_is_a_kalman_filter_of_constant_velocity() -> None:
    rng = np.random.default_rng(0)
    times_s = np.cumsum(rng.uniform(0.02, 0.06, 30))
    goals = times_s[:, None] * VELOCITY + rng.normal(0.0, 1e-3, (30, 3))
    r = goal_motion.NOISE_M**2
    state, covariance = np.zeros((2, 3)), np.diag([r, goal_motion.START_SPEED**2])
    state[0] = goals[0]
    sender = Sender()
    sender.send(goals[0], times_s[0])
    for before_s, now_s, goal in zip(times_s, times_s[1:], goals[1:], strict=False):
        t = now_s - before_s
        f, gamma = np.array([[1.0, t], [0.0, 1.0]]), np.array([t**2 / 2, t])
        state = f @ state
        covariance = f @ covariance @ f.T + goal_motion.ACCELERATION**2 * np.outer(gamma, gamma)
        gain = covariance[:, 0] / (covariance[0, 0] + r)
        state = state + np.outer(gain, goal - state[0])
        covariance = covariance - np.outer(gain, covariance[0])
        sender.send(goal, now_s)
    found = sender.motion._streams[0]
    assert found._velocity[:3] * goal_motion.NOISE_M == pytest.approx(state[1], abs=1e-12)
    assert goal + found._offset[:3] * goal_motion.NOISE_M == pytest.approx(state[0], abs=1e-12)


@pytest.mark.parametrize("rate", [10.0, 50.0])
def test_when_goals_end_the_target_stops_soon_and_settles_on_the_last_one(rate: float) -> None:
    sender = Sender()
    last_s = stream(sender, rate)
    furthest = 0.0
    for age_s in np.arange(0.0, 3.0 / rate, 1e-3):
        lead = float(np.linalg.norm(sender.target(last_s + age_s) - sender.sent[0]))
        furthest = max(furthest, lead)
        if age_s > 2.5 / rate:
            assert lead == 0.0
    assert 0.25 / rate < furthest < 0.35 / rate  # 1.5 intervals at 0.2 m/s, and a learned lag of 0


@pytest.mark.parametrize("interval_s", [0.31, 1.0, 100.0])
def test_goals_sent_rarely_are_not_predicted(interval_s: float) -> None:
    sender = Sender()
    for number in range(5):
        sender.send(np.array([0.01 * number, 0.0, 0.0]), number * interval_s)
        for age_s in (0.0, 0.02, 0.2):
            assert (sender.target(number * interval_s + age_s) == sender.sent[0]).all()


def test_two_goals_are_no_stream() -> None:
    sender = Sender()
    sender.send(np.zeros(3), 0.0)
    sender.send(np.array([0.01, 0.0, 0.0]), 0.1)
    assert (sender.target(0.15) == sender.sent[0]).all()


@pytest.mark.parametrize("distance", [0.03, 0.3])
def test_a_jump_is_followed_at_once_and_starts_anew(distance: float) -> None:
    sender = Sender()
    last_s = stream(sender, 50.0)
    sender.send(VELOCITY * last_s + [distance, 0.0, 0.0], last_s + 0.02)
    assert (sender.target(last_s + 0.021) == sender.sent[0]).all()
    for number in range(2, 30):
        now_s = last_s + 0.02 * number
        sender.send(VELOCITY * now_s + [distance, 0.0, 0.0], now_s)
    expected = VELOCITY * (now_s + 0.01) + [distance, 0.0, 0.0]
    assert sender.target(now_s + 0.01, expected) == pytest.approx(expected, abs=2e-4)


def test_goals_sent_again_change_nothing() -> None:
    """A motion of 10 Hz, of which every goal is sent five times."""
    once, again = Sender(), Sender()
    for number in range(20):
        for sender in (once, again):
            sender.send(VELOCITY * 0.1 * number, 0.1 * number)
        for copy in range(1, 5):
            again.send(VELOCITY * 0.1 * number, 0.1 * number + 0.02 * copy)
            now_s = 0.1 * number + 0.02 * copy + 0.01
            assert (once.target(now_s) == again.target(now_s)).all()


def test_noise_becomes_less() -> None:
    rng, sender = np.random.default_rng(1), Sender()
    errors, steps = [], []
    last = np.zeros(3)
    for number in range(500):
        noisy = rng.normal(0.0, 1e-3, 3)
        sender.send(noisy, 0.02 * number)
        target = sender.target(0.02 * number, np.zeros(3))
        errors.append(target)
        steps.append(target - last)
        last = target
    assert np.sqrt(np.square(errors[10:]).mean()) < 0.75e-3  # 1e-3 as sent
    assert np.sqrt(np.square(steps[10:]).mean()) < 0.6e-3  # 1.41e-3 as sent


def test_delays_of_receipt_blur_the_target_little() -> None:
    """3 ms rms, at 0.2 m/s: 0.6 mm."""
    rng, sender, errors = np.random.default_rng(2), Sender(), []
    for number in range(200):
        sent_s = 0.04 * number
        sender.send(VELOCITY * sent_s, sent_s + abs(rng.normal(0.0, 0.003)))
        errors.append(np.linalg.norm(sender.target(sent_s + 0.03) - VELOCITY * (sent_s + 0.03)))
    assert np.quantile(errors[10:], 0.95) < 2e-3


def test_the_lag_of_an_effector_is_learned_and_kept() -> None:
    """The effector is where its target was 60 ms ago."""
    sender, behind = Sender(), []
    history = [np.zeros(3)] * 3
    for number in range(100):
        now_s = PERIOD_S * number
        if number % 2 == 0:
            sender.send(VELOCITY * now_s, now_s)
        effector = history[-3]
        behind.append(np.linalg.norm(VELOCITY * now_s - effector))
        history.append(sender.target(now_s, effector))
    assert behind[5] > 0.01  # 12 mm without a prediction
    assert max(behind[50:]) < 0.003
    assert sender.motion._streams[0]._lag_s == pytest.approx(0.06, abs=0.01)
    sender.motion.forget(0)
    assert sender.motion._streams[0]._lag_s == pytest.approx(0.06, abs=0.01)


def test_an_effector_far_away_teaches_no_lag() -> None:
    sender = Sender()
    last_s = stream(sender, 50.0)
    for age_s in np.arange(0.0, 0.03, 1e-3):
        sender.target(last_s + age_s, np.array([-1.0, 1.0, 0.0]))
    assert sender.motion._streams[0]._lag_s == 0.0


def test_predicted_goals_stay_in_the_workspace() -> None:
    sender = Sender()
    last_s = stream(sender, 10.0)
    wall = VELOCITY * last_s + [0.005, 1.0, 1.0]
    targets, _ = sender.motion.targets(
        sender.sent, sender.turned, lambda: sender.sent, np.array([BOX[0], wall]), last_s + 0.1
    )
    assert targets[0, 0] == wall[0]
    assert targets[0, 1] == pytest.approx(VELOCITY[1] * (last_s + 0.1), abs=0.003)


def test_nothing_is_computed_where_nothing_moves() -> None:
    motion = GoalMotion(2, PERIOD_S)
    positions, orientations = np.zeros((2, 3)), np.tile(IDENTITY, (2, 1))
    motion.observe(0, (0.0, 0.0, 0.0), IDENTITY, 0.0)
    found = motion.targets(positions, orientations, pytest.fail, BOX, 0.01)
    assert found[0] is positions
    assert found[1] is orientations


def test_prediction_can_be_switched_off() -> None:
    sender = Sender()
    last_s = stream(sender, 10.0)
    sender.motion.enable(False)
    assert (sender.target(last_s + 0.05) == sender.sent[0]).all()
    stream(sender, 10.0, start_s=last_s)
    assert (sender.target(2 * last_s + 0.05) == sender.sent[0]).all()


@given(
    st.lists(
        st.tuples(vectors, quaternions, st.floats(0.0, 0.4), st.floats(-0.01, 0.5)),
        min_size=1,
        max_size=30,
    )
)
def test_targets_are_finite_and_near_what_was_sent(
    goals: list[tuple[tuple, tuple, float, float]],
) -> None:
    motion, now_s = GoalMotion(1, PERIOD_S), 0.0
    rng: Iterator[float] = iter(np.random.default_rng(0).uniform(-1, 1, 1000))
    for position, orientation, elapsed_s, age_s in goals:
        now_s += elapsed_s
        motion.observe(0, position, orientation, now_s)
        effector = np.array([[next(rng), next(rng), next(rng)]])
        sent, turned = np.array([position]), np.array([orientation])
        targets, turns = motion.targets(sent, turned, lambda at=effector: at, BOX, now_s + age_s)
        assert np.linalg.norm(targets - sent) <= MAX_LEAD + 1e-9
        assert rotation_error(turns, turned)[0] <= MAX_LEAD / 0.2 + 1e-6
        assert np.linalg.norm(turns) == pytest.approx(1.0)
