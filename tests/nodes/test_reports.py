"""What the status and the diagnostics say."""

import math
from pathlib import Path

import numpy as np
import pytest
from diagnostic_msgs.msg import DiagnosticStatus

from polyreach_description import Robot
from polyreach_nodes.control.control import ReachControl
from polyreach_nodes.control.policy import Policy, find_policy
from polyreach_nodes.control.watchdog import State
from polyreach_nodes.ros.reports import TickStatistics, plain_status, with_goals


def test_quantiles_by_hand() -> None:
    """Periods 20, 22 and 20 ms after the first tick; computing takes 1, 3 and 1 ms."""
    statistics = TickStatistics()
    assert statistics.values() == {}
    for start_s, published_s, age_s in (
        (0.0, 0.001, math.inf),
        (0.02, 0.021, math.inf),
        (0.04, 0.043, 0.004),
        (0.062, 0.063, 0.006),
    ):
        statistics.add(start_s, published_s, age_s)
    values = statistics.values()
    assert values["loop period p50 [ms]"] == pytest.approx(20.0)
    assert values["loop period max [ms]"] == pytest.approx(22.0)
    assert values["compute p50 [ms]"] == pytest.approx(1.0)
    assert values["compute max [ms]"] == pytest.approx(3.0)
    assert values["state age p50 [ms]"] == pytest.approx(4.0)  # without the infinite one
    assert values["state age max [ms]"] == pytest.approx(6.0)
    statistics.restart()
    assert statistics.values() == {}


def test_only_the_last_ticks_count() -> None:
    statistics = TickStatistics(length=2)
    for tick, period_s in enumerate((1.0, 1.0, 0.02, 0.02)):
        statistics.add(tick * 10.0, tick * 10.0 + period_s, math.inf)
    assert len([key for key in statistics.values() if key.startswith("state age")]) == 0
    assert statistics.values()["compute max [ms]"] == pytest.approx(20.0)


def test_what_slows_or_ends_a_motion_is_in_the_message(planar8: Robot) -> None:
    control = ReachControl(planar8, Policy.load(find_policy("planar8"), planar8))
    control.activate()
    control.goal_timeout_s = 1.0
    control.set_goal("left", "", (0.5, 0.5, 0.07), 0.0)
    control.receive(list(planar8.joint_names), planar8.home, 2.0)
    control.tick(2.0)
    control.slowed, control.proximity.reason = 0.4, "'a' and 'b' are 12 mm apart"
    status = plain_status("/controller", "IDLE", DiagnosticStatus.OK)
    status = with_goals(status, control, 0.02, sees=True)
    values = {pair.key: pair.value for pair in status.values}
    assert values["slowed"] == "slowed to 40 %: 'a' and 'b' are 12 mm apart"
    assert values["expired"] == "goal of 'left' expired after 1 s"
    assert values["goal/left"] == ""
    assert status.level == DiagnosticStatus.WARN
    assert status.message == f"IDLE ({values['expired']}) ({values['slowed']})"
    assert np.isfinite(control.command).all()


def test_the_documentation_tells_every_state_and_value(planar8: Robot) -> None:
    text = (Path(__file__).parents[2] / "docs" / "controller.md").read_text()
    control = ReachControl(planar8, Policy.load(find_policy("planar8"), planar8))
    status = plain_status("/controller", "IDLE", DiagnosticStatus.OK)
    keys = {pair.key for pair in with_goals(status, control, 0.02, sees=False).values}
    for effector in planar8.effector_names:
        keys = {key.replace(f"/{effector}", "/<effector>") for key in keys}
    for word in (*keys, *State, "recording"):
        assert f"`{word}`" in text, word
