"""A2C from scratch and vanilla multi-task A2C (multitask-continuous-control-2018, sections 3.1.2
and 3.1.4; A2C is the synchronous form of Mnih et al. 2016, arXiv:1602.01783).

Letters are the paper's: theta the policy's weights, V the value function, A the advantage (eq. 3),
t_max the steps of a rollout, E_1 ... E_n the environments, h_i the head of E_i, which gives mean
and log variance of the actions. Vanilla multi-task (`sharing` trunk) cycles through E_1 to E_n: a
rollout of E_i, then an update of the shared layers and of h_i. From scratch (`sharing` none) every
task has separate networks; the agents are trained side by side in one batched update, but
independently.

What the paper leaves open, and what is done here, mostly as in the authors' public code:
tanh; 16 environments of each task (set by --num-envs, the total); gamma 0.99, value loss weighted
by 0.5, gradients of actor and critic clipped together at norm 0.5, RMSprop with alpha 0.99 and eps
1e-5, observations normalised and clipped at 5, no scaling of rewards; the weights of a unit drawn
normally and scaled to norm 1, those of the actor's outputs to 0.01, so that standard deviations
start at 1. The statistics of the observations are updated with a rollout after its update.

Departures. A return of n steps ends with each rollout, and also at a time limit, where the value of
the state that was reached bootstraps. The text gives the critic "3 fully-connected layers", one of
them shared in the multi-task case; here it has two hidden layers, both shared, and the output, as
in the public code. The entropy is that of the normal distribution. The moments of a head in RMSprop
do not change in the turns of other heads.
"""

from dataclasses import dataclass, replace
from typing import TypeVar

import torch
from torch import Tensor

from polyreach.envs.task_env import TaskEnv
from polyreach.errors import check_range, check_widths
from polyreach.methods.learner import Metrics
from polyreach.methods.method import BENCHMARKS, Method
from polyreach.methods.multi_head import HeadsConfig, HeadsLearner, tuned_heads
from polyreach.networks.gaussian import normal_entropy, normal_log_prob
from polyreach.networks.multi_head import GaussianHeads, task_network
from polyreach.networks.per_task_weights import Theta
from polyreach.storage.rollout import Rollout, advantages, by_step, by_task

PAPER = "Arora et al. 2018, Multi-task Learning for Continuous Control: A2C with a head per task"


@dataclass(frozen=True)
class A2CConfig(HeadsConfig):
    """Settings of advantage actor-critic."""

    critic_hidden: tuple[int, ...] = (64, 64)
    """Widths of the critic's hidden layers."""
    gamma: float = 0.99
    """Discount factor (the authors' public code: 0.99)."""
    value_weight: float = 0.5
    """Weight of the critic's squared error in the loss."""
    entropy_weight: float = 0.01
    """Weight of the policy's entropy in the loss."""
    reward_scale: float = 1.0
    """Factor on the rewards in returns and advantages."""

    def __post_init__(self) -> None:
        """Raise UserError for a value that no run can have."""
        super().__post_init__()
        check_widths("critic_hidden", self.critic_hidden)
        check_range("gamma", self.gamma, 0.0, 1.0)
        check_range("reward_scale", self.reward_scale, 1e-12)
        for name in ("value_weight", "entropy_weight"):
            check_range(name, getattr(self, name), 0.0)


