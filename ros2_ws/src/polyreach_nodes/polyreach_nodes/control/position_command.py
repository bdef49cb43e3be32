"""Joint positions to command, for hardware that takes no velocities."""

import numpy as np
from numpy.typing import NDArray

from polyreach_nodes.control.limits import JointLimits, braking_speed

Vector = NDArray[np.float64]


class PositionCommand:
    """Integrates commanded velocities to joint positions (nu,) [rad or m].

    They start at the measured positions and, from then on, follow from what was commanded, not
    from what was measured: a joint that sags or lags does not pull its command along. Of each
    joint, in this order:

    1. Position: the speed from which the command still stops at the limit less its margin, braking
       with the acceleration limit. A command beyond it may rest or return, never continue.
    2. Measured position: within `lead` of it, so that a joint that is blocked or switched off does
       not wind up. The command moves towards the joint where it is not, never away.
    3. Velocity: no step exceeds the velocity limit times its period. Last, so that it always holds.

    The lead is what a joint may travel at its velocity limit in the reaction time and a period, by
    which commands and joints differ in motion. The distances of Proximity count with as much.
    """

    def __init__(self, limits: JointLimits, vel_limits: Vector, period_s: float) -> None:
        """vel_limits: (nu,) [rad/s or m/s]; period_s: time for which a command holds."""
        self._limits, self._period_s = limits, period_s
        self._vel_limits = vel_limits
        columns = limits.low, limits.high, vel_limits, limits.acc_limits
        self._joints = list(zip(*(column.tolist() for column in columns), strict=True))
        self.restart()

    def restart(self) -> None:
        """Forget the positions: the next command starts at the measured ones."""
        self.position: Vector | None = None
        self.velocity: Vector = np.zeros(len(self._joints))  # of the last step [rad/s or m/s]

    @property
    def lead(self) -> Vector:
        """By how much (nu,) [rad or m] a command may differ from the measured position."""
        return self._vel_limits * self._lead_s

    @property
    def _lead_s(self) -> float:
        return self._limits.reaction_s + self._period_s

    def step(self, joint_vel: Vector, joint_pos: Vector | None, elapsed_s: float) -> None:
        """Go on with joint_vel (nu,) [rad/s or m/s], elapsed_s after the last step.

        joint_pos: (nu,) [rad or m] measured, or None if it is not known or not believed; before
        the first one, there is no position, and without one, no command speeds up, so that a joint
        that stood does not wind up. elapsed_s counts for one period at most.
        """
        if self.position is None:
            if joint_pos is None:
                return
            self.position = joint_pos.copy()
        seconds, lead_s = max(0.0, min(elapsed_s, self._period_s)), self._lead_s
        before = self.position.tolist()
        if joint_pos is None:
            slowest, fastest = np.minimum(self.velocity, 0.0), np.maximum(self.velocity, 0.0)
            joint_vel = np.minimum(np.maximum(joint_vel, slowest), fastest)
        measured = before if joint_pos is None else joint_pos.tolist()
        rows = zip(joint_vel.tolist(), before, measured, self._joints, strict=True)
        after = []
        for v, p, q, (low, high, top, acc) in rows:
            bound = braking_speed(high - p if v > 0.0 else p - low, self._period_s, acc)
            way = seconds * max(-bound, min(bound, v))
            nearest, farthest = q - top * lead_s, q + top * lead_s
            target = max(nearest, min(farthest, p + way))
            target = max(min(low, p), min(max(high, p), target))
            most = top * seconds
            after.append(p + max(-most, min(most, target - p)))
        self.position = np.array(after)
        if seconds > 0.0:
            self.velocity = (self.position - before) / seconds

    def rest(self) -> tuple[Vector, float]:
        """Where (nu,) [rad or m] the joints can rest after the last step, and in what time [s].

        They brake evenly and together, so that their path in joint space is straight, and none
        with more than its acceleration limit.
        """
        assert self.position is not None
        time_s = float((np.abs(self.velocity) / self._limits.acc_limits).max())
        low = np.minimum(self._limits.low, self.position)
        high = np.maximum(self._limits.high, self.position)
        way = 0.5 * time_s * self.velocity
        return np.minimum(np.maximum(self.position + way, low), high), time_s
