"""Effectors that a model suggests: the ends of its kinematic tree.

Links that no usable joint moves relative to each other count as one. An end of this tree becomes an
effector: a site of it or, where there is none, its outermost link. The fingers of a hand, which is
a link that MIN_ARM_JOINTS or more joints move and from which only short branches lead on, become
none: the hand itself does.
"""

import re
from collections.abc import Collection
from dataclasses import dataclass

import mujoco
import numpy as np
from numpy.typing import NDArray

from polyreach_description.config_file import RobotError
from polyreach_description.kinematic_tree import joints_above, last_movers

MIN_ARM_JOINTS = 3  # that move a hand; the palm of a hand without an arm is none
FINGER_LENGTH = 0.2  # [m], the most from the first link of a finger to its last
MIN_MOTION = 0.02  # [m], the least extent of the points that an effector passes
MIN_OFFSET = 0.005  # [m]
SAMPLES = 50  # random configurations
TOOL_WORDS = frozenset(
    "tcp tool tip ee eef effector grasp grasping gripper palm hand attachment".split()
)
FINGER_WORDS = frozenset("finger thumb".split())
SENSOR_WORDS = frozenset("imu camera cam optical sensor ft force torque depth gyro".split())

Vector = NDArray[np.float64]


@dataclass(frozen=True)
class EffectorDraft:
    """A site, or a point of a body, that can be an effector."""

    name: str
    site: str  # '' if it is given as a body
    body: str  # that has the site, or the point
    offset: tuple[float, float, float]  # [m], in the body's frame
    fingers: tuple[str, ...] = ()  # joints of a hand's fingers
    is_end_of_shapes: bool = False  # whether the offset is where the link's shapes end


def find_effectors(
    model: mujoco.MjModel, usable: Collection[int], limits: Vector
) -> tuple[list[EffectorDraft], list[str]]:
    """The effectors, in the model's order, and the ends of the tree that make none, by link.

    usable: joints that are controlled, or follow one that is. limits: (njnt, 2) [rad or m], where
    every joint is drawn from.
    """
    tree = _Tree(model, usable)
    data, points = mujoco.MjData(model), []
    mujoco.mj_kinematics(model, data)
    chosen, unused, names = [], [], set[str]()
    for group in tree.ends(data):
        effector = _effector(tree, group, data, names)
        names.add(effector.name)
        chosen.append(effector)
    rng = np.random.default_rng(0)
    for _ in range(SAMPLES):
        data.qpos[model.jnt_qposadr] = rng.uniform(*limits.T)
        mujoco.mj_kinematics(model, data)
        points.append([_point(model, data, effector) for effector in chosen])
    extent = np.ptp(np.array(points), axis=0).max(axis=-1, initial=0.0) if chosen else []
    for effector, size in zip(list(chosen), extent, strict=True):
        if size < MIN_MOTION:
            chosen.remove(effector)
            unused.append(effector.body)
    return chosen, unused


def select_effectors(
    model: mujoco.MjModel,
    effectors: list[EffectorDraft],
    names: Collection[str],
    usable: Collection[int],
) -> list[EffectorDraft]:
    """Those of `names`, or all if there are none; then links of `names` that a usable joint moves.

    Raises RobotError for any other name.
    """
    legal = [effector.name for effector in effectors]
    movers = last_movers(model, np.array(sorted(usable), dtype=np.int64))  # (nbody,)
    links = {model.body(body).name for body in np.flatnonzero(movers >= 0).tolist()}
    for name in names:
        if name not in legal and (name not in links or _topic_name(name, ()) != name):
            raise RobotError(
                f"unknown effector '{name}' (the model has: {', '.join(legal)}; others are given "
                "by the name of a link that moves)"
            )
    others = (name for name in dict.fromkeys(names) if name not in legal)
    kept = [effector for effector in effectors if not names or effector.name in names]
    return kept + [EffectorDraft(name, "", name, (0.0, 0.0, 0.0)) for name in others]


