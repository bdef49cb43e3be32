"""Joint limits of the command, in plain floats, which are faster than NumPy for few joints."""

import itertools
import math
from operator import truediv

import numpy as np
from numpy.typing import ArrayLike, NDArray

from polyreach_description.limits import POSITION_MARGIN, REACTION_PERIODS

Vector = NDArray[np.float64]


class JointLimits:
    """Limits joint velocities to what the robot may be commanded.

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
    ) -> None:
        limits = np.array(pos_limits, dtype=np.float64)
        self.acc_limits: Vector = np.array(acc_limits, dtype=np.float64)
        low, high = limits.T
        spread = margin * (high - low)
        self.low: Vector = low + spread
        self.high: Vector = high - spread
        self._top = np.array(vel_limits, dtype=np.float64).tolist()
        columns = self.low.tolist(), self.high.tolist(), self._top, self.acc_limits.tolist()
        self._joints = list(zip(*columns, strict=True))
        self.reaction_s = REACTION_PERIODS * period_s  # time that passes before a joint follows
        self._period_s = period_s
        self._shape = self.acc_limits.shape

    def apply(
        self,
        wanted: Vector,
        previous: Vector,
        joint_pos: Vector,
        speed_scale: float = 1.0,
        elapsed_s: float = math.inf,
    ) -> Vector:
        """The command (nu,) for `wanted` (nu,), after `previous` (nu,), at `joint_pos` (nu,).

        elapsed_s: time since `previous` was published; counted for one period at most.

        In this order, and why in this order:

        1. Malformed input (wrong shape, not finite): zero.
        2. Velocity: one factor for all joints, so that the direction of motion is kept.
        3. Acceleration: every joint within +- acc * elapsed of `previous`. Both ends obey 2, so the
           result, which lies between them, does too. No joint that brakes waits for another.
        4. Position: the speed from which the joint still stops before its limit less a margin,
           when it brakes with acc after a reaction time. Last, since a limit stop is hard while acc
           is a comfort: where 3 and 4 disagree, 4 wins. It never adds speed nor turns a joint
           around, so 2 still holds; following it from rest needs no more than acc, so it breaks 3
           only after a disturbance. A joint beyond its limit may rest or return, never continue.
        """
        if not (wanted.shape == previous.shape == joint_pos.shape == self._shape):
            return np.zeros(self._shape)
        if not (0.0 <= speed_scale <= 1.0 and elapsed_s >= 0.0):
            return np.zeros(self._shape)
        rows = wanted.tolist(), previous.tolist(), joint_pos.tolist()
        if not all(map(math.isfinite, itertools.chain(*rows))):
            return np.zeros(self._shape)
        excess = max(map(abs, map(truediv, rows[0], self._top)))
        factor = speed_scale / max(excess, 1.0)
        period_s, h = min(elapsed_s, self._period_s), self.reaction_s
        command = []
        for v, before, q, (low, high, top, a) in zip(*rows, self._joints, strict=True):
            before = top if before > top else -top if before < -top else before
            least, most = before - a * period_s, before + a * period_s
            v *= factor
            v = least if v < least else most if v > most else v
            bound = braking_speed(high - q if v > 0.0 else q - low, h, a)
            bound = top if bound > top else bound
            command.append(bound if v > bound else -bound if v < -bound else v)
        return np.array(command)

    def change(self, elapsed_s: float) -> Vector:
        """By how much (nu,) a command may differ from the one elapsed_s before; see apply."""
        return self.acc_limits * min(elapsed_s, self._period_s)


def braking_speed(d: float, h: float, a: float) -> float:
    """Speed at which a reaction time h and braking with a use up d; 0 if there is none left."""
    # v h + v^2 / (2 a) = d
    return a * (math.sqrt(h * h + 2.0 * max(d, 0.0) / a) - h)
