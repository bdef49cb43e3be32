"""Twists that move goals: directions, limits, timeout, and effectors that do not follow."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from polyreach_description import Robot, load_robot
from polyreach_description.orientation import IDENTITY, axis_error, matrices, rotation_error
from polyreach_nodes.control.command_pipeline import CommandPipeline
from polyreach_nodes.control.goal_twists import MAX_AHEAD, MAX_AHEAD_RAD
from polyreach_nodes.control.goals import Goals

ZERO = (0.0, 0.0, 0.0)
PERIOD_S = 0.02


class Rig:
    """The goals of a robot at home."""

    def __init__(self, robot: Robot) -> None:
        self.robot = robot
        pipeline = CommandPipeline(robot, None)  # type: ignore[arg-type]
        self.proximity = pipeline.proximity
        self.goals = Goals(robot, pipeline.proximity, pipeline.progress)
        self.twists = self.goals.twists
        self.joint_pos, self.now_s = robot.home.copy(), 100.0
        self.effector_pos, self.orientations = robot.effector_poses(robot.home)

    def send(
        self, effector: int, linear: tuple = ZERO, angular: tuple = ZERO, frame: str = ""
    ) -> str:
        name = self.robot.effector_names[effector]
        return self.twists.set(name, frame, linear, angular, self.now_s)

    def step(self, periods: int = 1, elapsed_s: float = PERIOD_S) -> None:
        for _ in range(periods):
            self.now_s += PERIOD_S
            self.goals.advance(self.joint_pos, self.now_s, elapsed_s)


@pytest.fixture
def planar(planar8: Robot) -> Rig:
    return Rig(planar8)


@pytest.fixture(scope="module")
def dual7() -> Robot:
    return load_robot("dual7")


def test_a_twist_moves_a_goal_from_the_effector(planar: Rig) -> None:
    assert planar.send(1, (0.1, -0.2, 0.0)) == ""
    planar.step(5)
    assert planar.goals.active.tolist() == [0.0, 1.0, 0.0]
    expected = planar.effector_pos[1] + [0.01, -0.02, 0.0]
    assert planar.goals.positions[1] == pytest.approx(expected)
    assert (planar.goals.targets == planar.goals.positions).all()
    assert planar.twists.notes == ""


def test_a_twist_moves_the_goal_there_is(planar: Rig) -> None:
    goal = planar.effector_pos[0] + [-0.3, 0.2, 0.0]
    assert planar.goals.set("left", "", tuple(goal), planar.now_s) == ""
    planar.send(0, (0.1, 0.0, 0.0))  # towards the effector
    planar.step(3)
    assert planar.goals.positions[0] == pytest.approx(np.add(goal, [0.006, 0, 0]))


def test_a_twist_ends_after_its_timeout_and_the_goal_stays(planar: Rig) -> None:
    planar.twists.timeout_s = 0.1
    planar.send(0, (0.2, 0.0, 0.0))
    planar.step(20)
    moved = planar.goals.positions[0] - planar.effector_pos[0]
    assert 4 * 0.004 - 1e-9 <= moved[0] <= 5 * 0.004 + 1e-9
    assert planar.goals.active[0] == 1.0
    assert not planar.twists.live


def test_a_twist_in_the_effector_frame_turns_with_it(planar: Rig) -> None:
    planar.send(2, (0.1, 0.0, 0.0), frame="right")
    planar.step()
    axis = matrices(planar.orientations[2])[:, 0]
    assert abs(axis[0]) < 0.99  # not that of the base frame
    assert planar.goals.positions[2] - planar.effector_pos[2] == pytest.approx(0.002 * axis)


@pytest.mark.parametrize("frame", ["", "effector"])
def test_an_angular_twist_turns_a_pose(dual7: Robot, frame: str) -> None:
    rig, rate = Rig(dual7), np.array([0.3, -0.4, 0.5])
    rig.send(0, ZERO, tuple(rate), dual7.effector_names[0] if frame else "")
    rig.step(10)
    before = matrices(rig.orientations[0])
    axis = before @ rate if frame else rate
    after = matrices(rig.goals.orientations[0])
    # finite difference: R' = [w] R
    derivative = (after - before) / (10 * PERIOD_S)
    expected = np.cross(axis, (before + after).T / 2).T
    assert derivative == pytest.approx(expected, abs=2e-3)
    assert rotation_error(rig.goals.orientations[0], rig.orientations[0]) == pytest.approx(
        0.2 * np.linalg.norm(rate), abs=1e-9
    )
    assert rig.goals.positions[0] == pytest.approx(rig.effector_pos[0])


def test_fast_twists_are_scaled_and_the_note_says_so(planar: Rig) -> None:
    planar.send(0, (0.6, 0.8, 0.0))
    planar.step()
    assert planar.goals.positions[0] - planar.effector_pos[0] == pytest.approx([0.003, 0.004, 0])
    assert planar.twists.notes == (
        "twist of 'left' scaled to 25 %: 1 m/s, but twist_linear_limit is 0.25 m/s"
    )
    planar.send(0, (0.06, 0.08, 0.0))
    assert planar.twists.notes == ""


def test_linear_and_angular_parts_are_scaled_together(dual7: Robot) -> None:
    rig = Rig(dual7)
    rig.send(0, (0.1, 0.0, 0.0), (0.0, 0.0, 4.0))
    rig.step()
    assert rig.goals.positions[0] - rig.effector_pos[0] == pytest.approx([0.0005, 0.0, 0.0])
    assert "scaled to 25 %: 4 rad/s, but twist_angular_limit is 1 rad/s" in rig.twists.notes


def test_an_angular_part_without_effect_is_reported(planar: Rig) -> None:
    planar.send(0, (0.1, 0.0, 0.0), (0.0, 0.0, 9.0))
    planar.step()
    assert planar.goals.positions[0] - planar.effector_pos[0] == pytest.approx([0.002, 0, 0])
    assert planar.goals.oriented[0] == 0.0
    assert "'left' without its angular part" in planar.twists.notes


@pytest.mark.parametrize(
    ("linear", "angular", "frame", "reason"),
    [
        ((math.nan, 0.0, 0.0), ZERO, "", "linear velocity is (nan, 0, 0), but must be finite"),
        (ZERO, (0.0, -math.inf, 0.0), "", "angular velocity is (0, -inf, 0), but must be finite"),
        ((0.1, 0.0, 0.0), ZERO, "right", "frame is 'right', but must be 'base_link', empty, or"),
        ((0.1, 0.0, 0.0), ZERO, "x" * 10_000, "frame is '" + 100 * "x" + "', but"),
    ],
)
def test_illegal_twists_are_rejected_and_end_the_one_before(
    planar: Rig, linear: tuple, angular: tuple, frame: str, reason: str
) -> None:
    planar.send(0, (0.1, 0.0, 0.0))
    found = planar.send(0, linear, angular, frame)
    assert found.startswith(f"twist of 'left' rejected: {reason}")
    assert planar.twists.notes == found
    planar.step()
    assert not planar.goals.any_active
    planar.send(0, (0.1, 0.0, 0.0))
    assert planar.twists.notes == ""


def test_a_goal_does_not_run_away_from_an_effector_that_does_not_follow(planar: Rig) -> None:
    for _ in range(100):
        planar.send(0, (0.25, 0.0, 0.0))
        planar.step()
    ahead = planar.goals.positions[0] - planar.effector_pos[0]
    assert ahead == pytest.approx([MAX_AHEAD, 0.0, 0.0])
    assert "twist of 'left' held: its effector is behind" in planar.twists.notes
    planar.send(0, (-0.25, 0.0, 0.0))
    planar.step(4)
    ahead = planar.goals.positions[0] - planar.effector_pos[0]
    assert ahead == pytest.approx([MAX_AHEAD - 0.02, 0.0, 0.0])  # at once, no windup
    assert planar.twists.notes == ""


def test_an_orientation_does_not_run_away_either(dual7: Robot) -> None:
    rig = Rig(dual7)
    for _ in range(100):
        rig.send(0, ZERO, (0.0, 1.0, 0.0))
        rig.step()
    angle = float(rotation_error(rig.goals.orientations[0], rig.orientations[0]))
    assert MAX_AHEAD_RAD - 0.021 < angle <= MAX_AHEAD_RAD
    assert "held" in rig.twists.notes


def test_a_goal_stops_at_the_workspace(planar: Rig) -> None:
    wall = float(planar.effector_pos[0][0]) + 0.01
    planar.proximity.set_workspace([-9.0, -9.0, -9.0, wall, 9.0, 9.0])
    for _ in range(10):
        planar.send(0, (0.2, 0.1, 0.0))
        planar.step()
    assert planar.goals.positions[0][0] == wall
    assert planar.goals.positions[0][1] == pytest.approx(planar.effector_pos[0][1] + 0.02)


def test_another_goal_or_a_clear_ends_a_twist(planar: Rig) -> None:
    goal = tuple(planar.effector_pos[0])
    planar.send(0, (0.2, 0.0, 0.0))
    planar.goals.set("left", "", goal, planar.now_s)
    planar.step()
    assert planar.goals.positions[0] == pytest.approx(goal)
    planar.send(0, (0.2, 0.0, 0.0))
    planar.goals.clear_all()
    planar.step()
    assert not planar.goals.any_active


def test_a_twist_of_zero_starts_no_goal(planar: Rig) -> None:
    planar.send(0)
    planar.step()
    assert not planar.goals.any_active


def test_a_twist_takes_over_from_a_stream(planar: Rig) -> None:
    for number in range(10):
        goal = planar.effector_pos[0] + [0.002 * number, 0.0, 0.0]
        planar.goals.set("left", "", tuple(goal), planar.now_s)
        planar.step()
    assert planar.goals.targets[0][0] > goal[0]  # predicted
    planar.send(0, (0.0, 0.1, 0.0))
    planar.step()
    assert planar.goals.targets[0] == pytest.approx(np.add(goal, [0, 0.002, 0]))


def test_a_twist_keeps_a_goal_from_its_timeout(planar: Rig) -> None:
    planar.goals.timeout_s = 0.1
    for _ in range(20):
        planar.send(0, (0.01, 0.0, 0.0))
        planar.step()
        planar.goals.expire(planar.now_s)
    assert planar.goals.any_active
    planar.step(20)
    planar.goals.expire(planar.now_s)
    assert not planar.goals.any_active


def test_a_pause_moves_a_goal_by_two_periods_at_most(planar: Rig) -> None:
    planar.send(0, (0.2, 0.0, 0.0))
    planar.step(1, elapsed_s=math.inf)
    assert planar.goals.positions[0] - planar.effector_pos[0] == pytest.approx([0.008, 0, 0])


numbers = st.floats(-1e308, 1e308)
parts = st.tuples(numbers, numbers, numbers)
starts = st.tuples(*(st.floats(-1.0, 1.0),) * 3)


@given(st.lists(st.tuples(parts, parts, st.booleans()), max_size=10), st.none() | starts)
def test_goals_are_legal_whatever_the_twists(
    dual7: Robot, sent: list[tuple[tuple, tuple, bool]], start: tuple | None
) -> None:
    rig, name = Rig(dual7), dual7.effector_names[0]
    rig.proximity.set_workspace([-1.0, -1.0, -1.0, 1.0, 1.0, 1.0])
    if start:
        rig.goals.set(name, "", start, rig.now_s, IDENTITY)
    first = rig.goals.positions[0].copy()
    room = max(MAX_AHEAD, math.dist(first, rig.effector_pos[0]) if start else 0.0)
    axis = dual7.effector_axes[0]
    for linear, angular, in_effector in sent:
        before = rig.goals.positions[0].copy()
        assert rig.send(0, linear, angular, name if in_effector else "") == ""
        rig.step()
        position, orientation = rig.goals.positions[0], rig.goals.orientations[0]
        assert np.isfinite(position).all()
        assert (abs(position) <= 1.0).all()
        assert np.linalg.norm(orientation) == pytest.approx(1.0)
        if not rig.goals.any_active:
            continue
        assert math.dist(position, rig.effector_pos[0]) <= room + 1e-9
        if start or before.any():
            assert math.dist(position, before) <= 0.25 * PERIOD_S + 1e-9
        if start is None and dual7.effector_goals[0] == "pose":
            assert rotation_error(orientation, rig.orientations[0]) <= MAX_AHEAD_RAD + 1e-6
        elif start is None:
            assert axis_error(orientation, rig.orientations[0], axis) <= MAX_AHEAD_RAD + 1e-6
