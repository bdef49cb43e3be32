"""Joint jog: velocities of named joints, until a timeout, while no effector has a goal."""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from polyreach_description import Robot
from polyreach_nodes.control.frame_names import MAX_NAME

Vector = NDArray[np.float64]


class JointJog:
    """The last jog of a robot of nu joints; times are seconds on a monotonic clock.

    A jog is rejected while there are goals, and a goal ends it: either the policy moves the joints,
    or the jog does.
    """

    def __init__(self, robot: Robot) -> None:
        self.timeout_s = 0.2  # after which a jog ends
        self.note = ""  # why the last jog was rejected or scaled
        self._index = {name: i for i, name in enumerate(robot.joint_names)}
        self._limits = robot.joint_vel_limits
        self._robot_name = robot.name
        self._joint_vel: Vector | None = None
        self._received_s = 0.0

    def set(
        self, names: Sequence[str], joint_vel: Sequence[float], has_goals: bool, now_s: float
    ) -> str:
        """Take velocities [rad/s or m/s] of named joints, the others at rest; returns why they were
        rejected (the jog before ends), or ''. Beyond a limit, all are scaled.
        """
        self.forget()
        if reason := self._fault(names, joint_vel, has_goals):
            return self.reject(reason)
        wanted: Vector = np.zeros(len(self._index))
        wanted[[self._index[name] for name in names]] = joint_vel
        excess = abs(wanted) / self._limits
        joint = int(excess.argmax())
        if excess[joint] > 1.0:
            self.note = (
                f"joint jog scaled to {100 / excess[joint]:.3g} %: '{list(self._index)[joint]}' at "
                f"{wanted[joint]:.3g}, but its limit is {self._limits[joint]:.3g} [rad/s or m/s]"
            )
            wanted = wanted / excess[joint]
        self._joint_vel, self._received_s = wanted, now_s
        return ""

    def reject(self, reason: str) -> str:
        """Note that a jog was not taken; returns the sentence for the status."""
        self.note = f"joint jog rejected: {reason}"
        return self.note

    def forget(self) -> None:
        """End the jog, and forget what became of it."""
        self._joint_vel, self.note = None, ""

    def joint_vel(self, has_goals: bool, now_s: float) -> Vector | None:
        """Velocities (nu,) [rad/s or m/s] of this control period; None without a jog."""
        if self._joint_vel is None:
            return None
        if has_goals or now_s - self._received_s > self.timeout_s:
            self.forget()
        return self._joint_vel

    def _fault(self, names: Sequence[str], joint_vel: Sequence[float], has_goals: bool) -> str:
        """Why a jog cannot be taken, or ''."""
        if has_goals:
            return "there are goals: call ~/clear_goals first"
        if not 0 < len(names) == len(joint_vel) <= len(self._index):
            return (
                f"{len(names)} names and {len(joint_vel)} velocities, but must be one each, of 1 "
                f"to {len(self._index)} joints"
            )
        if len(set(names)) < len(names):
            return "a joint is named twice"
        for name, value in zip(names, joint_vel, strict=True):
            if name not in self._index:
                legal = ", ".join(self._index)
                shown = name[:MAX_NAME]
                return f"unknown joint '{shown}' (robot '{self._robot_name}' has: {legal})"
            if not math.isfinite(value):
                return f"velocity of '{name}' is {value:g}, but must be finite"
        return ""
