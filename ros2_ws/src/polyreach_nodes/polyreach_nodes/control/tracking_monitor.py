"""Whether joints track their commands."""

import numpy as np
from numpy.typing import NDArray

LEAST_SHARE = 0.05  # of what was commanded: less is no motion, even of a slow simulation
LEAST_SPEED = 0.05  # share of the speed a joint may have; friction may hold one that creeps
LEAST_TRAVEL = 0.05  # [rad or m] that must have been commanded before a joint is blamed
NOISE = 2e-3  # [rad or m] by which a reading may change while the joint stands


class TrackingMonitor:
    """Compares commanded with measured motion since a joint was last seen to move.

    Drives that are switched off, a brake that is not released, a velocity controller that is not
    active: the joints are at rest while the command grows to full speed, with which they would
    start.
    """

    def __init__(self, vel_limits: NDArray[np.float64], reaction_s: float) -> None:
        """vel_limits: (nu,) [rad/s or m/s]; reaction_s: [s] after which a joint follows at best."""
        self.timeout_s = 0.0  # [s] for which a joint may be at rest; 0: no limit
        self.reaction_s = reaction_s
        self._creeping: list[float] = (LEAST_SPEED * vel_limits).tolist()
        self._from: list[float] = []  # [rad or m] where each joint was then
        self._commanded = [0.0] * len(self._creeping)  # [rad or m] since then, to and fro

    def restart(self) -> None:
        """Forget what was commanded."""
        self._from = []

    def untracked_joint(
        self,
        command: NDArray[np.float64],
        joint_pos: NDArray[np.float64],
        elapsed_s: float,
        speed_scale: float = 1.0,
    ) -> int:
        """Index of a joint that does not track its command, or -1; at joint_pos (nu,) [rad or m],
        elapsed_s after `command` (nu,) [rad/s or m/s] was published.

        speed_scale: share of the velocity limits that is allowed.
        """
        if not self.timeout_s:
            return -1
        position = joint_pos.tolist()
        if not self._from:
            self._from, self._commanded = position, [0.0] * len(position)
            return -1
        patience_s = self.reaction_s + self.timeout_s
        for joint, (v, q) in enumerate(zip(map(abs, command.tolist()), position, strict=True)):
            commanded = self._commanded[joint] + v * elapsed_s
            moved = abs(q - self._from[joint])
            creeps = v < speed_scale * self._creeping[joint]
            if creeps or moved > max(NOISE, LEAST_SHARE * commanded):
                self._from[joint], self._commanded[joint] = q, 0.0
                continue
            self._commanded[joint] = commanded
            if commanded > max(LEAST_TRAVEL, v * patience_s):
                return joint
        return -1
