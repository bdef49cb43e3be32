"""MTSAC: soft actor-critic on several tasks (Haarnoja et al. 2018, arXiv:1812.05905; multi-task as
in Yu et al. 2019, arXiv:1910.10897), and the base of the SAC family.

Letters are PiCor's (Bai et al. 2023, eq. 1, 2, 6, 7): theta the soft Q-functions, theta_bar their
targets, phi the policy, alpha_z the temperature of task z, B_z the replay of task z. All tasks
share one network; the task's one-hot vector z is appended to its input. Each task has a replay and
a temperature. A batch holds B transitions of each task, those of task t in row t of (T, B, dim);
the loss is the mean over tasks.

What the papers leave open, and what is done here: twin critics, tau 0.005, rates 3e-4,
temperatures start at 1, target entropy -|A|, gradients clipped at norm 1, log standard deviation in
[-20, 2]; one update after each step of all environments. Time limits truncate, so targets bootstrap
there. sigma_z below is 1 unless `popart` is on.
"""

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from polyreach.envs.task_env import TaskEnv
from polyreach.errors import check_range
from polyreach.methods.learner import Metrics
from polyreach.methods.method import BENCHMARKS, Method
from polyreach.methods.off_policy import (
    OffPolicyLearner,
    TaskConditionedConfig,
    action_change,
    descend_together,
    move_target,
    tuned_for_robots,
)
from polyreach.networks.gaussian import GaussianActor
from polyreach.networks.mlp import TaskBody, TaskCritic, TaskLinear, TaskMLP, normalized_relu
from polyreach.networks.popart import PlainValues, PopArt
from polyreach.storage.replay import Batch

PAPER = "Haarnoja et al. 2018, Soft Actor-Critic Algorithms and Applications; multi-task (MTSAC)"

POPART_RATE = 3e-4  # Hessel et al. 2018


@dataclass(frozen=True)
class SACConfig(TaskConditionedConfig):
    """Settings of soft actor-critic."""

    alpha_lr: float = 3e-4
    """Learning rate of the temperatures."""
    initial_alpha: float = 1.0
    """Temperature of every task at the start."""
    popart: bool = False
    """Normalise the values of every task by mean mu_z and standard deviation sigma_z of its targets
    (PopArt: van Hasselt et al. 2016, Hessel et al. 2018): errors of the critics and the actor's
    loss are divided by sigma_z, and critics have a last layer per task. Not in the papers of this
    family.
    """
    layer_norm: bool = False
    """LayerNorm before the activations of the critics. Not in the papers of this family."""

    def __post_init__(self) -> None:
        """Raise UserError for a value that no run can have."""
        super().__post_init__()
        check_range("alpha_lr", self.alpha_lr, 1e-12)
        check_range("initial_alpha", self.initial_alpha, 1e-12)


