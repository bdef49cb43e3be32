"""Joint limits of the command: pure numpy, the last word before a command is published."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

POSITION_MARGIN = 0.005  # share of a joint's range kept clear at both ends
REACTION_PERIODS = (
    3.0  # periods that pass before a joint follows: sampling, transport and servo lag
)

Vector = NDArray[np.float64]


class JointLimits:
    """Turns wanted joint velocities into velocities that the robot may be told.

    pos_limits (nu, 2) [rad or m], vel_limits (nu,) [rad/s or m/s],
    acc_limits (nu,) [rad/s^2 or m/s^2], period_s: time for which a command holds.
    """

    def __init__(
        self,
        pos_limits: ArrayLike,
        vel_limits: ArrayLike,
        acc_limits: ArrayLike,
        period_s: float,
        margin: float = POSITION_MARGIN,
        reaction_periods: float = REACTION_PERIODS,
    ) -> None:
        limits = np.array(pos_limits, dtype=np.float64)
        self.vel_limits: Vector = np.array(vel_limits, dtype=np.float64)
        self.acc_limits: Vector = np.array(acc_limits, dtype=np.float64)
        low, high = limits.T
        spread = margin * (high - low)
        self.low: Vector = low + spread
        self.high: Vector = high - spread
        if not reaction_periods >= 0.5:
            raise ValueError(f"reaction_periods is {reaction_periods:g}, but must be at least 0.5")
        self._reaction_s = reaction_periods * period_s
        self._change: Vector = self.acc_limits * period_s
        self._shape = self.vel_limits.shape

    def apply(
        self, wanted: Vector, previous: Vector, joint_pos: Vector, speed_scale: float = 1.0
    ) -> Vector:
        """The command (nu,) for `wanted` (nu,), after `previous` (nu,), at `joint_pos` (nu,).

        In this order, and why in this order:

        1. Malformed input (wrong shape, not finite): zero.
        2. Velocity: one factor for all joints, so that the direction of motion is kept.
        3. Acceleration: every joint within +- acc * period of `previous`. Both ends obey 2, so the
           result, which lies between them, does too. No joint that brakes waits for another.
        4. Position: the speed from which the joint still stops before its limit less a margin,
           when it brakes with acc after a reaction time. Last, since a limit stop is hard while acc
           is a comfort: where 3 and 4 disagree, 4 wins. It never adds speed nor turns a joint
           around, so 2 still holds; following it from rest needs no more than acc, so it breaks 3
           only after a disturbance. A joint beyond its limit may stand or come back, never go on.
        """
        shape = self._shape
        if not (wanted.shape == previous.shape == joint_pos.shape == shape):
            return np.zeros(shape)
        if not (
            np.isfinite(wanted).all()
            and np.isfinite(previous).all()
            and np.isfinite(joint_pos).all()
        ):
            return np.zeros(shape)
        if not 0.0 <= speed_scale <= 1.0:
            return np.zeros(shape)
        with np.errstate(over="ignore"):
            excess = float(np.max(np.abs(wanted) / self.vel_limits))
        command = wanted * (speed_scale / max(excess, 1.0))
        previous = _clip(previous, -self.vel_limits, self.vel_limits)
        command = _clip(command, previous - self._change, previous + self._change)
        down = self.braking_speed(joint_pos - self.low)
        up = self.braking_speed(self.high - joint_pos)
        return _clip(_clip(command, -down, up), -self.vel_limits, self.vel_limits)

    def braking_speed(self, room: Vector) -> Vector:
        """Speed (nu,) at which reaction and braking use up `room` (nu,) [rad or m]; else 0."""
        # v h + v^2 / (2 a) = d
        h, a = self._reaction_s, self.acc_limits
        return a * (np.sqrt(h * h + 2.0 * np.maximum(room, 0.0) / a) - h)


def _clip(values: Vector, low: Vector, high: Vector) -> Vector:
    return np.minimum(np.maximum(values, low), high)
