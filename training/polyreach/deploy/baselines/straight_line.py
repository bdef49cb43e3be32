"""Motions on a straight line in joint space, within velocity and acceleration limits."""

import numpy as np
from numpy.typing import NDArray

from polyreach_description import Robot

Array = NDArray[np.float64]

ARRIVED = 1e-6  # [rad or m]


def least_duration(robot: Robot, way: Array) -> Array:
    """Least time [s] from rest to rest on a straight line of the joints, way (N, nu) [rad or m];
    (N,). It is the longest of the joints' own least times.
    """
    v, a = robot.joint_vel_limits, robot.joint_acc_limits
    d = np.abs(way)
    # a triangle of speeds, t = 2 sqrt(d / a), or a trapezoid, t = d / v + v / a
    times = np.where(d < v * v / a, 2.0 * np.sqrt(d / a), d / v + v / a)
    return times.max(axis=-1)


class StraightLineMotion:
    """References of N robots that move straight to targets, all joints in step: accelerated at the
    limit of the joint that needs most of it, up to the velocity limit, and braked to rest.

    Where a target changes on the way, the velocity turns to the new line within the acceleration
    limits. share: of the limits that is used.
    """

    def __init__(self, robot: Robot, joint_pos: Array, share: float = 1.0) -> None:
        self.period_s = 1.0 / robot.control_rate
        self.top, self.acc = share * robot.joint_vel_limits, share * robot.joint_acc_limits
        self.joint_pos = joint_pos.copy()  # (N, nu) [rad or m]
        self.joint_vel = np.zeros(joint_pos.shape)  # (N, nu) [rad/s or m/s]

    def step(self, targets: Array) -> Array:
        """The reference velocities (N, nu) of the next period, towards targets (N, nu)."""
        way = targets - self.joint_pos
        d = np.maximum(np.abs(way), 1e-12)
        h = self.period_s
        # v h + v^2 / (2 a) = d, for the periods of constant speed while braking
        braking = self.acc * (np.sqrt(h * h / 4 + 2.0 * d / self.acc) - h / 2)
        speed = np.minimum(np.minimum(braking, self.top), d / h)
        wanted = way * (speed / d).min(axis=1, keepdims=True)
        change = wanted - self.joint_vel
        excess = (np.abs(change) / (self.acc * h)).max(axis=1, keepdims=True)
        # a reduction of all joints in step keeps to the line
        self.joint_vel = self.joint_vel + change / np.maximum(excess, 1.0)
        self.joint_pos = self.joint_pos + self.joint_vel * h
        return self.joint_vel