class MTSAC(OffPolicyLearner):
    """One task-conditioned policy, twin critics, a temperature per task."""

    config: SACConfig
    actor: GaussianActor

    def __init__(self, config: SACConfig, env: TaskEnv, total_steps: int, seed: int) -> None:
        super().__init__(config, env, total_steps, seed)
        self.actor = self.new_actor().to(self.device)
        self.critic = self.new_critic().to(self.device)
        self.target_critic = copy.deepcopy(self.critic).requires_grad_(False)
        self.target_critic.values = self.critic.values
        heads = [critic.body.head for critic in (self.critic, self.target_critic)]
        self.value_heads = [(head.weight, head.bias) for head in heads]
        self.alpha = Temperatures(env.tasks, config.initial_alpha).to(self.device)
        self.target_entropy = -float(env.action_size)
        self.actor_optimizer = self.adam(self.actor.parameters(), config.actor_lr)
        self.critic_optimizer = self.adam(self.critic.parameters(), config.critic_lr)
        self.alpha_optimizer = self.make_alpha_optimizer()
        self.parts |= {
            "actor": self.actor,
            "critic": self.critic,
            "target_critic": self.target_critic,
            "alpha": self.alpha,
            "actor_optimizer": self.actor_optimizer,
            "critic_optimizer": self.critic_optimizer,
            "alpha_optimizer": self.alpha_optimizer,
        }
        # the networks of the losses
        self.loss_actor: GaussianActor = self.actor
        self.loss_critic: TaskCritic = self.critic
        if config.compile:
            self.targets = compiled(self.targets, self.device)  # type: ignore[method-assign]
            self.critic_losses = compiled(self.critic_losses, self.device)  # type: ignore[method-assign]
            self.actor_losses = compiled(self.actor_losses, self.device)  # type: ignore[method-assign]

    def new_actor(self) -> GaussianActor:
        """An actor with new weights."""
        return GaussianActor(self.body(1, self.env.obs_size, 2 * self.env.action_size))

    def new_critic(self) -> TaskCritic:
        """Twin critics with new weights."""
        body = self.body(2, self.env.obs_size + self.env.action_size, 1)
        values = PlainValues()
        if self.config.layer_norm:
            body.activation = normalized_relu
        if self.config.popart:
            values = PopArt(self.env.tasks, POPART_RATE)
            body.head = TaskLinear(2, self.env.tasks, body.head.weight.shape[2], 1)
        return TaskCritic(body, 2, values)

    def body(self, members: int, inputs: int, outputs: int) -> TaskBody:
        """The network of the actor or of the critics."""
        return TaskMLP(members, self.env.tasks, inputs, self.config.hidden, outputs, "all")

    def explore(self, obs: Tensor, tasks: Tensor | None) -> Tensor:
        """a ~ pi(.|s, z)."""
        noise = self.normal(*obs.shape[:2], self.env.action_size)
        action: Tensor = self.actor(obs, noise, tasks)[0]
        return action

    def make_alpha_optimizer(self) -> torch.optim.Optimizer:
        """The optimiser of the temperatures."""
        return self.adam(self.alpha.parameters(), self.config.alpha_lr)

    def update(self) -> Metrics:
        """One update of critics, actor, temperatures and targets on a batch of every task."""
        batch = self.sample()
        noise = self.normal(2, *batch.action.shape)
        return as_floats(self.update_on(batch, noise))

    def update_on(self, batch: Batch, noise: Tensor) -> dict[str, Tensor]:
        """The update as a function of tensors: batch (T, B, .), noise (2, T, B, A)."""
        metrics = self.update_critic(batch, noise[0])
        metrics |= self.update_actor(batch, noise[1])
        move_target(self.target_critic, self.critic, self.config.tau)
        return metrics

    def update_critic(
        self, batch: Batch, noise: Tensor, tasks: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Take one critic step."""
        y = self.targets(batch, noise, tasks)
        self.critic.values.update(y, self.value_heads, tasks)
        task_loss, q = self.critic_losses(batch, y, tasks)
        norm = self.descend(self.critic_optimizer, self.loss_critic, task_loss)
        return {"critic_loss": task_loss.detach().mean(), "critic_grad": norm, "q": q.mean()}

    @torch.no_grad()
    def targets(self, batch: Batch, noise: Tensor, tasks: Tensor | None) -> Tensor:
        """y (T, B)."""
        action, log_prob = self.actor(batch.next_obs, noise, tasks)  # (T, B, A), (T, B)
        q = self.target_critic(batch.next_obs, action, tasks).amin(dim=0)  # (2, T, B) -> (T, B)
        # V_bar(s') = min Q_theta_bar(s', a') - alpha_z log pi(a'|s')  (PiCor 1)
        v = q - self.alpha(tasks).detach() * log_prob
        y: Tensor = batch.reward + self.config.gamma * (1 - batch.terminated) * v
        return y

    def critic_losses(self, batch: Batch, y: Tensor, tasks: Tensor | None) -> tuple[Tensor, Tensor]:
        """J_Q of every task (T,), and Q-values without gradient."""
        q = self.loss_critic(batch.obs, batch.action, tasks)  # (2, T, B)
        sigma = self.critic.values.sigma(tasks)
        # J_Q = E_{B_z}[((Q_theta(s, a) - y) / sigma_z)^2], summed over the twins  (6)
        task_loss = ((q - y) / sigma).square().mean(dim=-1).sum(dim=0)  # (T,)
        return task_loss, q.detach()

    def update_actor(
        self, batch: Batch, noise: Tensor, tasks: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Take one actor step and one of the temperatures."""
        task_loss, log_prob = self.actor_losses(batch, noise, tasks)
        norm = self.descend(self.actor_optimizer, self.loss_actor, task_loss)
        self.update_alpha(log_prob, tasks)
        alpha = self.alpha().detach().mean()
        return {"actor_grad": norm, "entropy": -log_prob.mean(), "alpha": alpha}

    def actor_losses(
        self, batch: Batch, noise: Tensor, tasks: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """J_pi of every task (T,), and log pi (T, B) without gradient."""
        action, log_prob = self.loss_actor(batch.obs, noise, tasks)  # (T, B, A), (T, B)
        q = self.critic(batch.obs, action, tasks).amin(dim=0)  # (2, T, B) -> (T, B)
        sigma = self.critic.values.sigma(tasks)
        # J_pi = E_{B_z}[(alpha_z log pi(a|s) - min Q(s, a)) / sigma_z]  (7)
        task_loss = ((self.alpha(tasks).detach() * log_prob - q) / sigma).mean(dim=-1)  # (T,)
        if self.config.smoothness > 0:
            change = action_change(self.loss_actor, batch, tasks)
            task_loss = task_loss + self.config.smoothness * change
        return task_loss, log_prob.detach()

    def update_alpha(self, log_prob: Tensor, tasks: Tensor | None) -> None:
        """Take one step of the temperatures of all tasks (`tasks` None); log_prob: (T, B)."""
        assert tasks is None
        # J(alpha_z) = E[-log alpha_z (log pi(a|s) + target entropy)], by log alpha_z
        excess = (log_prob + self.target_entropy).mean(dim=-1, keepdim=True)  # (T, 1)
        self.alpha.log_alpha.grad = -excess
        self.alpha_optimizer.step()

    def descend(
        self, optimizer: torch.optim.Optimizer, network: nn.Module, task_loss: Tensor
    ) -> Tensor:
        """Step down the mean of the task losses (T',); returns the norm of the gradient."""
        return descend_together(optimizer, network, task_loss, self.config.grad_clip)


class Temperatures(nn.Module):
    """alpha_z of every task, stored as log alpha_z (T, 1)."""

    def __init__(self, tasks: int, initial: float) -> None:
        super().__init__()
        self.log_alpha = nn.Parameter(torch.full((tasks, 1), initial).log())

    def forward(self, tasks: Tensor | None = None) -> Tensor:
        """Temperatures (T', 1) of `tasks`, all if None."""
        rows = self.log_alpha if tasks is None else self.log_alpha[tasks]
        return rows.exp()


def compiled(function: Callable[..., Any], device: torch.device) -> Callable[..., Any]:
    """`function` compiled to one graph, its backward pass to another; on a GPU both run as CUDA
    graphs.
    """
    mode = "reduce-overhead" if device.type == "cuda" else "default"
    return torch.compile(function, mode=mode, fullgraph=True)


def as_floats(scalars: Mapping[str, Tensor]) -> Metrics:
    """Scalars as Python floats, copied from the device in one transfer."""
    return dict(zip(scalars, torch.stack(list(scalars.values())).tolist(), strict=True))


SACConfigT = TypeVar("SACConfigT", bound=SACConfig)


def tuned_sac(config: SACConfigT) -> SACConfigT:
    """`config` with the settings of the SAC family on robots; temperatures start low."""
    return replace(tuned_for_robots(config), alpha_lr=3e-3, initial_alpha=0.1)


METHOD = Method(
    name="mtsac",
    paper=PAPER,
    learner=MTSAC,
    settings=SACConfig(),
    tuned={"robot": tuned_sac(SACConfig())} | dict.fromkeys(BENCHMARKS, SACConfig()),
)
