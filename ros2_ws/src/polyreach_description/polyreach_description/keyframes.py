"""Keyframes of an MJCF: the home of a robot, and what is left of them on a fixed base."""

from collections.abc import Iterator

import mujoco
import numpy as np

from polyreach_description.config_file import RobotError

_QPOS_SIZE = {mujoco.mjtJoint.mjJNT_FREE: 7, mujoco.mjtJoint.mjJNT_BALL: 4}  # others: 1
_DOF_SIZE = {mujoco.mjtJoint.mjJNT_FREE: 6, mujoco.mjtJoint.mjJNT_BALL: 3}


def fix_base(spec: mujoco.MjSpec) -> None:
    """Remove the free joints, so that their bodies are fixed to the world where the model has them.

    Keyframes lose the values of these joints; those that do not fit the model are removed.
    """
    joints = list(_joints(spec.worldbody))
    free = np.array([joint.type == mujoco.mjtJoint.mjJNT_FREE for joint in joints], dtype=bool)
    in_qpos = np.repeat(free, [_QPOS_SIZE.get(joint.type, 1) for joint in joints])
    in_qvel = np.repeat(free, [_DOF_SIZE.get(joint.type, 1) for joint in joints])
    for joint, is_free in zip(joints, free, strict=True):
        if is_free:
            joint.delete()
    for key in spec.keys:
        qpos, qvel = np.array(key.qpos), np.array(key.qvel)
        if qpos.size not in (0, in_qpos.size) or qvel.size not in (0, in_qvel.size):
            key.delete()
            continue
        key.qpos = qpos[~in_qpos] if qpos.size else qpos
        key.qvel = qvel[~in_qvel] if qvel.size else qvel


def keyframe_positions(model: mujoco.MjModel, name: str) -> dict[str, float]:
    """The positions [rad or m] of hinge and slide joints in a keyframe, by joint.

    Raises RobotError if the model has no such keyframe.
    """
    key = mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_KEY, name)
    if key < 0:
        names = [model.key(number).name for number in range(model.nkey)]
        legal = ", ".join(filter(None, names)) or "none with a name"
        raise RobotError(f"unknown keyframe '{name}' of 'home_keyframe' (the model has: {legal})")
    return {
        model.joint(joint).name: float(model.key_qpos[key, model.jnt_qposadr[joint]])
        for joint in range(model.njnt)
    }


def _joints(body: mujoco.MjsBody) -> Iterator[mujoco.MjsJoint]:
    """Joints of a body and those behind it, in the order in which MuJoCo numbers them."""
    yield from body.joints
    for child in body.bodies:
        yield from _joints(child)
