"""Goals that the page sends by itself: random ones, one set after another, or ones that move."""

from collections import deque
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from polyreach_description import Robot
from polyreach_description.orientation import orientation_errors

BY_HAND, RANDOM, WAVE = PROGRAMS = ("by hand", "random goals", "moving goals")
TOLERANCE, ANGLE_TOLERANCE = 0.02, 0.05  # [m], [rad] within which a goal counts as reached
SETTLE_S = 0.4  # [s] for which all goals must stay reached
PATIENCE_S = 8.0  # [s] after which a goal set is missed
SPEED = 0.2  # [m/s] of the fastest goal, where goals move
FOLLOWED_S = 10.0  # [s] of errors that are judged, where goals move

Vector = NDArray[np.float64]
Poses = tuple[Vector, ...]
"""Positions (E, 3) [m, base frame] and orientations (E, 4) [unit quaternion x y z w]."""


@dataclass
class Score:
    """What became of the goals of a program."""

    times_s: list[float] = field(default_factory=list)  # to goal sets that were reached
    missed: int = 0
    errors: deque[tuple[float, float]] = field(default_factory=deque)  # times [s], errors [m]

    def line(self) -> str:
        """One line for the page; '' before there is anything to report."""
        if self.errors:
            followed = np.median([error for _, error in self.errors])
            return f"goals that move are followed within {1e3 * followed:.0f} mm (median)"
        if count := len(self.times_s) + self.missed:
            median = f", median {np.median(self.times_s):.1f} s" if self.times_s else ""
            return f"{len(self.times_s)} of {count} goal sets reached{median}"
        return ""


class GoalProgram:
    """Decides when there are new goals; E effectors, times [s, monotonic].

    Goals are where the effectors are in configurations that do not touch, so each set can be
    reached.
    """

    def __init__(self, robot: Robot) -> None:
        self.kind = BY_HAND
        self.score = Score()
        self._robot = robot
        self._rng = np.random.default_rng()
        self._goals: Poses | None = None
        self._sent_s = self._settled_s = -np.inf
        self._moved_s = np.inf  # when goals moved last; inf: not yet
        self._way: tuple[Vector, Vector] | None = None  # configurations (nu,) [rad or m]
        self._share = 0.0  # of the way

    def start(self, kind: str, joint_pos: Vector) -> None:
        """Begin a program, one of PROGRAMS, with the robot at joint_pos (nu,) [rad or m].

        Raises ValueError for another one.
        """
        if kind not in PROGRAMS:
            raise ValueError(f"program is '{kind}', but must be one of: {', '.join(PROGRAMS)}")
        self.kind, self.score = kind, Score()
        self._goals = None
        self._way = None if kind != WAVE else (joint_pos, self._draw())
        self._share, self._moved_s = 0.0, np.inf

    def update(self, now_s: float, may_move: bool, poses: Poses) -> Poses | None:
        """New goals, or None.

        may_move: whether the controller would go to goals; poses: of the effectors.
        """
        if self.kind == BY_HAND:
            return None
        if not may_move:
            self._goals, self._moved_s = None, now_s
            return None
        if self._goals is not None:
            self._judge(now_s, poses, self._goals)
        if self.kind == WAVE:
            self._goals = self._moved(min(max(now_s - self._moved_s, 0.0), 0.1))
            self._moved_s = now_s
            return self._goals
        if self._goals is None:
            self._goals = self._robot.effector_poses(self._draw())
            self._sent_s = self._settled_s = now_s
            return self._goals
        return None

    def _judge(self, now_s: float, poses: Poses, goals: Poses) -> None:
        distances = np.linalg.norm(poses[0] - goals[0], axis=-1)
        if self.kind == WAVE:
            errors = self.score.errors
            errors.append((now_s, float(distances.max())))
            while errors[0][0] < now_s - FOLLOWED_S:
                errors.popleft()
            return
        robot = self._robot
        angles = orientation_errors(robot.effector_goals, robot.effector_axes, poses[1], goals[1])
        if distances.max() > TOLERANCE or angles[robot.oriented].max(initial=0) > ANGLE_TOLERANCE:
            self._settled_s = now_s
        if now_s - self._settled_s >= SETTLE_S:
            self.score.times_s.append(self._settled_s - self._sent_s)
            self._goals = None
        elif now_s - self._sent_s > PATIENCE_S:
            self.score.missed += 1
            self._goals = None

    def _moved(self, elapsed_s: float) -> Poses:
        """The goals elapsed_s [s] later, at SPEED, on a straight way in the joints."""
        assert self._way is not None
        start, end = self._way
        here = self._robot.effector_poses(start + self._share * (end - start))
        ahead = self._share + 1e-3
        there = self._robot.effector_poses(start + ahead * (end - start))
        fastest = np.linalg.norm(there[0] - here[0], axis=-1).max() / 1e-3  # [m] a whole way
        self._share += elapsed_s * SPEED / max(float(fastest), SPEED)
        if self._share >= 1.0:
            self._way, self._share = (end, self._draw()), 0.0
            return self._robot.effector_poses(end)
        return self._robot.effector_poses(start + self._share * (end - start))

    def _draw(self) -> Vector:
        configuration: Vector = self._robot.sample_configuration(self._rng, 1)[0]
        return configuration
