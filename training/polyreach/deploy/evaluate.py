"""Measure controllers on the simulated robot, all on the same starts and goals: policies, and those
without learning. Dynamic mode, at the robot's control rate, within its velocity and acceleration
limits.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from polyreach.deploy.baselines.multi_start import MultiStartConfig, MultiStartPlanner
from polyreach.deploy.baselines.multi_start_controller import MultiStartController
from polyreach.deploy.controllers import (
    Conditioner,
    Controller,
    LeastSquaresController,
    PolicyController,
    command_times,
    within_limits,
)
from polyreach.deploy.episodes import Episodes, play
from polyreach.deploy.evaluation_config import EvaluationConfig
from polyreach.deploy.figures import (
    effector_figures,
    jump_figures,
    reach_figures,
    tracking_figures,
)
from polyreach.deploy.goal_sets import (
    GoalErrors,
    Goals,
    draw_configurations,
    moving_configurations,
)
from polyreach.robot.onnx_policy import PolicyFile
from polyreach.robot.self_distance import SelfDistance
from polyreach_description import Robot
from polyreach_description.distances import FULL_REACH
from polyreach_description.policy_tensors import PolicyInputs

Array = NDArray[np.float64]

SPEEDS = (0.1, 0.3)  # [m/s] of goals that move, of a robot of FULL_REACH or more
MOVING_SECONDS, LEAD_SECONDS = 5.0, 1.0  # of which the first are not measured
JUMPS, JUMP_SECONDS = 5, 1.0
TIMED_PLANS = 20


class Evaluation:
    """Starts and goals of a robot on which controllers are measured.

    pipeline: the controller's limits and distances, where polyreach_nodes is installed.
    """

    def __init__(
        self, robot: Robot, config: EvaluationConfig, pipeline: Conditioner | None = None
    ) -> None:
        self.robot, self.config = robot, config
        self._condition = within_limits(robot)
        self._pipeline = pipeline
        self._errors, self._model = GoalErrors(robot), robot.simulation_model()
        self.starts, configurations = draw_configurations(robot, config.goals, config.seed)
        self.goals = self._errors.goals(configurations)
        self._moving: dict[float, Array] = {}

    def multi_start(self) -> tuple[MultiStartController, dict[str, float]]:
        """The multi-start planner's controller, and its computing time [s] for a goal set."""
        planner = MultiStartPlanner(self.robot, MultiStartConfig(starts=self.config.starts))
        rows = np.arange(TIMED_PLANS) % len(self.starts)
        starts, goals = self.starts[rows], self.goals.rows(rows)
        times = planner.plan_times(starts, goals)
        follow = planner.plan_times(self.starts[rows], goals, follow=True)
        figures = {"mean_s": float(times.mean()), "worst_s": float(times.max())}
        return MultiStartController(self.robot, planner, times, follow), figures

    def measure(self, controller: Controller) -> dict[str, Any]:
        """Figures of one controller for goals that stand still; see reach_figures."""
        episodes = self._reach(controller, self.starts, self.goals, self._condition)
        start = self._errors(self.starts, self.goals)[0]
        return {
            "mode": "dynamic",
            "episodes": len(self.starts),
            "seconds": self.config.seconds,
            "seed": self.config.seed,
            "delay_s": self.config.delay,
            "lag_s": self.config.lag,
            "stop_distance_m": self.robot.stop_distance,
            "start_error_median_m": float(np.median(start)),
            **reach_figures(episodes, self.goals, self.robot),
            "compute": self._compute_times(controller, episodes),
        }

    def measure_controlled(self, controller: Controller) -> dict[str, Any]:
        """Figures under the controller's whole pipeline, and for goals that jump and move."""
        count = min(self.config.controlled, len(self.starts))
        if not count:
            return {}
        result: dict[str, Any] = {"episodes": count}
        starts, goals = self.starts[:count], self.goals.rows(slice(count))
        if self._pipeline is not None:
            episodes = self._reach(controller, starts, goals, self._pipeline)
            figures = reach_figures(episodes, goals, self.robot)
            result["pipeline"] = {
                key: figures[key]
                for key in ("success_all", "near_self", "time_s")
                if key in figures
            }
        result["jumps"] = self._jumps(controller, count)
        result["moving"] = {f"{speed:g}": self._track(controller, speed) for speed in SPEEDS}
        return result

    def alone(self, controller: Controller) -> dict[str, Any]:
        """Figures of each effector when no other has a goal, on its share of the same starts and
        goals: of E effectors, the i-th takes the i-th of every E goal sets.
        """
        names = self.robot.effector_names
        effectors, count = len(names), max(len(self.starts), len(names))
        rows = np.arange(count) % len(self.starts)
        goals = self.goals.rows(rows)
        goals = Goals(
            goals.positions, goals.orientations, np.eye(effectors)[np.arange(count) % effectors]
        )
        episodes = self._reach(controller, self.starts[rows], goals, self._condition)
        distance, angle = self._errors(episodes.joint_pos[-1], goals)
        return {
            name: effector_figures(
                self.robot,
                distance[i::effectors, i],
                angle[i::effectors, i],
                bool(self.robot.oriented[i]),
            )
            for i, name in enumerate(names)
        }

    def _reach(
        self, controller: Controller, starts: Array, goals: Goals, condition: Conditioner
    ) -> Episodes:
        ticks = round(self.config.seconds * self.robot.control_rate)
        return self._play(controller, condition, starts, lambda _: goals, ticks, still=True)

    def _play(
        self,
        controller: Controller,
        condition: Conditioner,
        starts: Array,
        goals_at: Callable[[int], Goals],
        ticks: int,
        still: bool = False,
    ) -> Episodes:
        config = self.config
        return play(
            controller,
            condition,
            self.robot,
            starts,
            goals_at,
            ticks,
            config.drives,
            config.seed,
            config.threads,
            still,
            self._model,
        )

    def _jumps(self, controller: Controller, count: int) -> dict[str, Any]:
        """Success rates just before each jump, of goal sets that jump every JUMP_SECONDS; robot i
        has the goal sets i, i + 1, ...
        """
        every = round(JUMP_SECONDS * self.robot.control_rate)
        rows = (np.arange(count) + np.arange(JUMPS)[:, None]) % len(self.starts)
        sets = [self.goals.rows(row) for row in rows]
        episodes = self._play(
            controller,
            self._condition,
            self.starts[:count],
            lambda tick: sets[tick // every],
            JUMPS * every,
        )
        figures = jump_figures(episodes.joint_pos[every::every], sets, episodes.near, self.robot)
        return {"every_s": JUMP_SECONDS, **figures}

    def _track(self, controller: Controller, speed: float) -> dict[str, Any]:
        """Tracking errors of goals that move at `speed` [m/s]: the largest of all effectors."""
        if speed not in self._moving:
            count = max(1, min(self.config.controlled, len(self.starts)) // 5)
            distance = SelfDistance(self.robot, self.robot.slow_distance)
            clear = [row for row in self.starts if distance.least_share(row) >= 1.0][:count]
            self._moving[speed] = moving_configurations(
                self.robot,
                np.array(clear or [self.robot.home]),
                speed * min(1.0, self.robot.reach / FULL_REACH),
                MOVING_SECONDS,
                self.config.seed,
            )
        paths = self._moving[speed]
        goals = [self._errors.goals(state) for state in paths]
        episodes = self._play(
            controller, self._condition, paths[0], lambda tick: goals[tick], len(paths)
        )
        lead = round(LEAD_SECONDS * self.robot.control_rate)
        states = episodes.joint_pos[lead : len(goals)]  # where the robots are when the goals are
        figures = tracking_figures(states, goals[lead:], episodes.near, self.robot)
        return {"paths": paths.shape[1], **figures}

    def _compute_times(self, controller: Controller, episodes: Episodes) -> dict[str, float]:
        """CPU time [s] of a command for one robot, in states of the first one."""
        goals, ticks = self.goals.rows(slice(1)), len(episodes.joint_pos) - 1
        states = [
            PolicyInputs(
                episodes.joint_pos[tick, :1],
                goals.positions,
                goals.active,
                episodes.joint_vel[tick, :1],
                goals.orientations,
                goals.active * self.robot.oriented,
            )
            for tick in range(ticks)
        ]
        times = command_times(controller, states)
        return {"mean_s": float(times.mean()), "worst_s": float(times.max())}


def evaluate_policy(policy: PolicyFile, robot: Robot, config: EvaluationConfig) -> dict[str, Any]:
    """Figures of a policy file, as of Evaluation.measure, and, for several effectors, under `alone`
    those of Evaluation.alone.
    """
    return _with_alone(Evaluation(robot, config), PolicyController(policy))


def _with_alone(evaluation: Evaluation, controller: Controller) -> dict[str, Any]:
    result = evaluation.measure(controller)
    if len(evaluation.robot.effector_names) > 1:
        result["alone"] = evaluation.alone(controller)
    return result


def compare(
    policy: PolicyFile, robot: Robot, config: EvaluationConfig, pipeline: Conditioner | None = None
) -> dict[str, dict[str, Any]]:
    """Figures of a policy file, least squares and the multi-start planner, by name, on the same
    starts and goals: those of Evaluation.measure, and under `controlled` those of
    Evaluation.measure_controlled. For the policy also `alone`; for the planner `plan`.
    """
    evaluation = Evaluation(robot, config, pipeline)
    controller = PolicyController(policy)
    results = {
        "policy": _with_alone(evaluation, controller),
        **baselines(evaluation),
    }
    results["policy"]["controlled"] = evaluation.measure_controlled(controller)
    return results


def baselines(evaluation: Evaluation) -> dict[str, dict[str, Any]]:
    """Figures of the controllers without learning, by name."""
    controllers: dict[str, Controller] = {"least squares": LeastSquaresController(evaluation.robot)}
    plan: dict[str, float] = {}
    if evaluation.config.starts:
        controllers["multi-start"], plan = evaluation.multi_start()
    results = {}
    for name, controller in controllers.items():
        results[name] = evaluation.measure(controller)
        results[name]["controlled"] = evaluation.measure_controlled(controller)
    if plan:
        del results["multi-start"]["compute"]  # of a plan in one period, of a line in the others
        results["multi-start"] |= {"plan": plan, "starts": evaluation.config.starts}
    return results
