"""An obstacle: its shape, size, place and velocity."""

from dataclasses import dataclass
from enum import Enum

import mujoco
import numpy as np

from polyreach_description.orientation import Quaternion

Point = tuple[float, float, float]


class Shape(Enum):
    """Shape of an obstacle, with the type of its geom in MuJoCo."""

    SPHERE = mujoco.mjtGeom.mjGEOM_SPHERE
    CUBE = mujoco.mjtGeom.mjGEOM_BOX
    CYLINDER = mujoco.mjtGeom.mjGEOM_CYLINDER


@dataclass(frozen=True)
class Obstacle:
    """An obstacle in the base frame.

    size: [m] as that of MuJoCo's geom: (radius, 0, 0) of a sphere, half sides of a cube, (radius,
    half height, 0) of a cylinder along z.
    """

    name: str  # namespace/id of its marker
    shape: Shape
    size: Point
    position: Point  # [m, base frame]
    orientation: Quaternion  # unit quaternion x y z w, base frame
    velocity: Point = (0.0, 0.0, 0.0)  # [m/s, base frame]

    @property
    def bounding_radius(self) -> float:
        """Radius [m] of a sphere about the position that contains the obstacle."""
        return float(np.linalg.norm(self.size))

    @property
    def scale(self) -> Point:
        """Lengths [m] along x, y and z of its own frame."""
        first, second, third = (2.0 * length for length in self.size)
        if self.shape is Shape.SPHERE:
            return first, first, first
        return (first, first, second) if self.shape is Shape.CYLINDER else (first, second, third)

    @property
    def hull(self) -> tuple[Point, float]:
        """Half sides [m] of a box, and a distance from that box [m], that contain the obstacle."""
        if self.shape is Shape.SPHERE:
            return (0.0, 0.0, 0.0), self.size[0]
        if self.shape is Shape.CYLINDER:
            return (self.size[0], self.size[0], self.size[1]), 0.0
        return self.size, 0.0

    @property
    def speed(self) -> float:
        """Speed of its position [m/s]."""
        return float(np.linalg.norm(self.velocity))
