"""How the simulated drives of a robot behave: at rest, and at a commanded speed."""

from collections import Counter

import mujoco
import numpy as np
from numpy.typing import NDArray

from polyreach_description import Robot, RobotError
from polyreach_description.kinematic_tree import joints_above
from polyreach_description.self_collision import LinkPair, links_in_contact, pair_text

REST_S = 1.0
MAX_DRIFT = 0.1  # [rad or m], in REST_S
SETTLE_S = 0.15  # [s], for which a speed is held before it is measured
_UNSTABLE = (
    mujoco.mjtWarning.mjWARN_BADQPOS,
    mujoco.mjtWarning.mjWARN_BADQVEL,
    mujoco.mjtWarning.mjWARN_BADQACC,
)


def drift_at_rest(robot: Robot) -> float:
    """How far a controlled joint moves in REST_S seconds at home with zero velocity [rad or m].

    Raises RobotError, naming the joint and the links that touch, if that is more than MAX_DRIFT.
    """
    model = robot.simulation_model()
    data = mujoco.MjData(model)
    data.qpos[:] = robot.qpos(robot.home)
    data.ctrl[:] = robot.simulation_ctrl(np.zeros(len(robot.joint_names)))
    touching: Counter[LinkPair] = Counter()
    while data.time < REST_S:
        mujoco.mj_step(model, data)
        touching.update(links_in_contact(model, data))
        for warning in _UNSTABLE:
            if data.warning[warning].number:
                raise RobotError(
                    f"robot '{robot.name}' becomes unstable in simulation, at rest at home: check "
                    f"the inertias and the time step of its model{_while_touching(touching)}"
                )
    moved = np.abs(data.qpos[robot.qpos_adr] - robot.home)
    worst = int(moved.argmax())
    if moved[worst] > MAX_DRIFT:
        pushed = _parted_by(model, int(robot.joint_ids[worst]), touching)
        raise RobotError(
            f"robot '{robot.name}' does not stand still in simulation: with zero velocity joint "
            f"'{robot.joint_names[worst]}' moves by {moved[worst]:.2g} "
            f"{'m' if robot.is_slide[worst] else 'rad'} within a second"
            f"{_while_touching(pushed) or ', and nothing touches: check inertias and effort'}"
        )
    return float(moved[worst])


def _while_touching(pairs: Counter[LinkPair]) -> str:
    """A clause that names the pairs in contact for the longest time."""
    names = [pair for pair, _ in pairs.most_common(3)]
    return (
        f"; {pair_text(names)} touch: choose another home, or write the pairs that may touch "
        "under 'no_collision'"
        if names
        else ""
    )


def _parted_by(model: mujoco.MjModel, joint: int, pairs: Counter[LinkPair]) -> Counter[LinkPair]:
    """The pairs of links that a joint moves relative to each other."""
    ids = {model.body(body).name: body for body in range(model.nbody)}
    return Counter(
        {
            pair: count
            for pair, count in pairs.items()
            if sum(joint in joints_above(model, ids[name]) for name in pair) == 1
        }
    )


def speeds_reached(robot: Robot) -> NDArray[np.float64]:
    """Speed over commanded speed of every controlled joint in simulation, (nu,).

    One joint moves at a time, from near the lower end of its range, up to its velocity limit at its
    acceleration limit, or to the speed for which its range is enough. Links pass through each
    other.
    """
    model = robot.simulation_model()
    model.opt.disableflags |= mujoco.mjtDisableBit.mjDSBL_CONTACT
    data = mujoco.MjData(model)
    reached = np.empty(len(robot.joint_names))
    for index, (low, high) in enumerate(robot.joint_pos_limits):
        acceleration = robot.joint_acc_limits[index]
        # v^2 / 2a + v SETTLE_S = room
        room, way = 0.9 * (high - low), acceleration * SETTLE_S
        fitting = np.sqrt(way**2 + 2 * acceleration * room) - way
        speed = min(robot.joint_vel_limits[index], fitting)
        mujoco.mj_resetData(model, data)
        start = robot.home.copy()
        start[index] = low + 0.05 * (high - low)
        data.qpos[:] = robot.qpos(start)
        command = np.zeros(len(start))
        while data.time < speed / acceleration + SETTLE_S:
            command[index] = min(speed, acceleration * data.time)
            data.ctrl[:] = robot.simulation_ctrl(command)
            mujoco.mj_step(model, data)
        reached[index] = data.qvel[robot.dof_adr[index]] / speed
    return reached
