"""Joints that follow velocity commands late: a pure delay, then a first-order lag."""

import math
from collections import deque

import numpy as np
from numpy.typing import ArrayLike, NDArray

Vector = NDArray[np.float64]


class VelocityServos:
    """Velocity-controlled joints of a robot that keep the last command for ever.

    position (n,) [rad or m] at the start; delay_s from a command to its first effect; lag_s: time
    constant with which a velocity follows. Times are seconds on any clock that only goes forward.
    """

    def __init__(self, position: ArrayLike, delay_s: float = 0.0, lag_s: float = 0.0) -> None:
        self.position: Vector = np.array(position, dtype=np.float64)
        self.velocity: Vector = np.zeros_like(self.position)
        self.target: Vector = np.zeros_like(self.position)
        self._delay_s, self._lag_s = delay_s, lag_s
        self._coming: deque[tuple[float, Vector]] = deque()
        self._now_s = -math.inf

    def command(self, velocity: ArrayLike, now_s: float) -> None:
        """Take a command (n,) [rad/s or m/s]; it holds until another comes."""
        self._coming.append((now_s + self._delay_s, np.array(velocity, dtype=np.float64)))

    def advance(self, now_s: float) -> None:
        """Move to now_s, exactly, whatever the steps."""
        if self._now_s == -math.inf:
            self._now_s = now_s
        while self._coming and self._coming[0][0] <= now_s:
            arrival_s, target = self._coming.popleft()
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
