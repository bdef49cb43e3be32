"""The obstacles that the page publishes, and a place for a new one."""

import math
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from polyreach_nodes.control.obstacle import Obstacle, Shape

MOST = 8  # obstacles of the page, as many as a policy is told of
SEND_PERIOD_S = 0.05  # [s] between two messages of an obstacle that is dragged
REPEAT_S = 0.5  # [s] between two messages of one that stays
LIFETIME_S = 2.0  # [s] after the last message
SIZES = (0.02, 0.5)  # [m] of a side or diameter, lowest and highest
UPRIGHT = (0.0, 0.0, 0.0, 1.0)
SHAPES = {"box": Shape.CUBE, "sphere": Shape.SPHERE}

Vector = NDArray[np.float64]


class OwnObstacles:
    """Obstacles by number, from 1; times [s, monotonic].

    Each is published again and again, with a lifetime, so that it ends with the page.
    """

    def __init__(self, namespace: str) -> None:
        """namespace: first part of their names."""
        self.by_number: dict[int, Obstacle] = {}
        self._namespace = namespace
        self._count = 0
        self._sent_s: dict[int, float] = {}
        self._to_send: dict[int, int] = {}  # messages due at SEND_PERIOD_S

    def add(self, shape: str, size: float, position: Vector) -> int:
        """Add one of SHAPES at a position (3,) [m, base frame] and return its number.

        size: side or diameter [m]. Raises ValueError for another shape, a size that is not within
        SIZES, and one obstacle too many.
        """
        if not SIZES[0] <= size <= SIZES[1]:
            raise ValueError(f"size is {size:g} m, but must be {SIZES[0]:g} to {SIZES[1]:g} m")
        if shape not in SHAPES:
            raise ValueError(f"shape is '{shape}', but must be one of: {', '.join(SHAPES)}")
        if len(self.by_number) == MOST:
            raise ValueError(f"the page has {MOST} obstacles, the most: remove one first")
        self._count += 1
        number, half = self._count, size / 2.0
        sides = (half, half, half) if SHAPES[shape] is Shape.CUBE else (half, 0.0, 0.0)
        x, y, z = position.tolist()
        name = f"{self._namespace}/{number}"
        self.by_number[number] = Obstacle(name, SHAPES[shape], sides, (x, y, z), UPRIGHT)
        return number

    def move(self, number: int, position: Vector, orientation: Vector) -> None:
        """An obstacle was dragged to a position (3,) [m, base frame] and an orientation (4,) [unit
        quaternion x y z w]; one that was removed meanwhile stays so.
        """
        if number in self.by_number:
            x, y, z = position.tolist()
            qx, qy, qz, qw = orientation.tolist()
            self.by_number[number] = replace(
                self.by_number[number], position=(x, y, z), orientation=(qx, qy, qz, qw)
            )
            # the second one, from the same place, shows that it rests
            self._to_send[number] = 2

    def remove(self, number: int) -> Obstacle | None:
        """Remove an obstacle, and return it if there was one."""
        self._sent_s.pop(number, None)
        self._to_send.pop(number, None)
        return self.by_number.pop(number, None)

    def due(self, now_s: float) -> list[Obstacle]:
        """The obstacles to publish now."""
        due = []
        for number, obstacle in self.by_number.items():
            left = self._to_send.get(number, 0)
            period_s = SEND_PERIOD_S if left else REPEAT_S
            if now_s - self._sent_s.get(number, -math.inf) >= period_s:
                self._sent_s[number] = now_s
                self._to_send[number] = max(0, left - 1)
                due.append(obstacle)
        return due


def free_place(
    places: Vector,
    centres: Vector,
    radii: Vector,
    clear: float,
    effectors: Vector,
    viewer: Vector,
) -> Vector:
    """Where a new obstacle does not stop the robot, but may be in its way, (3,) [m].

    places: (P, 3) [m] that effectors reach. centres, radii: (S, 3), (S,) [m] of spheres about what
    is there. clear: [m] distance from the spheres. Of the quarter of the places with that distance
    that is nearest to an effector (E, 3) [m], the one nearest to the viewer (3,) [m]; without a
    place with that distance, the one farthest from the spheres.
    """
    free = _distances(places, centres, radii).min(axis=1)  # (P,)
    places = places[free >= clear] if (free >= clear).any() else places[[free.argmax()]]
    order = _distances(places, effectors).min(axis=1).argsort()
    near = places[order[: math.ceil(len(order) / 4)]]
    place: Vector = near[_distances(near, viewer[None])[:, 0].argmin()]
    return place


def _distances(places: Vector, centres: Vector, radii: Vector | float = 0.0) -> Vector:
    """Distances (P, S) [m] of points from spheres."""
    distances: Vector = np.linalg.norm(places[:, None] - centres, axis=-1)
    return distances - radii
