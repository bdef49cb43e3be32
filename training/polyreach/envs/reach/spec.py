"""Reach with a robot as environments of a run: with a task id, or with a reward per effector."""

from dataclasses import replace
from functools import cached_property
from typing import Any

from polyreach.envs.env_spec import EVALUATION_SEED, C, Defaults, E, EnvSpec, PresetName, Record
from polyreach.envs.reach.config import ReachConfig
from polyreach.envs.reach.effector_reach import EffectorReachEnv
from polyreach.envs.reach.task_reach import TaskReachConfig, TaskReachEnv
from polyreach.envs.task_env import Act, play_episodes
from polyreach.robot.features import task_names
from polyreach_description import Robot, load_robot

REALISTIC: dict[str, Any] = {
    "acceleration_limits": True,
    "max_delay_s": 0.06,
    "max_lag_s": 0.04,
    "observe_velocity": True,
    "clear_configurations": True,
    "all_active": 0.7,
}
"""Settings of preset `tuned`: the limits of the controller, and servos of any real robot."""


class RobotEnvSpec(EnvSpec[C, E]):
    """Environments of one robot, by its name or the path of its robot.yaml."""

    name = "robot"

    @cached_property
    def _robot(self) -> Robot:
        return load_robot(self.env)

    @property
    def robot(self) -> Robot:
        """The robot. Raises RobotError if it cannot be read."""
        return self._robot

    @property
    def title(self) -> str:
        """The robot's name."""
        return self.robot.name


class TaskReachSpec(RobotEnvSpec[TaskReachConfig, TaskReachEnv]):
    """Every effector of a robot alone, and together."""

    config = TaskReachConfig

    @property
    def tasks(self) -> tuple[str, ...]:
        """The effectors, and together."""
        return task_names(self.robot.effector_names)

    def settings(self, preset: PresetName) -> TaskReachConfig:
        """paper: rewards, features and actions of digrad-2018. tuned: those of the shipped
        policies.
        """
        if preset == "paper":
            return TaskReachConfig(
                reward="paper_sum", all_active=1.0, features="paper", action="velocity"
            )
        return TaskReachConfig(
            reward="precise_sum", action_repeat=4, features="kinematic", **REALISTIC
        )

    def defaults(self, preset: str) -> Defaults:
        """As many environments of each task as make about 64 (paper) or 256."""
        tasks = len(self.tasks)
        num_envs = {"paper": 64, "tuned": 256}[preset] // tasks * tasks
        return Defaults(2_000_000, num_envs, eval_every=100_000, eval_goals=64)

    def make(
        self, config: TaskReachConfig, num_envs: int, device: str, threads: int, seed: int
    ) -> TaskReachEnv:
        """num_envs is over all tasks."""
        return TaskReachEnv(self.robot, num_envs, config, device, threads, seed)

    def make_evaluation(
        self, config: TaskReachConfig, goals: int, device: str, threads: int
    ) -> TaskReachEnv:
        """`goals` episodes of each task, of the last one with goals for all effectors."""
        count = goals * len(self.tasks)
        settings = replace(config, all_active=1.0)
        return TaskReachEnv(self.robot, count, settings, device, threads, EVALUATION_SEED)

    def evaluate(self, env: TaskReachEnv, policy: Act) -> Record:
        """Besides, `error_median`: of the largest error of an episode's end [m]."""
        record = super().evaluate(env, policy)
        record["error_median"] = float(env.error.median())
        for name, error in zip(env.task_names, env.error, strict=True):
            record[f"error_median_{name}"] = float(error.median())
        return record

    def note(self, record: Record) -> str:
        """The share of goals that are reached, and how near the others are."""
        return f"success {record['success']:.0%}  median {1e3 * record['error_median']:.1f} mm"


class EffectorReachSpec(RobotEnvSpec[ReachConfig, EffectorReachEnv]):
    """A robot with a reward per effector and no task id, for DDPG and DiGrad."""

    config = ReachConfig

    @property
    def tasks(self) -> tuple[str, ...]:
        """None: the active mask is part of the observation."""
        return ()

    def settings(self, preset: PresetName) -> ReachConfig:
        """paper: rewards of digrad-2018. tuned: those of the shipped policies."""
        if preset == "paper":
            return ReachConfig(reward="paper", all_active=1.0)
        return ReachConfig(reward="precise", action_repeat=4, **REALISTIC)

    def defaults(self, preset: str) -> Defaults:
        """What the shipped policies were trained with."""
        steps, num_envs = {"paper": (2_000_000, 64), "tuned": (6_000_000, 256)}[preset]
        return Defaults(steps, num_envs, eval_every=100_000, eval_goals=256)

    def make(
        self, config: ReachConfig, num_envs: int, device: str, threads: int, seed: int
    ) -> EffectorReachEnv:
        """One batch of robots."""
        return EffectorReachEnv(self.robot, num_envs, config, device, threads, seed)

    def make_evaluation(
        self, config: ReachConfig, goals: int, device: str, threads: int
    ) -> EffectorReachEnv:
        """`goals` goal sets, all effectors at once."""
        settings = replace(config, all_active=1.0)
        return EffectorReachEnv(
            self.robot, goals, settings, device, threads, EVALUATION_SEED, stagger=False
        )

    def evaluate(self, env: EffectorReachEnv, policy: Act) -> Record:
        """Errors at the end of an episode: `score_<effector>` is -log(error), as in digrad-2018,
        section 5.
        """
        episodes = play_episodes(env, policy, EVALUATION_SEED)
        error = env.error[0]  # (n, E)
        record: Record = {
            "return": float(episodes.returns.mean()),
            "error_median": float(error.median()),
            "error_mean": float(error.mean()),
            "success_all": float(episodes.success.float().mean()),
        }
        for name, distance in zip(self.robot.effector_names, error.T, strict=True):
            record[f"error_median_{name}"] = float(distance.median())
            record[f"score_{name}"] = float(-distance.clamp(min=1e-6).log().mean())
        return record

    def evaluation_text(self, goals: int) -> str:
        """How much is measured in an evaluation, in words."""
        return f"{goals} goal sets in an evaluation"

    def note(self, record: Record) -> str:
        """How near the goals it comes."""
        return f"median {1e3 * record['error_median']:.1f} mm  all {record['success_all']:.0%}"
