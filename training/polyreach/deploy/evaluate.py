"""Measure a policy on the simulated robot: all goals at once and one at a time, in dynamic mode, at
the robot's control rate and within its acceleration limits.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from polyreach.envs.reach.config import ReachConfig
from polyreach.envs.reach.reach import ReachEnv
from polyreach.errors import check_range
from polyreach.robot.features import KinematicFeatures, ObservationLayout
from polyreach.robot.onnx_policy import OBSERVED, Act, PolicyFile
from polyreach.robot.self_distance import SelfDistance
from polyreach_description import Robot
from polyreach_description.distances import STOP_DISTANCE

RADII = (0.01, 0.02, 0.05)  # [m]
QUANTILES = (0.5, 0.75, 0.9, 0.95)

Array = NDArray[np.float64]


@dataclass(frozen=True)
class EvaluationConfig:
    """How a policy is measured."""

    goals: int = 1000
    """Number of goal sets, each with a random start."""
    seconds: float = 5.0
    """Time from the start until the errors are measured [s]."""
    seed: int = 20_000
    """Seed of starts and goals. A training with another seed has other ones."""
    threads: int = 1
    """CPU threads of the simulation."""

    def __post_init__(self) -> None:
        """Raise UserError for a value that no evaluation can have."""
        check_range("goals", self.goals, 1)
        check_range("seconds", self.seconds, 0.1)
        check_range("threads", self.threads, 1)


def least_squares_actions(robot: Robot) -> Act:
    """The controller without learning: damped least squares on all goals together, with joints at
    their limits left out.
    """
    features, layout = KinematicFeatures(robot), ObservationLayout.of(robot, OBSERVED)
    share = torch.tensor(robot.action_speeds / robot.joint_vel_limits, dtype=torch.float32)

    def act(obs: Tensor) -> Tensor:
        return features.least_squares(features.compute(layout.split(obs))[0]) * share

    return act


def evaluate_policy(policy: PolicyFile, robot: Robot, config: EvaluationConfig) -> dict[str, Any]:
    """The result of evaluate_actions and, for several effectors, under `alone` that of
    evaluate_alone.
    """
    act = policy.actions(robot)
    result = evaluate_actions(act, robot, config)
    if len(robot.effector_names) > 1:
        result["alone"] = evaluate_alone(act, robot, config)
    return result


def evaluate_actions(act: Act, robot: Robot, config: EvaluationConfig) -> dict[str, Any]:
    """Errors at the end of each episode, as success rates and quantiles [m], per effector and for
    all together, and the share of episodes in which two bodies came within STOP_DISTANCE. The
    evaluation does not stop the robot there.
    """
    env = _environment(robot, config.goals, config)
    obs, _ = env.reset(seed=config.seed)
    start = env.error()
    self_distance = _SelfDistanceRecord(robot, config.goals)
    error = _final_error(env, obs, act, config, self_distance)
    return {
        "mode": "dynamic",
        "episodes": config.goals,
        "seconds": config.seconds,
        "seed": config.seed,
        "start_error_median_m": float(start.median()),
        "error_median_m": float(np.median(error)),
        "success_all": {
            f"{radius:g}": float((error < radius).all(axis=1).mean()) for radius in RADII
        },
        "effectors": {
            name: _figures(errors)
            for name, errors in zip(robot.effector_names, error.T, strict=True)
        },
        "near_self": float(self_distance.came_close.mean()),
    }


def evaluate_alone(act: Act, robot: Robot, config: EvaluationConfig) -> dict[str, Any]:
    """Figures of each effector when no other has a goal, on its share of the same starts and goals:
    of E effectors, the i-th takes the i-th of every E goal sets.
    """
    count, effectors = max(config.goals, len(robot.effector_names)), len(robot.effector_names)
    env = _environment(robot, count, config)
    env.reset(seed=config.seed)
    active = torch.eye(effectors).repeat(-(-count // effectors), 1)[:count]
    error = _final_error(env, env.reset_to(env.joint_pos, env.goals, active), act, config)
    return {name: _figures(error[i::effectors, i]) for i, name in enumerate(robot.effector_names)}


def _environment(robot: Robot, count: int, config: EvaluationConfig) -> ReachEnv:
    # no episode ends during the evaluation
    settings = ReachConfig(
        mode="dynamic",
        acceleration_limits=True,
        observe_velocity=True,
        horizon_s=config.seconds + 1.0,
        action_repeat=1,
        all_active=1.0,
    )
    return ReachEnv(robot, count, settings, threads=config.threads, seed=config.seed)


class _SelfDistanceRecord:
    """Which of N robots came close to themselves: two bodies within STOP_DISTANCE, after a state
    without such a pair. Bodies that start that close do not count until they part.
    """

    def __init__(self, robot: Robot, count: int) -> None:
        self._self_distance = SelfDistance(robot, STOP_DISTANCE)
        self._was_apart, self.came_close = np.zeros((2, count), dtype=bool)

    def add(self, joint_pos: Array) -> None:
        """Record the state joint_pos (N, nu) [rad or m]."""
        for index in np.flatnonzero(~self.came_close):
            close = bool(self._self_distance.close_pairs(joint_pos[index]))
            self.came_close[index] = close and self._was_apart[index]
            self._was_apart[index] |= not close


@torch.no_grad()
def _final_error(
    env: ReachEnv,
    obs: Tensor,
    act: Act,
    config: EvaluationConfig,
    self_distance: _SelfDistanceRecord | None = None,
) -> Array:
    """Play on from `obs`; errors (N, E) [m] at the end. The record gets all states but the last."""
    for _ in range(round(config.seconds * env.robot.control_rate)):
        if self_distance is not None:
            self_distance.add(env.joint_pos.double().numpy())
        obs, *_ = env.step(act(obs))
    env.close()
    return env.error().double().numpy()


def _figures(error: Array) -> dict[str, Any]:
    """Figures of one effector from its errors (N,) [m]."""
    return {
        "success": {f"{radius:g}": float((error < radius).mean()) for radius in RADII},
        "error_quantiles_m": {f"{q:g}": float(np.quantile(error, q)) for q in QUANTILES},
        "error_mean_m": float(error.mean()),
    }


def self_distance_line(result: dict[str, Any]) -> str:
    """A sentence with the share of episodes of evaluate_actions in which two links came close."""
    return (
        f"In {result['near_self']:.1%} of the episodes, two links came within "
        f"{1e3 * STOP_DISTANCE:g} mm, the distance at which the controller stops the robot."
    )


def evaluation_rows(result: dict[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Table of the result of evaluate_actions: header and rows of text."""
    header, rows = alone_rows(result["effectors"])
    rates = (f"{rate:.1%}" for rate in result["success_all"].values())
    rows.append(["all at once", *rates, *("" for _ in QUANTILES)])
    return header, rows


def alone_rows(result: dict[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Table of the result of evaluate_alone: header and rows of text."""
    header = [
        "effector",
        *(f"within {1e3 * r:g} mm" for r in RADII),
        *(f"error p{100 * q:.0f}" for q in QUANTILES),
    ]
    rows = [
        [
            name,
            *(f"{rate:.1%}" for rate in figures["success"].values()),
            *(f"{1e3 * quantile:.2f} mm" for quantile in figures["error_quantiles_m"].values()),
        ]
        for name, figures in result.items()
    ]
    return header, rows
