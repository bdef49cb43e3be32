"""Goals that were given in another frame than the base frame, and those of them that follow it."""

from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from polyreach_description import Robot
from polyreach_description.orientation import Quaternion
from polyreach_nodes.control.goal_frames import (
    FramedGoal,
    FrameError,
    GoalFrames,
    Point,
    loop_through,
)

Vector = NDArray[np.float64]
Placed = tuple[Point, Quaternion | None]  # [m], unit quaternion x y z w; base frame


class FramedGoals:
    """Goals by effector, of E. Where a goal cannot follow its frame, it stays at its last place."""

    def __init__(
        self, robot: Robot, frames: GoalFrames, active: Vector, check: Callable[[Point], None]
    ) -> None:
        """active (E,): 1 for an effector that has any goal, as it is at the time. check: raises
        ValueError for a position [m] where no goal may be.
        """
        self.goals: dict[int, FramedGoal] = {}
        self.followed: dict[int, frozenset[int]] = {}  # of these, those that move: by which ones
        self.not_followed: dict[int, str] = {}  # of these, those that stay, and why
        self._frames = frames
        self._active = active
        self._check = check
        self._names = robot.effector_names

    def set(self, index: int, goal: FramedGoal) -> Placed:
        """Set the goal of an effector; returns where it is. Raises ValueError if it is not
        legal.
        """
        frames, names, movers = self._frames, self._names, None
        frames.check(goal.frame)
        if frames.follows(goal.frame):
            movers, goal = frames.movers(goal.frame), replace(goal, stamp_ns=0)
            if loop := loop_through(index, movers, self.followed):
                others = " and ".join(f"the goal of '{names[other]}'" for other in loop[:-1])
                through = f", by way of {others}" if others else ""
                raise FrameError(
                    f"frame '{goal.frame}' moves with '{names[index]}' itself{through}: the goal "
                    "would run away"
                )
            self._check_movers(goal.frame, movers)
        frames.update()
        placed = frames.place(goal)
        self._check(placed[0])
        self.leave(index)
        self.goals[index] = goal
        if movers is not None:
            self.followed[index] = movers
        return placed

    def leave(self, index: int) -> None:
        """The effector has another goal, or none."""
        for by_effector in (self.goals, self.followed, self.not_followed):
            by_effector.pop(index, None)

    def follow(self, joint_pos: Vector) -> Iterator[tuple[int, Placed]]:
        """The goals that follow a frame, by effector, where they are at joint_pos (nu,)
        [rad or m].
        """
        self._frames.update(joint_pos)
        for index, movers in self.followed.items():
            goal = self.goals[index]
            try:
                self._check_movers(goal.frame, movers)
                placed = self._frames.place(goal)
                self._check(placed[0])
            except ValueError as error:
                self.not_followed[index] = (
                    f"goal of '{self._names[index]}' does not follow frame '{goal.frame}': {error}"
                )
            else:
                self.not_followed.pop(index, None)
                yield index, placed

    def _check_movers(self, frame: str, movers: frozenset[int]) -> None:
        """Raise FrameError if an effector that moves the frame has no goal.

        The policy may move it then, and the frame with it, to bring another effector to its goal.
        """
        for mover in sorted(movers):
            if not self._active[mover]:
                raise FrameError(
                    f"frame '{frame}' moves with '{self._names[mover]}', which has no goal: set "
                    "its goal first"
                )
