"""DDPG, the baseline of digrad-2018 (section 3, eq. 1 to 3; Lillicrap et al. 2015,
arXiv:1509.02971).

One action value for the whole robot, so that the reward must be one number. The paper tries two: a
bonus when all effectors are at their goals and otherwise minus the summed error (`paper_scalar`),
and the sum of DiGrad's rewards (`paper_sum`). Both are reward functions of the environment;
everything else is shared with DiGrad.
"""

from dataclasses import dataclass, replace

import torch

from polyreach.envs.env_spec import EnvConfig, PresetName
from polyreach.envs.reach.config import ReachConfig
from polyreach.envs.reach.effector_reach import EffectorReachEnv
from polyreach.errors import UserError
from polyreach.methods.deterministic import DeterministicConfig, DeterministicLearner, Step
from polyreach.methods.digrad import tuned_for_robots
from polyreach.methods.learner import Metrics
from polyreach.methods.method import Method

PAPER = (
    "Lillicrap et al. 2015, Continuous control with deep reinforcement learning; "
    "baseline of Dewangan et al. 2018"
)


@dataclass(frozen=True)
class DDPGConfig(DeterministicConfig):
    """Settings of DDPG."""


class DDPG(DeterministicLearner):
    """One actor, one action value, one reward."""

    def __init__(
        self, config: DDPGConfig, env: EffectorReachEnv, total_steps: int, seed: int
    ) -> None:
        if env.robots.rewards != 1:
            raise UserError(
                f"DDPG needs one reward, but '{env.robots.config.reward}' gives "
                f"{env.robots.rewards} "
                "(legal: paper_scalar, paper_sum, precise_sum)"
            )
        all_joints = torch.ones(1, env.action_size)
        super().__init__(config, env, total_steps, seed, all_joints, "single")

    def update_critic(self, step: Step) -> Metrics:
        """Take one critic step."""
        # y = r + gamma Q'(s', mu'(s'))  (2)
        y = self.target(step)  # (B, 1)
        q = self.critic(step.features, step.action)  # (M, B, 1)
        # L = (Q(s, a) - y)^2  (1)
        loss = ((q - y) ** 2).sum(dim=-1).mean()
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
        # grad_a Q(s, a) at a = mu(s)
        leaf = action.detach().requires_grad_()
        (dq,) = torch.autograd.grad(self.critic(step.features, leaf, members=1).sum(), leaf)
        # theta <- theta + eta grad_a Q grad_theta mu  (3)
        self.actor_optimizer.zero_grad()
        action.backward(-dq / len(dq))
        norm = self.apply(self.actor_optimizer, list(self.actor.mu.parameters()))
        return {"actor_grad": norm}


def one_reward(settings: EnvConfig, preset: PresetName) -> EnvConfig:
    """The paper's scalar reward, or the sum of DiGrad's tuned rewards."""
    assert isinstance(settings, ReachConfig)
    return replace(settings, reward="paper_scalar" if preset == "paper" else "precise_sum")


METHOD = Method(
    name="ddpg",
    paper=PAPER,
    learner=DDPG,
    settings=DDPGConfig(),
    tuned={"robot": tuned_for_robots(DDPGConfig())},
    task_conditioned=False,
    env_settings=one_reward,
)
