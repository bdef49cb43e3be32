"""PPO on several tasks: proximal policy optimisation (Schulman et al. 2017, arXiv:1707.06347) with
one policy for all tasks, as in the joint training of gradient-guided-specialization-2017, section
IV-A.

Letters are the paper's: theta the policy's weights, r(theta) the ratio of probabilities, A the
advantage, eps the clipping, R_i the rollout of task i. The policy is conditioned on the task only
where its one-hot vector is appended (the paper's baseline `append`). Each task fills an equal part
of the batch, row t of (T, B, dim), and the loss is the mean over tasks (eq. 3).

What the paper leaves open, and what is done here: networks, normalisation and numbers are those
of OpenAI Baselines, which the paper uses: tanh, a state-independent standard deviation, ten epochs
of minibatches of 64 of each task, Adam from 3e-4 down to 0 without clipping of gradients, gamma
0.99, lambda 0.95, normalised advantages. Baselines normalises the advantages of the whole batch,
pooled over tasks; here those of each task are normalised separately unless `pooled_advantages` is
on, so that tasks count equally whatever the spread of their returns. Observations are normalised by
the statistics of all earlier rollouts, so that the policy that collects is the policy that is
improved; observations that hardly vary are divided by 0.01 (Baselines: 0.1). eps is constant; in
Baselines it fell to 0 with the rate when the paper was written. Time limits truncate, so values
bootstrap there. The value function is one network for all tasks, with the policy's input, unless
`own_values` is on. sigma_i is 1 unless `popart` is on.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor

from polyreach.envs.task_env import TaskEnv
from polyreach.errors import UserError, check_range, check_widths
from polyreach.methods.learner import Learner, Metrics
from polyreach.methods.method import BENCHMARKS, Method
from polyreach.networks.gaussian import normal_entropy, normal_log_prob
from polyreach.networks.per_task_weights import SplitActor, SplitMLP, Theta, normalized_tanh
from polyreach.networks.popart import PlainValues, PopArt
from polyreach.storage.rollout import Rollout, advantages, by_step, by_task

PAPER = "Schulman et al. 2017, Proximal Policy Optimization Algorithms; one policy for all tasks"

ADAM_EPS = 1e-5  # OpenAI Baselines'
POPART_RATE = 0.1  # of an iteration, which has thousands of targets


@dataclass(frozen=True)
class PPOConfig:
    """Settings of proximal policy optimisation."""

    hidden: tuple[int, ...] = (64, 64, 64)
    """Widths of the hidden layers of policy and value function (the paper's)."""
    batch_steps: int = 4_000
    """Environment steps of one iteration, the total over all tasks (the paper's: 4,000; for the
    biped 8,000). Rounded down to whole steps of all environments.
    """
    minibatch: int = 64
    """Steps of each task in a minibatch; steps that do not fill one are left out of the epoch."""
    epochs: int = 10
    """Passes over the batch in an iteration (Baselines: 10)."""
    clip: float = 0.2
    """Bound of the change of the probability ratio, epsilon (Baselines: 0.2)."""
    lr: float = 3e-4
    """Learning rate of policy and value function (Baselines: 3e-4)."""
    final_lr: float = 0.0
    """The learning rate falls linearly to this share of itself at the last step."""
    gamma: float = 0.99
    """Discount factor (Baselines: 0.99)."""
    lam: float = 0.95
    """Decay of the advantage estimate, lambda (Baselines: 0.95)."""
    value_weight: float = 0.5
    """Weight of the value function's squared error in the loss."""
    entropy_weight: float = 0.0
    """Weight of the policy's entropy in the loss."""
    initial_std: float = 1.0
    """Standard deviation of the actions at the start."""
    reward_scale: float = 1.0
    """Factor on the rewards in returns and advantages."""
    smoothness: float = 0.0
    """Weight of the change of the mean action from one state to the next in the policy's loss
    (Mysore et al. 2021, arXiv:2012.06644). The paper has no such term; preset `tuned` has one on
    robots.
    """
    one_hot: bool = False
    """Append the task's one-hot vector to the observation (the baseline `append`)."""
    own_statistics: bool = False
    """Normalise the observations of each task by the statistics of that task."""
    pooled_advantages: bool = False
    """Normalise the advantages by mean and standard deviation of the whole batch, instead of those
    of each task. This is joint training as on one task; a task whose returns vary more has more
    weight.
    """
    popart: bool = False
    """Normalise the values of every task by mean mu_i and standard deviation sigma_i of its targets
    (PopArt: van Hasselt et al. 2016, Hessel et al. 2018): errors of the value function are divided
    by sigma_i, and it has a last layer per task. Not in the paper.
    """
    layer_norm: bool = False
    """LayerNorm before the activations of the value function. Not in the paper."""
    own_values: bool = False
    """A value function for each task, instead of one for all. Not in the paper."""

    def __post_init__(self) -> None:
        """Raise UserError for a value that no run can have."""
        check_widths("hidden", self.hidden)
        for name in ("batch_steps", "minibatch", "epochs"):
            check_range(name, getattr(self, name), 1)
        for name in ("clip", "lr", "initial_std", "reward_scale"):
            check_range(name, getattr(self, name), 1e-12)
        for name in ("final_lr", "gamma", "lam"):
            check_range(name, getattr(self, name), 0.0, 1.0)
        for name in ("value_weight", "entropy_weight", "smoothness"):
            check_range(name, getattr(self, name), 0.0)


class Batch(NamedTuple):
    """A rollout with what the updates need."""

    x: Tensor  # (T, B, in), input of the networks
    next_x: Tensor  # (T, B, in), input of the networks at the next state
    action: Tensor  # (T, B, A)
    log_prob: Tensor  # (T, B), of the policy that collected the rollout
    advantage: Tensor  # (T, B), normalised, for each task if not pooled
    target: Tensor  # (T, B), of the value function


class PPO(Learner):
    """One policy and one value function for all tasks."""

    actor: SplitActor

    def __init__(self, config: PPOConfig, env: TaskEnv, total_steps: int, seed: int) -> None:
        if config.batch_steps < env.num_envs:
            raise UserError(
                f"batch_steps is {config.batch_steps}, but must hold a step of {env.num_envs} "
                "environments"
            )
        super().__init__(config, env, total_steps, seed)
        self.config = config
        self.steps = config.batch_steps // env.num_envs
        self.actor = SplitActor(
            env.tasks,
            env.obs_size,
            config.hidden,
            env.action_size,
            config.initial_std,
            config.one_hot,
            config.own_statistics,
        )
        self.critic = SplitMLP(env.tasks, (self.actor.inputs, *config.hidden, 1))
        self.actor.to(self.device)
        self.values = PlainValues()  # V = sigma n + mu
        if config.layer_norm:
            self.critic.activation = normalized_tanh
        if own := len(config.hidden) + 1 if config.own_values else int(config.popart):
            self.critic.split_at_start(self.critic.last_layers(own))
        if config.popart:
            self.values = self.parts["values"] = PopArt(env.tasks, POPART_RATE).to(self.device)
        self.critic.to(self.device)
        self.nets = (self.actor.net, self.critic)
        parameters = [parameter for net in self.nets for parameter in net.parameters()]
        self.optimizer = self.adam(parameters, config.lr, ADAM_EPS)
        self.parts |= {"actor": self.actor, "critic": self.critic, "optimizer": self.optimizer}

    def step(self) -> Metrics:
        """One iteration: a rollout of every task, and the epochs over it."""
        self.schedule_rates()
        rollout = self.collect()
        batch = self.batch_of(rollout)
        self.values.update(batch.target, [self.critic.head()])
        metrics = self.improve(batch)
        self.update_normalizer(rollout)
        return {"reward": float(rollout.reward.mean()), **metrics}

    def update_normalizer(self, rollout: Rollout) -> None:
        """Update the statistics of the observations with a rollout."""
        self.actor.normalizer.update(by_task(rollout.obs))

    @torch.no_grad()
    def collect(self) -> Rollout:
        """S steps of all environments with the current policy."""
        layers = self.actor.net.layers(self.actor.net.blocks())

        def act(obs: Tensor, noise: Tensor) -> Tensor:
            mean, log_std = self.actor.outputs(layers, self.actor.normalize(obs))
            return mean + log_std.exp() * noise

        return self.roll_out(act, self.steps)

    @torch.no_grad()
    def batch_of(self, rollout: Rollout) -> Batch:
        """Values, advantages and probabilities of a rollout."""
        x = self.actor.normalize(by_task(rollout.obs))  # (T, S n, in)
        after = self.actor.normalize(by_task(rollout.next_obs))
        critic = self.critic.layers(self.critic.blocks())
        value, next_value = (
            by_step(self.value(critic, inputs), self.steps) for inputs in (x, after)
        )
        scaled = rollout._replace(reward=self.config.reward_scale * rollout.reward)
        advantage = advantages(scaled, value, next_value, self.config.gamma, self.config.lam)
        target = by_task(advantage + value)
        advantage = by_task(advantage)  # (T, S n)
        over = (0, 1) if self.config.pooled_advantages else 1
        spread = advantage.std(dim=over, correction=0, keepdim=True) + 1e-8
        advantage = (advantage - advantage.mean(dim=over, keepdim=True)) / spread
        actor = self.actor.net.layers(self.actor.net.blocks())
        action = by_task(rollout.action)
        log_prob = normal_log_prob(action, *self.actor.outputs(actor, x))
        return Batch(x, after, action, log_prob, advantage, target)

    def value(self, layers: Sequence[Tensor], x: Tensor) -> Tensor:
        """V (T, B) of x (T, B, in), with the layers of the value function."""
        return self.values.restore(self.critic.run(layers, x)[..., 0])

    def improve(self, batch: Batch) -> Metrics:
        """The epochs over a batch; the metrics are means over its minibatches."""
        count = batch.log_prob.shape[1]
        size = min(self.config.minibatch, count)
        losses = []  # (3,) of every minibatch
        # in one tensor, so that a minibatch is one gather
        flags = torch.stack([batch.log_prob, batch.advantage, batch.target], dim=-1)
        table = torch.cat([batch.x, batch.next_x, batch.action, flags], dim=-1)  # (T, B, width)
        widths = [*(part.shape[-1] for part in (batch.x, batch.next_x, batch.action)), 1, 1, 1]
        task = torch.arange(self.env.tasks, device=self.device)[:, None]
        for _ in range(self.config.epochs):
            drawn = torch.rand(batch.log_prob.shape, generator=self.generator, device=self.device)
            shuffled = table[task, drawn.argsort(dim=1)]
            for rows in shuffled[:, : count // size * size].split(size, dim=1):
                x, next_x, action, *scalars = rows.split(widths, dim=-1)
                minibatch = Batch(x, next_x, action, *(scalar[..., 0] for scalar in scalars))
                losses.append(self.update_on(minibatch))
                self.updates += 1
        means = torch.stack(losses).mean(dim=0).tolist()
        return dict(zip(("policy_loss", "value_loss", "entropy"), means, strict=True))

    def update_on(self, batch: Batch) -> Tensor:
        """One step of the optimiser on a minibatch; returns means over tasks of the loss of the
        policy, the loss of the value function, and the entropy (3,).
        """
        theta, critic = (net.leaves() for net in self.nets)
        losses = self.losses(batch, theta, critic)
        flat = (*theta, *critic)
        gradients = torch.autograd.grad(self.total(losses), flat, materialize_grads=True)
        self.descend(gradients[:2], gradients[2:])
        return losses.detach().mean(dim=1)

    def descend(self, policy: Sequence[Tensor], value: Sequence[Tensor]) -> None:
        """One step of the optimiser along the gradients of policy and value function, as
        SplitMLP.set_gradients takes them.
        """
        self.actor.net.set_gradients(*policy)
        self.critic.set_gradients(*value)
        self.optimizer.step()

    def task_gradients(self, batch: Batch) -> list[Tensor]:
        """g_i of the policy (T, P) and of the value function (T, P')."""
        thetas = [net.weights().detach().requires_grad_() for net in self.nets]
        return list(torch.autograd.grad(self.total(self.losses(batch, *thetas)), thetas))

    def total(self, losses: Tensor) -> Tensor:
        """The sum over tasks of what is minimised (), from what `losses` returned."""
        policy_loss, value_loss, entropy = losses
        total = policy_loss + self.config.value_weight * value_loss
        return (total - self.config.entropy_weight * entropy).sum()

    def losses(self, batch: Batch, theta: Theta, critic: Theta) -> Tensor:
        """Losses of policy and value function and the entropy of every task (3, T), as functions of
        the weights `theta` of the policy and `critic` of the value function.
        """
        layers = self.actor.net.layers(theta)
        mean, log_std = self.actor.outputs(layers, batch.x)
        # r(theta) = pi_theta(a|s) / pi_theta_old(a|s)
        ratio = (normal_log_prob(batch.action, mean, log_std) - batch.log_prob).exp()
        clipped = ratio.clamp(1.0 - self.config.clip, 1.0 + self.config.clip)
        # L_i = -E_Ri[min(r A, clip(r, 1 - eps, 1 + eps) A)]
        policy_loss = -torch.minimum(ratio * batch.advantage, clipped * batch.advantage).mean(dim=1)
        if self.config.smoothness:
            change = mean - self.actor.outputs(layers, batch.next_x)[0]
            policy_loss += self.config.smoothness * change.square().sum(dim=-1).mean(dim=1)
        value = self.value(self.critic.layers(critic), batch.x)
        # E[((V(s) - V_target) / sigma_i)^2]
        value_loss = ((value - batch.target) / self.values.sigma()).square().mean(dim=1)
        return torch.stack([policy_loss, value_loss, normal_entropy(log_std)[:, 0]])


PPOConfigT = TypeVar("PPOConfigT", bound=PPOConfig)


def tuned_ppo(config: PPOConfigT) -> PPOConfigT:
    """`config` with the settings of PPO and specialisation on robots: discount, rewards and
    smoothness as in polyreach.methods.off_policy.tuned_for_robots.
    """
    return replace(
        config,
        hidden=(256, 256),
        final_lr=0.05,
        gamma=0.95,
        reward_scale=0.1,
        smoothness=0.3,
        batch_steps=8192,
        minibatch=256,
        epochs=5,
        lr=1e-3,
        initial_std=0.5,
    )


METHOD = Method(
    name="ppo",
    paper=PAPER,
    learner=PPO,
    settings=PPOConfig(),
    tuned={"robot": tuned_ppo(PPOConfig())} | dict.fromkeys(BENCHMARKS, PPOConfig()),
)
