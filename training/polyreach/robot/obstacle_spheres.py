"""Spheres that cover the bodies of a robot, for distances from obstacles."""

from dataclasses import dataclass

import mujoco
import numpy as np
from numpy.typing import NDArray

from polyreach.robot.capsule_fit import (
    data_at_reference,
    fit_geom,
    in_base_frame,
    points_of_geom,
)
from polyreach_description import Robot
from polyreach_description.kinematic_tree import last_movers

EXCESSES = np.geomspace(0.003, 0.3, 41)  # [m] by which spheres are wider than capsules
MAX_SPHERES = 48
FAR = 1e3  # [m]

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Spheres:
    """S spheres at the reference pose of the robot's tree [m, base frame].

    mover (S,): the screw that moves a sphere last. centre (S, 3). radius (S,).
    """

    mover: NDArray[np.int64]
    centre: Array
    radius: Array


def cover_bodies(robot: Robot) -> Spheres:
    """Spheres that cover all geoms that controlled joints move and that may collide; the same for
    the same robot. At most MAX_SPHERES, where so many can be no wider than the last of EXCESSES.
    Of a robot without such geoms, one that is never near.
    """
    model, tree, rng = robot.model, robot.tree, np.random.default_rng(0)
    collides = (model.geom_contype | model.geom_conaffinity) > 0
    data = data_at_reference(robot)
    screw = {joint: number for number, joint in enumerate(tree.joint_ids.tolist())} | {-1: -1}
    last = last_movers(model, tree.joint_ids)[model.geom_bodyid].tolist()
    movers, capsules = list[int](), list[Array]()
    for geom in np.flatnonzero((robot.geom_movers >= 0) & collides).tolist():
        # what only a follower moves that moves no effector is taken to rest, see fit_capsules
        if (mover := screw[last[geom]]) >= 0:
            capsules.append(in_base_frame(robot, data, geom, _containing(model, geom, rng)))
            movers += [mover] * len(capsules[-1])
    if not movers:
        return Spheres(np.zeros(1, dtype=np.int64), np.zeros((1, 3)), np.array([-FAR]))
    shapes = np.concatenate(capsules)
    for excess in EXCESSES:
        counts = _counts(shapes, excess)
        if counts.sum() <= MAX_SPHERES:
            break
    owner = np.repeat(np.arange(len(shapes)), counts)
    # from end to end, or one sphere in the middle
    shares = [np.linspace(0.0, 1.0, count) if count > 1 else [0.5] for count in counts]
    share = np.concatenate(shares)[:, None]
    start, end, radius = shapes[owner, :3], shapes[owner, 3:6], shapes[owner, 6]
    half = np.linalg.norm(end - start, axis=1) / np.maximum(counts - 1, 1)[owner] / 2
    return Spheres(
        np.array(movers, dtype=np.int64)[owner],
        start + share * (end - start),
        np.where(counts[owner] > 1, np.hypot(radius, half), radius + half),
    )


def _counts(capsules: Array, excess: float) -> NDArray[np.int64]:
    """Spheres (n,) to cover each of the capsules (n, 7), which are wider by at most excess [m]."""
    length = np.linalg.norm(capsules[:, 3:6] - capsules[:, :3], axis=1)
    spacing = 2.0 * np.sqrt(excess * (2.0 * capsules[:, 6] + excess))
    counts = 1 + np.ceil(length / spacing).astype(np.int64)
    return np.where(length / 2.0 <= excess, 1, counts)


def _containing(model: mujoco.MjModel, geom: int, rng: np.random.Generator) -> Array:
    """Capsules (n, 7) that together contain a geom, in its own frame."""
    capsules = fit_geom(model, geom, rng)
    if model.geom_type[geom] in (mujoco.mjtGeom.mjGEOM_SPHERE, mujoco.mjtGeom.mjGEOM_CAPSULE):
        return capsules
    points = points_of_geom(model, geom, rng)  # (N, 3)
    start, way = capsules[:, :3], capsules[:, 3:6] - capsules[:, :3]
    apart = points[:, None] - start  # (N, n, 3)
    share = (apart * way).sum(axis=-1) / np.maximum((way * way).sum(axis=-1), 1e-12)
    nearest = apart - np.clip(share, 0.0, 1.0)[..., None] * way
    beyond = np.linalg.norm(nearest, axis=-1) - capsules[:, 6]  # (N, n)
    owner = beyond.argmin(axis=1)
    for number in range(len(capsules)):
        capsules[number, 6] += beyond[owner == number, number].max(initial=0.0)
    return capsules
