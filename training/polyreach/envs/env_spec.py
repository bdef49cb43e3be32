"""What a kind of environments is: how they are made, and what is measured in them."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, Generic, Literal, TypeVar

from polyreach.envs.task_env import Act, TaskEnv, play_episodes
from polyreach.errors import UserError
from polyreach_description import Robot

PresetName = Literal["paper", "tuned"]
PRESETS: tuple[PresetName, ...] = ("paper", "tuned")
Record = dict[str, float]


def preset_name(word: str) -> PresetName:
    """`word` as the name of a preset. Raises UserError with the legal names otherwise."""
    for name in PRESETS:
        if name == word:
            return name
    raise UserError(f"unknown preset '{word}' (legal: {', '.join(PRESETS)})")


EVALUATION_SEED = 1_000_003


@dataclass(frozen=True)
class EnvConfig:
    """Settings of an environment; every kind has its own."""


@dataclass(frozen=True)
class Defaults:
    """Numbers of a run by default."""

    steps: int
    num_envs: int
    eval_every: int
    eval_goals: int


C = TypeVar("C", bound=EnvConfig)
E = TypeVar("E", bound=TaskEnv)


class EnvSpec(ABC, Generic[C, E]):
    """Environments E of one kind with settings C, and the one among them that is called `env`."""

    name: ClassVar[str]
    """Name of the kind, by which a method states its tuned settings."""
    envs: ClassVar[tuple[str, ...]] = ()
    """Names of the environments; none for robots, which have names of their own."""
    config: type[C]
    """Settings of its environments."""
    measured: ClassVar[tuple[str, ...]] = ("return", "success")
    """What an evaluation records of every task."""

    def __init__(self, env: str) -> None:
        self.env = env

    @property
    def title(self) -> str:
        """A short name, for folders."""
        return self.env

    @property
    def version(self) -> str:
        """Version of what the environment is made of besides this package; empty for nothing."""
        return ""

    @property
    def robot(self) -> Robot | None:
        """The robot, if it is one. Raises RobotError if it cannot be read."""
        return None

    @property
    def robot_sha256(self) -> str:
        """Digest of the robot; empty if it is none."""
        return self.robot.sha256 if self.robot else ""

    @property
    @abstractmethod
    def tasks(self) -> tuple[str, ...]:
        """Names of the tasks that a policy is conditioned on; empty where there is no task id."""

    @abstractmethod
    def settings(self, preset: PresetName) -> C:
        """Settings of the environments with `preset`."""

    @abstractmethod
    def defaults(self, preset: str) -> Defaults:
        """Numbers of a run with `preset` by default."""

    @abstractmethod
    def make(self, config: C, num_envs: int, device: str, threads: int, seed: int) -> E:
        """The environment to train in. Raises UserError for numbers that it cannot have."""

    @abstractmethod
    def make_evaluation(self, config: C, goals: int, device: str, threads: int) -> E:
        """The environment in which the policy is measured during training."""

    def evaluate(self, env: E, policy: Act) -> Record:
        """Measure `policy` in what make_evaluation returned: `return_<task>` and `success_<task>`,
        each the mean over episodes, and their means over tasks.
        """
        episodes = play_episodes(env, policy, EVALUATION_SEED)
        measures = {"return": episodes.returns, "success": episodes.success.float()}
        record: Record = {}
        for measure in self.measured:
            values = measures[measure].double().mean(dim=1)  # (T,)
            record[measure] = float(values.mean())
            for name, value in zip(env.task_names, values.tolist(), strict=True):
                record[f"{measure}_{name}"] = value
        return record

    def evaluation_text(self, goals: int) -> str:
        """How much is measured in an evaluation, in words."""
        return f"{goals} episodes of each task in an evaluation"

    @abstractmethod
    def note(self, record: Record) -> str:
        """The result that is shown during training."""


AnyEnvSpec = EnvSpec[EnvConfig, TaskEnv]
"""Environments of any kind, with settings of that kind."""
