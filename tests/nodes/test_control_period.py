"""Control periods on the robot's clock, and on a steady one when that clock stops."""

from itertools import pairwise

import pytest

from polyreach_nodes.control.control_period import ControlPeriod

PERIOD_S = 0.02
PATIENCE_S = 0.03


def begun(times: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """When periods began [s, steady] and the elapsed time of each, asked at (clock, steady) [s]."""
    period = ControlPeriod(PERIOD_S, PATIENCE_S, early_tolerance_s=0.0)
    period.restart(round(1e9 * times[0][0]), times[0][1])
    answers = [
        (steady, period.begin_on_state(round(1e9 * clock), steady)) for clock, steady in times
    ]
    return [(steady, elapsed) for steady, elapsed in answers if elapsed is not None]


def steps(seconds: float, step_s: float = 0.005) -> list[float]:
    return [number * step_s for number in range(round(seconds / step_s) + 1)]


@pytest.mark.parametrize("rate", [0.5, 1.0, 2.0])
def test_periods_follow_the_robots_clock_at_any_rate(rate: float) -> None:
    found = begun([(rate * t, t) for t in steps(1.0)])
    assert len(found) == pytest.approx(1 + rate / PERIOD_S, abs=1)
    assert all(elapsed == pytest.approx(PERIOD_S) for _, elapsed in found[1:])


def test_a_stopped_clock_does_not_delay_periods() -> None:
    found = begun([(min(t, 0.5), t) for t in steps(1.0)])
    longest = max(later - earlier for (earlier, _), (later, _) in pairwise(found))
    assert longest <= PATIENCE_S + 0.01
    late = [elapsed for begin, elapsed in found if begin > 0.5 + 2 * PATIENCE_S]
    assert len(late) == pytest.approx(0.44 / PERIOD_S, abs=2)
    assert all(elapsed == pytest.approx(PERIOD_S) for elapsed in late)


def test_a_clock_that_never_started_does_not_delay_periods() -> None:
    assert len(begun([(0.0, t) for t in steps(1.0)])) > 0.9 / PERIOD_S


def test_a_clock_that_resumes_neither_stops_nor_doubles_periods() -> None:
    """The clock stops from 0.5 to 0.8 s and then continues from there."""
    clock = [(t if t < 0.5 else 0.5 if t < 0.8 else t - 0.3, t) for t in steps(1.5)]
    found = begun(clock)
    gaps = [later - earlier for (earlier, _), (later, _) in pairwise(found)]
    assert max(gaps) <= PATIENCE_S + 0.01
    assert sum(elapsed for _, elapsed in found) == pytest.approx(1.5, abs=0.4)
    assert min(elapsed for _, elapsed in found) >= 0.0


@pytest.mark.parametrize("jump_s", [-1000.0, -0.05, 0.05, 1000.0])
def test_a_clock_that_is_set_does_not_delay_periods(jump_s: float) -> None:
    found = begun([(t + (jump_s if t > 0.5 else 0.0), t) for t in steps(1.0)])
    gaps = [later - earlier for (earlier, _), (later, _) in pairwise(found)]
    assert max(gaps) <= 0.08, "a small step back is waited for, a large one is not"
    assert len(found) > 40


def test_a_coarse_clock_is_not_a_stopped_clock() -> None:
    """A clock with steps of 25 ms, shorter than the patience."""
    period = ControlPeriod(PERIOD_S, PATIENCE_S, early_tolerance_s=0.0)
    period.restart(0, 0.0)
    for steady in steps(0.5):
        period.begin_on_state(round(1e9 * (steady // 0.025 * 0.025)), steady)
        assert period.standing_s(steady) == 0.0


@pytest.mark.parametrize("phase", [0.0, 0.2, 0.4, 0.6, 0.8, 0.95])
def test_periods_begin_with_joint_states_whenever_they_come(phase: float) -> None:
    """One joint state in each period, at any time after the first period began."""
    period = ControlPeriod(PERIOD_S, PATIENCE_S)
    period.restart(0, 0.0)
    on_state, on_timeout, step_s = 0, 0, 0.001
    for number in range(1000):
        now_s, place = number * step_s, number % 20
        if place == round(20 * phase):
            on_state += period.begin_on_state(round(1e9 * now_s), now_s) is not None
        elif place % 10 == 5:
            on_timeout += period.begin_on_timeout(round(1e9 * now_s), now_s) is not None
    assert on_state >= 48
    assert on_timeout <= 2
