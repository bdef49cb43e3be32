"""The facts that `polyreach robot check` and `polyreach robot show` report."""

from collections import Counter
from typing import Any

import mujoco
import numpy as np
import torch

from polyreach.robot.kinematics import ForwardKinematics
from polyreach.robot.self_distance import SelfDistance
from polyreach_description import Robot, RobotError
from polyreach_description.robot import SPEED_UP_S

CHECKED = 200  # random configurations
TOLERANCE = 1e-6  # [m], between the kinematics of ForwardKinematics and of MuJoCo
SERVO_SECONDS = 1.0
OFTEN = 0.3  # share of the configurations in which two links are that close


def describe_robot(robot: Robot) -> dict[str, Any]:
    """Names, tree and limits, as plain JSON values."""
    sets = {
        name: [joint for joint, member in zip(robot.joint_names, row, strict=True) if member]
        for name, row in zip(robot.effector_names, robot.action_sets, strict=True)
    }
    return {
        "robot": robot.name,
        "file": str(robot.file.path),
        "model": str(robot.file.model),
        "base frame": robot.base_frame,
        "control rate [Hz]": robot.control_rate,
        "effectors": list(robot.effector_names),
        **{f"joints of {name}": joints for name, joints in sets.items()},
        "shared joints": list(robot.shared_joints),
        "held joints": [joint.name for joint in robot.held_joints],
        "robot_sha256": robot.sha256,
        "joints": [
            dict(zip(*_joint(robot, index), strict=True)) for index in range(len(robot.joint_names))
        ],
    }


def _joint(robot: Robot, index: int) -> tuple[list[str], list[Any]]:
    low, high = robot.joint_pos_limits[index]
    unit = "m" if robot.tree.is_slide[index] else "rad"
    tasks = [
        name
        for name, row in zip(robot.effector_names, robot.action_sets, strict=True)
        if row[index]
    ]
    keys = ["name", "unit", "low", "high", "home", "velocity", "acceleration", "effectors"]
    numbers = (
        low,
        high,
        robot.home[index],
        robot.joint_vel_limits[index],
        robot.joint_acc_limits[index],
    )
    return keys, [
        robot.joint_names[index],
        unit,
        *(round(float(value), 6) for value in numbers),
        tasks,
    ]


def joint_rows(robot: Robot) -> tuple[list[str], list[list[str]]]:
    """Header and rows of a table of the controlled joints."""
    header: list[str] = []
    rows = []
    for index in range(len(robot.joint_names)):
        header, values = _joint(robot, index)
        rows.append([_cell(value) for value in values])
    return header, rows


def _cell(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(value)
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def check_robot(robot: Robot) -> dict[str, Any]:
    """Compare the kinematics with MuJoCo's, measure self-collision, and drive the simulated robot
    for a second.

    Raises RobotError if the two kinematics differ or the simulation does not stay finite.
    """
    rng = np.random.default_rng(0)
    low, high = robot.joint_pos_limits.T
    uniform = rng.uniform(low, high, (CHECKED, len(low)))
    ours = ForwardKinematics(robot.tree, torch.float64)(torch.tensor(uniform)).effector.numpy()
    theirs = np.stack([robot.forward_kinematics(joint_pos) for joint_pos in uniform])
    difference = float(np.abs(ours - theirs).max())
    if difference > TOLERANCE:
        raise RobotError(
            f"robot '{robot.name}': its forward kinematics differ from MuJoCo's by "
            f"{difference:.2g} m"
        )
    collisions = float(np.mean([robot.in_self_collision(joint_pos) for joint_pos in uniform]))
    free = robot.sample_configuration(rng, CHECKED)
    spread = (
        np.stack([robot.forward_kinematics(joint_pos) for joint_pos in free])
        .std(axis=0)
        .max(axis=-1)
    )
    for name, extent in zip(robot.effector_names, spread, strict=True):
        if extent < TOLERANCE:
            raise RobotError(
                f"robot '{robot.name}': effector '{name}' stays where it is, on the axis of its "
                "joints"
            )
    drift = _simulate(robot)
    return {
        "forward kinematics against MuJoCo [m]": float(f"{difference:.2g}"),
        "random configurations in self-collision": f"{collisions:.1%}",
        "self-collision at home": "yes" if robot.in_self_collision(robot.home) else "no",
        f"links nearer than {1e3 * robot.slow_distance:g} mm at home or often": ", ".join(
            f"[{first}, {second}]" for first, second in near_links(robot)
        )
        or "none",
        f"joints that policies move slower, to speed up in {SPEED_UP_S:g} s": ", ".join(
            slow_joints(robot)
        )
        or "none",
        "drift in a second of zero velocity [rad or m]": float(f"{drift:.2g}"),
    }


def slow_joints(robot: Robot) -> list[str]:
    """Joints whose policies use less than their velocity limit, and how much: see Robot."""
    return [
        f"{name} ({speed:.3g} of {limit:.3g})"
        for name, speed, limit in zip(
            robot.joint_names, robot.action_speeds, robot.joint_vel_limits, strict=True
        )
        if speed < limit * (1.0 - 1e-9)
    ]


def near_links(robot: Robot) -> list[tuple[str, str]]:
    """Pairs of links closer than the slow distance at home, or in more than OFTEN of random ones.

    The controller would slow down for them all the time.
    """
    self_distance = SelfDistance(robot, robot.slow_distance)
    low, high = robot.joint_pos_limits.T
    sample = np.random.default_rng(0).uniform(low, high, (CHECKED, len(low)))
    counts = Counter(pair for joint_pos in sample for pair in self_distance.close_pairs(joint_pos))
    often = {pair for pair, count in counts.items() if count > OFTEN * CHECKED}
    pairs = sorted(often | self_distance.close_pairs(robot.home))
    body = self_distance.model.body
    return [(body(first).name, body(second).name) for first, second in pairs]


def _simulate(robot: Robot) -> float:
    model = robot.simulation_model()
    data = mujoco.MjData(model)
    data.qpos[:] = robot.qpos(robot.home)
    data.ctrl[:] = robot.simulation_ctrl(np.zeros(len(robot.joint_names)))
    while data.time < SERVO_SECONDS:
        mujoco.mj_step(model, data)
    drift = float(np.abs(data.qpos[robot.qpos_adr] - robot.home).max())
    if not np.isfinite(drift) or drift > 0.1:
        raise RobotError(
            f"robot '{robot.name}' does not stand still in simulation: with zero velocity a joint "
            f"moves by {drift:.2g} "
            "within a second; check inertias, effort limits and self-collisions at home"
        )
    return drift
