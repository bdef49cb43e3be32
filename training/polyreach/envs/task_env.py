"""The one protocol of environments: T tasks, n environments of each, one step for all.

Task t is row t of every tensor, so that nothing is ever sorted by task. Where tasks are done at
once and there is no task id, T is 1 and a transition has several rewards.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from polyreach.errors import UserError, check_range
from polyreach.networks.policy import Policy, RobotPolicy

Act = Callable[[Tensor], Tensor]  # observations (T, n, O) -> actions (T, n, A)


class Scripted(NamedTuple):
    """Policies that nobody trained, one for each task."""

    sha256: str
    """Digest of the program."""
    action: Callable[[Tensor, Tensor], Tensor]
    """Observations (T', B, O) and the numbers of their tasks (T',) -> actions (T', B, A) in
    [-1, 1].
    """


class TaskStep(NamedTuple):
    """What one step of the tasks gave; T' is the number of tasks that were stepped."""

    obs: Tensor  # (T', n, O), after any restart
    reward: Tensor  # (T', n), or (T', n, K) where a transition has K rewards
    terminated: Tensor  # (T', n) bool: the episode is over, nothing follows
    truncated: Tensor  # (T', n) bool: the episode was cut off by its time limit
    success: Tensor  # (T', n) bool: the task is done in the state that was reached
    final_obs: Tensor  # (T', n, O), before any restart


class TaskEnv(ABC):
    """T tasks with observations and actions of one size; an episode that ends starts anew in the
    same step.

    Tensors are float32 on `device`. Actions are in [-1, 1]; values outside are clipped, a
    non-finite one is a ValueError.
    """

    task_names: tuple[str, ...]
    envs_per_task: int
    obs_size: int
    action_size: int
    horizon: int
    """Steps of an episode."""
    success_at_end: bool
    """Whether an episode succeeds by its last state; otherwise by any of its states."""
    device: torch.device
    reward_shape: tuple[int, ...] = ()
    """Of the reward of a transition: () for a number, (K,) for the rewards of K tasks that are done
    at once.
    """

    @property
    def tasks(self) -> int:
        """T."""
        return len(self.task_names)

    @property
    def num_envs(self) -> int:
        """T n."""
        return self.tasks * self.envs_per_task

    def checked(self, action: Tensor, tasks: Sequence[int] | None) -> tuple[list[int], Tensor]:
        """The tasks that `step` was called with, and their actions (T', n, A), clipped.

        Raises ValueError for tasks that do not exist or are listed twice, for another shape, and
        for a value that is not finite.
        """
        listed = list(range(self.tasks)) if tasks is None else list(tasks)
        if len(set(listed)) < len(listed) or not set(listed) <= set(range(self.tasks)):
            raise ValueError(
                f"tasks are {listed}, but must be different numbers from 0 to {self.tasks - 1}"
            )
        expected = (len(listed), self.envs_per_task, self.action_size)
        if action.shape != expected:
            raise ValueError(f"actions have shape {tuple(action.shape)}, expected {expected}")
        check_finite(action)
        return listed, action.detach().clamp(-1.0, 1.0)

    @abstractmethod
    def reset(self, seed: int) -> Tensor:
        """Start all episodes anew, everything random drawn from `seed`; observations (T, n, O)."""

    @abstractmethod
    def step(self, action: Tensor, tasks: Sequence[int] | None = None) -> TaskStep:
        """action: (T', n, A) for the tasks listed, all if None; the others do not change."""

    @abstractmethod
    def state_dict(self) -> dict[str, Any]:
        """Everything that the next steps depend on, in tensors, numbers, lists and dicts."""

    @abstractmethod
    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what state_dict returned; the steps that follow are the same to the last bit."""

    def robot_policy(self, actor: Policy) -> RobotPolicy:
        """`actor` as the policy of the robot; without a robot a UserError."""
        raise UserError(f"the tasks {', '.join(self.task_names)} are not those of a robot")

    def scripted(self) -> Scripted:
        """The scripted policies of the tasks; without them a UserError."""
        raise UserError(
            f"the tasks {', '.join(self.task_names)} have no scripted policies (legal: those of "
            "Meta-World)"
        )

    def close(self) -> None:  # noqa: B027
        """Stop threads and processes."""


def envs_per_task(num_envs: int, task_names: Sequence[str], name: str) -> int:
    """Environments of each task, of `num_envs` in all. Raises UserError if they are no whole
    number; `name` is that of the environment.
    """
    check_range("num_envs", num_envs, 1)
    tasks = len(task_names)
    if num_envs % tasks:
        shown = ", ".join(task_names[:10]) + (" ..." if tasks > 10 else "")
        raise UserError(
            f"num_envs is {num_envs}, but must be a multiple of the {tasks} tasks of '{name}' "
            f"({shown})"
        )
    return num_envs // tasks


def check_finite(action: Tensor) -> None:
    """Raise UserError unless all numbers of `action` are finite."""
    if not math.isfinite(action.abs().max().item()):  # half the time of torch.isfinite
        raise UserError(
            "an action is not finite, but must be a number from -1 to 1 (in a training: it has "
            "diverged, which a smaller learning rate may prevent)"
        )


class Episodes(NamedTuple):
    """One episode of every environment."""

    returns: Tensor  # (T, n), undiscounted, the sum over the rewards of a transition
    success: Tensor  # (T, n) bool


@torch.no_grad()
def play_episodes(env: TaskEnv, act: Act, seed: int) -> Episodes:
    """One episode in each environment of `env`, started from `seed`."""
    obs = env.reset(seed)
    shape = (env.tasks, env.envs_per_task)
    returns = torch.zeros(shape, device=env.device)
    running = torch.ones(shape, dtype=torch.bool, device=env.device)
    success = torch.zeros(shape, dtype=torch.bool, device=env.device)
    for _ in range(env.horizon):
        step = env.step(act(obs))
        obs = step.obs
        returns += step.reward.reshape(*shape, -1).sum(dim=-1) * running
        reached = step.success if env.success_at_end else success | step.success
        success = torch.where(running, reached, success)
        running &= ~(step.terminated | step.truncated)
        if not running.any():
            break
    return Episodes(returns, success)
