"""What the name of an environment means: the kinds of environments that there are."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from functools import cached_property
from importlib.metadata import PackageNotFoundError, version
from typing import Any, ClassVar

import torch

from polyreach.envs.cheetahs import CHEETAH_GROUPS, CheetahConfig, CheetahEnv
from polyreach.envs.env_spec import EVALUATION_SEED, Defaults, EnvSpec, Record, TaskEnvSpec
from polyreach.envs.legged.legged import LEGGED_GROUPS, LeggedConfig, LeggedEnv
from polyreach.envs.metaworld.metaworld import TASK_SETS, MetaWorldConfig, MetaWorldEnv
from polyreach.envs.reach.reach import ReachConfig, ReachEnv
from polyreach.envs.reach.task_reach import TaskReachConfig, TaskReachEnv
from polyreach.envs.task_env import TaskEnv
from polyreach.errors import UserError
from polyreach.robot.features import task_names
from polyreach_description import Robot, is_robot_file, list_robots, load_robot

EnvConfig = MetaWorldConfig | CheetahConfig | LeggedConfig | ReachConfig


class MetaWorldTasks(TaskEnvSpec):
    """A set of Meta-World's tasks; every goal is played once in an evaluation."""

    name = "metaworld"
    config = MetaWorldConfig

    @property
    def tasks(self) -> tuple[str, ...]:
        """Meta-World's names."""
        return tuple(TASK_SETS[self.env])

    @property
    def version(self) -> str:
        """Of the package metaworld; empty where it is missing."""
        try:
            return f"metaworld {version('metaworld')}"
        except PackageNotFoundError:
            return ""

    def defaults(self, preset: str) -> Defaults:
        """The budget of picor-2023 for ten tasks, as much for each of any other number."""
        tasks = len(self.tasks)
        return Defaults(500_000 * tasks, tasks, eval_every=20_000, eval_goals=1)

    def make(
        self, config: MetaWorldConfig, num_envs: int, device: str, threads: int, seed: int
    ) -> MetaWorldEnv:
        """num_envs is over all tasks."""
        return MetaWorldEnv(self.env, num_envs, config, device, seed)

    def make_evaluation(
        self, config: MetaWorldConfig, goals: int, device: str, threads: int
    ) -> MetaWorldEnv:
        """Every goal once; `goals` does not matter."""
        tasks = len(self.tasks)
        return MetaWorldEnv(self.env, tasks, config, device, EVALUATION_SEED, every_goal=True)

    def evaluation_text(self, goals: int) -> str:
        """How much is measured in an evaluation, in words."""
        return "every goal once in an evaluation"

    def note(self, record: Record) -> str:
        """The share of goals that are reached."""
        return f"success {record['success']:.0%}"


class SimulatedEnvSpec(TaskEnvSpec):
    """A group of simulated tasks, measured by their returns."""

    measured = ("return",)
    groups: ClassVar[Mapping[str, Iterable[str]]]
    """Group -> names of its tasks."""
    env_type: ClassVar[Callable[..., TaskEnv]]
    """Called with group, number, settings, device, threads and seed."""

    @property
    def tasks(self) -> tuple[str, ...]:
        """Names of the variants."""
        return tuple(self.groups[self.env])

    def make(self, config: Any, num_envs: int, device: str, threads: int, seed: int) -> TaskEnv:
        """num_envs is over all tasks."""
        return type(self).env_type(self.env, num_envs, config, device, threads, seed)

    def make_evaluation(self, config: Any, goals: int, device: str, threads: int) -> TaskEnv:
        """`goals` episodes of each task."""
        return self.make(config, goals * len(self.tasks), device, threads, EVALUATION_SEED)

    def note(self, record: Record) -> str:
        """The mean return."""
        return f"return {record['return']:,.0f}"


class Cheetahs(SimulatedEnvSpec):
    """A group of HalfCheetahs of different build."""

    name = "cheetahs"
    config = CheetahConfig
    groups = CHEETAH_GROUPS
    env_type = CheetahEnv

    def defaults(self, preset: str) -> Defaults:
        """The budget of picor-2023 for eight tasks, as much for each of any other number."""
        tasks = len(self.tasks)
        return Defaults(300_000 * tasks, tasks, eval_every=10_000 * tasks, eval_goals=4)


class Legged(SimulatedEnvSpec):
    """Hoppers of different build, or a biped that walks forward and backward."""

    name = "legged"
    config = LeggedConfig
    groups = LEGGED_GROUPS
    env_type = LeggedEnv

    @property
    def version(self) -> str:
        """Of the robots and their reward, so that runs of earlier ones are told apart."""
        return "robots as in dart-env"

    def defaults(self, preset: str) -> Defaults:
        """A million steps of each task."""
        tasks = len(self.tasks)
        return Defaults(1_000_000 * tasks, 4 * tasks, eval_every=50_000 * tasks, eval_goals=10)


