"""`polyreach goal` as a user calls it."""

from pathlib import Path

import numpy as np
import pytest
from rig import FakeHardware, Launcher
from scenarios import Probe
from shared import SharedController

from polyreach_description import Robot


@pytest.fixture
def goal(planar8: Robot) -> np.ndarray:
    """Position of `left` with every joint turned slightly [m]."""
    return planar8.forward_kinematics(planar8.home - 0.2)[0]


def words(goal: np.ndarray) -> list[str]:
    return [f"{value:.6e}" for value in goal]


def test_a_missing_controller_is_named(start: Launcher) -> None:
    process = start("goal_node", None, "left", "0.1", "0.2", "0.3", "--timeout", "1")
    assert process.popen.wait(timeout=20) == 1
    assert "no controller 'polyreach_controller'" in process.output


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["left", "0.1", "0.2"], "required: z"),
        (["left", "0.1", "0.2", "nan"], "argument z: nan is not finite"),
        (["left", "0.1", "0.2", "up"], "argument z"),
        ([], "required: effector"),
    ],
)
def test_wrong_command_line_is_refused(
    start: Launcher, arguments: list[str], complaint: str
) -> None:
    process = start("goal_node", None, *arguments)
    assert process.popen.wait(timeout=20) == 2
    assert complaint in process.output


def test_goals_arrive_and_wrong_ones_are_reported(
    shared: SharedController,
    start: Launcher,
    probe: Probe,
    hardware: FakeHardware,
    policy_file: Path,
    goal: np.ndarray,
) -> None:
    shared.reset({"policy": str(policy_file)})
    sent = start("goal_node", None, "left", *words(goal), "--wait", "10")
    assert sent.popen.wait(timeout=30) == 0, sent.output
    assert [float(word) for word in probe.value("goal/left").split()] == pytest.approx(
        goal, abs=1e-6
    )
    assert probe.robot.forward_kinematics(hardware.position)[0] == pytest.approx(goal, abs=0.021)

    for arguments, complaint in (
        (
            ["lefthand", *words(goal)],
            "unknown effector 'lefthand' (controller 'polyreach_controller' has: left, middle",
        ),
        (["left", *words(goal), "--frame", "camera"], "frame is 'camera', but must be 'base_link'"),
        (["left", "200", "0", "0"], "more than 100 m away"),
        (["left", "50", "0", "0", "--wait", "1"], "from its goal after 1"),
        (
            ["left", *words(goal), "--controller", "other", "--timeout", "1"],
            "no controller 'other'",
        ),
    ):
        process = start("goal_node", None, *arguments)
        assert process.popen.wait(timeout=30) == 1, process.output
        assert complaint in process.output


def test_others_are_held_and_released(
    shared: SharedController,
    start: Launcher,
    probe: Probe,
    hardware: FakeHardware,
    policy_file: Path,
    goal: np.ndarray,
) -> None:
    shared.reset({"policy": str(policy_file), "outage_timeout": 0.0})
    probe.send_goal("right", probe.robot.forward_kinematics(hardware.position)[2])
    probe.wait(lambda: bool(probe.value("goal/right")), "goal of 'right'")

    def held() -> list[str]:
        return [name for name in ("left", "middle", "right") if probe.value(f"held/{name}")]

    far = start("goal_node", None, "left", "200", "0", "0", "--hold")
    assert far.popen.wait(timeout=30) == 1
    assert "goal of 'left' rejected" in far.output
    probe.wait(lambda: held() == [], "nothing is held for a goal that was rejected")
    assert probe.value("goal/middle") == "" and probe.value("goal/right")

    sent = start("goal_node", None, "left", *words(goal), "--hold", "--wait", "20")
    assert sent.popen.wait(timeout=40) == 0, sent.output
    assert held() == ["middle"]
    probe.call("clear_goal/right")
    assert held() == ["middle"], "there is a goal still"
    probe.call("clear_goal/left")
    probe.wait(lambda: held() == [] and probe.value("goal/middle") == "", "released")

    hardware.stop()
    probe.wait_state("STALE")
    refused = start("goal_node", None, "left", *words(goal), "--hold")
    assert refused.popen.wait(timeout=30) == 1
    assert "hold refused: no valid joint state (STALE: joint state is older" in refused.output
    assert probe.value("goal/left") == ""
    hardware.resume()
    probe.wait_state("IDLE")
    assert probe.call("hold") == "holding left, middle, right"
    assert probe.call("hold") == "every effector has a goal"
    probe.wait(lambda: held() == ["left", "middle", "right"], "all held")
    probe.call("clear_goals")
    probe.wait(lambda: held() == [], "released")


def test_an_inactive_controller_refuses(
    start: Launcher, probe: Probe, policy_file: Path, goal: np.ndarray
) -> None:
    start("controller_node", {"policy": str(policy_file)})
    assert probe.transition("configure")
    process = start("goal_node", None, "left", *words(goal))
    assert process.popen.wait(timeout=30) == 1
    assert "the controller is not active" in process.output
    process = start("goal_node", None, "left", *words(goal), "--hold")
    assert process.popen.wait(timeout=30) == 1
    assert "hold refused: the controller is not active" in process.output
