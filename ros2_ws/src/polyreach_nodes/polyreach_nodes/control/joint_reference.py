"""Drives that follow commanded positions, as the simulator has them."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

GAIN = 10.0  # [1/s], of the position error: below the 1 / (4 lag) at which servos overshoot

Vector = NDArray[np.float64]


class Point(NamedTuple):
    """Where joints are time_s [s] after a trajectory began: position (nu,) [rad or m]; velocity
    (nu,) [rad/s or m/s], or None for a straight line to here.
    """

    time_s: float
    position: Vector
    velocity: Vector | None = None


class JointReference:
    """Where the joints ought to be over time: from where they were, through points, at rest then.

    A new trajectory replaces the rest of the present one, and begins where that is by then, in
    position and velocity (`interpolate_from_desired_state` of joint_trajectory_controller). Times
    are seconds of any clock.
    """

    def __init__(self, position: Vector) -> None:
        """At rest at position (nu,) [rad or m]."""
        self._start_s = 0.0
        self._points = [Point(0.0, position.copy(), np.zeros_like(position))]

    def follow(self, points: Sequence[Point], now_s: float) -> None:
        """Follow points (at least one), whose times increase from above 0."""
        position, velocity = self.sample(now_s)
        self._points = [Point(0.0, position, velocity), *points]
        self._start_s = now_s

    def sample(self, now_s: float) -> tuple[Vector, Vector]:
        """Position (nu,) [rad or m] and velocity (nu,) [rad/s or m/s] at a time; before the
        trajectory began, those of its begin.
        """
        time_s = max(0.0, now_s - self._start_s)
        for begin, end in zip(self._points, self._points[1:], strict=False):
            if time_s < end.time_s:
                return _between(begin, end, time_s)
        last = self._points[-1].position
        return last, np.zeros_like(last)


def _between(begin: Point, end: Point, time_s: float) -> tuple[Vector, Vector]:
    """On the line between two points, or on the cubic if the second has a velocity."""
    duration_s = end.time_s - begin.time_s
    s = (time_s - begin.time_s) / duration_s
    way = end.position - begin.position
    if end.velocity is None:
        return begin.position + s * way, way / duration_s
    # x(s) = x0 + (3 s^2 - 2 s^3) way + T ((s - 2 s^2 + s^3) v0 + (s^3 - s^2) v1)
    v0 = np.zeros_like(way) if begin.velocity is None else begin.velocity
    v1 = end.velocity
    position = begin.position + (3 * s**2 - 2 * s**3) * way
    position += duration_s * ((s - 2 * s**2 + s**3) * v0 + (s**3 - s**2) * v1)
    velocity = 6 * (s - s**2) * way / duration_s
    velocity += (1 - 4 * s + 3 * s**2) * v0 + (3 * s**2 - 2 * s) * v1
    return position, velocity


class PositionDrives:
    """Velocities with which drives follow a reference, within their limits.

    vel_limits (nu,) [rad/s or m/s], acc_limits (nu,) [rad/s^2 or m/s^2].
    """

    def __init__(self, vel_limits: Vector, acc_limits: Vector) -> None:
        self._vel_limits, self._acc_limits = vel_limits, acc_limits
        self._velocity: Vector = np.zeros_like(vel_limits)

    def velocity(
        self, reference: tuple[Vector, Vector], joint_pos: Vector, elapsed_s: float
    ) -> Vector:
        """Velocity (nu,) [rad/s or m/s] elapsed_s [s] after the last one, with the joints at
        joint_pos (nu,) [rad or m] and a reference of position and velocity.
        """
        position, velocity = reference
        wanted = velocity + GAIN * (position - joint_pos)
        change = self._acc_limits * elapsed_s
        wanted = np.clip(wanted, self._velocity - change, self._velocity + change)
        self._velocity = np.clip(wanted, -self._vel_limits, self._vel_limits)
        return self._velocity
