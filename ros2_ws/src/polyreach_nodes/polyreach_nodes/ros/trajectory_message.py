"""What a joint trajectory message says, as joint_trajectory_controller takes it."""

import numpy as np
from numpy.typing import NDArray
from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint

from polyreach_nodes.control.joint_reference import Point

MAX_POINTS = 1000


def read_trajectory(message: JointTrajectory, joint_names: tuple[str, ...]) -> list[Point]:
    """Points of all joints, in the order of joint_names, whatever that of the message.

    Raises ValueError that names what joint_trajectory_controller would refuse by default: joints
    that are missing or unknown, times that do not increase, an end in motion, a start elsewhere
    than at receipt, values that are not finite.
    """
    if sorted(message.joint_names) != sorted(joint_names):
        raise ValueError(
            f"trajectory of joints {list(message.joint_names)[:50]}, but the robot has "
            f"{', '.join(joint_names)}"
        )
    stamp = message.header.stamp
    if stamp.sec or stamp.nanosec:
        raise ValueError("trajectory with a stamp: expected 0, which starts it at receipt")
    if not 1 <= len(message.points) <= MAX_POINTS:
        raise ValueError(f"trajectory of {len(message.points)} points: expected 1 to {MAX_POINTS}")
    order = [list(message.joint_names).index(name) for name in joint_names]
    points = [_point(point, order) for point in message.points]
    times = [0.0, *(point.time_s for point in points)]
    if not (np.diff(times) > 0.0).all():
        raise ValueError(f"trajectory with times {times[1:][:10]} s: expected 0 < t1 < t2 ...")
    last = points[-1].velocity
    if last is not None and last.any():
        raise ValueError("trajectory that ends in motion: expected zero velocities at the end")
    return points


def _point(message: JointTrajectoryPoint, order: list[int]) -> Point:
    duration = message.time_from_start
    velocity = _values(message.velocities, order, "velocities") if message.velocities else None
    position = _values(message.positions, order, "positions")
    return Point(duration.sec + 1e-9 * duration.nanosec, position, velocity)


def _values(values: object, order: list[int], name: str) -> NDArray[np.float64]:
    array = np.array(values, dtype=np.float64)
    if len(array) != len(order) or not np.isfinite(array).all():
        raise ValueError(f"trajectory with {len(array)} {name}: expected {len(order)} finite ones")
    return array[order]
