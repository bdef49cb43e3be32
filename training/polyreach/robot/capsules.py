"""Capsules that stand for the bodies of a robot where its distances to itself are learned from.

Spheres and capsules of the model are taken as they are. Other geoms, and groups of many geoms, are
fitted: their points are clustered, and each cluster gets a capsule along its principal axis. What
the fit misses is measured against MuJoCo's exact distances in random configurations, and becomes
an offset of each pair of groups.
"""

from collections import defaultdict
from dataclasses import dataclass

import mujoco
import numpy as np
from numpy.typing import NDArray

from polyreach_description import Robot

MAX_PARTS = 8
POINTS = 400  # sampled of a geom
EVERYTHING = 1e3  # [m], beyond the size of a robot
FLAT = 1e3  # [m], radius of the sphere that stands for a plane
CALIBRATION = 2000  # random configurations
MEASURED = 0.06  # [m], distances up to which the fit is compared with the exact ones
WIDTHS = (0.015, 0.03, 0.06)
COVERED = 0.97  # share of the measured distances that the fit does not overestimate
NEAREST = 0.1  # [m]; pairs that are farther in every random configuration are left out

Array = NDArray[np.float64]
Pair = tuple[int, int]


@dataclass(frozen=True)
class Capsules:
    """C capsules at the reference pose of the robot's tree [m, base frame], and P pairs of them.

    mover (C,): the controlled joint that moves a capsule last, or -1. start, end (C, 3): ends of
    its axis. radius (C,). pairs (P, 2): capsules that may collide. offset (P,) [m]: by how much
    their distance overestimates the exact one.
    """

    mover: NDArray[np.int64]
    start: Array
    end: Array
    radius: Array
    pairs: NDArray[np.int64]
    offset: Array


def moving_pairs(robot: Robot) -> list[Pair]:
    """Pairs of geoms, the smaller one first, that MuJoCo would let collide and that controlled
    joints move relative to each other.
    """
    model = robot.proximity_model(EVERYTHING)
    data, movers = robot.data_at_home(model), robot.geom_movers
    mujoco.mj_collision(model, data)
    pairs = {(min(pair), max(pair)) for pair in data.contact.geom.tolist()}
    return sorted(pair for pair in pairs if movers[pair[0]] != movers[pair[1]])


def fit_capsules(robot: Robot) -> Capsules:
    """Capsules of all geoms that may collide with others; the same for the same robot."""
    rng = np.random.default_rng(0)
    geom_pairs = moving_pairs(robot)
    groups = _groups(robot, geom_pairs)
    data = _reference(robot)
    parts = [_fit(robot, data, geoms, rng) for geoms in groups]
    group_of = {geom: number for number, geoms in enumerate(groups) for geom in geoms}
    group_pairs = sorted({(group_of[a], group_of[b]) for a, b in geom_pairs})
    first = np.cumsum([0, *(len(part) for part in parts)])
    pairs = [
        (i, j)
        for a, b in group_pairs
        for i in range(first[a], first[a + 1])
        for j in range(first[b], first[b + 1])
    ]
    owner = [number for number, (a, b) in enumerate(group_pairs)
             for _ in range(len(parts[a]) * len(parts[b]))]  # fmt: skip
    flat = np.concatenate(parts) if parts else np.zeros((0, 7))
    index = {int(joint): int(n) for joint, n in zip(robot.joint_ids, robot.tree.controlled, strict=True)}
    mover = [index.get(int(robot.geom_movers[geoms[0]]), -1) for geoms, part in zip(groups, parts, strict=True)
             for _ in part]  # fmt: skip
    capsules = Capsules(
        np.array(mover, dtype=np.int64),
        flat[:, :3],
        flat[:, 3:6],
        flat[:, 6],
        np.array(pairs, dtype=np.int64).reshape(-1, 2),
        np.zeros(len(pairs)),
    )
    return _calibrate(robot, capsules, np.array(owner, dtype=np.int64), group_of, group_pairs, rng)


