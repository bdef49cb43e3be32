"""The least time of straight motions in joint space."""

import numpy as np
from numpy.typing import NDArray

from polyreach_description import Robot

Array = NDArray[np.float64]


def least_duration(robot: Robot, way: Array) -> Array:
    """Least time [s] from rest to rest on a straight line of the joints, way (N, nu) [rad or m];
    (N,). It is the longest of the joints' own least times.
    """
    v, a = robot.joint_vel_limits, robot.joint_acc_limits
    d = np.abs(way)
    # a triangle of speeds, t = 2 sqrt(d / a), or a trapezoid, t = d / v + v / a
    times = np.where(d < v * v / a, 2.0 * np.sqrt(d / a), d / v + v / a)
    return times.max(axis=-1)