class RobotEnvSpec(EnvSpec):
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


class RobotTasks(RobotEnvSpec, TaskEnvSpec):
    """Every effector of a robot alone, and together."""

    config = TaskReachConfig

    @property
    def tasks(self) -> tuple[str, ...]:
        """The effectors, and together."""
        return task_names(self.robot.effector_names)

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

    def evaluate(self, env: TaskReachEnv, learner: Any) -> Record:
        """Besides, `error_median`: of the largest error of an episode's end [m]."""
        record = super().evaluate(env, learner)
        record["error_median"] = float(env.error.median())
        for name, error in zip(env.task_names, env.error, strict=True):
            record[f"error_median_{name}"] = float(error.median())
        return record

    def note(self, record: Record) -> str:
        """The share of goals that are reached, and how near the others are."""
        return f"success {record['success']:.0%}  median {1e3 * record['error_median']:.1f} mm"


class RobotReach(RobotEnvSpec):
    """A robot with a reward per effector (see polyreach.envs.reach.reach), for DDPG and DiGrad."""

    config = ReachConfig

    def defaults(self, preset: str) -> Defaults:
        """What the shipped policies were trained with."""
        steps, num_envs = {"paper": (2_000_000, 64), "tuned": (6_000_000, 256)}[preset]
        return Defaults(steps, num_envs, eval_every=100_000, eval_goals=256)

    def make(
        self, config: ReachConfig, num_envs: int, device: str, threads: int, seed: int
    ) -> ReachEnv:
        """One batch of robots."""
        return ReachEnv(self.robot, num_envs, config, device, threads, seed)

    def make_evaluation(
        self, config: ReachConfig, goals: int, device: str, threads: int
    ) -> ReachEnv:
        """`goals` sets of goals, all effectors at once."""
        settings = replace(config, all_active=1.0)
        return ReachEnv(self.robot, goals, settings, device, threads, EVALUATION_SEED)

    @torch.no_grad()
    def evaluate(self, env: ReachEnv, learner: Any) -> Record:
        """Errors at the end of an episode: `score_<effector>` is -log(error), as in digrad-2018,
        section 5.
        """
        obs, _ = env.reset(seed=EVALUATION_SEED)
        returns = torch.zeros(env.num_envs, device=env.device)
        for _ in range(env.horizon):
            obs, reward, _, _, infos = env.step(learner.policy(obs))
            returns += reward
        error = infos["error"]
        record: Record = {
            "return": float(returns.mean()),
            "error_median": float(error.median()),
            "error_mean": float(error.mean()),
            "success_all": float((error < env.config.tolerance).all(dim=1).float().mean()),
        }
        for name, own in zip(self.robot.effector_names, error.T, strict=True):
            record[f"error_median_{name}"] = float(own.median())
            record[f"score_{name}"] = float(-own.clamp(min=1e-6).log().mean())
        return record

    def evaluation_text(self, goals: int) -> str:
        """How much is measured in an evaluation, in words."""
        return f"{goals} sets of goals in an evaluation"

    def note(self, record: Record) -> str:
        """How near the goals it comes."""
        return f"median {1e3 * record['error_median']:.1f} mm  all {record['success_all']:.0%}"


TASK_ENVS: dict[str, type[TaskEnvSpec]] = {
    **dict.fromkeys(TASK_SETS, MetaWorldTasks),
    **dict.fromkeys(CHEETAH_GROUPS, Cheetahs),
    **dict.fromkeys(LEGGED_GROUPS, Legged),
}
"""Environments that are no robots."""


def is_env(word: str) -> bool:
    """Whether `word` is the name of an environment, or looks like the path of a robot.yaml."""
    return word in TASK_ENVS or word in list_robots() or is_robot_file(word)


def find_env_spec(env: str, task_conditioned: bool) -> EnvSpec:
    """The environments that `env` names, as a method sees them that is or is not told its task.

    Raises UserError for a name that the method cannot have; a robot is read later.
    """
    robots = f"{', '.join(list_robots())}, or the path of a robot.yaml"
    if task_conditioned and is_env(env):
        return TASK_ENVS.get(env, RobotTasks)(env)
    if task_conditioned:
        raise UserError(f"unknown environment '{env}' (legal: {', '.join(TASK_ENVS)}, {robots})")
    if env in TASK_ENVS:
        raise UserError(
            f"environment '{env}' is no robot, but this method drives nothing else (legal: "
            f"{robots})"
        )
    if not is_env(env):
        raise UserError(f"unknown robot '{env}' (legal: {robots})")
    return RobotReach(env)
