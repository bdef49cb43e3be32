"""What the off-policy methods share: collecting, replay, first update, steps of optimisers.

A method defines its update: see mtsac.py, ktm.py, and deterministic.py for DDPG and DiGrad.
"""

import math
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import torch
from torch import Tensor, nn

from polyreach.envs.task_env import TaskEnv
from polyreach.errors import UserError, check_range, check_widths
from polyreach.methods.learner import Learner, Metrics
from polyreach.methods.trained_policy import PolicyReader
from polyreach.networks.policy import Policy
from polyreach.storage.replay import Batch, Replay


@dataclass(frozen=True)
class OffPolicyConfig:
    """Settings that all of these methods have."""

    hidden: tuple[int, ...] = (512, 512)
    """Widths of the hidden layers of actor and critics (PiCor's comparison: two of 512)."""
    actor_lr: float = 3e-4
    """Learning rate of the actor (SAC: 3e-4)."""
    critic_lr: float = 3e-4
    """Learning rate of the critics (SAC: 3e-4)."""
    final_lr: float = 1.0
    """All learning rates fall linearly to this share of themselves at the last step."""
    gamma: float = 0.99
    """Discount factor (SAC: 0.99)."""
    tau: float = 0.005
    """Share by which target networks move at every update (SAC: 0.005)."""
    reward_scale: float = 1.0
    """Factor on the rewards in the critics' targets."""
    batch_size: int = 128
    """Transitions of each task in an update."""
    replay_size: int = 100_000
    """Transitions of each task that the replay buffer holds."""
    learning_starts: int = 1_500
    """Environment steps of each task, with uniformly random actions, before the first update."""
    updates_per_step: int = 1
    """Updates after each step of the environments."""
    grad_clip: float = 1.0
    """Norm at which the gradients of actor and critics are clipped."""

    def __post_init__(self) -> None:
        """Raise UserError for a value that no run can have."""
        check_widths("hidden", self.hidden)
        for name in ("actor_lr", "critic_lr", "reward_scale", "grad_clip"):
            check_range(name, getattr(self, name), 1e-12)
        for name in ("final_lr", "gamma", "tau"):
            check_range(name, getattr(self, name), 0.0, 1.0)
        for name in ("batch_size", "replay_size", "learning_starts", "updates_per_step"):
            check_range(name, getattr(self, name), 1)


@dataclass(frozen=True)
class TaskConditionedConfig(OffPolicyConfig):
    """Settings of the task-conditioned ones."""

    smoothness: float = 0.0
    """Weight of the change of the action from one state to the next in the actor's loss (Mysore et
    al. 2021, arXiv:2012.06644). None of the papers has it; the presets of robots set it.
    """
    compile: bool = False
    """Compile the losses with torch.compile; on a GPU they then run as CUDA graphs. The rest of an
    update, such as the optimisers and PiCor's correction, stays as it is. On a CPU it is slower:
    see benchmarks/sac_update_speed.py.
    """

    def __post_init__(self) -> None:
        """Raise UserError for a value that no run can have."""
        super().__post_init__()
        check_range("smoothness", self.smoothness, 0.0)


class OffPolicyLearner(Learner):
    """Collects in all tasks, samples from their replays, updates; `step` is one turn of that."""

    def __init__(self, config: OffPolicyConfig, env: TaskEnv, total_steps: int, seed: int) -> None:
        if config.replay_size < env.envs_per_task:
            raise UserError(
                f"replay_size is {config.replay_size}, but must hold a step of "
                f"{env.envs_per_task} environments of a task"
            )
        super().__init__(config, env, total_steps, seed)
        self.config = config
        self.replay = Replay(
            env.tasks,
            config.replay_size,
            env.obs_size,
            env.action_size,
            self.device,
            env.reward_shape,
        )
        self.parts["replay"] = self.replay

    def prepare(self, read: PolicyReader) -> None:
        """Raise UserError if the run is over before its first update."""
        if self.first_update > self.total_steps:
            each = " of each task" if self.env.tasks > 1 else ""
            raise UserError(
                f"steps is {self.total_steps}, but the first update comes after "
                f"{self.first_update} (learning_starts is {self.config.learning_starts}{each})"
            )

    @property
    def first_update(self) -> int:
        """Steps of the environments before the first update: whole ones of all, until each task has
        learning_starts transitions or its replay is full.
        """
        starts_at = min(self.config.learning_starts, self.config.replay_size)
        return math.ceil(starts_at / self.env.envs_per_task) * self.env.num_envs

    @abstractmethod
    def explore(self, obs: Tensor, tasks: Tensor | None) -> Tensor:
        """Actions (T', n, A) with noise for observations (T', n, O) of `tasks`."""

    @abstractmethod
    def update(self) -> Metrics:
        """One update on fresh batches."""

    def step(self) -> Metrics:
        """One step of all environments and the updates after it."""
        reward = self.collect(None)
        return {"reward": reward} | self.learn()

    def learn(self) -> Metrics:
        """The updates that follow a step."""
        metrics: Metrics = {}
        if self.env_steps >= self.first_update:
            for _ in range(self.config.updates_per_step):
                self.schedule_rates()
                metrics = self.update()
                self.updates += 1
        return metrics

    @torch.no_grad()
    def collect(self, tasks: list[int] | None) -> float:
        """One step of the environments of `tasks`, all if None; returns the mean over transitions
        of the sum of their rewards.
        """
        obs = self.obs if tasks is None else self.obs[tasks]
        index = None if tasks is None else torch.tensor(tasks, device=self.device)
        action = self.behave(obs, index)
        step = self.advance(action, tasks)
        self.replay.add(Batch(obs, action, step.reward, step.terminated, step.final_obs), tasks)
        return float(step.reward.sum()) / step.terminated.numel()

    def behave(self, obs: Tensor, tasks: Tensor | None) -> Tensor:
        """What is done while collecting: uniformly random actions (T', n, A) until the first
        update, then those of `explore`.
        """
        if self.updates == 0:
            shape = (*obs.shape[:2], self.env.action_size)
            uniform = torch.rand(shape, generator=self.generator, device=self.device)
            return 2 * uniform - 1
        return self.explore(obs, tasks)

    def sample(self, tasks: list[int] | None = None) -> Batch:
        """A batch of each of `tasks`, rewards scaled."""
        batch = self.replay.sample(self.config.batch_size, self.generator, tasks)
        return batch._replace(reward=self.config.reward_scale * batch.reward)


