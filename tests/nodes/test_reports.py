"""Contents of the status and the diagnostics."""

import math
from pathlib import Path

import numpy as np
import pytest
from diagnostic_msgs.msg import DiagnosticStatus

from polyreach_description import Robot
from polyreach_description.policy_search import find_policy
from polyreach_nodes.client.status import EffectorStatus, decode, encode
from polyreach_nodes.control.policy import Policy
from polyreach_nodes.control.reach_control import ReachControl
from polyreach_nodes.control.watchdog import State
from polyreach_nodes.ros.reports import TickStatistics, controller_status, status_message


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


def test_the_message_names_what_slows_or_ends_a_motion(planar8: Robot) -> None:
    control = ReachControl(planar8, Policy.load(find_policy("planar8"), planar8))
    control.activate()
    control.goals.timeout_s = 1.0
    control.goals.set("left", "", (0.5, 0.5, 0.07), 0.0)
    control.receive(list(planar8.joint_names), planar8.home, 2.0)
    control.tick(2.0)
    control.pipeline.slowed, control.pipeline.proximity.reason = 0.4, "'a' and 'b' are 12 mm apart"
    status = controller_status(control, "IDLE", "", has_valid_state=True)
    assert status.slowed == "slowed to 40 %: 'a' and 'b' are 12 mm apart"
    assert status.expired == "goal of 'left' expired after 1 s"
    assert status.effector("left") == EffectorStatus(goals_received=1)
    assert status.message == f"IDLE ({status.expired}) ({status.slowed})"
    message = status_message("/controller", "planar8", status)
    assert message.level == DiagnosticStatus.WARN
    assert message.message == status.message
    assert (message.name, message.hardware_id) == ("/controller", "planar8")
    assert np.isfinite(control.pipeline.command).all()


def test_goals_and_errors_are_reported_with_full_precision(planar8: Robot) -> None:
    control = ReachControl(planar8, Policy.load(find_policy("planar8"), planar8))
    control.activate()
    control.receive(list(planar8.joint_names), planar8.home, 2.0)
    goal = (0.1 + 0.2, 1 / 3, 0.07)
    control.goals.set("left", "", goal, 2.0)
    control.goals.set("right", "camera", goal, 2.0)
    status = controller_status(control, "ACTIVE", "", has_valid_state=True)
    message = status_message("/controller", "planar8", status)
    read = decode({pair.key: pair.value for pair in message.values}, message.message)
    assert read == status
    distance = np.linalg.norm(planar8.forward_kinematics(planar8.home)[0] - goal)
    assert read.effector("left") == EffectorStatus(goal, float(distance), 1)
    assert read.effector("right") == EffectorStatus(goals_received=1)
    assert read.rejected_effector == "right"
    assert not read.reached
    control.pipeline.progress.tolerance = 9.0
    assert controller_status(control, "ACTIVE", "", has_valid_state=True).reached
    blind = controller_status(control, "STALE", "too old", has_valid_state=False)
    assert not blind.reached and blind.effector("left") == EffectorStatus(goal, None, 1)
    assert blind.message.startswith("STALE: too old (goal of 'right' rejected: frame is 'camera'")
    assert status_message("/controller", "planar8", blind).level == DiagnosticStatus.STALE


def test_the_documentation_lists_every_state_and_value(planar8: Robot) -> None:
    text = (Path(__file__).parents[2] / "docs" / "controller.md").read_text()
    control = ReachControl(planar8, Policy.load(find_policy("planar8"), planar8))
    keys = set(encode(controller_status(control, "IDLE", "", has_valid_state=False)))
    for effector in planar8.effector_names:
        keys = {key.replace(f"/{effector}", "/<effector>") for key in keys}
    for word in (*keys, *State):
        assert f"`{word}`" in text, word
