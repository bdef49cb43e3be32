"""Starts and goals of an evaluation: goals that stand still, jump or move."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from polyreach.errors import UserError
from polyreach.robot.kinematics import ForwardKinematics
from polyreach.robot.self_distance import SelfDistance
from polyreach_description import Robot
from polyreach_description.distances import FULL_REACH
from polyreach_description.orientation import orientation_errors

Array = NDArray[np.float64]

RADII = (0.01, 0.02, 0.05)  # [m] of a robot of FULL_REACH or more, in proportion below
ANGLES = tuple(np.radians((3.0, 6.0, 15.0)))  # [rad] beside them, where goals have orientations
WAYPOINT_S = 0.5  # of full joint speed between two waypoints of a moving goal
MOVING_SHARE = 0.5  # of the velocity limits, at most, on such a path
TRIES = 200  # at a waypoint


def radii(robot: Robot) -> tuple[float, ...]:
    """Errors [m] below which a goal counts as reached, from strict to coarse, to two digits."""
    share = min(1.0, robot.reach / FULL_REACH)
    return tuple(float(f"{share * radius:.2g}") for radius in RADII)


@dataclass(frozen=True)
class Goals:
    """Goals of N robots: positions (N, E, 3) [m], orientations (N, E, 4) [x y z w], base frame;
    active (N, E) in {0, 1}.
    """

    positions: Array
    orientations: Array
    active: Array

    def rows(self, rows: slice | NDArray[np.int64] | NDArray[np.bool_]) -> "Goals":
        """The goals of these robots."""
        return Goals(self.positions[rows], self.orientations[rows], self.active[rows])


class GoalErrors:
    """Distances and angles between the effectors and their goals."""

    def __init__(self, robot: Robot) -> None:
        self._robot = robot
        self._kinematics = ForwardKinematics(robot.tree, torch.float64)

    def goals(self, joint_pos: Array) -> Goals:
        """The poses of the effectors at joint_pos (N, nu) [rad or m] as goals of all of them."""
        positions, orientations = self._poses(joint_pos)
        return Goals(positions, orientations, np.ones(positions.shape[:2]))

    def __call__(self, joint_pos: Array, goals: Goals) -> tuple[Array, Array]:
        """Errors (N, E) [m] and (N, E) [rad], zero for effectors without a goal; the second also
        for those whose goal is a position.
        """
        positions, orientations = self._poses(joint_pos)
        distance = np.linalg.norm(positions - goals.positions, axis=-1)
        kinds, axes = self._robot.effector_goals, self._robot.effector_axes
        angle = orientation_errors(kinds, axes, orientations, goals.orientations)
        return distance * goals.active, angle * goals.active

    @torch.no_grad()
    def _poses(self, joint_pos: Array) -> tuple[Array, Array]:
        positions = self._kinematics(torch.from_numpy(joint_pos)).effector.numpy()
        if self._robot.oriented.any():
            poses = [self._robot.effector_poses(row)[1] for row in joint_pos]
            return positions, np.stack(poses)
        return positions, np.broadcast_to((0.0, 0.0, 0.0, 1.0), (*positions.shape[:2], 4))


def reached(errors: tuple[Array, Array], robot: Robot) -> NDArray[np.bool_]:
    """Whether each effector is within each of radii() and, where its goal has an orientation,
    within the angle beside it; (len(RADII), ...) for errors (...) [m] and (...) [rad].
    """
    limits = zip(radii(robot), ANGLES, strict=True)
    return np.stack([(errors[0] < radius) & (errors[1] < angle) for radius, angle in limits])


def draw_configurations(robot: Robot, count: int, seed: int) -> tuple[Array, Array]:
    """Starts and configurations at the goals, each (count, nu) [rad or m], none in self-collision.

    The first ones do not depend on the count.
    """
    start, goal = (np.random.default_rng((seed, number)) for number in range(2))
    return robot.sample_configuration(start, count), robot.sample_configuration(goal, count)


def moving_configurations(
    robot: Robot, starts: Array, speed: float, seconds: float, seed: int
) -> Array:
    """Smooth random paths of N robots from starts (N, nu) [rad or m]: (ticks, N, nu), on which the
    fastest effector moves at `speed` [m/s], and no joint faster than half its limit.

    A path is a Catmull-Rom spline through waypoints that every joint reaches in WAYPOINT_S at most.
    Bodies keep their stop distance on it, unless they are closer at the start.
    """
    ticks = round(seconds * robot.control_rate)
    rng, distance = np.random.default_rng(seed), SelfDistance(robot, robot.stop_distance)
    errors = GoalErrors(robot)
    paths = [_path(robot, start, speed, ticks, rng, distance, errors) for start in starts]
    return np.stack(paths, axis=1)


def _path(
    robot: Robot,
    start: Array,
    speed: float,
    ticks: int,
    rng: np.random.Generator,
    distance: SelfDistance,
    errors: GoalErrors,
) -> Array:
    points = [start, start, _waypoint(robot, start, rng)]
    path, clock = start[None], np.zeros(1)  # points on the path, and the times [s] of them
    u, tries = np.linspace(0.0, 1.0, 65)[1:, None], 0
    while clock[-1] < ticks / robot.control_rate:
        following = _waypoint(robot, points[-1], rng)
        piece = _catmull_rom(points[-3], points[-2], points[-1], following, u)
        piece = np.clip(piece, *robot.joint_pos_limits.T)
        tries += 1
        if tries > TRIES * len(points):
            raise UserError(f"robot '{robot.name}' has no room for goals that move")
        if any(distance.least_share(point) < 1.0 for point in piece[7::8]):
            points[-1] = _waypoint(robot, points[-2], rng)
            continue
        steps = np.vstack([path[-1:], piece])
        position = errors.goals(steps).positions
        times = np.linalg.norm(np.diff(position, axis=0), axis=-1).max(axis=1) / speed
        joints = np.abs(np.diff(steps, axis=0)) / (MOVING_SHARE * robot.joint_vel_limits)
        times = np.maximum(times, joints.max(axis=1))
        path, clock = np.vstack([path, piece]), np.append(clock, clock[-1] + times.cumsum())
        points.append(following)
    periods = np.arange(ticks) / robot.control_rate
    return np.stack([np.interp(periods, clock, column) for column in path.T], axis=1)


def _waypoint(robot: Robot, last: Array, rng: np.random.Generator) -> Array:
    step = rng.uniform(-1.0, 1.0, len(last)) * WAYPOINT_S * robot.joint_vel_limits
    low, high = robot.joint_pos_limits.T
    margin = 0.05 * (high - low)
    point: Array = np.clip(last + step, low + margin, high - margin)
    return point


def _catmull_rom(before: Array, start: Array, end: Array, after: Array, u: Array) -> Array:
    """Points on the spline from start (nu,) to end (nu,) at u (K, 1) in [0, 1]; (K, nu)."""
    a = 2.0 * start - 2.0 * end + 0.5 * (end - before) + 0.5 * (after - start)
    b = -3.0 * start + 3.0 * end - (end - before) - 0.5 * (after - start)
    curve: Array = ((a * u + b) * u + 0.5 * (end - before)) * u + start
    return curve