@torch.no_grad()
def move_target(target: nn.Module, network: nn.Module, tau: float) -> None:
    """theta' <- tau theta + (1 - tau) theta'."""
    torch._foreach_lerp_(list(target.parameters()), list(network.parameters()), tau)


def action_change(actor: Policy, batch: Batch, tasks: Tensor | None = None) -> Tensor:
    """E[|mu(s) - mu(s')|^2] of every task (T',), mu being `actor` without noise."""
    both = torch.cat([batch.obs, batch.next_obs], dim=1)  # (T', 2 B, O)
    now, then = actor.mean_action(both, tasks).chunk(2, dim=1)
    return (now - then).square().sum(dim=-1).mean(dim=-1)


def descend_together(
    optimizer: torch.optim.Optimizer, network: nn.Module, task_loss: Tensor, clip: float
) -> Tensor:
    """Step `network` down the mean of the task losses (T',), the gradient clipped at norm `clip`;
    returns its norm before that.
    """
    gradients = torch.autograd.grad(task_loss.mean(), list(network.parameters()))
    return step_clipped(optimizer, gradients, clip)


def step_clipped(
    optimizer: torch.optim.Optimizer, gradients: Sequence[Tensor], clip: float
) -> Tensor:
    """Step along `gradients` of the parameters of `optimizer`, together clipped at norm `clip`;
    returns their norm before that.
    """
    parameters = optimizer.param_groups[0]["params"]
    for parameter, gradient in zip(parameters, gradients, strict=True):
        parameter.grad = gradient
    norm = nn.utils.clip_grad_norm_(parameters, clip)
    optimizer.step()
    return norm


def descend_apart(
    optimizer: torch.optim.Optimizer, network: nn.Module, task_loss: Tensor, clip: float
) -> Tensor:
    """Step a network whose tasks share nothing down their losses (T,), each gradient clipped on its
    own; returns the mean of their norms.
    """
    parameters = list(network.parameters())  # (M, T, in, out)
    gradients = torch.autograd.grad(task_loss.sum(), parameters)
    norm = torch.stack([g.square().sum(dim=(0, 2, 3)) for g in gradients]).sum(dim=0).sqrt()
    scale = (clip / (norm + 1e-6)).clamp(max=1.0)[:, None, None]  # (T, 1, 1)
    for parameter, gradient in zip(parameters, gradients, strict=True):
        parameter.grad = gradient * scale
    optimizer.step()
    return norm.mean()


TaskConditionedConfigT = TypeVar("TaskConditionedConfigT", bound=TaskConditionedConfig)


def tuned_for_robots(config: TaskConditionedConfigT) -> TaskConditionedConfigT:
    """`config` with one set of numbers for all task-conditioned off-policy methods on robots, so
    that the methods differ only in what their papers say.

    Smaller networks and batches, larger rates that fall, and the discount of 12.5 decisions a
    second; and smoothness, without which the hands swing about their goals when the loop has 40 ms
    of delay and the joints' acceleration limits: MTSAC on planar8 then reaches 95 % of goal sets
    with it and 57 % without (100 sets, one seed, 1 and 4 M steps).
    """
    return replace(
        config,
        hidden=(256, 256),
        actor_lr=1e-3,
        critic_lr=1e-3,
        final_lr=0.05,
        gamma=0.95,
        reward_scale=0.1,
        tau=0.01,
        batch_size=64,
        smoothness=0.3,
    )
