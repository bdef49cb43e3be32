"""Episodes among obstacles, with exact distances in every control period."""

from collections.abc import Sequence
from dataclasses import dataclass

import mujoco
import numpy as np
from numpy.typing import NDArray

from benchmarks.obstacle_controllers import SceneController
from benchmarks.obstacle_scenes import Scene, SceneDistance, rounded_boxes
from polyreach.deploy.episodes import SETTLED
from polyreach.deploy.figures import TIMED
from polyreach.deploy.goal_sets import RADII, GoalErrors, Goals, reached
from polyreach.deploy.simulation import Drives, SimulatedRobots
from polyreach_description import Robot
from polyreach_description.policy_tensors import PolicyInputs

SETTLED_S = 1.0  # [s] of rest, and of commands to rest, after which an episode ends early
STUCK_S, STUCK = 2.0, 2e-3  # [s] without motion whatever the commands, share of the joints' ranges
SEEN = 10.0  # stop distances below which the clearance is measured

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Outcome:
    """What a robot did in a scene.

    inside: (len(RADII),) all effectors were at their goals at the end, and no body touched an
    obstacle. near: two bodies, or a body
    and an obstacle, came nearer than the stop distance. clearance: least distance [m] from an
    obstacle, SEEN stop distances at most. time_s: [s] until all effectors were within the second
    radius for good; infinite if not at the end.
    """

    inside: NDArray[np.bool_]
    near: bool
    clearance: float
    time_s: float

    @property
    def clear(self) -> NDArray[np.bool_]:
        """`inside`, and never near, (len(RADII),)."""
        return self.inside & (not self.near)

    @property
    def touched(self) -> bool:
        """Whether a body touched an obstacle."""
        return self.clearance <= 0.0


def play(
    robot: Robot,
    model: mujoco.MjModel,
    scene: Scene,
    controller: SceneController,
    seconds: float,
) -> Outcome:
    """Drive the simulated robot for `seconds`, until it has settled, or until it touches an
    obstacle.

    model: robot.simulation_model().
    """
    near_m, seen_m = robot.stop_distance, SEEN * robot.stop_distance
    seen = SceneDistance(robot, seen_m, scene.obstacles)
    robots = SimulatedRobots(
        robot,
        scene.start[None],
        Drives(),
        seed=0,
        model=model,
        distance=SceneDistance(robot, near_m, scene.obstacles),
    )
    goals, command, row = scene.goals, np.zeros((1, len(scene.start))), np.zeros(1, dtype=np.int64)
    obstacles = rounded_boxes(scene.obstacles)[None]
    waits_s = min(seconds, controller.begin(scene))
    waits = int(np.ceil(waits_s * robot.control_rate))
    patience = round(SETTLED_S * robot.control_rate)
    states, near, clearance, rests = [scene.start], False, seen.clearance(scene.start), 0
    for _ in range(waits, round(seconds * robot.control_rate)):
        inputs = PolicyInputs(
            joint_pos=robots.joint_pos.copy(),
            goals=goals.positions,
            active=goals.active,
            previous_joint_vel=command,
            goal_orientations=goals.orientations,
            oriented=goals.active * robot.oriented,
            obstacles=obstacles,
        )
        command = controller.command(inputs)
        robots.step(command, row)
        states.append(robots.joint_pos[0].copy())
        near |= bool(robots.near[0])
        clearance = min(clearance, seen.clearance(states[-1]))
        motion = np.maximum(np.abs(command), np.abs(robots.joint_vel)) / robot.joint_vel_limits
        rests = rests + 1 if motion.max() < SETTLED else 0
        if clearance <= 0.0 or rests == patience or _is_stuck(robot, states):
            break
    robots.close()
    inside = _inside(robot, np.array(states), goals) & (clearance > 0.0)
    outside = np.flatnonzero(~inside[TIMED])
    last = int(outside.max(initial=-1))
    arrived = bool(inside[TIMED, -1])
    time_s = waits_s + (last + 1) / robot.control_rate if arrived else np.inf
    return Outcome(inside[:, -1], near, clearance, time_s)


def _is_stuck(robot: Robot, states: Sequence[Array]) -> bool:
    """Whether no joint has moved for STUCK_S."""
    count = round(STUCK_S * robot.control_rate)
    if len(states) <= count:
        return False
    ranges = np.ptp(robot.joint_pos_limits, axis=1)
    # two of the states rule out most robots that move
    moved = [np.abs(states[-1] - states[-1 - back]) / ranges for back in (count, count // 2)]
    if max(part.max() for part in moved) > STUCK:
        return False
    return bool((np.ptp(states[-count - 1 :], axis=0) / ranges).max() <= STUCK)


def _inside(robot: Robot, states: Array, goals: Goals) -> NDArray[np.bool_]:
    """Whether all effectors are at their goals in states (T, nu), (len(RADII), T)."""
    rows = goals.rows(np.zeros(len(states), dtype=np.int64))
    inside = reached(GoalErrors(robot)(states, rows), robot).all(axis=2)
    assert inside.shape == (len(RADII), len(states))
    return inside


def play_all(
    robot: Robot, scenes: Sequence[Scene], controller: SceneController, seconds: float
) -> list[Outcome]:
    """One episode in each scene."""
    model = robot.simulation_model()
    return [play(robot, model, scene, controller, seconds) for scene in scenes]
