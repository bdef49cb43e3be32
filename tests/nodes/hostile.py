"""Goals that send a robot's hands into its own bodies, over joints that follow late."""

from dataclasses import dataclass

import mujoco
import numpy as np
from numpy.typing import NDArray
from velocity_servos import VelocityServos

from polyreach_nodes.control.clearance import Clearance
from polyreach_nodes.control.reach_control import ReachControl

NEIGHBOURHOOD = 0.1  # [m] in which distances are measured
SCATTER = 0.03  # [m] of the goals
Vector = NDArray[np.float64]


@dataclass(frozen=True)
class Case:
    """start (nu,) [rad or m]; delay_s [s] until a command acts, lag_s [s] of the servos."""

    start: Vector
    delay_s: float
    lag_s: float


@dataclass(frozen=True)
class Outcome:
    """nearest: least distance of two bodies [m]. slowed: periods in which a joint was slowed."""

    nearest: float
    slowed: int


def draw(control: ReachControl, rng: np.random.Generator) -> Case:
    """A start not below the stop distance; delay and lag are within the reaction time together."""
    robot, proximity = control.robot, control.pipeline.proximity
    clearance = Clearance(robot, proximity.stop_distance)
    start = robot.sample_configuration(rng, 1)[0]
    while clearance.approaches(start, np.zeros_like(start)):
        start = robot.sample_configuration(rng, 1)[0]
    late_s = proximity.reaction_s * rng.uniform()
    lag_s = late_s * rng.uniform()
    return Case(start, late_s - lag_s, lag_s)


def goals(control: ReachControl, joint_pos: Vector, rng: np.random.Generator) -> Vector:
    """For every hand (E, 3) [m, base frame]: inside a body, where another hand is, or between."""
    robot, data = control.robot, mujoco.MjData(control.robot.model)
    data.qpos[:] = robot.qpos(joint_pos)
    mujoco.mj_kinematics(robot.model, data)
    hands = robot.effector_pos(data)
    solid = rng.choice(np.flatnonzero(robot.model.geom_contype), len(hands))
    rotation = data.xmat[robot.base_body].reshape(3, 3)
    inside = (data.geom_xpos[solid] - data.xpos[robot.base_body]) @ rotation
    between = np.tile(hands.mean(axis=0), (len(hands), 1))
    chosen = (inside, np.roll(hands, 1, axis=0), between)[rng.integers(3)]
    return chosen + rng.normal(0.0, SCATTER, hands.shape)


def run(control: ReachControl, case: Case, rng: np.random.Generator, seconds: float) -> Outcome:
    """Goals change every 0.1 to 1.6 s, wherever the hands are then."""
    robot, clearance = control.robot, Clearance(control.robot, NEIGHBOURHOOD)
    servos, names = VelocityServos(case.start, case.delay_s, case.lag_s), list(robot.joint_names)
    nearest, slowed, left = np.inf, 0, 0
    control.activate()
    for period in range(round(seconds * robot.control_rate)):
        now_s = period * control.period_s
        servos.advance(now_s)
        joint_pos = servos.position.copy()
        for _, distance, _ in clearance.approaches(joint_pos, np.zeros_like(joint_pos)):
            nearest = min(nearest, distance)
        left -= 1
        if left < 0:
            left = int(rng.integers(5, 80))
            for name, goal in zip(
                robot.effector_names, goals(control, joint_pos, rng), strict=True
            ):
                assert control.goals.set(name, "", tuple(goal.tolist()), now_s) == ""
        control.receive(names, joint_pos.tolist(), now_s)
        command = control.tick(now_s)
        assert not control.watchdog.fault, control.watchdog.fault
        assert (np.abs(command) <= robot.joint_vel_limits + 1e-9).all()
        servos.command(command, now_s)
        slowed += control.pipeline.slowed < 1.0
    return Outcome(float(nearest), slowed)
