"""The simulated drives of a robot: of controlled joints by velocity, of the others by position."""

from copy import copy
from dataclasses import dataclass

import mujoco
import numpy as np
from numpy.typing import NDArray

from polyreach_description.config_file import RobotError
from polyreach_description.plain_elements import PLAIN

TIME_CONSTANT = 0.02  # [s], of the velocity servos
HOLD_STIFFNESS = 30.0  # [1/s], bandwidth of the position servos


@dataclass(frozen=True)
class JointLoad:
    """What a joint's drive works against; of a slide N for N m and m for rad."""

    inertia: float  # [kg m^2], the largest
    damping: float  # [N m s/rad]
    friction: float  # [N m], Coulomb
    stiffness: float  # [N m/rad], of springs
    preload: float  # [N m], of springs at position 0


def drive_load(
    model: mujoco.MjModel,
    joints: NDArray[np.int64],
    ratios: NDArray[np.float64],
    offsets: NDArray[np.float64],
    inertia: float,
) -> JointLoad:
    """The load of a drive that moves joints (k,), at the positions ratios * its own + offsets.

    inertia [kg m^2 or kg]: the largest of all of them, as the drive feels it.
    """
    dofs, addresses = model.jnt_dofadr[joints], model.jnt_qposadr[joints]
    stiffness = model.jnt_stiffness[joints]
    return JointLoad(
        inertia,
        float(ratios**2 @ model.dof_damping[dofs]),
        float(np.abs(ratios) @ model.dof_frictionloss[dofs]),
        float(ratios**2 @ stiffness),
        float(ratios * stiffness @ (offsets - model.qpos_spring[addresses])),
    )


def remove_actuators(spec: mujoco.MjSpec) -> None:
    """Remove the model's own actuators, and keyframes and sensors, which may refer to them."""
    for element in (*spec.keys, *spec.sensors, *spec.actuators):
        element.delete()


def add_velocity_servo(
    spec: mujoco.MjSpec, joint: str, load: JointLoad, effort: float | None
) -> None:
    """Drive a joint by velocity: ctrl [rad/s or m/s].

    The force is

        inertia / TIME_CONSTANT (ctrl - velocity) + damping ctrl + stiffness position + preload

    so that the joint reaches ctrl against its damping and its spring, as under a drive's inner
    loop. That loop also overcomes friction: the joint has none in simulation, and the force that
    the drive spends on it is missing from its limit. effort [N m or N]: that limit, or None. The
    model's own limit of the force on the joint (actuatorfrcrange) applies, too.

    Raises RobotError if a limit is not above the friction.
    """
    gain = load.inertia / TIME_CONSTANT
    bias = (load.preload, load.stiffness, -gain)
    actuator = _add_servo(spec, f"{joint}_velocity", joint, gain + load.damping, bias)
    element = next(element for element in spec.joints if element.name == joint)
    element.frictionloss = 0.0
    if effort is not None:
        rest = _beyond_friction(joint, effort, load)
        actuator.forcelimited, actuator.forcerange = True, [-rest, rest]
    low, high = element.actfrcrange
    if low < high:
        element.actfrcrange = [
            -_beyond_friction(joint, -low, load),
            _beyond_friction(joint, high, load),
        ]


def _beyond_friction(joint: str, effort: float, load: JointLoad) -> float:
    if effort <= load.friction:
        raise RobotError(
            f"joint '{joint}' cannot move: its force is limited to {effort:g}, its friction is "
            f"{load.friction:g} [N m or N]"
        )
    return effort - load.friction


def add_position_servo(spec: mujoco.MjSpec, joint: str, inertia: float) -> None:
    """Hold a joint at ctrl [rad or m], critically damped. inertia: the largest [kg m^2 or kg]."""
    stiffness, damping = inertia * HOLD_STIFFNESS**2, 2 * inertia * HOLD_STIFFNESS
    _add_servo(spec, f"{joint}_hold", joint, stiffness, (0.0, -stiffness, -damping))


def largest_inertias(
    model: mujoco.MjModel, qpos: NDArray[np.float64], motions: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Largest inertia of every motion, (K,) [kg m^2 or kg], over the configurations qpos (N,
    model.nq). motions: (model.nv, K), the velocities of the degrees of freedom at unit speed.
    """
    model = copy(model)
    model.opt.disableflags |= mujoco.mjtDisableBit.mjDSBL_CONTACT  # meshes would take long
    data = mujoco.MjData(model)
    matrix = np.zeros((model.nv, model.nv))
    largest = np.zeros(motions.shape[1])
    for configuration in qpos:
        data.qpos[:] = configuration
        mujoco.mj_forward(model, data)
        mujoco.mj_fullM(model, matrix, data.qM)
        largest = np.maximum(largest, (motions * (matrix @ motions)).sum(axis=0))
    return largest


def _add_servo(
    spec: mujoco.MjSpec, name: str, joint: str, gain: float, bias: tuple[float, float, float]
) -> mujoco.MjsActuator:
    """Add an actuator of force gain * ctrl + bias . (1, qpos, qvel) on a joint."""
    actuator = spec.add_actuator(PLAIN.default, name=name, target=joint)
    actuator.trntype = mujoco.mjtTrn.mjTRN_JOINT
    actuator.gaintype, actuator.gainprm[0] = mujoco.mjtGain.mjGAIN_FIXED, gain
    actuator.biastype, actuator.biasprm[:3] = mujoco.mjtBias.mjBIAS_AFFINE, bias
    return actuator
