"""Limits hold for every possible input."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from polyreach_nodes.control.limits import JointLimits

PERIOD = 0.02
POS = np.array([[-1.0, 1.0], [-2.0, 0.5], [0.0, 3.0]])
VEL = np.array([2.0, 1.0, 0.5])
ACC = np.array([20.0, 5.0, 2.0])
ROUNDING = 1e-9

anything = arrays(np.float64, 3, elements=st.floats(allow_nan=True, allow_infinity=True))
velocities = arrays(np.float64, 3, elements=st.floats(-1e3, 1e3))
shares = arrays(np.float64, 3, elements=st.floats(-1.0, 1.0))
positions = arrays(np.float64, 3, elements=st.floats(0.0, 1.0)).map(
    lambda s: POS[:, 0] + s * (POS[:, 1] - POS[:, 0])
)


def braking_speed(room: np.ndarray, reaction_s: float) -> np.ndarray:
    """The positive v of v h + v^2 / (2 a) = room; 0 where there is no room."""
    room = np.maximum(room, 0.0)
    return 2.0 * room / (reaction_s + np.sqrt(reaction_s**2 + 2.0 * room / ACC))


def limits() -> JointLimits:
    return JointLimits(POS, VEL, ACC, PERIOD)


@given(anything, anything, anything, st.floats(allow_nan=True))
def test_velocity_limits_hold_for_any_input(
    wanted: np.ndarray, previous: np.ndarray, joint_pos: np.ndarray, speed_scale: float
) -> None:
    command = limits().apply(wanted, previous, joint_pos, speed_scale)
    assert np.isfinite(command).all()
    assert (np.abs(command) <= VEL).all()


@given(velocities, shares, positions)
def test_one_period_keeps_inside_the_position_limits(
    wanted: np.ndarray, share: np.ndarray, joint_pos: np.ndarray
) -> None:
    command = limits().apply(wanted, share * VEL, joint_pos)
    after = joint_pos + command * PERIOD
    assert (after >= POS[:, 0] - ROUNDING).all()
    assert (after <= POS[:, 1] + ROUNDING).all()


@given(velocities, shares, positions)
def test_acceleration_limits_hold_unless_the_position_limit_demands_more(
    wanted: np.ndarray, share: np.ndarray, joint_pos: np.ndarray
) -> None:
    law, previous = limits(), share * VEL
    command = law.apply(wanted, previous, joint_pos)
    for joint in range(3):
        if abs(command[joint] - previous[joint]) <= ACC[joint] * PERIOD + ROUNDING:
            continue
        room = (law.high - joint_pos if previous[joint] > 0 else joint_pos - law.low)[joint]
        stopping = np.sign(previous[joint]) * braking_speed(room, law.reaction_s)[joint]
        assert command[joint] == pytest.approx(stopping, abs=1e-9)
        assert abs(command[joint]) < abs(previous[joint])


@given(
    st.lists(velocities, min_size=1, max_size=6),
    positions.filter(lambda q: (limits().low < q).all() and (q < limits().high).all()),
)
def test_from_rest_all_limits_hold_together_at_all_times(
    wanted: list[np.ndarray], start: np.ndarray
) -> None:
    law = limits()
    joint_pos, previous = start.copy(), np.zeros(3)
    for step in range(120):
        command = law.apply(wanted[step // 20 % len(wanted)], previous, joint_pos)
        assert (np.abs(command - previous) <= ACC * PERIOD + ROUNDING).all()
        joint_pos = joint_pos + command * PERIOD
        assert (joint_pos >= law.low - ROUNDING).all()
        assert (joint_pos <= law.high + ROUNDING).all()
        previous = command


@given(arrays(np.float64, 3, elements=st.floats(0.05, 50.0)), st.floats(0.1, 1.0))
def test_velocity_scaling_keeps_the_direction(wanted: np.ndarray, speed_scale: float) -> None:
    law = JointLimits(POS * 1e6, VEL, ACC * 1e6, PERIOD)
    command = law.apply(wanted, np.zeros(3), np.ones(3), speed_scale)
    ratio = command / wanted
    assert ratio == pytest.approx(np.full(3, ratio[0]), rel=1e-9)
    share = min(1.0, 1.0 / (wanted / VEL).max())
    assert ratio[0] == pytest.approx(speed_scale * share, rel=1e-9)


def test_hand_arithmetic() -> None:
    """Scaled by 2 / 8: 0 -> 20 * 0.02 at most; 1 brakes by 5 * 0.02; 0.04 -> 0.01."""
    command = limits().apply(
        np.array([8.0, 0.0, 0.04]), np.array([0.0, 1.0, 0.0]), np.array([0.0, -1.0, 1.0])
    )
    assert command == pytest.approx([0.4, 0.9, 0.01])


@pytest.mark.parametrize(
    ("joint_pos", "wanted", "expected"),
    [(1.2, 1.0, 0.0), (1.2, -0.3, -0.3), (-1.2, -1.0, 0.0), (1.0, 1.0, 0.0)],
)
def test_a_joint_beyond_a_limit_stands_or_returns(
    joint_pos: float, wanted: float, expected: float
) -> None:
    command = limits().apply(np.array([wanted, 0, 0]), np.zeros(3), np.array([joint_pos, 0.0, 1.0]))
    assert command[0] == pytest.approx(expected)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("place", range(3))
def test_one_value_that_is_not_finite_stops_all_joints(bad: float, place: int) -> None:
    vectors = [np.full(3, 0.1), np.full(3, 0.1), np.array([0.0, 0.0, 1.0])]
    vectors[place][1] = bad
    assert not limits().apply(*vectors).any()


def test_wrong_length_stops_all_joints() -> None:
    assert not limits().apply(np.ones(2), np.zeros(3), np.zeros(3)).any()
    assert limits().apply(np.ones(2), np.zeros(3), np.zeros(3)).shape == (3,)


EXTREMES = np.array(
    [
        *(0.0, -0.0, np.nan, np.inf, -np.inf),
        *(5e-324, -5e-324, 2.2e-308, 1e-12, -1e-12),  # denormal, least normal, tiny
        *(1e308, -1e308, 1e15, -1e15, 1.0, -1.0),
    ]
)


def hostile(rng: np.random.Generator, plain: np.ndarray) -> np.ndarray:
    """Replace a tenth of the values by extreme ones."""
    return np.where(rng.random(plain.shape) < 0.1, rng.choice(EXTREMES, plain.shape), plain)


@pytest.mark.parametrize("cases", [100_000, pytest.param(1_000_000, marks=pytest.mark.exhaustive)])
def test_no_random_extreme_or_malformed_input_gives_an_illegal_command(cases: int) -> None:
    """Wanted, previous and joint positions inside, at and beyond the limits; uneven time steps."""
    rng, law, done, malformed_cases = np.random.default_rng(7), limits(), 0, 0
    low, high = POS.T
    while done < cases:
        n = 20_000
        wanted = hostile(rng, rng.normal(0.0, 10.0 ** rng.uniform(-3, 3, (n, 3))))
        previous = rng.uniform(-1.0, 1.0, (n, 3)) * VEL
        previous = np.where(rng.random((n, 3)) < 0.2, np.sign(previous) * VEL, previous)
        joint_pos = low + rng.uniform(-0.3, 1.3, (n, 3)) * (high - low)
        at_limit = rng.random((n, 3))
        joint_pos = np.where(at_limit < 0.1, low, np.where(at_limit > 0.9, high, joint_pos))
        some = rng.random(n) < 0.2
        previous[some], joint_pos[some] = (
            hostile(rng, previous[some]),
            hostile(rng, joint_pos[some]),
        )
        elapsed_s = PERIOD * rng.choice([0.0, 1e-9, 0.1, 0.5, 0.99, 1.0, 1.5, 100.0, np.inf], n)
        scale = rng.uniform(0.0, 1.0, n)
        bad_scalar = rng.random(n) < 0.02
        elapsed_s[bad_scalar] = rng.choice([np.nan, -0.02, -np.inf], bad_scalar.sum())
        bad_scale = rng.random(n) < 0.02
        scale[bad_scale] = rng.choice([np.nan, -0.1, 1.1, np.inf], bad_scale.sum())
        short = rng.random(n) < 0.01
        command = np.array(
            [
                law.apply(w[:2] if cut else w, p, q, s, e)
                for w, p, q, s, e, cut in zip(
                    wanted, previous, joint_pos, scale, elapsed_s, short, strict=True
                )
            ]
        )
        assert command.shape == (n, 3)
        assert np.isfinite(command).all()
        assert (np.abs(command) <= VEL).all()
        finite = np.isfinite(np.concatenate([wanted, previous, joint_pos], axis=1)).all(axis=1)
        malformed = short | ~finite | bad_scale | bad_scalar
        assert not command[malformed].any()

        good = ~malformed
        command, joint_pos, previous = command[good], joint_pos[good], previous[good]
        change = ACC * np.minimum(elapsed_s[good], PERIOD)[:, None]
        previous = np.clip(previous, -VEL, VEL)
        assert_inside(law, command, previous, joint_pos, change)
        done, malformed_cases = done + n, malformed_cases + int(malformed.sum())
    assert 0.05 < malformed_cases / done < 0.7


def assert_inside(
    law: JointLimits,
    command: np.ndarray,
    previous: np.ndarray,
    joint_pos: np.ndarray,
    change: np.ndarray,
) -> None:
    """All (n, 3). No joint goes (on) beyond its position limit; acc limits hold but for those."""
    low, high = POS.T
    after = joint_pos + command * PERIOD
    assert (after >= np.minimum(low, joint_pos) - ROUNDING).all()
    assert (after <= np.maximum(high, joint_pos) + ROUNDING).all()
    room = np.where(previous > 0, law.high - joint_pos, joint_pos - law.low)
    with np.errstate(over="ignore", invalid="ignore"):
        braking = np.where(previous == 0, 0.0, braking_speed(room, law.reaction_s))
    stopping = np.sign(previous) * braking
    hasty = np.abs(command - previous) > change + ROUNDING
    # beyond acc only to brake for a position limit, never to speed up or turn around
    assert (np.abs(command[hasty] - stopping[hasty]) <= 1e-9).all()
    assert (np.abs(command[hasty]) < np.abs(previous[hasty])).all()
