"""Shapes of a robot on the page: surfaces of its geoms, colours, floor and first camera."""

from collections.abc import Sequence
from dataclasses import dataclass

import mujoco
import numpy as np
from numpy.typing import NDArray

from polyreach_description import Robot

SEGMENTS = 28  # around an axis of revolution
CONFIGURATIONS = 200  # random ones, which sample the positions of the effectors
FIXED_SPAN = 1e-4  # [m]; an effector that moves less along an axis is fixed along it
DEFAULT_RGBA = (0.5, 0.5, 0.5, 1.0)  # of MuJoCo, for geoms and sites without a colour
VISUAL_GROUPS = 3  # geoms of groups 0 to 2 are drawn; by convention, others are for collisions
FIELD_OF_VIEW = 0.7  # [rad], vertical
ASPECT, MARGIN = 1.15, 1.08  # of the first picture: width over height, space around the robot
PALETTE = ((31, 119, 180), (214, 39, 40), (44, 160, 44), (255, 127, 14), (148, 103, 189))

Vector = NDArray[np.float64]
Faces = NDArray[np.int64]
Mesh = tuple[Vector, Faces]
Colour = tuple[int, int, int]
_Geom = mujoco.mjtGeom


@dataclass(frozen=True)
class Shape:
    """A surface of one colour that moves with a body."""

    body: int
    vertices: Vector  # (V, 3) [m, body frame]
    faces: Faces  # (F, 3), counter-clockwise seen from outside
    colour: Colour
    opacity: float  # 0 to 1
    flat: bool  # whether its faces are shaded flat


@dataclass(frozen=True)
class Camera:
    """The first view of the robot [m, world frame]."""

    position: Vector  # (3,)
    look_at: Vector  # (3,)
    field_of_view: float  # [rad], vertical


def robot_shapes(robot: Robot) -> list[Shape]:
    """The geoms of the robot without planes; those of one body and colour are one shape."""
    model = robot.model
    parts: dict[tuple[int, tuple[float, ...], bool], list[Mesh]] = {}
    visual = model.geom_group < VISUAL_GROUPS
    for geom in range(model.ngeom):
        rgba = _rgba(model, geom)
        if (visual.any() and not visual[geom]) or rgba[3] == 0.0:
            continue
        if (mesh := geom_mesh(model, geom)) is not None:
            flat = model.geom_type[geom] in (_Geom.mjGEOM_MESH, _Geom.mjGEOM_BOX)
            parts.setdefault((int(model.geom_bodyid[geom]), rgba, flat), []).append(mesh)
    return [
        Shape(body, *_joined(meshes), _bytes(rgba), rgba[3], flat)
        for (body, rgba, flat), meshes in parts.items()
    ]


def geom_mesh(model: mujoco.MjModel, geom: int) -> Mesh | None:
    """Surface of a geom, vertices (V, 3) [m, body frame]; None for what has no closed surface."""
    size = model.geom_size[geom]
    match _Geom(model.geom_type[geom]):
        case _Geom.mjGEOM_SPHERE:
            vertices, faces = _capsule(size[0], 0.0)
        case _Geom.mjGEOM_CAPSULE:
            vertices, faces = _capsule(size[0], size[1])
        case _Geom.mjGEOM_ELLIPSOID:
            vertices, faces = _capsule(1.0, 0.0)
            vertices = vertices * size
        case _Geom.mjGEOM_CYLINDER:
            low, high = (size[0], -size[1]), (size[0], size[1])
            strips = [[(0.0, -size[1]), low], [low, high], [high, (0.0, size[1])]]
            vertices, faces = _joined([_revolved(strip) for strip in strips])
        case _Geom.mjGEOM_BOX:
            vertices, faces = _box(size)
        case _Geom.mjGEOM_MESH:
            mesh = model.mesh(int(model.geom_dataid[geom]))
            start, count = int(mesh.vertadr[0]), int(mesh.vertnum[0])
            first, number = int(mesh.faceadr[0]), int(mesh.facenum[0])
            vertices = model.mesh_vert[start : start + count].astype(np.float64)
            faces = model.mesh_face[first : first + number].astype(np.int64)
        case _:
            return None
    rotation = np.empty(9)
    mujoco.mju_quat2Mat(rotation, model.geom_quat[geom])
    return vertices @ rotation.reshape(3, 3).T + model.geom_pos[geom], faces


def _revolved(profile: Sequence[tuple[float, float]]) -> Mesh:
    """Surface of revolution of a curve of (radius, z), from low to high, around the z axis."""
    angle = np.linspace(0.0, 2 * np.pi, SEGMENTS, endpoint=False)
    around = np.stack([np.cos(angle), np.sin(angle)], axis=-1)  # (S, 2)
    rings = [np.column_stack([radius * around, np.full(SEGMENTS, z)]) for radius, z in profile]
    column = np.arange(SEGMENTS)
    after = (column + 1) % SEGMENTS
    faces = []
    for row in range(len(profile) - 1):
        low, high = row * SEGMENTS, (row + 1) * SEGMENTS
        faces.append(np.stack([low + column, low + after, high + after], axis=-1))
        faces.append(np.stack([low + column, high + after, high + column], axis=-1))
    return np.concatenate(rings), np.concatenate(faces)