class _Tree:
    """Groups of bodies that keep their place to each other, by the joint that moves them last."""

    def __init__(self, model: mujoco.MjModel, usable: Collection[int]) -> None:
        self.model, self.usable = model, frozenset(usable)
        self.mover = last_movers(model, np.array(sorted(usable), dtype=np.int64))  # (nbody,)
        self.parent: dict[int, int] = {}  # group of joint -> group of joint, or -1
        for joint in sorted(set(self.mover.tolist()) - {-1}):
            body = int(model.jnt_bodyid[joint])
            self.parent[joint] = int(self.mover[model.body_parentid[body]])

    def bodies(self, group: int) -> list[int]:
        return np.flatnonzero(self.mover == group).tolist()

    def children(self, group: int) -> list[int]:
        return [child for child, parent in self.parent.items() if parent == group]

    def behind(self, group: int) -> list[int]:
        """All groups that `group` carries."""
        found = self.children(group)
        for child in found:  # grows
            found.extend(self.children(child))
        return found

    def joints_of(self, group: int) -> list[int]:
        """The usable joints that move `group`."""
        above = joints_above(self.model, int(self.model.jnt_bodyid[group]))
        return [joint for joint in above if joint in self.usable]

    def ends(self, data: mujoco.MjData) -> list[int]:
        """Groups without children, and hands instead of their fingers."""
        hands = [g for g in self.parent if self._is_hand(g, data)]
        fingers = {finger for hand in hands for finger in self.behind(hand)}
        return [g for g in self.parent if g not in fingers and (g in hands or not self.children(g))]

    def _is_hand(self, group: int, data: mujoco.MjData) -> bool:
        branches = self.children(group)
        if len(branches) < 2 or len(self.joints_of(group)) < MIN_ARM_JOINTS:
            return False
        for branch in branches:
            first = data.xpos[self.model.jnt_bodyid[branch]]
            links = [b for g in (branch, *self.behind(branch)) for b in self.bodies(g)]
            if np.linalg.norm(data.xpos[links] - first, axis=1).max() > FINGER_LENGTH:
                return False
        return True


def _effector(
    tree: _Tree, group: int, data: mujoco.MjData, names: Collection[str]
) -> EffectorDraft:
    model, bodies = tree.model, tree.bodies(group)
    anchor = data.xanchor[group]
    fingers = tuple(model.joint(joint).name for joint in tree.behind(group))
    sites = [
        (_suits(model.site(site).name), float(np.linalg.norm(data.site_xpos[site] - anchor)), -site)
        for site in range(model.nsite)
        if model.site_bodyid[site] in bodies and model.site(site).name
    ]
    if sites and (best := max(sites))[0] >= 0:
        site = -best[2]
        body = model.body(int(model.site_bodyid[site])).name
        name = model.site(site).name
        return EffectorDraft(_topic_name(name, names), name, body, (0.0, 0.0, 0.0), fingers)
    links = [
        (_suits(model.body(body).name), float(np.linalg.norm(data.xpos[body] - anchor)), -body)
        for body in bodies
        if model.body(body).name
    ]
    if not links:  # a body without a name, which a robot.yaml cannot name either
        links = [(0, 0.0, -bodies[0])]
    suits, distance, number = max(links)
    body, offset = -number, (0.0, 0.0, 0.0)
    if distance < MIN_OFFSET or suits < 0:
        body = int(model.jnt_bodyid[group])
        offset = _end_of_shapes(model, body)
    name = model.body(body).name
    return EffectorDraft(_topic_name(name, names), "", name, offset, fingers, any(offset))


def _suits(name: str) -> int:
    """1 for the name of a tool, -1 for that of a sensor, else 0."""
    words = set(re.split(r"[^a-z]+", re.sub(r"([a-z])([A-Z])", r"\1_\2", name).lower()))
    if words & SENSOR_WORDS:
        return -1
    return int(bool(words & TOOL_WORDS) and not words & FINGER_WORDS)


def _topic_name(name: str, taken: Collection[str]) -> str:
    """A name that effectors may have, and none of those that are taken."""
    text = "_".join(re.findall(r"[A-Za-z0-9]+", name))
    text = text if text[:1].isalpha() else f"effector_{text}".rstrip("_")
    number, unique = 2, text
    while unique in taken:
        number, unique = number + 1, f"{text}_{number}"
    return unique


def _end_of_shapes(model: mujoco.MjModel, body: int) -> tuple[float, float, float]:
    """The farthest point along an axis of the body's frame that its shapes reach [m]."""
    first, count = int(model.body_geomadr[body]), int(model.body_geomnum[body])
    corners = [np.zeros((1, 3))]
    for geom in range(first, first + count):
        if not (model.geom_contype[geom] or model.geom_conaffinity[geom]):
            continue
        matrix = np.empty(9)
        mujoco.mju_quat2Mat(matrix, model.geom_quat[geom])
        centre, half = model.geom_aabb[geom, :3], model.geom_aabb[geom, 3:]
        signs = np.array(np.meshgrid(*[[-1.0, 1.0]] * 3)).reshape(3, 8).T
        corners.append(model.geom_pos[geom] + (centre + signs * half) @ matrix.reshape(3, 3).T)
    points = np.concatenate(corners) if len(corners) > 1 else model.body_ipos[[body]]
    row, axis = np.unravel_index(np.abs(points).argmax(), points.shape)
    offset = np.zeros(3)
    if abs(points[row, axis]) >= MIN_OFFSET:
        offset[axis] = np.clip(round(float(points[row, axis]), 3), -10.0, 10.0)
    x, y, z = offset.tolist()
    return x, y, z


def _point(model: mujoco.MjModel, data: mujoco.MjData, effector: EffectorDraft) -> Vector:
    if effector.site:
        return data.site(effector.site).xpos.copy()
    body = data.body(effector.body)
    point: Vector = body.xpos + body.xmat.reshape(3, 3) @ np.array(effector.offset)
    return point
