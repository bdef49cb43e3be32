"""DiGrad updates per second, relative to a naive implementation of the same update on one batch."""

import copy
from dataclasses import replace

import torch
from torch import Tensor, nn

from benchmarks.limits import products_of, share_row
from benchmarks.timing import seconds_per_call
from polyreach.envs.reach.config import ReachConfig
from polyreach.envs.reach.effector_reach import EffectorReachEnv
from polyreach.methods.deterministic import Step
from polyreach.methods.digrad import DiGrad, DiGradConfig, tuned_for_robots
from polyreach.methods.off_policy import move_target
from polyreach.networks.actor_critic import EnsembleMLP
from polyreach_description import load_robot


class NaiveDiGrad:
    """One module per critic, one backward pass per task and joint set, a loop over the targets."""

    def __init__(self, learner: DiGrad) -> None:
        # both learn in one environment
        self.learner = copy.deepcopy(learner, {id(learner.env): learner.env})
        self.critics = nn.ModuleList(_unstack(self.learner.critic.net))
        self.targets = copy.deepcopy(self.critics)
        self.critic_optimizer = torch.optim.Adam(
            self.critics.parameters(), lr=learner.config.critic_lr, foreach=False
        )
        parameters = self.learner.actor.mu.parameters()
        self.actor_optimizer = torch.optim.Adam(
            parameters, lr=learner.config.actor_lr, foreach=False
        )

    def update(self, step: Step) -> None:
        """Same arithmetic as DiGrad.update on a prepared batch."""
        learner, config = self.learner, self.learner.config
        tasks = len(learner.critic.action_sets)
        with torch.no_grad():
            action = learner.actor.act(step.next_features, step.active, learner.target_actor)
            noise = torch.randn(action.shape).clamp(-2, 2) * config.target_noise
            x = torch.cat([step.next_features, (action + noise).clamp(-1, 1)], dim=-1)
            y = torch.minimum(*(target(x) for target in self.targets)) * config.gamma
            y = y + config.reward_scale * step.reward
        x = torch.cat([step.features, step.action], dim=-1)
        self.critic_optimizer.zero_grad()
        for critic in self.critics:
            for task in range(tasks):
                error = step.weight[:, task] * (critic(x)[:, task] - y[:, task]) ** 2
                (error.mean() / len(self.critics)).backward()
        nn.utils.clip_grad_norm_(self.critics.parameters(), config.grad_clip, foreach=False)
        self.critic_optimizer.step()
        action = learner.actor.act(step.features, step.active)
        leaf = action.detach().requires_grad_()
        gradient = torch.zeros_like(leaf)
        count = torch.zeros_like(leaf)
        for task in range(tasks):
            q = self.critics[0](torch.cat([step.features, leaf], dim=-1))[:, task]
            (dq,) = torch.autograd.grad(q.sum(), leaf)
            member = learner.critic.action_sets[task] * step.active[:, task : task + 1]
            gradient += member * dq
            count += member
        self.actor_optimizer.zero_grad()
        action.backward(-(gradient / count.clamp(min=1)) / len(gradient))
        nn.utils.clip_grad_norm_(learner.actor.mu.parameters(), config.grad_clip, foreach=False)
        self.actor_optimizer.step()
        pairs = [(self.targets, self.critics), (learner.target_actor, learner.actor.mu)]
        with torch.no_grad():
            for targets, online in pairs:
                for target, parameter in zip(
                    targets.parameters(), online.parameters(), strict=True
                ):
                    target.copy_((1 - config.tau) * target + config.tau * parameter)


def _unstack(net: EnsembleMLP) -> list[nn.Sequential]:
    members = []
    for member in range(net.members):
        modules: list[nn.Module] = []
        for layer in [*net.layers, net.head]:
            linear = nn.Linear(layer.weight.shape[1], layer.weight.shape[2])
            with torch.no_grad():
                linear.weight.copy_(layer.weight[member].T)
                linear.bias.copy_(layer.bias[member, 0])
            modules += [linear, nn.ReLU()]
        members.append(nn.Sequential(*modules[:-1]))
    return members


def measure(robot: str) -> list[tuple[str, str]]:
    """Rows (comparison, ratio) for one robot."""
    config = replace(tuned_for_robots(DiGradConfig()), replay_size=20_000)
    env_config = ReachConfig(reward="precise", all_active=0.7, action_repeat=4, configurations=500)
    env = EffectorReachEnv(load_robot(robot), 256, env_config)
    learner = DiGrad(config, env, 10_000_000, 0)
    while learner.updates < 3:
        learner.step()
    naive = NaiveDiGrad(learner)
    step = learner.look_up(learner.sample())
    _check_equal(learner, naive, step)

    def ours() -> None:
        learner.update_critic(step)
        learner.update_actor(step)
        move_target(learner.target_actor, learner.actor.mu, config.tau)
        move_target(learner.target_critic, learner.critic, config.tau)

    seconds = seconds_per_call(
        {
            "ours": ours,
            "naive": lambda: naive.update(step),
            "all": learner.update,
            "products": products_of(learner.update),
        }
    )
    ratio = seconds["naive"] / seconds["ours"]
    rate, naive_rate = 1 / seconds["ours"], 1 / seconds["naive"]
    return [
        (
            f"{robot}, vs the naive update",
            f"{ratio:.1f} x ({rate:.0f} vs {naive_rate:.0f} updates/s)",
        ),
        (
            f"{robot}, including sampling, relabelling and features",
            f"{1 / seconds['all']:.0f} updates/s",
        ),
        share_row(f"{robot}: matrix products alone", seconds["products"], seconds["all"]),
    ]


def _check_equal(learner: DiGrad, naive: NaiveDiGrad, step: Step) -> None:
    """Both must have equal critics; otherwise the comparison is invalid."""
    x = torch.cat([step.features, step.action], dim=-1)
    ours: Tensor = learner.critic(step.features, step.action)
    expected = torch.stack([critic(x) for critic in naive.critics])
    assert torch.allclose(ours, expected, atol=1e-4)
