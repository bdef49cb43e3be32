"""Episodes of many simulated robots at once: a controller, goals, and what the robots did."""

from collections.abc import Callable
from dataclasses import dataclass

import mujoco
import numpy as np
from numpy.typing import NDArray

from polyreach.deploy.controllers import Conditioner, Controller
from polyreach.deploy.goal_sets import Goals
from polyreach.deploy.simulation import Drives, SimulatedRobots
from polyreach_description import Robot
from polyreach_description.policy_tensors import PolicyInputs

Array = NDArray[np.float64]

SETTLED = 1e-3  # share of the velocity limits, of commands and of motion
SETTLED_S = 0.5  # for so long, and the goals stand still: the robot stays where it is


def rows_of(inputs: PolicyInputs[Array], rows: NDArray[np.int64]) -> PolicyInputs[Array]:
    """The inputs of these robots."""
    return inputs.map(lambda part: part[rows])


@dataclass(frozen=True)
class Episodes:
    """What N robots did in T control periods, the state at the start included.

    joint_pos: (T + 1, N, nu) [rad or m]. joint_vel: (T + 1, N, nu) [rad/s or m/s], measured. near:
    (N,) two bodies came closer than the stop distance, after a state without such a pair; bodies
    that start that close do not count until they part.
    """

    joint_pos: Array
    joint_vel: Array
    near: NDArray[np.bool_]


def play(
    controller: Controller,
    condition: Conditioner,
    robot: Robot,
    starts: Array,
    goals_at: Callable[[int], Goals],
    ticks: int,
    drives: Drives,
    seed: int,
    threads: int = 1,
    still: bool = False,
    model: mujoco.MjModel | None = None,
) -> Episodes:
    """Drive robots from rest at starts (N, nu) [rad or m] for `ticks` control periods.

    condition: between the controller's velocities and the command. goals_at: the goals in a
    period. still: the goals never change, so robots that have settled are not simulated further.
    model: see SimulatedRobots.
    """
    robots = SimulatedRobots(robot, starts, drives, seed, threads, model)
    controller.reset(len(starts))
    positions, velocities = np.zeros((2, ticks + 1, *starts.shape))
    positions[0] = starts
    near, was_apart = np.zeros(len(starts), dtype=bool), ~robots.near
    command = np.zeros(starts.shape)
    settled = np.zeros(len(starts), dtype=np.int64)  # periods
    patience = round(SETTLED_S * robot.control_rate) if still else ticks + 1
    for tick in range(ticks):
        goals = goals_at(tick)
        inputs = PolicyInputs(
            robots.joint_pos,
            goals.positions,
            goals.active,
            command,
            goals.orientations,
            goals.active * robot.oriented,
        )
        wanted = controller.command(inputs)
        rows = np.flatnonzero(settled < patience)
        command = np.zeros(starts.shape)
        if len(rows):
            command[rows] = condition(wanted[rows], rows_of(inputs, rows))
            robots.step(command, rows)
        positions[tick + 1], velocities[tick + 1] = robots.joint_pos, robots.joint_vel
        near |= robots.near & was_apart
        was_apart |= ~robots.near
        motion = np.maximum(np.abs(command), np.abs(robots.joint_vel)) / robot.joint_vel_limits
        rests = motion.max(axis=1) < SETTLED
        settled = np.where(rests | (settled >= patience), settled + 1, 0)
    robots.close()
    return Episodes(positions, velocities, near)
