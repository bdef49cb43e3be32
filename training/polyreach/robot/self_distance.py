"""Pairs of bodies of a robot that are close to each other."""

import mujoco
import numpy as np
from numpy.typing import ArrayLike, NDArray

from polyreach_description import Robot
from polyreach_description.distances import scaled_distances
from polyreach_description.geom_pairs import BoxDistances, moving_pairs


class SelfDistance:
    """Finds the pairs of bodies closer than a distance [m], except those that cannot part.

    MuJoCo's collision filters apply, so links under 'no_collision' are not among them. Pairs with a
    stop distance of their own there count at a distance smaller in the same proportion.
    """

    def __init__(self, robot: Robot, distance: float) -> None:
        self.model, self._robot = robot.proximity_model(distance), robot
        self._data = robot.data_at_home(self.model)
        self._distances = scaled_distances(robot.pair_distances, robot.stop_distance, distance)
        self._boxes = BoxDistances(self.model, moving_pairs(robot))
        self._box_limits = self._distances[tuple(self._body_ids(self._boxes.pairs).T)]
        self._is_box = self.model.geom_type == mujoco.mjtGeom.mjGEOM_BOX

    def close_pairs(self, joint_pos: ArrayLike) -> set[tuple[int, int]]:
        """Pairs of body ids, the smaller one first, at joint_pos (nu,) [rad or m]."""
        self._robot.write_qpos(self._data.qpos, joint_pos)
        mujoco.mj_kinematics(self.model, self._data)
        mujoco.mj_collision(self.model, self._data)
        boxes = [pair for pair, _ in self._boxes.nearer_than(self._data, self._box_limits)]
        close = {(int(first), int(second)) for first, second in self._body_ids(boxes)}
        if not self._data.ncon:
            return close
        geoms, movers = self._data.contact.geom, self._robot.geom_movers
        bodies = self._body_ids(geoms)
        near = self._data.contact.dist < self._distances[bodies[:, 0], bodies[:, 1]]
        near &= movers[geoms[:, 0]] != movers[geoms[:, 1]]
        near &= ~self._is_box[geoms].all(axis=1)
        return close | {(int(first), int(second)) for first, second in bodies[near]}

    def _body_ids(self, geoms: ArrayLike) -> NDArray[np.int64]:
        """Bodies (N, 2) of pairs of geoms (N, 2), the smaller id first."""
        bodies = self.model.geom_bodyid[np.reshape(geoms, (-1, 2)).astype(np.int64)]
        return np.sort(bodies, axis=-1)
