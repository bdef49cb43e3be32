"""Figures of episodes: how often, how exactly, how soon and how smoothly goals were reached."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from polyreach.deploy.baselines.straight_line import least_duration
from polyreach.deploy.episodes import Episodes
from polyreach.deploy.goal_sets import GoalErrors, Goals, radii, reached
from polyreach_description import Robot

Array = NDArray[np.float64]

QUANTILES = (0.5, 0.75, 0.9, 0.95)
SWING = 0.02  # share of the velocity limit above which a motion to the other side is a swing
TIMED = 1  # index of the radius of the times and of the paths: 2 cm


def reach_figures(episodes: Episodes, goals: Goals, robot: Robot) -> dict[str, Any]:
    """Success rates at the end and quantiles of the errors, of each effector and of all together;
    the same and never near; time and path to the goals, speed at the end and swings.
    """
    distance, angle = errors = GoalErrors(robot)(episodes.joint_pos[-1], goals)
    together = np.all(reached(errors, robot), axis=2)  # (radii, N)
    return {
        "error_median_m": float(np.median(distance)),
        "success_all": _by_radius(robot, together),
        "clear_all": _by_radius(robot, together & ~episodes.near),
        "effectors": {
            name: effector_figures(robot, distance[:, i], angle[:, i], robot.oriented[i])
            for i, name in enumerate(robot.effector_names)
        },
        "near_self": float(episodes.near.mean()),
        **_motion_figures(episodes, goals, robot, together[TIMED]),
    }


def _by_radius(robot: Robot, inside: NDArray[np.bool_]) -> dict[str, float]:
    """Shares of True in inside (len(RADII), N), by radius."""
    pairs = zip(radii(robot), inside, strict=True)
    return {f"{radius:g}": float(within.mean()) for radius, within in pairs}


def effector_figures(robot: Robot, distance: Array, angle: Array, oriented: bool) -> dict[str, Any]:
    """Figures of one effector from its errors (N,) [m] and (N,) [rad]."""
    figures = {
        "success": _by_radius(robot, reached((distance, angle), robot)),
        "error_quantiles_m": {f"{q:g}": float(np.quantile(distance, q)) for q in QUANTILES},
        "error_mean_m": float(distance.mean()),
    }
    if oriented:
        degrees = np.degrees(angle)
        figures["angle_quantiles_deg"] = {
            f"{q:g}": float(np.quantile(degrees, q)) for q in QUANTILES
        }
    return figures


def _motion_figures(
    episodes: Episodes, goals: Goals, robot: Robot, arrived: NDArray[np.bool_]
) -> dict[str, Any]:
    """Figures of the robots in `arrived` (N,), which were at their goals at the end."""
    if not arrived.any():
        return {}
    joint_pos, joint_vel = episodes.joint_pos[:, arrived], episodes.joint_vel[:, arrived]
    goals = goals.rows(arrived)
    errors = GoalErrors(robot)
    inside = np.stack(
        [reached(errors(state, goals), robot)[TIMED].all(axis=1) for state in joint_pos]
    )  # (T + 1, N)
    stays = np.logical_and.accumulate(inside[::-1])[::-1]
    time_s = stays.argmax(axis=0) / robot.control_rate
    length = np.linalg.norm(np.diff(joint_pos, axis=0), axis=-1).sum(axis=0)
    direct = np.linalg.norm(joint_pos[-1] - joint_pos[0], axis=-1)
    bound_s = least_duration(robot, joint_pos[-1] - joint_pos[0])
    speed = (np.abs(joint_vel[-1]) / robot.joint_vel_limits).max(axis=1)
    swings = swing_count(joint_vel / robot.joint_vel_limits).max(axis=1)
    left = (inside[:-1] & ~inside[1:]).any(axis=0)
    moved = direct > 1e-3
    return {
        "time_s": {f"{q:g}": float(np.quantile(time_s, q)) for q in (0.5, 0.95)},
        "time_bound_s": float(np.median(bound_s)),
        "path_ratio": float(np.median(length[moved] / direct[moved])) if moved.any() else 1.0,
        "end_speed": float(np.quantile(speed, 0.95)),
        "swings": float(swings.mean()),
        "left_again": float(left.mean()),
    }


def swing_count(speed: Array) -> NDArray[np.int64]:
    """How often each joint turns around, (N, nu), for speeds (T, N, nu) as shares of the limits:
    changes of sign between speeds of more than SWING.
    """
    sign = np.zeros(speed.shape[1:])
    count = np.zeros(speed.shape[1:], dtype=np.int64)
    for now in speed:
        moves = np.abs(now) > SWING
        count += moves & (sign * now < 0.0)
        sign = np.where(moves, np.sign(now), sign)
    return count


def jump_figures(
    states: Array, sets: Sequence[Goals], near: NDArray[np.bool_], robot: Robot
) -> dict[str, Any]:
    """Success rates in states (K, N, nu) [rad or m], just before each of K goal sets changes."""
    errors_of = GoalErrors(robot)
    errors = [errors_of(state, goals) for state, goals in zip(states, sets, strict=True)]
    inside = np.concatenate([reached(error, robot).all(axis=2) for error in errors], axis=1)
    return {
        "success_all": _by_radius(robot, inside),
        "error_median_m": float(np.median([error[0].max(axis=1) for error in errors])),
        "near_self": float(near.mean()),
    }


def tracking_figures(
    states: Array, sets: Sequence[Goals], near: NDArray[np.bool_], robot: Robot
) -> dict[str, Any]:
    """Errors of the effector that is farthest from its goal, in states (K, N, nu) [rad or m]."""
    errors_of = GoalErrors(robot)
    pairs = zip(states, sets, strict=True)
    errors = [errors_of(state, goals)[0].max(axis=1) for state, goals in pairs]
    return {
        "error_median_m": float(np.median(errors)),
        "error_p95_m": float(np.quantile(errors, 0.95)),
        "near_self": float(near.mean()),
    }
