"""Distances that the controller keeps between the bodies of a robot, and the reach that sets their
defaults.
"""

import mujoco
import numpy as np
from numpy.typing import NDArray

from polyreach_description.config_file import MIN_DISTANCE, RobotError, RobotFile
from polyreach_description.kinematic_tree import KinematicTree

STOP_DISTANCE = 0.01  # [m] at which an approach stops, by default, of a robot of FULL_REACH or more
FULL_REACH = 0.5  # [m]; with less reach, the default decreases in proportion
SLOW_FACTOR = 2.5  # default of slow over stop distance


def reach(tree: KinematicTree, joint_pos_limits: NDArray[np.float64]) -> float:
    """Upper bound of the distance [m] of an effector from the first joint of its chain.

    The largest sum, over the effectors, of the distances between the anchors of the joints above an
    effector, and to the effector. Such a distance is constant behind a hinge; behind a slide joint
    it is the largest within its limits, joint_pos_limits (nu, 2).
    """
    # positions of all screws; a controlled joint's ends are also those of its followers
    limits = tree.coupling @ joint_pos_limits + tree.offset[:, None]  # (n, 2)
    lengths = []
    for point, joint in zip(tree.effector, tree.effector_parent, strict=True):
        length = 0.0
        while joint >= 0:
            span = point - tree.anchor[joint]  # (3,)
            travel = limits[joint] - tree.reference[joint] if tree.is_slide[joint] else 0
            ends = span + np.outer(travel, tree.axis[joint])  # (2, 3) or (1, 3)
            length += float(np.linalg.norm(ends, axis=1).max())
            point, joint = tree.anchor[joint], tree.parent[joint]
        lengths.append(length)
    return max(lengths)


def stop_and_slow_distance(file: RobotFile, reach_m: float) -> tuple[float, float]:
    """Stop and slow distance [m] of the robot.yaml; where it gives one or none, the defaults.

    By default, the stop distance is STOP_DISTANCE, or less for a reach below FULL_REACH, and the
    slow distance SLOW_FACTOR times the stop distance. Raises RobotError unless stop < slow.
    """
    stop, slow = file.collision_stop_distance, file.collision_slow_distance
    if stop is None:
        default = STOP_DISTANCE * min(1.0, reach_m / FULL_REACH)
        stop = max(MIN_DISTANCE, default if slow is None else min(default, slow / SLOW_FACTOR))
    if slow is None:
        slow = SLOW_FACTOR * stop
    if not stop < slow:
        raise RobotError(
            f"collision_slow_distance is {slow:g}, but must be more than the stop distance, "
            f"{stop:g} [m]"
        )
    return stop, slow


def scaled_distances(
    pair_distances: NDArray[np.float64], stop_distance: float, distance: float
) -> NDArray[np.float64]:
    """Distance [m] of each pair of bodies, of the shape of pair_distances [m].

    It is `distance` or, for a pair whose own stop distance is less than stop_distance [m], less in
    the same proportion.
    """
    share: NDArray[np.float64] = np.minimum(pair_distances, stop_distance) / stop_distance
    return distance * share


def pair_distances(
    file: RobotFile, model: mujoco.MjModel, stop_distance: float
) -> NDArray[np.float64]:
    """Stop distances of single pairs of bodies, (nbody, nbody) [m], symmetric, by body id.

    Infinite for pairs that `no_collision` gives no distance. Raises RobotError unless they are
    below the robot's stop_distance [m].
    """
    distances = np.full((model.nbody, model.nbody), np.inf)
    for first, second, distance in file.pair_distances:
        if not distance < stop_distance:
            raise RobotError(
                f"distance of [{first}, {second}] in 'no_collision' is {distance:g}, but must be a "
                f"number from {MIN_DISTANCE:g} to less than the stop distance, {stop_distance:g} "
                "[m]"
            )
        # a URDF's root link is merged with the world
        ids = [
            max(0, mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_BODY, name))
            for name in (first, second)
        ]
        distances[ids, ids[::-1]] = distance
    return distances
