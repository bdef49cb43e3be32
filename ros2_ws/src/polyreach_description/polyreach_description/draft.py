"""A first robot.yaml of a model: all that the model says, and a marked guess for the rest."""

import math
import re
from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path
from xml.etree.ElementTree import Element

import mujoco
import numpy as np

from polyreach_description.config_file import (
    MAX_HINGE_VELOCITY,
    MAX_NAME,
    MAX_SLIDE_VELOCITY,
    Coupling,
    EffectorEntry,
    JointEntry,
    RobotError,
    RobotFile,
    is_robot_name,
)
from polyreach_description.coupling import read_couplings
from polyreach_description.draft_contacts import choose_home, contact_pairs
from polyreach_description.draft_effectors import EffectorDraft, find_effectors, select_effectors
from polyreach_description.kinematic_tree import joints_above
from polyreach_description.model_file import load_model
from polyreach_description.robot import SPEED_UP_S, Robot
from polyreach_description.urdf import MeshError, read_urdf, root_links

CONTROL_RATE = 50.0  # [Hz]
GUESSED_HINGE_VELOCITY = 1.0  # [rad/s]
GUESSED_SLIDE_VELOCITY = 0.1  # [m/s]
MAX_TURNS = 4 * math.pi  # [rad], the largest range of a controlled joint
_HINGE, _SLIDE = mujoco.mjtJoint.mjJNT_HINGE, mujoco.mjtJoint.mjJNT_SLIDE


@dataclass(frozen=True)
class JointDraft:
    """Limits of a controlled joint, and where they are from."""

    name: str
    velocity: float  # [rad/s or m/s]
    acceleration: float  # [rad/s^2 or m/s^2]
    unit: str  # rad or m
    source: str  # of the velocity, '' if it is the model's


@dataclass(frozen=True)
class Draft:
    """The content of a robot.yaml, with what its comments and the command say of it."""

    name: str
    base_frame: str
    fixed_base: bool
    effectors: tuple[EffectorDraft, ...]
    moves: dict[str, tuple[str, ...]]  # the effectors that each joint moves; {} if not known
    joints: tuple[JointDraft, ...]
    followers: tuple[str, ...]  # 'name = 0.8 leader + 0.1'
    home: dict[str, float]  # [rad or m]
    home_keyframe: str
    home_source: str
    unusable_links: tuple[str, ...]  # whose collision meshes cannot be used
    pairs: tuple[tuple[str, str, str], ...]  # two links without collision, and why
    often: tuple[tuple[str, str, str], ...]  # two links that touch or are near often, and how often
    unlimited: tuple[str, ...]  # joints that cannot be controlled
    unused: tuple[str, ...]  # ends of the tree that make no effector
    problem: str = ""  # why the robot cannot be used as it is


def draft_robot(path: Path, names: Collection[str] = ()) -> Draft:
    """Draft a robot.yaml of an MJCF or URDF; names: of the effectors, all that are found if none.

    Raises RobotError for a model that cannot be loaded or has no joint with limits, and for an
    unknown name. Loading is not bounded: see draft_yaml.new_robot_yaml.
    """
    file, spec_name, model = _load(path)
    usable, unlimited = _usable_joints(model)
    if not usable:
        raise RobotError(f"'{path}' has no hinge or slide joint with limits")
    couplings = read_couplings(file, model)
    followers = {name: c for name, c in couplings.items() if model.joint(c.leader).id in usable}
    following = {model.joint(name).id for name in couplings}
    usable = [joint for joint in usable if joint not in following]
    moved = {*usable, *(model.joint(name).id for name in followers)}
    limits = np.where(model.jnt_limited[:, None] > 0, model.jnt_range, 0.0)
    effectors, unused = find_effectors(model, moved, limits)
    if not effectors:
        raise RobotError(f"no link of '{path}' moves by 20 mm within the limits of its joints")
    effectors, root = select_effectors(model, effectors, names, moved), read_urdf(path)
    controlled = _controlled(model, effectors, moved, followers)
    joints = tuple(_joint_draft(model, joint, root) for joint in controlled)
    file = replace(
        file,
        base_frame=_base_frame(model, effectors, controlled, root),
        effectors={
            e.name: EffectorEntry(e.site or None, None if e.site else e.body, e.offset)
            for e in effectors
        },
        joints={j.name: JointEntry(j.velocity, j.acceleration, None) for j in joints},
    )
    draft = Draft(
        name=_robot_name(spec_name if root is None else root.get("name", ""), path),
        base_frame=file.base_frame,
        fixed_base=file.fixed_base,
        effectors=tuple(effectors),
        moves={},
        joints=joints,
        followers=tuple(
            f"{name} = {c.ratio:g} {c.leader} + {c.offset:g}" for name, c in followers.items()
        ),
        home={},
        home_keyframe="",
        home_source="",
        unusable_links=tuple(link for link in file.no_collision if isinstance(link, str)),
        pairs=(),
        often=(),
        unlimited=tuple(model.joint(joint).name for joint in unlimited),
        unused=tuple(unused),
    )
    try:
        return _sampled(draft, file, root)
    except RobotError as error:  # as `robot check` will say; all else is worth to be written
        return replace(draft, problem=str(error))


