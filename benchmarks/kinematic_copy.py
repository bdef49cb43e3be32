"""A robot as one MJCF text that any version of MuJoCo reads: the joints that its controlled joints
move, the shapes that may touch, and its effectors. Held joints are fixed at home; meshes are their
convex hulls.
"""

from collections.abc import Sequence
from itertools import combinations
from typing import Any
from xml.etree import ElementTree

import mujoco
import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.spatial import ConvexHull

from benchmarks.obstacle_scenes import moving_geoms, world_poses
from polyreach_description import Robot
from polyreach_nodes.control.obstacle import Obstacle

Array = NDArray[np.float64]


def kinematic_mjcf(robot: Robot, obstacles: Sequence[Obstacle] = ()) -> str:
    """MJCF text with the sites `effector0`, `effector1`, ... and geoms `geom<id>`, ids as in
    `robot.model`, and `obstacle0`, ... Its joints are those of `robot.moved`, in their order; none
    is coupled.

    Raises ValueError if a body has both a held joint and one that moves.
    """
    model = robot.model
    root = ElementTree.Element("mujoco")
    ElementTree.SubElement(root, "compiler", angle="radian", inertiafromgeom="false")
    asset = ElementTree.SubElement(root, "asset")
    elements = [ElementTree.SubElement(root, "worldbody")]
    data = _data_at_reference(robot)
    for body in range(1, model.nbody):
        parent = int(model.body_parentid[body])
        elements.append(
            _add(
                elements[parent],
                "body",
                name=f"body{body}",
                pos=_relative_pos(data, parent, body),
                quat=_relative_quat(data, parent, body),
            )
        )
        _add(elements[body], "inertial", pos=[0, 0, 0], mass=1, diaginertia=[1, 1, 1])
        _add_joints(elements[body], robot, body)
    for geom in collision_geoms(model):
        _add_geom(elements[model.geom_bodyid[geom]], asset, model, geom)
    for number, (place, turn) in enumerate(world_poses(robot, obstacles)):
        kind = mujoco.mjtGeom(obstacles[number].shape.value)
        _add(
            elements[0],
            "geom",
            name=f"obstacle{number}",
            type=_type_name(kind),
            size=obstacles[number].size,
            pos=place,
            quat=turn,
        )
    for number, site in enumerate(robot.site_ids):
        element = elements[model.site_bodyid[site]]
        _add(
            element,
            "site",
            name=f"effector{number}",
            pos=model.site_pos[site],
            quat=model.site_quat[site],
        )
    return ElementTree.tostring(root, encoding="unicode")


def collision_geoms(model: mujoco.MjModel) -> list[int]:
    """Geoms that may touch others."""
    return [int(g) for g in np.flatnonzero(model.geom_contype | model.geom_conaffinity)]


def collision_pairs(robot: Robot) -> list[tuple[int, int]]:
    """Pairs of geoms that the controller keeps apart: MuJoCo's collision filters let them touch,
    and a controlled joint moves them relative to each other.
    """
    model = robot.model
    excluded = {(int(pair) >> 16, int(pair) & 0xFFFF) for pair in model.exclude_signature}
    pairs = []
    for first, second in combinations(collision_geoms(model), 2):
        a, b = sorted((int(model.geom_bodyid[first]), int(model.geom_bodyid[second])))
        weld_a, weld_b = int(model.body_weldid[a]), int(model.body_weldid[b])
        parent_a, parent_b = (
            int(model.body_weldid[model.body_parentid[weld]]) for weld in (weld_a, weld_b)
        )
        neighbours = (weld_a == parent_b and weld_a != 0) or (weld_b == parent_a and weld_b != 0)
        compatible = (
            model.geom_contype[first] & model.geom_conaffinity[second]
            | model.geom_contype[second] & model.geom_conaffinity[first]
        )
        moved = robot.geom_movers[first] != robot.geom_movers[second]
        if compatible and moved and not neighbours and (a, b) not in excluded:
            pairs.append((first, second))
    return pairs