def _groups(robot: Robot, pairs: list[Pair]) -> list[list[int]]:
    """Geoms by the joint that moves them and the bodies with which they may collide."""
    bodies = robot.model.geom_bodyid
    partners: dict[int, set[int]] = defaultdict(set)
    for a, b in pairs:
        partners[a].add(int(bodies[b]))
        partners[b].add(int(bodies[a]))
    groups: dict[tuple[int, frozenset[int]], list[int]] = defaultdict(list)
    for geom in sorted(partners):
        groups[int(robot.geom_movers[geom]), frozenset(partners[geom])].append(geom)
    return list(groups.values())


def _reference(robot: Robot) -> mujoco.MjData:
    """Kinematics at the reference pose of the robot's tree."""
    data = mujoco.MjData(robot.model)
    data.qpos[:] = robot.qpos(robot.tree.reference[robot.tree.controlled])
    mujoco.mj_kinematics(robot.model, data)
    return data


def _fit(robot: Robot, data: mujoco.MjData, geoms: list[int], rng: np.random.Generator) -> Array:
    """Capsules (n, 7) of a group: start, end, radius [m, base frame]."""
    rotation = data.xmat[robot.base_body].reshape(3, 3)
    origin = data.xpos[robot.base_body]
    local = [_fit_geom(robot.model, geom, rng) for geom in geoms]
    world = []
    for geom, capsules in zip(geoms, local, strict=True):
        turn, place = data.geom_xmat[geom].reshape(3, 3), data.geom_xpos[geom]
        for capsule in capsules:
            ends = (capsule[:6].reshape(2, 3) @ turn.T + place - origin) @ rotation
            world.append(np.append(ends.ravel(), capsule[6]))
    if len(world) <= MAX_PARTS:
        return np.array(world)
    points = np.concatenate([_points_of_capsule(capsule, rng) for capsule in world])
    return _cluster(points, MAX_PARTS, rng)


def _fit_geom(model: mujoco.MjModel, geom: int, rng: np.random.Generator) -> Array:
    """Capsules (n, 7) of a geom, in its own frame."""
    size, kind = model.geom_size[geom], mujoco.mjtGeom(model.geom_type[geom])
    if kind == mujoco.mjtGeom.mjGEOM_PLANE:
        return np.array([[0, 0, -FLAT, 0, 0, -FLAT, FLAT]])
    if kind == mujoco.mjtGeom.mjGEOM_SPHERE:
        return np.array([[0, 0, 0, 0, 0, 0, size[0]]])
    if kind == mujoco.mjtGeom.mjGEOM_CAPSULE:
        return np.array([[0, 0, -size[1], 0, 0, size[1], size[0]]])
    if kind == mujoco.mjtGeom.mjGEOM_MESH:
        mesh = int(model.geom_dataid[geom])
        start, count = int(model.mesh_vertadr[mesh]), int(model.mesh_vertnum[mesh])
        vertices = model.mesh_vert[start : start + count].astype(np.float64)
        # points of the convex hull: convex combinations of few vertices
        chosen = vertices[rng.integers(count, size=(POINTS, 3))]
        inside = (rng.dirichlet(np.full(3, 0.7), POINTS)[..., None] * chosen).sum(axis=1)
        points = np.concatenate([vertices[rng.permutation(count)[:POINTS]], inside])
    else:
        centre, half = model.geom_aabb[geom, :3], model.geom_aabb[geom, 3:]
        points = rng.uniform(-1, 1, (2 * POINTS, 3))
        if kind == mujoco.mjtGeom.mjGEOM_CYLINDER:
            points[:, :2] /= np.maximum(np.linalg.norm(points[:, :2], axis=1), 1.0)[:, None]
        elif kind == mujoco.mjtGeom.mjGEOM_ELLIPSOID:
            points /= np.maximum(np.linalg.norm(points, axis=1), 1.0)[:, None]
        points = centre + points * half
    extent = np.sort(np.ptp(points, axis=0))
    parts = int(np.clip(round(extent[1] / max(extent[0], 1e-3)), 1, MAX_PARTS))
    return _cluster(points, parts, rng)


