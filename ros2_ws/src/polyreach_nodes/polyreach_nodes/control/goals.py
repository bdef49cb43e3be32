"""The goals of the effectors: accepted or rejected with a reason, cleared, expired."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from polyreach_description import Robot
from polyreach_description.orientation import (
    IDENTITY,
    Quaternion,
    orientation_errors,
    unit_quaternion,
)
from polyreach_nodes.control.framed_goals import FramedGoals
from polyreach_nodes.control.goal_bounds import check_distance, check_workspace
from polyreach_nodes.control.goal_frames import FramedGoal, GoalFrames, Point
from polyreach_nodes.control.goal_motion import GoalMotion
from polyreach_nodes.control.goal_twists import GoalTwists
from polyreach_nodes.control.progress import ProgressChecker
from polyreach_nodes.control.proximity import Proximity

Vector = NDArray[np.float64]


class Goals:
    """A goal for each of E effectors, or none; times are seconds on a monotonic clock.

    A goal is a position, with an orientation where the robot's `effector_goals` are axis or pose.
    Given in a frame that moves, it follows that frame. Where it would leave the workspace, or where
    the frame is not known any more, it stays at its last place.

    A hold is a goal at the pose that an effector had, so that it stays there while others move. It
    ends with a goal that is set for this effector, when it is cleared, and with the last goal that
    was set for any effector.
    """

    def __init__(
        self,
        robot: Robot,
        proximity: Proximity,
        progress: ProgressChecker,
        joint_pos: Callable[[], Vector | None] = lambda: None,
    ) -> None:
        """proximity: has the workspace, and the joints that are held. progress: follows which goals
        there are. joint_pos: the joint positions (nu,) [rad or m] now, None if unknown.
        """
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
        self.held: set[int] = set()  # effectors whose goals are holds
        self.had_any = False  # since forget()
        self.rejection = ""  # why the last rejected goal was rejected
        self.rejected_effector = ""  # whose goal that was
        self.expiry = ""  # which goal expired last
        self.received = dict.fromkeys(robot.effector_names, 0)  # rejected ones too
        self.frames = GoalFrames(robot, lambda: proximity.qpos, joint_pos)
        self._in_frames = FramedGoals(robot, self.frames, self.active, self._check_place)
        self.framed = self._in_frames.goals  # by effector, as the next two
        self.followed = self._in_frames.followed
        self.not_followed = self._in_frames.not_followed
        self._robot = robot
        self._proximity = proximity
        self._progress = progress
        self._set_s: Vector = np.zeros(effectors)
        self._index = {name: i for i, name in enumerate(robot.effector_names)}

    def set(
        self,
        effector: str,
        frame: str,
        position: Point,
        now_s: float,
        orientation: Quaternion = IDENTITY,
        stamp_ns: int = 0,
    ) -> str:
        """Set a goal [m] in a frame; returns why it was rejected (the old goal stays), or ''.

        orientation: unit quaternion x y z w, which counts where the effector's goal has one.
        stamp_ns: of the goal, at which a frame of TF counts; 0: the latest transform.
        """
        try:
            index = self._index_of(effector)
            check_distance(position)
            turned = unit_quaternion(orientation) if self._robot.oriented[index] else None
            goal = FramedGoal(frame, position, turned, stamp_ns)
            if frame in ("", self._robot.base_frame):
                self._check_place(position)
                self._in_frames.leave(index)
                self._begin(index, position, turned)
            elif not stamp_ns or goal != self.framed.get(index):  # one that is sent again stays
                self._begin(index, *self._in_frames.set(index, goal))
        except ValueError as error:
            return self.reject(effector, str(error))
        self.received[effector] += 1
        self.held.discard(index)
        self.active[index] = 1.0
        self.any_active = self.had_any = True
        self.twists.forget(index)
        if index in self.followed:
            self.motion.forget(index)
        else:
            x, y, z = self.positions[index].tolist()
            qx, qy, qz, qw = self.orientations[index].tolist()
            self.motion.observe(index, (x, y, z), (qx, qy, qz, qw), now_s)
        self._set_s[index] = now_s
        self.expiry = ""
        if self.rejected_effector == effector:
            self.rejection = self.rejected_effector = ""
        return ""

    def follow(self, joint_pos: Vector) -> None:
        """Move the goals that follow a frame to where it is at joint_pos (nu,) [rad or m].

        The progress checker does not take these for new goals: an effector that does not catch up
        with its goal makes no progress.
        """
        for index, placed in self._in_frames.follow(joint_pos):
            self._place(index, *placed)

    def _check_place(self, position: Point) -> None:
        check_workspace(position, self._proximity.workspace)

    def _begin(self, index: int, position: Point, turned: Quaternion | None) -> None:
        """Set position [m] and orientation of a new goal in the base frame."""
        self._place(index, position, turned)
        self._progress.set_goal(index, position, turned or IDENTITY)

    def _place(self, index: int, position: Point, turned: Quaternion | None) -> None:
        """Set position [m] and orientation of a goal in the base frame."""
        self.positions[index], self.orientations[index] = position, turned or IDENTITY
        self.oriented[index] = float(turned is not None)

    def reject(self, effector: str, reason: str) -> str:
        """Note that a goal was not taken; returns the sentence for the status."""
        if effector in self.received:
            self.received[effector] += 1
        self.rejected_effector = effector
        self.rejection = f"goal of '{effector}' rejected: {reason}"
        return self.rejection

    def hold(self, joint_pos: Vector, now_s: float) -> list[str]:
        """Hold the effectors that have no goal at their poses at joint_pos (nu,) [rad or m];
        returns their names.

        Raises ValueError, and holds none, if one of them is outside of the workspace.
        """
        free, names = np.flatnonzero(self.active == 0.0).tolist(), self._robot.effector_names
        positions, orientations = self._robot.effector_poses(joint_pos)
        for index in free:
            try:
                check_workspace(positions[index], self._proximity.workspace)
            except ValueError as error:
                raise ValueError(f"'{names[index]}' cannot be held: {error}") from None
        for index in free:
            self._move(index, positions[index], orientations[index], now_s)
        self.held.update(free)
        return [names[index] for index in free]

    @property
    def any_set(self) -> bool:
        """Whether there is a goal that is no hold."""
        return int(self.active.sum()) > len(self.held)

    def clear(self, effector: str) -> None:
        """Clear the goal of one effector; with the last one that was set, all holds."""
        index = self._index[effector]
        was_set = self.any_set
        self._clear(index)
        if was_set and not self.any_set:
            for held in tuple(self.held):
                self._clear(held)

    def _clear(self, index: int) -> None:
        self.held.discard(index)
        self.active[index] = self.oriented[index] = 0.0
        self.any_active = bool(self.active.any())
        self.motion.forget(index)
        self.twists.forget(index)
        self._in_frames.leave(index)
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
        """Clear the goals that are older than timeout_s; holds only if no other goal is left."""
        if not (self.timeout_s and self.any_active):
            return
        old = (self.active > 0) & (now_s - self._set_s > self.timeout_s)
        for index in sorted(np.flatnonzero(old).tolist(), key=self.held.__contains__):
            if not self.active[index] or (index in self.held and self.any_set):
                continue
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
        self.held.discard(index)
        self._in_frames.leave(index)
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

    def _index_of(self, effector: str) -> int:
        if effector not in self._index:
            legal = ", ".join(self._index)
            raise ValueError(
                f"unknown effector '{effector}' (robot '{self._robot.name}' has: {legal})"
            )
        return self._index[effector]
