"""Pairs of bodies of a robot that are close to each other."""

import mujoco
import numpy as np
from numpy.typing import ArrayLike

from polyreach_description import Robot
from polyreach_description.distances import scaled_distances


class SelfDistance:
    """Finds the pairs of bodies closer than a distance [m], except those that cannot part.

    MuJoCo's collision filters apply, so links under 'no_collision' are not among them. Pairs with a
    stop distance of their own there count at a distance smaller in the same proportion.
    """

    def __init__(self, robot: Robot, distance: float) -> None:
        self.model, self._robot = robot.proximity_model(distance), robot
        self._data = robot.data_at_home(self.model)
        self._distances = scaled_distances(robot.pair_distances, robot.stop_distance, distance)

    def close_pairs(self, joint_pos: ArrayLike) -> set[tuple[int, int]]:
        """Pairs of body ids, the smaller one first, at joint_pos (nu,) [rad or m]."""
        self._robot.write_qpos(self._data.qpos, joint_pos)
        mujoco.mj_kinematics(self.model, self._data)
        mujoco.mj_collision(self.model, self._data)
        if not self._data.ncon:
            return set()
        geoms, movers = self._data.contact.geom, self._robot.geom_movers
        bodies = np.sort(self.model.geom_bodyid[geoms], axis=-1)
        close = self._data.contact.dist < self._distances[bodies[:, 0], bodies[:, 1]]
        close &= movers[geoms[:, 0]] != movers[geoms[:, 1]]
        return {(int(first), int(second)) for first, second in bodies[close]}
