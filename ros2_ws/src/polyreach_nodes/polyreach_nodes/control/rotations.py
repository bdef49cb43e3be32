"""Rotation vectors [rad] and unit quaternions x y z w, one at a time: plain numbers are faster."""

import math
from collections.abc import Sequence

from polyreach_description.orientation import Quaternion

SMALL = 1e-12  # [rad], an angle without an axis

Triple = tuple[float, float, float]


def product(a: Sequence[float], b: Sequence[float]) -> Quaternion:
    """The rotation by b, then by a, about fixed axes."""
    ax, ay, az, aw = a
    bx, by, bz, bw = b
    return (
        aw * bx + ax * bw + ay * bz - az * by,
        aw * by - ax * bz + ay * bw + az * bx,
        aw * bz + ax * by - ay * bx + az * bw,
        aw * bw - ax * bx - ay * by - az * bz,
    )


def rotation_vector(start: Sequence[float], end: Sequence[float]) -> Triple:
    """The shortest rotation from one orientation to another: axis times angle, 0 to pi."""
    x, y, z, w = product(end, (-start[0], -start[1], -start[2], start[3]))
    sine = math.hypot(x, y, z)
    if sine < SMALL:
        return 0.0, 0.0, 0.0
    share = 2.0 * math.atan2(sine, abs(w)) / math.copysign(sine, w)
    return share * x, share * y, share * z


def rotated(orientation: Sequence[float], rotation: Sequence[float]) -> Quaternion:
    """An orientation turned by a rotation vector about fixed axes, at unit length."""
    angle = math.hypot(*rotation)
    share = math.sin(angle / 2) / angle if angle > SMALL else 0.5
    x, y, z = (share * value for value in rotation)
    x, y, z, w = product((x, y, z, math.cos(angle / 2)), orientation)
    norm = math.hypot(x, y, z, w)
    return x / norm, y / norm, z / norm, w / norm
