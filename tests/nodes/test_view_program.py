"""Goals that the page sets by itself, with a robot that goes to them at once, slowly, or never."""

import numpy as np
import pytest

from polyreach_description import Robot, load_robot
from polyreach_nodes.view.program import (
    BY_HAND,
    PATIENCE_S,
    RANDOM,
    SETTLE_S,
    SPEED,
    WAVE,
    GoalProgram,
    Poses,
)

FRAME_S = 1 / 30


class Page:
    """A program, the poses of its robot, and the time."""

    def __init__(self, robot: Robot, kind: str) -> None:
        self.robot, self.time_s = robot, 0.0
        self.program = GoalProgram(robot)
        self.program.start(kind, robot.home)
        self.poses: Poses = robot.effector_poses(robot.home)

    def frame(self, may_move: bool = True) -> Poses | None:
        self.time_s += FRAME_S
        return self.program.update(self.time_s, may_move, self.poses)


def test_by_hand_there_are_no_goals(planar8: Robot) -> None:
    page = Page(planar8, BY_HAND)
    assert [page.frame() for _ in range(100)] == [None] * 100
    assert page.program.score.line() == ""


def test_goals_that_are_reached_are_followed_by_others(planar8: Robot) -> None:
    page, sets = Page(planar8, RANDOM), []
    for _ in range(300):
        if (goals := page.frame()) is not None:
            sets.append(goals)
            page.poses = goals
    # each takes a frame to be seen, and must stay reached
    frames = round(SETTLE_S / FRAME_S)
    assert 300 / (frames + 3) <= len(sets) <= 300 / frames
    assert (
        page.program.score.line()
        == f"{len(sets) - 1} of {len(sets) - 1} goal sets reached, "
        + (f"median {np.median(page.program.score.times_s):.1f} s")
    )
    first, second = sets[:2]
    assert np.linalg.norm(first[0] - second[0], axis=-1).max() > 0.01


def test_goals_out_of_tolerance_are_missed_when_time_is_up(planar8: Robot) -> None:
    page, sent = Page(planar8, RANDOM), 0
    for _ in range(round(3.5 * PATIENCE_S / FRAME_S)):
        sent += page.frame() is not None
    assert sent == 4 and page.program.score.line() == "0 of 3 goal sets reached"


def test_the_turn_of_a_pose_counts() -> None:
    page = Page(load_robot("dual7"), RANDOM)
    for _ in range(round(1.5 * PATIENCE_S / FRAME_S)):
        if (goals := page.frame()) is not None:
            positions, orientations = goals
            page.poses = positions, np.roll(orientations, 1, axis=-1)  # turned far
    assert page.program.score.line() == "0 of 1 goal sets reached"


@pytest.mark.parametrize("kind", [RANDOM, WAVE])
def test_a_robot_that_is_halted_gets_no_goals_and_then_new_ones(planar8: Robot, kind: str) -> None:
    page = Page(planar8, kind)
    assert page.frame() is not None
    assert [page.frame(may_move=False) for _ in range(300)] == [None] * 300
    assert page.frame() is not None and page.program.score.missed == 0


def test_moving_goals_start_at_the_robot_and_keep_their_speed() -> None:
    page, steps = Page(load_robot("humanoid27"), WAVE), []
    for _ in range(3000):
        goals = page.frame()
        assert goals is not None
        steps.append(np.linalg.norm(goals[0] - page.poses[0], axis=-1).max() / FRAME_S)
        page.poses = goals
    assert max(steps) < 1.2 * SPEED and np.median(steps) == pytest.approx(SPEED, rel=0.05)
    assert page.program.score.line() == "goals that move are followed within 0 mm (median)"


def test_another_program_is_refused(planar8: Robot) -> None:
    with pytest.raises(ValueError, match="'dance', but must be one of: by hand, random goals"):
        GoalProgram(planar8).start("dance", planar8.home)
