"""Orientations as unit quaternions x y z w, the order of geometry_msgs, and the errors of goals.

The error of a goal of kind `axis` is the angle between the axis of the effector and that of the
goal; of kind `pose`, the angle of the rotation from one orientation to the other (Lynch & Park,
Modern Robotics, section 3.2.3).
"""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

NORM_TOLERANCE = 0.01  # of a quaternion that is taken as one of unit length
ROUNDING = 1e-9  # of the norm of a quaternion that needs no scaling

Array = NDArray[np.float64]
Quaternion = tuple[float, float, float, float]  # x y z w

IDENTITY: Quaternion = (0.0, 0.0, 0.0, 1.0)


def quaternions(matrices: ArrayLike) -> Array:
    """Unit quaternions (..., 4), w >= 0, of rotation matrices (..., 3, 3)."""
    m = np.asarray(matrices, dtype=np.float64)
    (xx, xy, xz), (yx, yy, yz), (zx, zy, zz) = (
        [m[..., row, column] for column in range(3)] for row in range(3)
    )
    products = [  # 4 q q^T
        [1 + xx - yy - zz, xy + yx, xz + zx, zy - yz],
        [xy + yx, 1 - xx + yy - zz, yz + zy, xz - zx],
        [xz + zx, yz + zy, 1 - xx - yy + zz, yx - xy],
        [zy - yz, xz - zx, yx - xy, 1 + xx + yy + zz],
    ]
    rows = np.stack([np.stack(row, axis=-1) for row in products], axis=-2)
    largest = np.diagonal(rows, axis1=-2, axis2=-1).argmax(axis=-1)
    q = np.take_along_axis(rows, largest[..., None, None], axis=-2)[..., 0, :]
    q *= np.where(q[..., 3:] < 0.0, -1.0, 1.0)
    unit: Array = q / np.linalg.norm(q, axis=-1, keepdims=True)
    return unit


def matrices(orientations: ArrayLike) -> Array:
    """Rotation matrices (..., 3, 3) of unit quaternions (..., 4)."""
    x, y, z, w = np.moveaxis(np.asarray(orientations, dtype=np.float64), -1, 0)
    rows = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
        [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
        [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
    ]
    return np.stack([np.stack(row, axis=-1) for row in rows], axis=-2)


def rotation_error(orientation: ArrayLike, goal: ArrayLike) -> Array:
    """Angles (...) [rad], 0 to pi, of the rotations between unit quaternions (..., 4)."""
    a, b = np.asarray(orientation, dtype=np.float64), np.asarray(goal, dtype=np.float64)
    # |a - b| = 2 sin(angle / 4), |a + b| = 2 cos(angle / 4); q and -q are the same rotation
    apart, together = np.linalg.norm(a - b, axis=-1), np.linalg.norm(a + b, axis=-1)
    return 4.0 * np.arctan2(np.minimum(apart, together), np.maximum(apart, together))


def axis_error(orientation: ArrayLike, goal: ArrayLike, axis: ArrayLike) -> Array:
    """Angles (...) [rad], 0 to pi, between an axis (..., 3) [unit vector of the effector's frame]
    in two orientations (..., 4).
    """
    axis = np.asarray(axis, dtype=np.float64)[..., None]
    a, b = (matrices(orientation) @ axis)[..., 0], (matrices(goal) @ axis)[..., 0]
    return 2.0 * np.arctan2(np.linalg.norm(a - b, axis=-1), np.linalg.norm(a + b, axis=-1))


def orientation_errors(
    kinds: Sequence[str], axes: ArrayLike, orientation: ArrayLike, goal: ArrayLike
) -> Array:
    """Angles (..., E) [rad] between orientations and goals (..., E, 4) of E effectors, 0 for those
    whose goal is a position.

    kinds: (E,) "position", "axis" or "pose"; axes: (E, 3), see Robot.
    """
    errors = {
        "axis": lambda: axis_error(orientation, goal, axes),
        "pose": lambda: rotation_error(orientation, goal),
    }
    total = np.zeros(np.asarray(orientation).shape[:-1])
    for kind in {*kinds} & {*errors}:
        total += np.where(np.array([other == kind for other in kinds]), errors[kind](), 0.0)
    return total


def unit_quaternion(quaternion: Sequence[float]) -> Quaternion:
    """The quaternion x y z w at unit length; one that has it already stays as it is.

    Raises ValueError that names its norm if it is further than NORM_TOLERANCE from 1.
    """
    norm = math.hypot(*quaternion)
    if not abs(norm - 1.0) <= NORM_TOLERANCE:
        shown = ", ".join(f"{value:g}" for value in quaternion)
        raise ValueError(
            f"orientation ({shown}) has norm {norm:.3g}, expected a unit quaternion x, y, z, w"
        )
    x, y, z, w = quaternion
    if abs(norm - 1.0) > ROUNDING:
        x, y, z, w = x / norm, y / norm, z / norm, w / norm
    return x, y, z, w


def from_rpy(roll: float, pitch: float, yaw: float) -> Quaternion:
    """The quaternion of rotations [rad] about the fixed axes x, then y, then z (REP 103)."""
    sr, cr = math.sin(roll / 2), math.cos(roll / 2)
    sp, cp = math.sin(pitch / 2), math.cos(pitch / 2)
    sy, cy = math.sin(yaw / 2), math.cos(yaw / 2)
    return (
        sr * cp * cy - cr * sp * sy,
        cr * sp * cy + sr * cp * sy,
        cr * cp * sy - sr * sp * cy,
        cr * cp * cy + sr * sp * sy,
    )
