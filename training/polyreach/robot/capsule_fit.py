"""Capsules fitted to the bodies of a robot, for distances that a policy can learn from.

Spheres and capsules of the model are taken as they are. Of other geoms, points are clustered, and
each cluster gets a capsule along its principal axis; so do groups of many geoms. These are moved
until their distances fit exact ones in random configurations, if that judges others better. What
the fit misses there becomes an offset of each pair of groups.
"""

from collections import defaultdict
from dataclasses import replace
from functools import partial

import mujoco
import numpy as np
from numpy.typing import NDArray

from polyreach.robot.capsule_offsets import SIGHT, exact_distances, with_offsets
from polyreach.robot.capsule_refinement import refine_capsules
from polyreach.robot.self_clearance import Capsules
from polyreach_description import Robot
from polyreach_description.geom_pairs import Pair, moving_pairs
from polyreach_description.kinematic_tree import last_movers

MAX_PARTS = 8  # capsules of one group
POINTS = 400  # sampled of a geom
FLAT = 1e3  # [m], radius of the sphere that stands for a plane
SAMPLES = 2000  # random configurations in which the capsules are measured
REFINED = 4000  # others, for which they are moved
FAR = 0.1  # [m]; pairs that are farther in every random configuration are left out

EXACT = {mujoco.mjtGeom.mjGEOM_PLANE, mujoco.mjtGeom.mjGEOM_SPHERE, mujoco.mjtGeom.mjGEOM_CAPSULE}
Array = NDArray[np.float64]


def fit_capsules(robot: Robot) -> Capsules:
    """Capsules of all geoms that may collide with others; the same for the same robot."""
    rng = np.random.default_rng(0)
    geom_pairs = moving_pairs(robot)
    if not geom_pairs:
        return _far_apart()
    groups, tree = _groups(robot, geom_pairs), robot.tree
    data = data_at_reference(robot)
    parts = [_fit(robot, data, geoms, rng) for geoms in groups]
    counts = [len(part) for part in parts]
    first = np.cumsum([0, *counts])
    group_of = {geom: number for number, geoms in enumerate(groups) for geom in geoms}
    group_pairs = sorted({(group_of[a], group_of[b]) for a, b in geom_pairs})
    rows = [
        (number, i, j)
        for number, (a, b) in enumerate(group_pairs)
        for i in range(first[a], first[a + 1])
        for j in range(first[b], first[b + 1])
    ]
    owner, *pairs = np.array(rows, dtype=np.int64).reshape(-1, 3).T
    # a follower that moves no effector is no screw, and taken to rest
    screw = {joint: number for number, joint in enumerate(tree.joint_ids.tolist())} | {-1: -1}
    last = last_movers(robot.model, tree.joint_ids)
    movers = [screw[int(last[robot.model.geom_bodyid[geoms[0]]])] for geoms in groups]
    shapes = np.concatenate([np.zeros((0, 7)), *parts])
    capsules = Capsules(
        mover=np.repeat(np.array(movers, dtype=np.int64), counts),
        start=shapes[:, :3],
        end=shapes[:, 3:6],
        radius=shapes[:, 6],
        pairs=np.stack(pairs, axis=1),
        offset=np.zeros(len(owner)),
    )
    low, high = robot.joint_pos_limits.T
    is_exact = np.array([_is_exact(robot, geoms) for geoms in groups])
    inexact = np.array([not (is_exact[a] and is_exact[b]) for a, b in group_pairs])
    sample, drawn = (rng.uniform(low, high, (count, len(low))) for count in (SAMPLES, REFINED))
    measure = partial(exact_distances, robot, geom_pairs, group_of, group_pairs)
    exact = measure(sample)
    best, distances = with_offsets(robot, capsules, owner, inexact, sample, exact)
    if best.misjudged > 0.0 and inexact.any():
        free, sight = np.repeat(~is_exact, counts), SIGHT * robot.stop_distance
        refined = refine_capsules(robot, capsules, owner, free, drawn, measure(drawn), sight)
        other, measured = with_offsets(robot, refined, owner, inexact, sample, exact)
        if other.misjudged < best.misjudged:
            best, distances = other, measured
    nearest = distances.min(axis=0)
    kept = nearest <= max(FAR, nearest.min())  # at least one
    return replace(best, pairs=best.pairs[kept], offset=best.offset[kept])


def data_at_reference(robot: Robot) -> mujoco.MjData:
    """The robot at the reference pose of its tree."""
    tree, data = robot.tree, robot.data_at_home()
    data.qpos[:] = robot.qpos(tree.reference[tree.controlled])
    data.qpos[robot.model.jnt_qposadr[tree.joint_ids]] = tree.reference
    mujoco.mj_kinematics(robot.model, data)
    return data


def in_base_frame(robot: Robot, data: mujoco.MjData, geom: int, capsules: Array) -> Array:
    """Capsules (n, 7) in the base frame, from those in the frame of a geom."""
    ends = capsules[:, :6].reshape(-1, 3) @ data.geom_xmat[geom].reshape(3, 3).T
    ends += data.geom_xpos[geom] - data.xpos[robot.base_body]
    rotation = data.xmat[robot.base_body].reshape(3, 3)
    return np.hstack([(ends @ rotation).reshape(-1, 6), capsules[:, 6:]])