def _points_of_capsule(capsule: Array, rng: np.random.Generator) -> Array:
    """Points on the surface of a capsule (7,)."""
    along = rng.uniform(size=(POINTS // 2, 1))
    axis = capsule[:3] + along * (capsule[3:6] - capsule[:3])
    direction = rng.standard_normal(axis.shape)
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    surface: Array = axis + capsule[6] * direction
    return surface


def _cluster(points: Array, parts: int, rng: np.random.Generator) -> Array:
    """`parts` capsules (parts, 7) around the points (N, 3), which Lloyd's algorithm divides."""
    extent = np.ptp(points, axis=0)
    # long pieces are one capsule, so distances along the longest direction count less
    weight = np.where(extent == extent.max(), 0.3 if parts > 1 else 1.0, 1.0)
    centres = points[rng.permutation(len(points))[:parts]]
    label = np.zeros(len(points), dtype=np.int64)
    for _ in range(20):
        distance = np.linalg.norm((points[:, None] - centres) * weight, axis=-1)
        label = distance.argmin(axis=1)
        centres = np.array(
            [
                points[label == k].mean(axis=0) if (label == k).any() else centres[k]
                for k in range(parts)
            ]
        )
    return np.array([_around(points[label == k]) for k in range(parts) if (label == k).sum() > 3])


def _around(points: Array) -> Array:
    """A capsule (7,) along the principal axis of the points (N, 3)."""
    centre = (points.max(axis=0) + points.min(axis=0)) / 2
    _, _, axes = np.linalg.svd(points - points.mean(axis=0), full_matrices=False)
    along = (points - centre) @ axes[0]
    across = np.linalg.norm((points - centre) - along[:, None] * axes[0], axis=1)
    radius = float(np.quantile(across, 0.9))
    low, high = along.min() + radius, along.max() - radius
    if low > high:
        low = high = (low + high) / 2
    return np.concatenate([centre + low * axes[0], centre + high * axes[0], [radius]])


def _calibrate(
    robot: Robot,
    capsules: Capsules,
    owner: NDArray[np.int64],
    group_of: dict[int, int],
    group_pairs: list[Pair],
    rng: np.random.Generator,
) -> Capsules:
    """Offsets of the pairs, and only those pairs that come near.

    owner: (P,) the pair of groups of each pair of capsules.
    """
    import torch

    from polyreach.robot.self_clearance import SelfClearance

    low, high = robot.joint_pos_limits.T
    sample = rng.uniform(low, high, (CALIBRATION, len(low)))
    clearance = SelfClearance(robot, capsules)
    with torch.no_grad():
        fitted = torch.cat(
            [
                clearance.at(torch.tensor(part, dtype=torch.float32))
                for part in sample[:, None].reshape(-1, 250, len(low))
            ]
        ).numpy()  # (N, P)
    number = {pair: index for index, pair in enumerate(group_pairs)}
    model = robot.proximity_model(MEASURED)
    data = robot.data_at_home(model)
    exact = np.full((CALIBRATION, len(group_pairs)), np.inf)
    for row, joint_pos in enumerate(sample):
        robot.write_qpos(data.qpos, joint_pos)
        mujoco.mj_kinematics(model, data)
        mujoco.mj_collision(model, data)
        for (a, b), distance in zip(data.contact.geom.tolist(), data.contact.dist, strict=True):
            if a in group_of and b in group_of:
                pair = group_of[min(a, b)], group_of[max(a, b)]
                if pair in number:
                    column = number[pair]
                    exact[row, column] = min(exact[row, column], distance)
    offset = np.zeros(len(owner))
    for column in range(len(group_pairs)):
        members = owner == column
        for width in WIDTHS:
            near = exact[:, column] < width
            if near.sum() >= 20 or (width == WIDTHS[-1] and near.any()):
                over = fitted[near][:, members].min(axis=1) - np.maximum(exact[near, column], 0.01)
                offset[members] = np.quantile(over, COVERED)
                break
    kept = (fitted - offset).min(axis=0) < NEAREST
    return Capsules(
        capsules.mover, capsules.start, capsules.end, capsules.radius,
        capsules.pairs[kept], offset[kept],
    )  # fmt: skip