class A2C(HeadsLearner):
    """An actor and a critic with a head per task, or one actor and one critic per task."""

    def __init__(self, config: A2CConfig, env: TaskEnv, total_steps: int, seed: int) -> None:
        super().__init__(config, env, total_steps, seed)
        self.config = config
        self.actor = GaussianHeads(
            env.tasks,
            env.obs_size,
            config.hidden,
            env.action_size,
            config.sharing,
            config.initial_std,
        )
        widths = (env.obs_size, *config.critic_hidden, 1)
        self.critic = task_network(env.tasks, widths, config.sharing)
        self.actor.to(self.device)
        self.critic.to(self.device)
        self.parts |= {"actor": self.actor, "critic": self.critic}
        self.optimize(self.actor.net, self.critic, lr=config.lr)

    def step(self) -> Metrics:
        """A turn of every task: a rollout and an update on it; metrics are means over turns."""
        metrics = torch.stack([self.turn(tasks) for tasks in self.turns()]).mean(dim=0).tolist()
        names = ("reward", "policy_loss", "value_loss", "entropy", "grad_norm")
        return dict(zip(names, metrics, strict=True))

    def turn(self, tasks: list[int]) -> Tensor:
        """A rollout of `tasks` and the update on it; the metrics (5,)."""
        rollout = self.collect(tasks)
        metrics = self.update_on(rollout, tasks)
        self.update_normalizer(rollout)
        return torch.cat([rollout.reward.mean()[None], metrics])

    def update_normalizer(self, rollout: Rollout) -> None:
        """Update the statistics of the observations with a rollout."""
        self.actor.normalizer.update(by_task(rollout.obs))

    def update_on(self, rollout: Rollout, tasks: list[int]) -> Tensor:
        """One step of the optimiser; means over tasks of the losses, the entropy and the norm of
        the gradient (4,).
        """
        index = self.index(tasks)
        blocks = [net.leaves(index) for net in self.nets]
        losses = self.losses(rollout, index, *blocks)
        policy_loss, value_loss, entropy = losses
        total = policy_loss + self.config.value_weight * value_loss
        total = total - self.config.entropy_weight * entropy  # (T',)
        norm = self.descend_on(self.reduce(total), blocks, tasks)
        return torch.cat([losses.detach().mean(dim=1), norm[None]])

    def losses(self, rollout: Rollout, tasks: Tensor | None, theta: Theta, critic: Theta) -> Tensor:
        """Losses of policy and value function and the entropy of every task (3, T'), as functions
        of the weights `theta` of the policy and `critic` of the value function.
        """
        x = self.actor.normalize(by_task(rollout.obs), tasks)  # (T', S n, O)
        layers = self.critic.layers(critic)
        value = self.critic.run(layers, x)[..., 0]  # (T', S n)
        advantage = self.advantages(rollout, value.detach(), layers, tasks)
        mean, log_std = self.actor.outputs(self.actor.net.layers(theta), x)
        log_prob = normal_log_prob(by_task(rollout.action), mean, log_std)
        # grad log pi(a_t|s_t) A(s_t, a_t)
        policy_loss = -(log_prob * advantage).mean(dim=1)
        # E[(R_t - V(s_t))^2], R_t = A(s_t, a_t) + V(s_t) without gradient
        value_loss = (advantage + value.detach() - value).square().mean(dim=1)
        return torch.stack([policy_loss, value_loss, normal_entropy(log_std).mean(dim=1)])

    @torch.no_grad()
    def advantages(
        self, rollout: Rollout, value: Tensor, layers: list[Tensor], tasks: Tensor | None
    ) -> Tensor:
        """A (T', S n) of a rollout, from V(s_t) (T', S n) and the critic's layers."""
        after = self.actor.normalize(by_task(rollout.next_obs), tasks)
        next_value = self.critic.run(layers, after)[..., 0]
        steps = len(rollout.reward)
        scaled = rollout._replace(reward=self.config.reward_scale * rollout.reward)
        before, then = by_step(value, steps), by_step(next_value, steps)
        # A_t = sum_i gamma^i r_t+i + gamma^k V(s_t+k) - V(s_t)  (3)
        return by_task(advantages(scaled, before, then, self.config.gamma, lam=1.0))


A2CConfigT = TypeVar("A2CConfigT", bound=A2CConfig)


def tuned_a2c(config: A2CConfigT) -> A2CConfigT:
    """`config` with the settings of A2C and fine-tuning on robots."""
    return replace(tuned_heads(config), critic_hidden=(256, 256), gamma=0.95, reward_scale=0.1)


METHOD = Method(
    name="a2c",
    paper=PAPER,
    learner=A2C,
    settings=A2CConfig(),
    tuned={"robot": tuned_a2c(A2CConfig())} | dict.fromkeys(BENCHMARKS, A2CConfig()),
)
