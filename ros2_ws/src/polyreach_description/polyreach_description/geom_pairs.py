"""Pairs of a robot's geoms that can collide, and distances where MuJoCo's contacts give none."""

from collections.abc import Sequence

import mujoco
import numpy as np
from numpy.typing import NDArray

from polyreach_description.robot import Robot

EVERYTHING = 1e3  # [m], beyond the size of a robot
Pair = tuple[int, int]  # ids of geoms, the smaller one first

_BOX, _PLANE, _SPHERE = (
    mujoco.mjtGeom.mjGEOM_BOX,
    mujoco.mjtGeom.mjGEOM_PLANE,
    mujoco.mjtGeom.mjGEOM_SPHERE,
)


def moving_pairs(robot: Robot) -> list[Pair]:
    """All pairs that MuJoCo would let collide and that can move relative to each other, sorted."""
    model = robot.proximity_model(EVERYTHING)
    # of spheres, no contact is missing
    model.geom_type[model.geom_type != _PLANE] = _SPHERE
    data, movers = robot.data_at_home(model), robot.geom_movers
    mujoco.mj_collision(model, data)
    pairs = {(min(pair), max(pair)) for pair in data.contact.geom.tolist()}
    return sorted(pair for pair in pairs if movers[pair[0]] != movers[pair[1]])


class BoxDistances:
    """Distances of the pairs of boxes among P pairs of geoms.

    A contact of MuJoCo between two boxes that do not touch has the distance of another point than
    the nearest, up to tens of centimetres off, and some such contacts are missing.

    rows: (B,) of the pairs of boxes.
    """

    def __init__(self, model: mujoco.MjModel, pairs: Sequence[Pair]) -> None:
        """pairs: P, of geoms of the model."""
        self._model = model
        geoms = np.array(pairs, dtype=np.int64).reshape(-1, 2)
        self.rows = np.flatnonzero((model.geom_type[geoms] == _BOX).all(axis=1))
        self.pairs = [pairs[row] for row in self.rows.tolist()]
        self._first, self._second = geoms[self.rows].T
        self._radii = model.geom_rbound[self._first] + model.geom_rbound[self._second]

    def nearer_than(
        self, data: mujoco.MjData, limits: NDArray[np.float64]
    ) -> list[tuple[Pair, float]]:
        """Pairs of boxes nearer than their limits (B,) [m] and their distances [m], in `data` after
        mujoco.mj_kinematics.
        """
        if not self.pairs:
            return []
        centres = data.geom_xpos
        apart = np.linalg.norm(centres[self._first] - centres[self._second], axis=1) - self._radii
        near = []
        for index in np.flatnonzero(apart < limits).tolist():
            pair, limit = self.pairs[index], float(limits[index])
            distance = mujoco.mj_geomDistance(self._model, data, *pair, max(limit, 0.0), None)
            if distance < limit:
                near.append((pair, float(distance)))
        return near
