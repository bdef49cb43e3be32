"""The benchmark of engines, by hand."""

import pytest

from benchmarks.engines import Timing


def test_runs_per_hour_and_time_besides_training_by_hand() -> None:
    # two workers for 100 s, after 20 s; four runs of 30 s each
    timing = Timing(wall_s=120.0, first_s=20.0, trained_s=(30.0,) * 4, at_a_time=2)
    assert timing.per_hour == pytest.approx(4 * 36)
    assert timing.around_s == pytest.approx((200 - 120) / 4)