def _capsule(radius: float, half_length: float) -> Mesh:
    angle = np.linspace(-np.pi / 2, np.pi / 2, SEGMENTS // 2 + 1)
    middle = len(angle) // 2
    points = [(radius * np.cos(a), radius * np.sin(a) - half_length) for a in angle[: middle + 1]]
    points += [(radius * np.cos(a), radius * np.sin(a) + half_length) for a in angle[middle:]]
    return _revolved(points)


def _box(half: Vector) -> Mesh:
    corners = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)]) * half
    quads = [(0, 1, 3, 2), (4, 6, 7, 5), (0, 4, 5, 1), (2, 3, 7, 6), (0, 2, 6, 4), (1, 5, 7, 3)]
    faces = [face for a, b, c, d in quads for face in ((a, b, c), (a, c, d))]
    return corners, np.array(faces)


def _joined(meshes: Sequence[Mesh]) -> Mesh:
    starts = np.cumsum([0, *(len(vertices) for vertices, _ in meshes)])
    faces = [mesh[1] + start for mesh, start in zip(meshes, starts, strict=False)]
    return np.concatenate([vertices for vertices, _ in meshes]), np.concatenate(faces)


def _rgba(model: mujoco.MjModel, geom: int) -> tuple[float, ...]:
    material = int(model.geom_matid[geom])
    rgba = model.geom_rgba[geom]
    if material >= 0 and np.allclose(rgba, DEFAULT_RGBA):
        rgba = model.mat_rgba[material]
    return tuple(float(value) for value in rgba)


def _bytes(rgba: Sequence[float]) -> Colour:
    red, green, blue = (round(255 * min(max(value, 0.0), 1.0)) for value in rgba[:3])
    return red, green, blue


def effector_colours(robot: Robot) -> list[Colour]:
    """A colour per effector: those of the sites if the model gives each its own, else a palette."""
    rgba = robot.model.site_rgba[robot.site_ids]
    colours = [_bytes(values) for values in rgba]
    all_set = not np.isclose(rgba, DEFAULT_RGBA).all(axis=-1).any()
    if all_set and len(set(colours)) == len(colours):
        return colours
    return [PALETTE[index % len(PALETTE)] for index in range(len(colours))]


def effector_samples(robot: Robot) -> Vector:
    """Effector positions (N, E, 3) [m, base frame] at random configurations within the limits."""
    low, high = robot.joint_pos_limits.T
    configurations = np.random.default_rng(0).uniform(low, high, (CONFIGURATIONS, len(low)))
    return np.array([robot.forward_kinematics(joint_pos) for joint_pos in configurations])


def free_axes(samples: Vector) -> NDArray[np.bool_]:
    """Along which axes (E, 3) of the base frame the effectors move; samples: (N, E, 3) [m]."""
    moves: NDArray[np.bool_] = np.ptp(samples, axis=0) > FIXED_SPAN
    return moves


def floor_height(robot: Robot) -> float:
    """Height of the model's plane, or of its lowest point at home [m, world frame]."""
    planes = np.flatnonzero(robot.model.geom_type == _Geom.mjGEOM_PLANE)
    if len(planes):
        return float(robot.data_at_home().geom_xpos[planes[0], 2])
    return float(_home_points(robot)[:, 2].min())


def first_camera(robot: Robot, samples: Vector) -> Camera:
    """A camera with the robot at home and all samples (N, E, 3) [m, base frame] in view.

    It looks from above if no effector can change its height, else from the front and the side.
    """
    data = robot.data_at_home()
    rotation = data.xmat[robot.base_body].reshape(3, 3)
    points = np.concatenate(
        [samples.reshape(-1, 3) @ rotation.T + data.xpos[robot.base_body], _home_points(robot)]
    )
    centre = (points.min(axis=0) + points.max(axis=0)) / 2
    planar = not free_axes(samples)[:, 2].any()
    back = np.array([-0.75, -0.3, 1.0]) if planar else np.array([1.0, 0.55, 0.4])
    back /= np.linalg.norm(back)
    right = np.cross([0.0, 0.0, 1.0], back)
    right /= np.linalg.norm(right)
    up = np.cross(back, right)
    offset = MARGIN * (points - centre)
    tangent = np.tan(FIELD_OF_VIEW / 2)
    # a point is in the picture if |offset . up| <= tangent * (distance - offset . back)
    high = np.abs(offset @ up) / tangent
    wide = np.abs(offset @ right) / (ASPECT * tangent)
    distance = float((np.maximum(high, wide) + offset @ back).max())
    return Camera(centre + distance * back, centre, FIELD_OF_VIEW)


def _home_points(robot: Robot) -> Vector:
    """Vertices (V, 3) [m, world frame] of all shapes at home."""
    data = robot.data_at_home()
    clouds = [
        shape.vertices @ data.xmat[shape.body].reshape(3, 3).T + data.xpos[shape.body]
        for shape in robot_shapes(robot)
    ]
    return np.concatenate([*clouds, data.site_xpos[robot.site_ids]])
