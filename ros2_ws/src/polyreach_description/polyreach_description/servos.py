"""Servos of a simulated robot: of controlled joints by velocity, of the others by position."""

import mujoco
import numpy as np
from numpy.typing import NDArray

TIME_CONSTANT = 0.02  # [s], of the velocity servos
HOLD_STIFFNESS = 30.0  # [1/s], bandwidth of the position servos


def remove_actuators(spec: mujoco.MjSpec) -> None:
    """Remove the model's own actuators, and keyframes and sensors, which may refer to them."""
    for element in (*spec.keys, *spec.sensors, *spec.actuators):
        element.delete()


def add_velocity_servo(
    spec: mujoco.MjSpec, joint: str, inertia: float, effort: float | None
) -> None:
    """Drive a joint by velocity: ctrl [rad/s or m/s].

    inertia [kg m^2 or kg]: the largest of the joint. The gain is inertia over TIME_CONSTANT. effort
    [N m or N]: limit, or None.
    """
    damping = inertia / TIME_CONSTANT
    actuator = _add_servo(spec, f"{joint}_velocity", joint, damping, (0.0, 0.0, -damping))
    if effort is not None:
        actuator.forcelimited, actuator.forcerange = True, [-effort, effort]


def add_position_servo(spec: mujoco.MjSpec, joint: str, inertia: float) -> None:
    """Hold a joint at ctrl [rad or m], critically damped. inertia: as for add_velocity_servo."""
    stiffness, damping = inertia * HOLD_STIFFNESS**2, 2 * inertia * HOLD_STIFFNESS
    _add_servo(spec, f"{joint}_hold", joint, stiffness, (0.0, -stiffness, -damping))


def largest_inertias(model: mujoco.MjModel, qpos: NDArray[np.float64]) -> NDArray[np.float64]:
    """Largest inertia of every degree of freedom, (model.nv,) [kg m^2 or kg], over the
    configurations qpos (N, model.nq).
    """
    data = mujoco.MjData(model)
    matrix = np.zeros((model.nv, model.nv))
    largest = np.zeros(model.nv)
    for configuration in qpos:
        data.qpos[:] = configuration
        mujoco.mj_forward(model, data)
        mujoco.mj_fullM(model, matrix, data.qM)
        largest = np.maximum(largest, matrix.diagonal())
    return largest


def _add_servo(
    spec: mujoco.MjSpec, name: str, joint: str, gain: float, bias: tuple[float, float, float]
) -> mujoco.MjsActuator:
    """Add an actuator of force gain * ctrl + bias . (1, qpos, qvel) on a joint."""
    actuator = spec.add_actuator(name=name, target=joint)
    actuator.trntype = mujoco.mjtTrn.mjTRN_JOINT
    actuator.gaintype, actuator.gainprm[0] = mujoco.mjtGain.mjGAIN_FIXED, gain
    actuator.biastype, actuator.biasprm[:3] = mujoco.mjtBias.mjBIAS_AFFINE, bias
    return actuator
