"""Twists: velocities that move the goal of an effector, until a timeout."""

import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from polyreach_description import Robot
from polyreach_description.orientation import matrices, orientation_errors
from polyreach_nodes.control.frame_names import MAX_NAME
from polyreach_nodes.control.rotations import Triple, rotated

MAX_AHEAD = 0.05  # [m] of a goal before its effector
MAX_AHEAD_RAD = 0.25  # [rad]
NEGLIGIBLE = 1e-6  # [m] by which a goal may be elsewhere than its twist has it
MAX_PERIODS = 2.0  # of motion in one control period, after a pause

Vector = NDArray[np.float64]


class Twist(NamedTuple):
    """A velocity of a goal, within the limits."""

    linear: Triple  # [m/s]
    angular: Triple  # [rad/s]
    in_effector: bool  # whether its frame is that of the effector; else the base frame
    received_s: float


class MovedGoal(NamedTuple):
    """Where a twist has moved the goal of an effector, by its number."""

    effector: int
    position: Vector  # (3,) [m, base frame]
    orientation: Vector  # (4,) x y z w


class GoalTwists:
    """The last twist of each of E effectors; times are seconds on a monotonic clock.

    A twist moves the effector's goal, or, where there is none, a goal that starts at its present
    pose. Such a goal stays at most MAX_AHEAD and MAX_AHEAD_RAD before the effector, so that it does
    not run away from one that limits or distances hold, nor from a slow one; a goal that was
    further away comes no further.
    """

    def __init__(self, robot: Robot) -> None:
        self.timeout_s = 0.2  # after which a twist ends
        self.linear_limit = 0.25  # [m/s]
        self.angular_limit = 1.0  # [rad/s]
        self.live = False  # whether there is a twist
        self._robot = robot
        self._max_elapsed_s = MAX_PERIODS / robot.control_rate
        self._index = {name: i for i, name in enumerate(robot.effector_names)}
        self._twists: dict[int, Twist] = {}
        self._rejections: dict[int, str] = {}
        self._changes: dict[int, str] = {}  # what a twist is not taken for as it is
        self._held: set[int] = set()

    @property
    def notes(self) -> str:
        """Which twists are rejected, scaled or held, and why; '' if none is."""
        held = dict.fromkeys(self._held, "held: its effector is behind, or a wall is near")
        names = self._robot.effector_names
        notes = (
            f"twist of '{names[index]}' {text}"
            for texts in (self._rejections, self._changes, held)
            for index, text in texts.items()
        )
        return "; ".join(notes)

    def set(self, effector: str, frame: str, linear: Triple, angular: Triple, now_s: float) -> str:
        """Take a twist [m/s, rad/s]; returns why it was rejected (the one before ends), or ''.

        frame: the base frame, empty, or the effector's name. One that is too fast is scaled.
        """
        index = self._index[effector]
        self.forget(index)
        if reason := self._fault(effector, frame, linear, angular):
            return self.reject(effector, reason)
        turns = bool(self._robot.oriented[index])
        scale, change = self._scale(linear, angular if turns else (0.0, 0.0, 0.0))
        if not turns and any(angular):
            change = "without its angular part: goals of the effector are positions"
        if change:
            self._changes[index] = change
        x, y, z = (scale * value for value in linear)
        roll, pitch, yaw = (scale * value if turns else 0.0 for value in angular)
        self._twists[index] = Twist((x, y, z), (roll, pitch, yaw), frame == effector, now_s)
        self.live = True
        return ""

    def reject(self, effector: str, reason: str) -> str:
        """Note that a twist was not taken; returns the sentence for the status."""
        self._rejections[self._index[effector]] = f"rejected: {reason}"
        return f"twist of '{effector}' rejected: {reason}"

    def forget(self, index: int) -> None:
        """End the twist of an effector, and forget what became of it."""
        self._twists.pop(index, None)
        self._rejections.pop(index, None)
        self._changes.pop(index, None)
        self._held.discard(index)
        self.live = bool(self._twists)

    def step(
        self,
        positions: Vector,
        orientations: Vector,
        active: Vector,
        box: Vector,
        joint_pos: Vector,
        now_s: float,
        elapsed_s: float,
    ) -> Iterator[MovedGoal]:
        """The goals that twists move in a control period of elapsed_s [s], within a box (2, 3).

        positions (E, 3) [m], orientations (E, 4), active (E,): the goals there are. joint_pos
        (nu,) [rad or m].
        """
        elapsed_s = min(elapsed_s, self._max_elapsed_s)
        effector_pos, effector_turns = self._robot.effector_poses(joint_pos)
        for index, twist in tuple(self._twists.items()):
            if now_s - twist.received_s > self.timeout_s:
                self.forget(index)
                continue
            self._held.discard(index)
            if not (any(twist.linear) or any(twist.angular)):
                continue
            at, turned = effector_pos[index], effector_turns[index]
            begin, before = (
                (positions[index], orientations[index]) if active[index] else (at, turned)
            )
            linear, angular = np.array(twist.linear), np.array(twist.angular)
            if twist.in_effector:
                rotation = matrices(turned)
                linear, angular = rotation @ linear, rotation @ angular
            wanted = begin + elapsed_s * linear
            position = np.clip(_near(np.clip(wanted, *box), at, math.dist(begin, at)), *box)
            orientation = self._turned(index, before, elapsed_s * angular, turned)
            if math.dist(position, wanted) > NEGLIGIBLE or orientation is None:
                self._held.add(index)
            yield MovedGoal(index, position, before if orientation is None else orientation)

    def _turned(
        self, index: int, before: Vector, rotation: Vector, effector: Vector
    ) -> Vector | None:
        """An orientation (4,) turned by a rotation vector [rad]; None if it would be too far from
        that of the effector.
        """
        if not rotation.any():
            return before
        after = np.array(rotated(before.tolist(), rotation.tolist()))
        kind = self._robot.effector_goals[index : index + 1]
        axis = self._robot.effector_axes[index : index + 1]
        now, then = (
            float(orientation_errors(kind, axis, effector[None], goal[None])[0])
            for goal in (before, after)
        )
        return after if then <= max(MAX_AHEAD_RAD, now) else None

    def _fault(self, effector: str, frame: str, linear: Triple, angular: Triple) -> str:
        """Why a twist cannot be taken, or ''."""
        base = self._robot.base_frame
        if frame not in ("", base, effector):
            shown = frame[:MAX_NAME]
            return f"frame is '{shown}', but must be '{base}', empty, or the effector, '{effector}'"
        for name, value in (("linear", linear), ("angular", angular)):
            if not all(map(math.isfinite, value)):
                shown = ", ".join(f"{part:g}" for part in value)
                return f"{name} velocity is ({shown}), but must be finite"
        return ""

    def _scale(self, linear: Triple, angular: Triple) -> tuple[float, str]:
        """A factor with which a twist is within the limits, and what it is for."""
        scale, change = 1.0, ""
        for name, unit, value, limit in (
            ("linear", "m/s", linear, self.linear_limit),
            ("angular", "rad/s", angular, self.angular_limit),
        ):
            if (speed := math.hypot(*value)) * scale > limit:
                scale = limit / speed
                change = (
                    f"scaled to {100 * scale:.3g} %: {speed:.3g} {unit}, but twist_{name}_limit is "
                    f"{limit:g} {unit}"
                )
        return scale, change


def _near(position: Vector, effector: Vector, before: float) -> Vector:
    """A position (3,) [m], brought so near to the effector that it is MAX_AHEAD before it at most,
    or as far as `before` [m].
    """
    ahead, room = position - effector, max(MAX_AHEAD, before)
    distance = math.hypot(*ahead)
    return position if distance <= room else effector + room / distance * ahead
