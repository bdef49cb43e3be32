"""The goals of the effectors: accepted or rejected with a reason, cleared, expired."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from polyreach_description import Robot
from polyreach_description.orientation import IDENTITY, orientation_errors, unit_quaternion
from polyreach_nodes.control.goal_motion import GoalMotion
from polyreach_nodes.control.goal_twists import GoalTwists
from polyreach_nodes.control.progress import ProgressChecker
from polyreach_nodes.control.proximity import Proximity

MAX_GOAL_DISTANCE = 100.0  # [m]
MAX_NAME = 100  # characters of a frame that are repeated in a message

Vector = NDArray[np.float64]


class Goals:
    """A goal for each of E effectors, or none; times are seconds on a monotonic clock.

    A goal is a position, with an orientation where the robot's `effector_goals` are axis or pose.
    """

    def __init__(self, robot: Robot, proximity: Proximity, progress: ProgressChecker) -> None:
        """proximity: has the workspace. progress: follows which goals there are."""
        effectors = len(robot.effector_names)
        self.timeout_s = 0.0  # after which a goal that is not set again expires; 0: never
        self.positions: Vector = np.zeros((effectors, 3))  # [m, base frame]
        self.orientations: Vector = np.tile(IDENTITY, (effectors, 1))  # x y z w, base frame
        self.active: Vector = np.zeros(effectors)  # 1 for an effector that has a goal
        self.oriented: Vector = np.zeros(effectors)  # 1 for a goal with an orientation
        self.motion = GoalMotion(effectors, 1.0 / robot.control_rate)
        self.twists = GoalTwists(robot)
        # where the policy leads the effectors: the goals, or ahead of those that are streamed
        self.targets, self.target_orientations = self.positions, self.orientations
        self.any_active = False
        self.had_any = False  # since forget()
        self.rejection = ""  # why the last rejected goal was rejected
        self.rejected_effector = ""  # whose goal that was
        self.expiry = ""  # which goal expired last
        self.received = dict.fromkeys(robot.effector_names, 0)  # rejected ones too
        self._robot = robot
        self._proximity = proximity
        self._progress = progress
        self._set_s: Vector = np.zeros(effectors)
        self._index = {name: i for i, name in enumerate(robot.effector_names)}

    def set(
        self,
        effector: str,
        frame: str,
        position: tuple[float, float, float],
        now_s: float,
        orientation: tuple[float, float, float, float] = IDENTITY,
    ) -> str:
        """Set a goal [m, base frame]; returns why it was rejected (the old goal stays), or ''.

        orientation: unit quaternion x y z w, which counts where the effector's goal has one.
        """
        if reason := self._fault(effector, frame, position):
            return self.reject(effector, reason)
        index = self._index[effector]
        oriented = bool(self._robot.oriented[index])
        try:
            turned = unit_quaternion(orientation) if oriented else IDENTITY
        except ValueError as error:
            return self.reject(effector, str(error))
        self.received[effector] += 1
        self.positions[index], self.orientations[index] = position, turned
        self.active[index], self.oriented[index] = 1.0, float(oriented)
        self.any_active = self.had_any = True
        self.twists.forget(index)
        self.motion.observe(index, position, turned, now_s)
        self._progress.set_goal(index, position, turned)
        self._set_s[index] = now_s
        self.expiry = ""
        if self.rejected_effector == effector:
            self.rejection = self.rejected_effector = ""
        return ""

    def reject(self, effector: str, reason: str) -> str:
        """Note that a goal was not taken; returns the sentence for the status."""
        if effector in self.received:
            self.received[effector] += 1
        self.rejected_effector = effector
        self.rejection = f"goal of '{effector}' rejected: {reason}"
        return self.rejection

    def clear(self, effector: str) -> None:
        """Clear the goal of one effector."""
        index = self._index[effector]
        self.active[index] = self.oriented[index] = 0.0
        self.any_active = bool(self.active.any())
        self.motion.forget(index)
        self.twists.forget(index)
        self._progress.clear_goal(index)

    def clear_all(self) -> None:
        """Clear all goals: the joints slow down within their limits and hold."""
        for effector in self._index:
            self.clear(effector)

    def forget(self) -> None:
        """Clear all goals, and forget what became of those before."""
        self.clear_all()
        self.had_any = False
        self.rejection = self.rejected_effector = self.expiry = ""

    def expire(self, now_s: float) -> None:
        """Clear the goals that are older than timeout_s."""
        if not (self.timeout_s and self.any_active):
            return
        old = (self.active > 0) & (now_s - self._set_s > self.timeout_s)
        for index in np.flatnonzero(old):
            name = self._robot.effector_names[index]
            self.expiry = f"goal of '{name}' expired after {self.timeout_s:g} s"
            self.clear(name)

    def advance(self, joint_pos: Vector, now_s: float, elapsed_s: float) -> None:
        """Move goals by their twists and set the targets of a control period of elapsed_s [s], at
        joint_pos (nu,) [rad or m].
        """
        box = self._proximity.workspace
        if self.twists.live:
            goals = self.positions, self.orientations, self.active
            for moved in self.twists.step(*goals, box, joint_pos, now_s, elapsed_s):
                self._move(moved.effector, moved.position, moved.orientation, now_s)
        self.targets, self.target_orientations = self.motion.targets(
            self.positions,
            self.orientations,
            lambda: self._robot.forward_kinematics(joint_pos),
            box,
            now_s,
        )

    def _move(self, index: int, position: Vector, orientation: Vector, now_s: float) -> None:
        """Set a goal that is legal [m, base frame], without a stream of its own."""
        oriented = self._robot.oriented[index]
        self.positions[index] = position
        self.orientations[index] = orientation if oriented else IDENTITY
        self.active[index], self.oriented[index] = 1.0, float(oriented)
        self.any_active = self.had_any = True
        self.motion.forget(index)
        self._progress.set_goal(
            index, self.positions[index].tolist(), self.orientations[index].tolist()
        )
        self._set_s[index] = now_s

    def errors(self, joint_pos: Vector) -> tuple[Vector, Vector]:
        """Distances (E,) [m] and angles (E,) [rad] of the effectors at joint_pos (nu,) from their
        goals; an angle is 0 where the goal has no orientation. Those of effectors without a goal
        have no meaning.
        """
        robot = self._robot
        positions, orientations = robot.effector_poses(joint_pos)
        angles = orientation_errors(
            robot.effector_goals, robot.effector_axes, orientations, self.orientations
        )
        return np.linalg.norm(positions - self.positions, axis=-1), angles

    def _fault(self, effector: str, frame: str, position: tuple[float, float, float]) -> str:
        """Why a goal cannot be taken, or ''."""
        if effector not in self._index:
            legal = ", ".join(self._index)
            return f"unknown effector '{effector}' (robot '{self._robot.name}' has: {legal})"
        if frame not in ("", self._robot.base_frame):
            base = self._robot.base_frame
            return f"frame is '{frame[:MAX_NAME]}', but must be '{base}' or empty"
        if not np.isfinite(position).all():
            return f"position is {_point(position)}, but must be finite"
        if not np.linalg.norm(position) <= MAX_GOAL_DISTANCE:
            return f"position is {_point(position)}, more than {MAX_GOAL_DISTANCE:g} m away"
        low, high = self._proximity.workspace
        if not ((low <= position) & (position <= high)).all():
            legal = f"{_point(low)} to {_point(high)}"
            return f"position is {_point(position)}, but the workspace is {legal} [m]"
        return ""


def _point(position: Sequence[float] | Vector) -> str:
    return f"({', '.join(f'{value:g}' for value in position)})"
