"""Home of a robot: where the simulator starts, and where other joints are held."""

from collections.abc import Mapping

import mujoco
import numpy as np
from numpy.typing import NDArray

from polyreach_description import robot_checks as checks
from polyreach_description.config_file import Coupling, RobotError, RobotFile
from polyreach_description.keyframes import keyframe_positions


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