def obstacle_pairs(robot: Robot, obstacles: Sequence[Obstacle]) -> list[tuple[str, str]]:
    """Names of the pairs of a moving geom and an obstacle in `kinematic_mjcf`."""
    names = [f"obstacle{number}" for number in range(len(obstacles))]
    return [(f"geom{geom}", name) for geom in moving_geoms(robot) for name in names]


def _type_name(kind: mujoco.mjtGeom) -> str:
    return kind.name.removeprefix("mjGEOM_").lower()


def _data_at_reference(robot: Robot) -> mujoco.MjData:
    """Kinematics with held joints at home, and the others where they displace nothing."""
    data = mujoco.MjData(robot.model)
    data.qpos[:] = robot.qpos(robot.home)
    data.qpos[robot.moved.qpos_adr] = robot.model.qpos0[robot.moved.qpos_adr]
    mujoco.mj_kinematics(robot.model, data)
    return data


def _relative_pos(data: mujoco.MjData, parent: int, body: int) -> Array:
    offset: Array = data.xpos[body] - data.xpos[parent]
    return offset @ data.xmat[parent].reshape(3, 3)


def _relative_quat(data: mujoco.MjData, parent: int, body: int) -> Array:
    inverse, quat = np.empty(4), np.empty(4)
    mujoco.mju_negQuat(inverse, data.xquat[parent])
    mujoco.mju_mulQuat(quat, inverse, data.xquat[body])
    return quat


def _add(parent: ElementTree.Element, tag: str, **values: Any) -> ElementTree.Element:
    texts = {
        key: value if isinstance(value, str) else _text(value) for key, value in values.items()
    }
    return ElementTree.SubElement(parent, tag, texts)


def _text(values: ArrayLike) -> str:
    return " ".join(repr(float(value)) for value in np.asarray(values, dtype=np.float64).ravel())


def _add_joints(element: ElementTree.Element, robot: Robot, body: int) -> None:
    model = robot.model
    first, count = int(model.body_jntadr[body]), int(model.body_jntnum[body])
    joints = [joint for joint in range(first, first + count) if joint in robot.moved.ids]
    if joints and len(joints) < count:
        raise ValueError(
            f"body '{model.body(body).name}' of robot '{robot.name}' has both joints that move "
            "and joints that are held: put them on bodies of their own"
        )
    for joint in joints:
        slide = model.jnt_type[joint] == mujoco.mjtJoint.mjJNT_SLIDE
        _add(
            element,
            "joint",
            name=f"joint{joint}",
            type="slide" if slide else "hinge",
            pos=model.jnt_pos[joint],
            axis=model.jnt_axis[joint],
            limited="true",
            range=model.jnt_range[joint],
            ref=model.qpos0[model.jnt_qposadr[joint]],
        )


def _add_geom(
    element: ElementTree.Element, asset: ElementTree.Element, model: mujoco.MjModel, geom: int
) -> None:
    kind = mujoco.mjtGeom(model.geom_type[geom])
    shape: dict[str, Any] = {"size": model.geom_size[geom]}
    if kind == mujoco.mjtGeom.mjGEOM_MESH:
        mesh = int(model.geom_dataid[geom])
        start, count = int(model.mesh_vertadr[mesh]), int(model.mesh_vertnum[mesh])
        vertices = model.mesh_vert[start : start + count].astype(np.float64)
        hull = vertices[ConvexHull(vertices).vertices]
        _add(asset, "mesh", name=f"mesh{geom}", vertex=hull, inertia="convex")
        shape = {"mesh": f"mesh{geom}"}
    _add(
        element,
        "geom",
        name=f"geom{geom}",
        type=_type_name(kind),
        pos=model.geom_pos[geom],
        quat=model.geom_quat[geom],
        contype=str(model.geom_contype[geom]),
        conaffinity=str(model.geom_conaffinity[geom]),
        **shape,
    )
