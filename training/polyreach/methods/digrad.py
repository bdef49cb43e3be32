"""DiGrad: multi-task reinforcement learning with shared actions (Dewangan et al. 2018,
arXiv:1802.10463).

Letters are the paper's: n tasks, a_i the joints that move effector i (from the kinematic tree), mu
the compound policy, Q_i the action value of task i, k the number of tasks that share a joint.

What the paper leaves open, and what is done here. Eq. 6 prints Q' without its index; Q'_i is meant.
Eq. 12 is written for one shared set; here k_j is computed for every joint j, as the number of tasks
i with j in a_i, which covers several shared sets and joints shared by some tasks only. The gradient
of Q_i with respect to joints outside a_i is discarded. A task without a goal has no reward, no
critic loss and no gradient, and does not count in k_j. Widths, tau, batch, replay, noise schedule
and horizon are not given; see DeterministicConfig for the values used. Many robots are stepped at
once, and an update follows a step of all of them (Algorithm 1: each transition); gradients are
clipped. Episodes end only by time, which is a truncation, so targets always bootstrap.
"""

from dataclasses import dataclass, replace
from typing import TypeVar

import torch
from torch import Tensor

from polyreach.envs.reach.effector_reach import EffectorReachEnv
from polyreach.errors import UserError
from polyreach.methods.deterministic import DeterministicConfig, DeterministicLearner, Step
from polyreach.methods.learner import Metrics
from polyreach.methods.method import Method
from polyreach.networks.actor_critic import CriticKind

PAPER = "Dewangan et al. 2018, DiGrad: Multi-Task Reinforcement Learning with Shared Actions"


@dataclass(frozen=True)
class DiGradConfig(DeterministicConfig):
    """Settings of DiGrad."""

    critic: CriticKind = "single"
    """single: one critic with n outputs (eq. 5). multi: n critics on (s, a_i) (eq. 7). masked: one
    critic with n outputs, of which the i-th is that on (s, a_i); not in the paper.
    """
    heuristic: bool = True
    """Average the gradients of a shared joint over its tasks (eq. 11) instead of adding them (eq.
    10).
    """


class DiGrad(DeterministicLearner):
    """One compound policy, one action value per task, differential policy gradient."""

    config: DiGradConfig

    def __init__(
        self, config: DiGradConfig, env: EffectorReachEnv, total_steps: int, seed: int
    ) -> None:
        robots = env.robots
        if robots.rewards != robots.effectors:
            raise UserError(
                f"DiGrad needs a reward of each effector, but '{robots.config.reward}' gives "
                f"{robots.rewards} for {robots.effectors} (legal: paper, precise)"
            )
        action_sets = torch.tensor(robots.robot.action_sets)
        super().__init__(config, env, total_steps, seed, action_sets, config.critic)

    def update_critic(self, step: Step) -> Metrics:
        """Take one critic step."""
        # y_i = r_i + gamma Q'_i(s', mu'(s'))  (6)
        y = self.target(step)  # (B, n)
        q = self.critic(step.features, step.action)  # (M, B, n)
        # L = sum_i (Q_i(s, a_i) - y_i)^2  (5), (7)
        loss = (step.weight * (q - y) ** 2).sum(dim=-1).mean()
        self.critic_optimizer.zero_grad()
        loss.backward()
        norm = self.apply(self.critic_optimizer, list(self.critic.parameters()))
        return {
            "critic_loss": float(loss.detach()),
            "critic_grad": norm,
            "q": float(q.detach().mean()),
        }

    def update_actor(self, step: Step) -> Metrics:
        """Take one actor step."""
        action = self.actor.act(step.features, step.active)  # mu(s), (B, nu)
        leaf = action.detach().requires_grad_()
        q = self.critic(step.features, leaf, members=1)[0]  # (1, B, n) -> (B, n)
        # dQ_i / da, (n, B, nu), all tasks in one backward pass
        each = torch.eye(q.shape[1], device=self.device)[:, None].expand(-1, *q.shape)
        (dq,) = torch.autograd.grad(q, leaf, each, is_grads_batched=True)
        g = differential_gradient(dq, self.critic.action_sets, step.active, self.config.heuristic)
        # ascend sum_j g_j dmu_j / dtheta  (12)
        self.actor_optimizer.zero_grad()
        action.backward(-g / len(g))
        norm = self.apply(self.actor_optimizer, list(self.actor.mu.parameters()))
        return {"actor_grad": norm}


def differential_gradient(
    dq: Tensor, action_sets: Tensor, active: Tensor, heuristic: bool
) -> Tensor:
    """The gradient g of every joint (digrad-2018, eq. 10 and 12), (B, nu).

    dq: (n, B, nu) gradient of Q_i with respect to the compound action. action_sets: (n, nu) in {0,
    1}, joint j in a_i. active: (B, n) in {0, 1}.
    """
    member = action_sets[:, None] * active.T[:, :, None]  # (n, B, nu)
    # g_j = sum_{i: j in a_i} dQ_i / da_j
    g = (member * dq).sum(dim=0)
    if heuristic:
        # g_j / k_j
        g = g / member.sum(dim=0).clamp(min=1)
    return g


DeterministicConfigT = TypeVar("DeterministicConfigT", bound=DeterministicConfig)


def tuned_for_robots(config: DeterministicConfigT) -> DeterministicConfigT:
    """`config` with the settings of the shipped policies, which DDPG shares; the differential
    policy gradient is the paper's.

    Departures: features with kinematic directions; an actor that outputs a configuration and blends
    into damped least squares near the goals; a reward with the logarithms of an effector's error
    and of the largest error; ReLU; twin critics with noise on the target action; Adam, with rates
    that fall to a fiftieth; half of each batch with new goals; a discount of 0.95 at 12.5 decisions
    a second; in three of ten episodes only some effectors have a goal.
    """
    return replace(
        config,
        hidden=(256, 256),
        activation="relu",
        features="kinematic",
        handover=True,
        twin=True,
        optimizer="adam",
        actor_lr=6e-4,
        critic_lr=1e-3,
        final_lr=0.02,
        gamma=0.95,
        reward_scale=0.1,
        tau=0.01,
        target_noise=0.1,
        noise_start=0.4,
        noise_end=0.1,
        noise_steps=3_000_000,
        batch_size=512,
        replay_size=500_000,
        relabel=0.5,
    )


METHOD = Method(
    name="digrad",
    paper=PAPER,
    learner=DiGrad,
    settings=DiGradConfig(),
    tuned={"robot": tuned_for_robots(DiGradConfig())},
    task_conditioned=False,
)
