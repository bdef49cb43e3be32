"""Home of a robot: where the simulator starts, and where other joints are held."""

from collections.abc import Mapping
from dataclasses import dataclass

import mujoco
import numpy as np
from numpy.typing import NDArray

from polyreach_description import robot_checks as checks
from polyreach_description.config_file import Coupling, RobotError, RobotFile
from polyreach_description.keyframes import keyframe_positions
from polyreach_description.kinematic_tree import joints_above


@dataclass(frozen=True)
class HeldJoint:
    """A joint that no controlled joint moves, and the value at which it is held."""

    name: str
    qpos_adr: int
    value: float  # [rad or m]
    carries: bool  # whether it moves an effector relative to the base


def read_held_joints(
    model: mujoco.MjModel,
    moved_ids: NDArray[np.int64],
    base_body: int,
    site_ids: NDArray[np.int64],
    home: NDArray[np.float64],
) -> tuple[HeldJoint, ...]:
    """The joints that are not in moved_ids (n,), in the model's order.

    site_ids: (E,) of the effectors. home: (model.nq,) as read_home gave it.
    """
    base = set(joints_above(model, base_body))
    effectors = [set(joints_above(model, int(body))) for body in model.site_bodyid[site_ids]]
    return tuple(
        HeldJoint(
            name=model.joint(joint).name,
            qpos_adr=int(model.jnt_qposadr[joint]),
            value=float(home[model.jnt_qposadr[joint]]),
            # a joint above both moves them together
            carries=any((joint in above) != (joint in base) for above in effectors),
        )
        for joint in range(model.njnt)
        if joint not in moved_ids
    )


def read_home(
    file: RobotFile,
    model: mujoco.MjModel,
    limits: Mapping[int, NDArray[np.float64]],
    couplings: Mapping[str, Coupling],
) -> NDArray[np.float64]:
    """Home as a full configuration (model.nq,) [rad or m].

    A joint is at its value in `home`, else in the keyframe `home_keyframe`, else at the model's
    reference, or in the middle of its range if that is outside. A joint that follows another one
    (see couplings) is where that one puts it. limits: those of the controlled joints, (2,) by id.
    A keyframe's value outside the range (MuJoCo does not enforce it exactly) is moved to its end.

    Raises RobotError for a value outside a joint's limits, and for a value of a follower.
    """
    qpos = model.qpos0.copy()
    if file.home_keyframe is not None:
        positions = keyframe_positions(model, file.home_keyframe)
        for name, value in positions.items():
            qpos[model.joint(name).qposadr[0]] = value
    for joint in range(model.njnt):
        low, high = limits.get(joint, model.jnt_range[joint])
        address = model.jnt_qposadr[joint]
        if model.jnt_limited[joint] and not low <= qpos[address] <= high:
            at_end = np.clip(qpos[address], low, high)
            qpos[address] = (low + high) / 2 if file.home_keyframe is None else at_end
    for name, value in file.home.items():
        joint = checks.joint_id(model, name)
        low, high = limits.get(joint, model.jnt_range[joint])
        if model.jnt_limited[joint] and not low <= value <= high:
            raise RobotError(
                f"home of joint '{name}' is {value:g}, outside its range {low:g} to {high:g}"
            )
        if name in couplings:
            raise RobotError(
                f"home of joint '{name}' is given, but it follows joint '{couplings[name].leader}'"
            )
        qpos[model.jnt_qposadr[joint]] = value
    for name, coupling in couplings.items():
        leader = qpos[model.joint(coupling.leader).qposadr[0]]
        qpos[model.joint(name).qposadr[0]] = coupling.ratio * leader + coupling.offset
    return qpos