def _far_apart() -> Capsules:
    """Of a robot without geoms that may collide: one pair that never does."""
    ends = np.array([[-FLAT, 0.0, 0.0], [FLAT, 0.0, 0.0]])
    pairs = np.array([[0, 1]], dtype=np.int64)
    return Capsules(np.full(2, -1, dtype=np.int64), ends, ends, np.zeros(2), pairs, np.zeros(1))


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


def _is_exact(robot: Robot, geoms: list[int]) -> bool:
    """Whether the capsules of a group are its geoms themselves."""
    return len(geoms) <= MAX_PARTS and set(robot.model.geom_type[geoms].tolist()) <= EXACT


def _fit(robot: Robot, data: mujoco.MjData, geoms: list[int], rng: np.random.Generator) -> Array:
    """Capsules (n, 7) of a group: start, end, radius [m, base frame]."""
    capsules = np.concatenate(
        [in_base_frame(robot, data, geom, fit_geom(robot.model, geom, rng)) for geom in geoms]
    )
    if len(capsules) <= MAX_PARTS:
        return capsules
    points = np.concatenate([_points_of_capsule(capsule, rng) for capsule in capsules])
    return _cluster(points, MAX_PARTS, rng)


def fit_geom(model: mujoco.MjModel, geom: int, rng: np.random.Generator) -> Array:
    """Capsules (n, 7) of a geom, in its own frame: start, end, radius [m]."""
    size, kind = model.geom_size[geom], mujoco.mjtGeom(model.geom_type[geom])
    if kind == mujoco.mjtGeom.mjGEOM_PLANE:
        return np.array([[0, 0, -FLAT, 0, 0, -FLAT, FLAT]])
    if kind == mujoco.mjtGeom.mjGEOM_SPHERE:
        return np.array([[0, 0, 0, 0, 0, 0, size[0]]])
    if kind == mujoco.mjtGeom.mjGEOM_CAPSULE:
        return np.array([[0, 0, -size[1], 0, 0, size[1], size[0]]])
    points = points_of_geom(model, geom, rng)
    extent = np.sort(np.ptp(points, axis=0))
    parts = int(np.clip(round(extent[1] / max(extent[0], 1e-3)), 1, MAX_PARTS))
    return _cluster(points, parts, rng)


def points_of_geom(model: mujoco.MjModel, geom: int, rng: np.random.Generator) -> Array:
    """Points (N, 3) in a geom, those of a mesh in its convex hull."""
    kind = mujoco.mjtGeom(model.geom_type[geom])
    if kind == mujoco.mjtGeom.mjGEOM_MESH:
        mesh = int(model.geom_dataid[geom])
        start, count = int(model.mesh_vertadr[mesh]), int(model.mesh_vertnum[mesh])
        vertices = model.mesh_vert[start : start + count].astype(np.float64)
        corners = vertices[rng.integers(count, size=(POINTS, 3))]
        inside = (rng.dirichlet(np.full(3, 0.7), POINTS)[..., None] * corners).sum(axis=1)
        return np.concatenate([vertices[rng.permutation(count)[:POINTS]], inside])
    points = rng.uniform(-1, 1, (2 * POINTS, 3))
    if kind == mujoco.mjtGeom.mjGEOM_CYLINDER:
        points[:, :2] /= np.maximum(np.linalg.norm(points[:, :2], axis=1), 1.0)[:, None]
    elif kind == mujoco.mjtGeom.mjGEOM_ELLIPSOID:
        points /= np.maximum(np.linalg.norm(points, axis=1), 1.0)[:, None]
    scaled: Array = model.geom_aabb[geom, :3] + points * model.geom_aabb[geom, 3:]
    return scaled


def _points_of_capsule(capsule: Array, rng: np.random.Generator) -> Array:
    """Points (N, 3) on the surface of a capsule (7,)."""
    along = rng.uniform(size=(POINTS // 2, 1))
    axis = capsule[:3] + along * (capsule[3:6] - capsule[:3])
    direction = rng.standard_normal(axis.shape)
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    surface: Array = axis + capsule[6] * direction
    return surface


def _cluster(points: Array, parts: int, rng: np.random.Generator) -> Array:
    """At most `parts` capsules (n, 7) around the points (N, 3), which Lloyd's algorithm divides."""
    extent = np.ptp(points, axis=0)
    # a long piece is one capsule, so distances along the longest direction count less
    weight = np.where(extent == extent.max(), 0.3 if parts > 1 else 1.0, 1.0)
    centres = points[rng.permutation(len(points))[:parts]]
    for _ in range(20):
        label = np.linalg.norm((points[:, None] - centres) * weight, axis=-1).argmin(axis=1)
        centres = np.array(
            [
                points[label == k].mean(axis=0) if (label == k).any() else centre
                for k, centre in enumerate(centres)
            ]
        )
    clusters = [points[label == k] for k in range(parts)]
    return np.array([_around(cluster) for cluster in clusters if len(cluster) > 3])


def _around(points: Array) -> Array:
    """A capsule (7,) along the principal axis of the points (N, 3)."""
    centre = (points.max(axis=0) + points.min(axis=0)) / 2
    axis = np.linalg.svd(points - points.mean(axis=0), full_matrices=False)[2][0]
    along = (points - centre) @ axis
    across = np.linalg.norm((points - centre) - along[:, None] * axis, axis=1)
    radius = float(np.quantile(across, 0.9))
    low, high = along.min() + radius, along.max() - radius
    if low > high:
        low = high = (low + high) / 2
    return np.concatenate([centre + low * axis, centre + high * axis, [radius]])
