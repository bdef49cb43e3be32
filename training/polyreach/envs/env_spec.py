"""What a kind of environments is: how they are made, and what is measured in them."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from polyreach.envs.task_env import play_episodes
from polyreach_description import Robot

FamilyName = Literal["metaworld", "cheetahs", "legged", "robot"]
Record = dict[str, float]

EVALUATION_SEED = 1_000_003


@dataclass(frozen=True)
class Defaults:
    """Numbers of a run, unless told otherwise."""

    steps: int
    num_envs: int
    eval_every: int
    eval_goals: int


class EnvSpec(ABC):
    """Environments of one kind, and the one among them that is called `env`."""

    name: ClassVar[FamilyName]
    config: ClassVar[type[Any]]
    """Settings of its environments."""

    def __init__(self, env: str) -> None:
        self.env = env

    @property
    def title(self) -> str:
        """A short name, for folders."""
        return self.env

    @property
    def version(self) -> str:
        """Of what the environment is made of, beside this package; empty for nothing."""
        return ""

    @property
    def robot(self) -> Robot | None:
        """The robot, if it is one. Raises RobotError if it cannot be read."""
        return None

    @property
    def robot_sha256(self) -> str:
        """Of the robot; empty if it is none."""
        return self.robot.sha256 if self.robot else ""

    @abstractmethod
    def defaults(self, preset: str) -> Defaults:
        """Numbers of a run with `preset`, unless told otherwise."""

    @abstractmethod
    def make(self, config: Any, num_envs: int, device: str, threads: int, seed: int) -> Any:
        """The environment to train in. Raises UserError for numbers that it cannot have."""

    @abstractmethod
    def make_evaluation(self, config: Any, goals: int, device: str, threads: int) -> Any:
        """The environment in which the policy is measured during training."""

    @abstractmethod
    def evaluate(self, env: Any, learner: Any) -> Record:
        """Measure the policy of `learner`, without noise, in what make_evaluation returned."""

    @abstractmethod
    def evaluation_text(self, goals: int) -> str:
        """How much is measured in an evaluation, in words."""

    @abstractmethod
    def note(self, record: Record) -> str:
        """The result that is shown while it trains."""


class TaskEnvSpec(EnvSpec):
    """Environments of task-conditioned methods (see polyreach.envs.task_env)."""

    measured: ClassVar[tuple[str, ...]] = ("return", "success")

    def evaluation_text(self, goals: int) -> str:
        """How much is measured in an evaluation, in words."""
        return f"{goals} episodes of each task in an evaluation"

    @property
    @abstractmethod
    def tasks(self) -> tuple[str, ...]:
        """Names of the tasks."""

    def evaluate(self, env: Any, learner: Any) -> Record:
        """`return_<task>` and `success_<task>`, each the mean over episodes, and their means over
        tasks.
        """
        played = play_episodes(env, learner.actor.mean_action, EVALUATION_SEED)
        found = {"return": played.returns, "success": played.success.float()}
        record: Record = {}
        for measure in self.measured:
            values = found[measure].double().mean(dim=1)  # (T,)
            record[measure] = float(values.mean())
            for name, value in zip(env.task_names, values.tolist(), strict=True):
                record[f"{measure}_{name}"] = value
        return record
