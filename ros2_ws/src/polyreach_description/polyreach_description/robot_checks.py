"""Checks of a compiled model against its robot.yaml: what polyreach can control.

Every check raises RobotError with one sentence that names what is wrong and what is legal.
"""

from collections.abc import Sequence

import mujoco
import numpy as np
from numpy.typing import NDArray

from polyreach_description.config_file import MAX_SLIDE_VELOCITY, RobotError, RobotFile
from polyreach_description.kinematic_tree import joints_above
from polyreach_description.model_file import closes_loop, fixed_links

_HINGE, _SLIDE = mujoco.mjtJoint.mjJNT_HINGE, mujoco.mjtJoint.mjJNT_SLIDE


def joint_id(model: mujoco.MjModel, name: str) -> int:
    """The id of a joint. Raises RobotError if the model has no such joint."""
    joint = mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_JOINT, name)
    if joint < 0:
        legal = ", ".join(model.joint(j).name for j in range(model.njnt))
        raise RobotError(f"unknown joint '{name}' (the model has: {legal})")
    return joint


def base_body(file: RobotFile, model: mujoco.MjModel, moved_ids: NDArray[np.int64]) -> int:
    """The body of base_frame. Raises RobotError if there is none, or if a joint in moved_ids (n,)
    moves it.
    """
    body = mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_BODY, file.base_frame)
    if body < 0:
        legal = fixed_links(file, model)
        if file.base_frame in legal:
            return 0  # a URDF's root link, which MuJoCo merges with the world
        raise RobotError(
            f"unknown base_frame '{file.base_frame}' (the model has: {', '.join(legal)})"
        )
    moving = [joint for joint in joints_above(model, body) if joint in moved_ids]
    if moving:
        name = model.joint(moving[0]).name
        raise RobotError(f"base_frame '{file.base_frame}' moves with the controlled joint '{name}'")
    return body


def check_names(model: mujoco.MjModel) -> None:
    """Refuse names with control characters, which a terminal would obey."""
    for name in bytes(model.names).split(b"\0"):
        text = name.decode("utf-8", errors="surrogateescape")
        if not text.isprintable():
            raise RobotError(f"the model has the name '{text}', which has control characters")


def check_collision_options(model: mujoco.MjModel) -> None:
    """Refuse models in which MuJoCo computes no distance between links."""
    flags = mujoco.mjtDisableBit
    for flag in (flags.mjDSBL_CONTACT, flags.mjDSBL_CONSTRAINT):
        if model.opt.disableflags & flag:
            name = flag.name.removeprefix("mjDSBL_").lower()
            raise RobotError(
                f'the model has <flag {name}="disable"/>, so that no self-collision could be '
                "seen: remove it (links that may touch go under 'no_collision')"
            )

    solid = (model.geom_contype | model.geom_conaffinity) != 0
    if (solid & (model.geom_type == mujoco.mjtGeom.mjGEOM_HFIELD)).any():
        raise RobotError(
            "the model has a height field that can be touched, to which no distance is known: "
            "make it of boxes, or give its geom contype and conaffinity 0"
        )


def check_joints(file: RobotFile, model: mujoco.MjModel, joint_ids: NDArray[np.int64]) -> None:
    """Refuse joint types other than hinge and slide, and controlled joints with missing or
    implausible limits.
    """
    for joint in range(model.njnt):
        kind = mujoco.mjtJoint(model.jnt_type[joint])
        if kind not in (_HINGE, _SLIDE):
            name = model.joint(joint).name or f"number {joint}"
            raise RobotError(
                f"joint '{name}' is of type {kind.name.removeprefix('mjJNT_').lower()}, but only "
                "hinge and slide joints are supported ('fixed_base: true' in the robot.yaml fixes "
                "a floating base to the world)"
            )
    for joint in joint_ids:
        name, (low, high) = model.joint(int(joint)).name, model.jnt_range[joint]
        if not model.jnt_limited[joint] or not low < high:
            raise RobotError(
                f"joint '{name}' has no position limits in the model: give it a range (in a "
                "URDF: type revolute, not continuous, with a limit)"
            )
        is_hinge = model.jnt_type[joint] == _HINGE
        if is_hinge and high - low > 4 * np.pi + 1e-9:
            raise RobotError(
                f"joint '{name}' has range {low:g} to {high:g} rad, more than two turns: is it "
                "in degrees?"
            )
        velocity = file.joints[name].velocity
        if not is_hinge and velocity > MAX_SLIDE_VELOCITY:
            raise RobotError(
                f"velocity of joint '{name}' is {velocity:g}, but a slide joint's must be at "
                f"most {MAX_SLIDE_VELOCITY:g} [m/s]"
            )


def check_loops(
    model: mujoco.MjModel, movers: NDArray[np.int64], joint_ids: NDArray[np.int64]
) -> None:
    """Refuse what ties controlled joints: kinematics go from the base outwards only.

    movers: (model.nbody,) the controlled joint that moves each body last, or -1.
    """
    for number in np.flatnonzero(model.eq_active0):
        if closes_loop(model, int(number), movers, joint_ids):
            kind = mujoco.mjtEq(model.eq_type[number]).name.removeprefix("mjEQ_").lower()
            raise RobotError(
                f"equality '{model.equality(int(number)).name or number}' ({kind}) ties "
                "controlled joints to each other or to the base: closed loops are not "
                "supported (inside a gripper, behind the last controlled joint, they are)"
            )


def check_action_sets(
    action_sets: NDArray[np.bool_], joint_names: Sequence[str], effector_names: Sequence[str]
) -> None:
    """Refuse effectors without controlled joints, and controlled joints without effectors.

    action_sets: (E, nu).
    """
    for name, joints in zip(effector_names, action_sets, strict=True):
        if not joints.any():
            raise RobotError(
                f"effector '{name}' is moved by no controlled joint (controlled: "
                f"{', '.join(joint_names)})"
            )
    for name, effectors in zip(joint_names, action_sets.T, strict=True):
        if not effectors.any():
            raise RobotError(
                f"joint '{name}' moves no effector ({', '.join(effector_names)}): remove "
                "it from 'joints'"
            )


def check_effector_points(
    model: mujoco.MjModel, effector_names: Sequence[str], site_ids: NDArray[np.int64]
) -> None:
    """Refuse two effectors at the same point of a body."""
    names: dict[tuple[float, ...], str] = {}
    for name, site in zip(effector_names, site_ids, strict=True):
        point = (int(model.site_bodyid[site]), *model.site_pos[site].round(6).tolist())
        if point in names:
            raise RobotError(
                f"effectors '{names[point]}' and '{name}' are the same point: duplicate"
            )
        names[point] = name
