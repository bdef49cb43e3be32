"""Goals that drive a robot's hands into its own bodies, with joints that respond with a delay."""

from dataclasses import dataclass

import mujoco
import numpy as np
from numpy.typing import NDArray
from velocity_servos import VelocityServos

from polyreach_nodes.control.clearance import Clearance
from polyreach_nodes.control.reach_control import ReachControl

UNAWARE = "digrad"  # method whose shipped policies do not know the robot's bodies
NEIGHBOURHOOD = 0.1  # [m] distance up to which bodies are checked
SCATTER = 0.03  # [m] standard deviation of the goals
Vector = NDArray[np.float64]


@dataclass(frozen=True)
class Case:
    """start: (nu,) [rad or m]. delay_s: of commands [s]. lag_s: of the servos [s]."""

    start: Vector
    delay_s: float
    lag_s: float


@dataclass(frozen=True)
class Outcome:
    """room: least distance of two bodies, less their stop distance [m]. nearest: of those bodies
    whose pair is `watched` [m]. slowed: number of periods with a slowed joint.
    """

    room: float
    nearest: float
    slowed: int


def draw(control: ReachControl, rng: np.random.Generator) -> Case:
    """Draw a start above the stop distance, and a delay and lag that fit in the reaction time."""
    robot, proximity = control.robot, control.pipeline.proximity
    clearance = Clearance(robot, proximity.stop_distances)
    start = robot.sample_configuration(rng, 1)[0]
    while clearance.approaches(start, np.zeros_like(start)):
        start = robot.sample_configuration(rng, 1)[0]
    response_s = proximity.reaction_s * rng.uniform()
    lag_s = response_s * rng.uniform()
    return Case(start, response_s - lag_s, lag_s)


def goals(control: ReachControl, joint_pos: Vector, rng: np.random.Generator) -> Vector:
    """Goals (E, 3) [m, base frame]: inside bodies, at other hands, or between the hands."""
    robot, data = control.robot, mujoco.MjData(control.robot.model)
    data.qpos[:] = robot.qpos(joint_pos)
    mujoco.mj_kinematics(robot.model, data)
    hands = robot.effector_pos(data)
    geoms = rng.choice(np.flatnonzero(robot.model.geom_contype), len(hands))
    rotation = data.xmat[robot.base_body].reshape(3, 3)
    inside = (data.geom_xpos[geoms] - data.xpos[robot.base_body]) @ rotation
    between = np.tile(hands.mean(axis=0), (len(hands), 1))
    targets = (inside, np.roll(hands, 1, axis=0), between)[rng.integers(3)]
    return targets + rng.normal(0.0, SCATTER, hands.shape)


def run(
    control: ReachControl,
    case: Case,
    rng: np.random.Generator,
    seconds: float,
    watched: frozenset[int] = frozenset(),
) -> Outcome:
    """Run the controller for some time; goals change every 0.1 to 1.6 s at any position.

    watched: ids of two bodies. Where positions are commanded, the joints follow them with the same
    delay and lag.
    """
    robot, clearance = control.robot, Clearance(control.robot, NEIGHBOURHOOD)
    servos, names = VelocityServos(case.start, case.delay_s, case.lag_s), list(robot.joint_names)
    stops = dict(zip(clearance.pairs, control.pipeline.proximity.stop_distances, strict=True))
    room, nearest, slowed, periods_left = np.inf, np.inf, 0, 0
    control.activate()
    for period in range(round(seconds * robot.control_rate)):
        now_s = period * control.period_s
        servos.advance(now_s)
        joint_pos = servos.position.copy()
        for pair, distance, _ in clearance.approaches(joint_pos, np.zeros_like(joint_pos)):
            room = min(room, distance - stops[pair])
            if set(robot.model.geom_bodyid[list(pair)]) == watched:
                nearest = min(nearest, distance)
        periods_left -= 1
        if periods_left < 0:
            periods_left = int(rng.integers(5, 80))
            for name, goal in zip(
                robot.effector_names, goals(control, joint_pos, rng), strict=True
            ):
                assert control.goals.set(name, "", tuple(goal.tolist()), now_s) == ""
        control.receive(names, joint_pos.tolist(), now_s)
        command = control.tick(now_s)
        assert not control.watchdog.fault, control.watchdog.fault
        assert (np.abs(command) <= robot.joint_vel_limits + 1e-9).all()
        if control.positions is not None:
            command, commanded = control.positions.velocity, control.positions.position
            assert commanded is not None
            lead = control.positions.lead + 1e-9
            assert (np.abs(commanded - joint_pos) <= lead).all()
        servos.command(command, now_s)
        slowed += control.pipeline.slowed < 1.0
    return Outcome(float(room), float(nearest), slowed)
