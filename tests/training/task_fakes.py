"""Point masses with one target per task, and small learners for them."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor

from polyreach.envs.task_env import TaskEnv, TaskStep
from polyreach.errors import UserError
from polyreach.methods.off_policy import OffPolicyLearner, TaskConditionedConfig
from polyreach.methods.trained_policy import PolicyReader, TrainedPolicy
from polyreach.runs.checkpoint import read_newest, save_checkpoint
from polyreach.storage.replay import Batch

SMALL: dict[str, Any] = {
    "hidden": (16,),
    "batch_size": 8,
    "replay_size": 40,
    "learning_starts": 4,
}
LEARNING: dict[str, Any] = {  # of the SAC family, with which small learners learn in seconds
    "hidden": (32, 32),
    "batch_size": 32,
    "replay_size": 2000,
    "learning_starts": 20,
    "actor_lr": 3e-3,
    "critic_lr": 3e-3,
    "alpha_lr": 1e-2,
    "initial_alpha": 0.1,
    "gamma": 0.8,
    "tau": 0.02,
}
ACTION_GAIN = 0.25
L = TypeVar("L", bound=OffPolicyLearner)


class PointMasses(TaskEnv):
    """Points in the square [-1, 1]^2 that move by their action; each task has its own target.

    The observation is the position and does not contain the task. The targets surround the centre,
    where the tasks require opposite actions. An episode ends within the distance `stop` of the
    target, if `stop` is above 0.
    """

    def __init__(
        self, tasks: int = 3, envs_per_task: int = 2, horizon: int = 6, stop: float = 0.0
    ) -> None:
        self.task_names = tuple(f"target_{task}" for task in range(tasks))
        self.envs_per_task, self.horizon, self.stop = envs_per_task, horizon, stop
        self.obs_size = self.action_size = 2
        self.success_at_end = False
        self.device = torch.device("cpu")
        angle = 2 * torch.pi * torch.arange(tasks) / tasks
        self.target = 0.6 * torch.stack([angle.cos(), angle.sin()], dim=-1)[:, None]  # (T, 1, 2)
        self.generator = torch.Generator()
        self.position = torch.zeros(tasks, envs_per_task, 2)
        self.age = torch.zeros(tasks, envs_per_task, dtype=torch.int64)
        self.stepped: list[list[int]] = []

    def reset(self, seed: int) -> Tensor:
        self.generator.manual_seed(seed)
        self.position = self._starts(self.tasks)
        self.age = torch.zeros_like(self.age)
        return self.position.clone()

    def _starts(self, rows: int) -> Tensor:
        return 2 * torch.rand(rows, self.envs_per_task, 2, generator=self.generator) - 1

    def step(self, action: Tensor, tasks: Sequence[int] | None = None) -> TaskStep:
        if not action.isfinite().all():
            raise ValueError("an action is not finite")
        rows = list(range(self.tasks)) if tasks is None else list(tasks)
        self.stepped.append(rows)
        position = self.position[rows] + ACTION_GAIN * action.clamp(-1, 1)
        position = position.clamp(-1, 1)
        distance = (position - self.target[rows]).norm(dim=-1)
        self.age[rows] += 1
        terminated = distance < self.stop
        truncated = (self.age[rows] >= self.horizon) & ~terminated
        over = terminated | truncated
        self.age[rows] = torch.where(over, 0, self.age[rows])
        following = torch.where(over[..., None], self._starts(len(rows)), position)
        self.position[rows] = following
        return TaskStep(
            following.clone(), -distance, terminated, truncated, distance < 0.2, position
        )

    def state_dict(self) -> dict[str, Any]:
        return {
            "position": self.position.clone(),
            "age": self.age.clone(),
            "generator": self.generator.get_state(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.position, self.age = state["position"].clone(), state["age"].clone()
        self.generator.set_state(state["generator"])


class ScaledRewards(PointMasses):
    """Point masses whose tasks have rewards of different magnitudes, `factors` times the plain."""

    def __init__(self, factors: Sequence[float], *arguments: Any, **options: Any) -> None:
        super().__init__(len(factors), *arguments, **options)
        self.factors = torch.tensor(factors)[:, None]

    def step(self, action: Tensor, tasks: Sequence[int] | None = None) -> TaskStep:
        step = super().step(action, tasks)
        factors = self.factors if tasks is None else self.factors[list(tasks)]
        return step._replace(reward=factors * step.reward)


def make(
    kind: Callable[..., L],
    config: TaskConditionedConfig,
    env: TaskEnv | None = None,
    total_steps: int = 600,
    seed: int = 0,
    **changes: Any,
) -> L:
    """A learner of `kind` with the SMALL settings and `changes`, on three point masses."""
    settings = replace(config, **SMALL | changes)
    return kind(settings, env or PointMasses(), total_steps, seed)


def random_batch(tasks: int, count: int = 5, seed: int = 0, obs: int = 2, action: int = 2) -> Batch:
    """`count` random transitions of each task, some of them terminal."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator)

    terminated = (torch.rand(tasks, count, generator=generator) < 0.3).float()
    return Batch(
        normal(tasks, count, obs),
        torch.tanh(normal(tasks, count, action)),
        normal(tasks, count),
        terminated,
        normal(tasks, count, obs),
    )


def step_plainly(parameters: Any, rate: float = 1.0) -> torch.optim.Optimizer:
    """Plain gradient descent, whose step is the gradient times `rate`."""
    return torch.optim.SGD(list(parameters), lr=rate)


def weights(network: torch.nn.Module) -> list[Tensor]:
    """Copies of the parameters of a network."""
    return [parameter.detach().clone() for parameter in network.parameters()]


def assert_same(left: Any, right: Any, where: str = "") -> None:
    """Assert bitwise equality, with equal types and keys at every level."""
    assert type(left) is type(right), where
    if isinstance(left, Tensor):
        assert torch.equal(left, right), where
    elif isinstance(left, dict):
        assert left.keys() == right.keys(), where
        for key in left:
            assert_same(left[key], right[key], f"{where}.{key}")
    elif isinstance(left, list | tuple):
        assert len(left) == len(right), where
        for index, pair in enumerate(zip(left, right, strict=True)):
            assert_same(*pair, f"{where}[{index}]")
    else:
        assert left == right, where


def no_policies(path: str) -> TrainedPolicy:
    """Reads the trained policies of a run that needs none."""
    raise UserError(f"'{path}' is not a run folder")


def assert_goes_on(
    fresh: Callable[[int], Any],
    folder: Path,
    before: int,
    after: int,
    read: PolicyReader = no_policies,
) -> None:
    """Assert that a learner resumes exactly: saved after `before` steps and loaded into a learner
    with another seed, its next `after` steps equal those without the interruption. `fresh` makes a
    learner from a seed.
    """
    uninterrupted = fresh(0)
    for _ in range(before):
        uninterrupted.step()
    save_checkpoint(folder, uninterrupted.env_steps, uninterrupted.state_dict())
    expected = [uninterrupted.step() for _ in range(after)]
    resumed = fresh(7)
    resumed.step()
    state, _ = read_newest(folder)
    assert state is not None
    resumed.resume(state, read)
    assert_same([resumed.step() for _ in range(after)], expected)
    assert_same(resumed.state_dict(), uninterrupted.state_dict())
