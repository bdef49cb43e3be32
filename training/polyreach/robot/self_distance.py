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
        boxes = np.array(self._boxes.pairs, dtype=np.int64).reshape(-1, 2)
        first, second = self.model.geom_bodyid[boxes].T
        self._box_limits = self._distances[first, second]
        self._is_box = self.model.geom_type == mujoco.mjtGeom.mjGEOM_BOX

    def close_pairs(self, joint_pos: ArrayLike) -> set[tuple[int, int]]:
        """Pairs of body ids, the smaller one first, at joint_pos (nu,) [rad or m]."""
        bodies, shares = self.within(joint_pos)
        return {(int(first), int(second)) for first, second in bodies[shares < 1.0]}

    def least_share(self, joint_pos: ArrayLike) -> float:
        """Distance of a pair at joint_pos (nu,) [rad or m], as a share of that below which it is
        close: the least of all pairs, below 1 if any is close. Infinite where none is within
        `distance`.
        """
        return float(self.within(joint_pos)[1].min(initial=np.inf))

    def within(self, joint_pos: ArrayLike) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Body ids (K, 2), the smaller one first, of the pairs within `distance`, and their shares
        (K,).
        """
        data, movers = self._data, self._robot.geom_movers
        self._robot.write_qpos(data.qpos, joint_pos)
        mujoco.mj_kinematics(self.model, data)
        mujoco.mj_collision(self.model, data)
        boxes = self._boxes.nearer_than(data, self._box_limits)
        geoms = np.reshape([pair for pair, _ in boxes], (-1, 2)).astype(np.int64)
        distances = np.array([distance for _, distance in boxes])
        if data.ncon:
            contacts = data.contact.geom
            part = movers[contacts[:, 0]] != movers[contacts[:, 1]]
            part &= ~self._is_box[contacts].all(axis=1)
            geoms = np.concatenate([geoms, contacts[part]])
            distances = np.concatenate([distances, data.contact.dist[part]])
        bodies = self._body_ids(geoms)
        return bodies, distances / self._distances[bodies[:, 0], bodies[:, 1]]

    def _body_ids(self, geoms: ArrayLike) -> NDArray[np.int64]:
        """Bodies (N, 2) of pairs of geoms (N, 2), the smaller id first."""
        bodies = self.model.geom_bodyid[np.reshape(geoms, (-1, 2)).astype(np.int64)]
        return np.sort(bodies, axis=-1)