def _load(path: Path) -> tuple[RobotFile, str, mujoco.MjModel]:
    """Load a model: with fixed base if it has a floating one, and without the shapes that MuJoCo
    cannot use; the file as read so far, the name in an MJCF, and the model.
    """
    if not path.is_file():
        raise RobotError(f"model file '{path}' does not exist")
    file = RobotFile(path, "draft", path, "world", CONTROL_RATE, {}, {}, {}, None, False, ())
    try:
        spec, model = load_model(file)
    except MeshError as error:
        file = replace(file, no_collision=error.links)
        spec, model = load_model(file)
    if (model.jnt_type == mujoco.mjtJoint.mjJNT_FREE).any():
        file = replace(file, fixed_base=True)
        spec, model = load_model(file)
    return file, spec.modelname, model


def _usable_joints(model: mujoco.MjModel) -> tuple[list[int], list[int]]:
    """Joints that can be controlled, and those that lack limits (or have more than two turns)."""
    usable: list[int] = []
    unlimited: list[int] = []
    for joint in range(model.njnt):
        low, high = model.jnt_range[joint]
        is_hinge = model.jnt_type[joint] == _HINGE
        fits = model.jnt_limited[joint] and low < high
        fits = fits and (high - low <= MAX_TURNS if is_hinge else model.jnt_type[joint] == _SLIDE)
        (usable if fits else unlimited).append(joint)
    return usable, unlimited


def _controlled(
    model: mujoco.MjModel,
    effectors: list[EffectorDraft],
    moved: set[int],
    followers: dict[str, Coupling],
) -> list[int]:
    """Joints that move an effector, or whose followers do."""
    above = {
        joint
        for effector in effectors
        for joint in joints_above(model, model.body(effector.body).id)
        if joint in moved
    }
    return sorted(
        {
            model.joint(followers[name].leader).id if name in followers else joint
            for joint in above
            for name in [model.joint(joint).name]
        }
    )


def _joint_draft(model: mujoco.MjModel, joint: int, root: Element | None) -> JointDraft:
    name = model.joint(joint).name
    slides = model.jnt_type[joint] == _SLIDE
    guess = GUESSED_SLIDE_VELOCITY if slides else GUESSED_HINGE_VELOCITY
    most = MAX_SLIDE_VELOCITY if slides else MAX_HINGE_VELOCITY
    velocity, source = _urdf_velocity(root, name), ""
    if velocity is None or not velocity >= 1e-3:
        velocity, source = guess, "guess"
    elif velocity > most:
        velocity, source = most, f"the model has {velocity:g}"
    acceleration = _round_up(velocity / SPEED_UP_S)
    return JointDraft(name, velocity, acceleration, "m" if slides else "rad", source)


def _urdf_velocity(root: Element | None, name: str) -> float | None:
    for joint in () if root is None else root.iterfind("joint"):
        limit = joint.find("limit")
        if joint.get("name") == name and limit is not None:
            try:
                return float(limit.get("velocity", ""))
            except ValueError:
                return None
    return None


def _round_up(value: float) -> float:
    """At least `value`, with two digits."""
    step = 10.0 ** (math.floor(math.log10(value)) - 1)
    return float(f"{math.ceil(value / step - 1e-9) * step:.2g}")


def _base_frame(
    model: mujoco.MjModel,
    effectors: list[EffectorDraft],
    controlled: list[int],
    root: Element | None,
) -> str:
    """A URDF's root link, else the outermost link that carries all effectors and does not move."""
    if root is not None and (links := root_links(root)) and links[0] != "world":
        return links[0]
    chains = [_bodies_above(model, model.body(effector.body).id) for effector in effectors]
    for place in range(min(map(len, chains))):
        bodies = {chain[place] for chain in chains}
        body = bodies.pop()
        if bodies or set(joints_above(model, body)) & set(controlled):
            break
        if model.body(body).name:
            return model.body(body).name
    return "world"


def _bodies_above(model: mujoco.MjModel, body: int) -> list[int]:
    """The bodies from the one below the world to `body`."""
    chain = []
    while body > 0:
        chain.append(body)
        body = int(model.body_parentid[body])
    return chain[::-1]


def _robot_name(text: str, path: Path) -> str:
    for name in (text, path.stem):
        name = re.sub(r"[^A-Za-z0-9_-]+", "_", name).strip("_")[:MAX_NAME]
        if is_robot_name(name) and name != "MuJoCo_Model":
            return name
    return "my_robot"


def _sampled(draft: Draft, file: RobotFile, root: Element | None) -> Draft:
    """The draft with pairs in contact and home. Raises RobotError where Robot or its models do."""
    robot = Robot(file)
    merged = root_links(root)[:1] if root is not None else []

    def link(name: str) -> str:
        return merged[0] if name == "world" and merged else name

    reasons, often = contact_pairs(robot)
    pairs = [(link(first), link(second), reason) for (first, second), reason in reasons.items()]
    robot = Robot(_without(file, pairs))
    joint_pos, keyframe, source = choose_home(robot)
    home = (
        {} if joint_pos is None else dict(zip(robot.joint_names, joint_pos.tolist(), strict=True))
    )
    return replace(
        draft,
        moves={
            joint: tuple(name for name, row in zip(robot.effector_names, rows, strict=True) if row)
            for joint, rows in zip(robot.joint_names, robot.action_sets.T, strict=True)
        },
        home={name: round(value, 3) + 0.0 for name, value in home.items()},
        home_keyframe=keyframe,
        home_source=source,
        pairs=tuple(pairs),
        often=tuple((link(a), link(b), text) for (a, b), text in often.items()),
    )


def _without(file: RobotFile, pairs: list[tuple[str, str, str]]) -> RobotFile:
    return replace(file, no_collision=(*file.no_collision, *((a, b) for a, b, _ in pairs)))
