"""The nearest obstacles, as the input `obstacles` of policies."""

from collections.abc import Callable, Iterable

import numpy as np
from numpy.typing import NDArray

from polyreach_description.orientation import matrices
from polyreach_description.policy_tensors import NO_OBSTACLE, OBSTACLES
from polyreach_nodes.control.obstacle import Obstacle

Vector = NDArray[np.float64]
Spheres = tuple[Vector, Vector]
"""Centres (G, 3) [m, base frame] and radii (G,) [m] of spheres about the geoms of a robot."""


class NearestObstacles:
    """K obstacles, each a row (11,) as in the contract: position of its middle [m, base frame],
    orientation [unit quaternion x y z w], half sides and rounding of its hull [m].
    """

    def __init__(self, obstacles: Iterable[tuple[Obstacle, float]]) -> None:
        """obstacles: with the times at which they were in their places [s]."""
        listed = sorted(obstacles, key=lambda placed: placed[0].name)
        hulls = [obstacle.hull for obstacle, _ in listed]
        rows = [
            [*obstacle.position, *obstacle.orientation, *half, rounding]
            for (obstacle, _), (half, rounding) in zip(listed, hulls, strict=True)
        ]
        self._rows = np.array(rows).reshape(-1, len(NO_OBSTACLE))  # (K, 11), in order of names
        self._turns = matrices(self._rows[:, 3:7])  # (K, 3, 3)
        moving = [row for row, (obstacle, _) in enumerate(listed) if obstacle.speed]
        self._moving = np.array(moving, dtype=np.int64)  # rows
        self._velocities = np.array([listed[row][0].velocity for row in moving]).reshape(-1, 3)
        self._placed_s = np.array([listed[row][1] for row in moving])

    def at(self, now_s: float, spheres: Callable[[], Spheres]) -> Vector:
        """The rows (OBSTACLES, 11) of the obstacles whose hulls are nearest to the robot, where
        they are at now_s [s] if they go on as they did; NO_OBSTACLE where there are fewer.

        The rows are in the order of the obstacles' names. spheres: called if there is a choice.
        """
        rows = self._rows
        if len(self._moving):
            rows = rows.copy()
            rows[self._moving, :3] += (now_s - self._placed_s)[:, None] * self._velocities
        if len(rows) > OBSTACLES:
            distances = hull_distances(rows, self._turns, *spheres()).min(axis=1)
            rows = rows[np.sort(np.argsort(distances, kind="stable")[:OBSTACLES])]
        nearest = np.tile(NO_OBSTACLE, (OBSTACLES, 1))
        nearest[: len(rows)] = rows
        return nearest


def hull_distances(rows: Vector, turns: Vector, centres: Vector, radii: Vector) -> Vector:
    """Distances (K, G) [m] between K rounded boxes and G spheres, less than 0 where they overlap.

    rows: (K, 11), see NearestObstacles. turns: (K, 3, 3) rotations of their quaternions. centres:
    (G, 3) [m, base frame]. radii: (G,) [m].
    """
    apart = centres - rows[:, None, :3]  # (K, G, 3)
    outside = np.abs(apart @ turns) - rows[:, None, 7:10]
    np.maximum(outside, 0.0, out=outside)
    distances: Vector = np.sqrt(np.einsum("kgi,kgi->kg", outside, outside))
    return distances - radii - rows[:, 10:]
