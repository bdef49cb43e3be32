"""Joints that respond to velocity commands with a pure delay and a first-order lag."""

import math
from collections import deque

import numpy as np
from numpy.typing import ArrayLike, NDArray

Vector = NDArray[np.float64]


class VelocityServos:
    """Velocity-controlled joints of a robot that hold the last command indefinitely.

    position: (n,) at the start [rad or m]. delay_s: from a command to its first effect [s]. lag_s:
    time constant of the velocity [s]. Times are seconds of any monotonic clock.
    """

    def __init__(self, position: ArrayLike, delay_s: float = 0.0, lag_s: float = 0.0) -> None:
        self.position: Vector = np.array(position, dtype=np.float64)
        self.velocity: Vector = np.zeros_like(self.position)
        self.target: Vector = np.zeros_like(self.position)
        self._delay_s, self._lag_s = delay_s, lag_s
        self._pending: deque[tuple[float, Vector]] = deque()
        self._now_s = -math.inf

    def command(self, velocity: ArrayLike, now_s: float) -> None:
        """Accept a command (n,) [rad/s or m/s]; it holds until the next one."""
        self._pending.append((now_s + self._delay_s, np.array(velocity, dtype=np.float64)))

    def advance(self, now_s: float) -> None:
        """Integrate to now_s, exactly for any step size."""
        if self._now_s == -math.inf:
            self._now_s = now_s
        while self._pending and self._pending[0][0] <= now_s:
            arrival_s, target = self._pending.popleft()
            self._move(max(arrival_s, self._now_s))
            self.target = target
        self._move(now_s)

    def _move(self, until_s: float) -> None:
        step_s, self._now_s = until_s - self._now_s, until_s
        if not self._lag_s:
            self.velocity = self.target
            self.position = self.position + self.target * step_s
            return
        # v' = (u - v) / lag
        lead = self.target - self.velocity
        share = -math.expm1(-step_s / self._lag_s)
        self.position = self.position + self.target * step_s - lead * (self._lag_s * share)
        self.velocity = self.velocity + lead * share
