"""Every shipped policy of planar8 behind the same controller: only the file differs."""

from collections.abc import Sequence
from pathlib import Path
from time import monotonic, sleep

import numpy as np
import pytest
from numpy.typing import NDArray
from scenarios import Probe, assert_within_limits
from shared import SharedController

from polyreach.methods import METHODS
from polyreach_description import Robot

MODELS = Path(__file__).parents[2] / "models"
POLICIES = sorted(MODELS.glob("planar8-*.onnx"))
NEAR = 0.03  # [m]
HOLD_S = 0.5
BEND = 0.15  # [rad] of every joint between home and the goals: hands are 0.3 to 0.5 m away
BENDS = (BEND, -BEND, BEND)  # of one hand after another


def stays_near(
    probe: Probe, goals: NDArray[np.float64], which: list[int], timeout_s: float = 8.0
) -> None:
    """Assert that the hands `which` come to their rows of goals (E, 3) [m] and stay there."""

    def errors() -> NDArray[np.float64]:
        assert probe.joint_pos is not None
        reached = probe.robot.forward_kinematics(probe.joint_pos)
        return np.linalg.norm(reached - goals, axis=-1)[which]

    end_s = monotonic() + timeout_s
    since_s = monotonic()
    while monotonic() - since_s < HOLD_S:
        if (errors() >= NEAR).any():
            since_s = monotonic()
        assert monotonic() < end_s, f"errors after {timeout_s:g} s: {errors() * 1e3} mm"
        sleep(0.01)


@pytest.mark.parametrize("robot", ["planar8", "humanoid27"])
def test_every_method_s_policy_is_shipped(robot: str) -> None:
    shipped = {path.stem for path in MODELS.glob(f"{robot}-*.onnx")}
    assert shipped == {f"{robot}-{method}" for method in METHODS}


HANDS = (0, 1, 2)


@pytest.mark.parametrize(
    ("policy", "hands"),
    [
        *((policy, [number % len(HANDS)]) for number, policy in enumerate(POLICIES)),
        *(pytest.param(policy, HANDS, marks=pytest.mark.exhaustive) for policy in POLICIES),
    ],
    ids=lambda value: value.stem if isinstance(value, Path) else f"hands {value}",
)
def test_one_goal_moves_that_hand_and_three_goals_move_all(
    policy: Path,
    hands: Sequence[int],
    shared_simulation: SharedController,
    probe: Probe,
    planar8: Robot,
) -> None:
    shared_simulation.reset({"policy": str(policy)})
    names = planar8.effector_names
    probe.wait(lambda: probe.joint_pos is not None, "joint states")
    for index in hands:
        name, goals = names[index], planar8.forward_kinematics(planar8.home + BENDS[index])
        sent_s = monotonic()
        probe.send_goal(name, goals[index])
        stays_near(probe, goals, [index])
        moved = np.any([command.joint_vel != 0 for command in probe.commands_since(sent_s)], axis=0)
        assert moved.any() and not moved[~planar8.action_sets[index]].any()
        probe.call("clear_goals")
        probe.wait_state("IDLE")
    goals = planar8.forward_kinematics(planar8.home - BEND)
    for name, goal in zip(names, goals, strict=True):
        probe.send_goal(name, goal)
    stays_near(probe, goals, [0, 1, 2])
    assert_within_limits(planar8, probe.commands)
