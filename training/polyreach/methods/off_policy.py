"""What the deterministic off-policy methods share: lines 1 to 10 and 12 of Algorithm 1 of
digrad-2018.

A method adds how its critic and its actor are updated (line 11): see ddpg.py and digrad.py.
"""

import copy
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, NamedTuple

import torch
from torch import Tensor, nn

from polyreach.envs.reach.reach import ReachEnv
from polyreach.errors import UserError, check_range, check_widths
from polyreach.networks.actor_critic import Activation, Actor, Critic
from polyreach.robot.features import (
    FEATURES,
    Features,
    FeatureSet,
    Observation,
    served_joints,
    split_observation,
)
from polyreach.storage.replay import Batch, Replay

Metrics = dict[str, float]


@dataclass(frozen=True)
class OffPolicyConfig:
    """Settings of the deterministic off-policy methods; the defaults are the `paper` preset."""

    hidden: tuple[int, ...] = (128, 128)
    """Widths of the hidden layers of actor and critics (the paper: two; their widths are not
    given).
    """
    activation: Activation = "crelu"
    """Activation of the hidden layers (the paper: CReLU)."""
    features: FeatureSet = "paper"
    """Features of the state: the paper's, or with kinematic directions; see
    polyreach.robot.features.
    """
    handover: bool = False
    """The actor outputs a configuration and blends into damped least squares near the goals."""
    layer_norm: bool = False
    """Normalise the critics' hidden layers (Ba et al. 2016)."""
    twin: bool = False
    """Take the smaller of two critics as target (Fujimoto et al. 2018)."""
    optimizer: Literal["rmsprop", "adam"] = "rmsprop"
    """Optimiser of actor and critic (the paper: RMSProp)."""
    actor_lr: float = 1e-4
    """Learning rate of the actor (the paper: 1e-4)."""
    critic_lr: float = 1e-3
    """Learning rate of the critic (the paper: 1e-3)."""
    final_lr: float = 1.0
    """Both learning rates fall linearly to this share of themselves at the last step."""
    gamma: float = 0.99
    """Discount factor (the paper: 0.99)."""
    reward_scale: float = 1.0
    """Factor on the rewards that the critic sees."""
    tau: float = 0.001
    """Share by which the target networks move at every update (DDPG's; the paper: much smaller than
    1).
    """
    target_noise: float = 0.0
    """Standard deviation of the noise on target actions (Fujimoto et al. 2018); it is clipped at
    twice that.
    """
    noise_start: float = 0.5
    """Standard deviation of the exploration noise at the first step, in units of the velocity
    limits.
    """
    noise_end: float = 0.05
    """Standard deviation of the exploration noise after its decay."""
    noise_steps: int = 1_000_000
    """Environment steps over which the noise decays linearly."""
    batch_size: int = 128
    """Transitions of an update."""
    replay_size: int = 500_000
    """Transitions that the replay buffer holds."""
    learning_starts: int = 5_000
    """Environment steps before the first update."""
    updates_per_step: int = 1
    """Updates after each step of all environments."""
    relabel: float = 0.0
    """Share of each batch whose goals are replaced by fresh ones (Andrychowicz et al. 2017)."""
    grad_clip: float = 10.0
    """Norm at which the gradients of actor and critic are clipped."""

    def __post_init__(self) -> None:
        """Raise UserError for a value that no run can have."""
        check_widths("hidden", self.hidden)
        for name in ("actor_lr", "critic_lr", "reward_scale", "grad_clip"):
            check_range(name, getattr(self, name), 1e-12)
        for name in ("final_lr", "gamma", "tau", "relabel"):
            check_range(name, getattr(self, name), 0.0, 1.0)
        for name in ("target_noise", "noise_start", "noise_end"):
            check_range(name, getattr(self, name), 0.0)
        counts = ("noise_steps", "batch_size", "replay_size", "learning_starts", "updates_per_step")
        for name in counts:
            check_range(name, getattr(self, name), 1)
        if self.handover and self.features != "kinematic":
            raise UserError(f"handover needs features 'kinematic', not '{self.features}'")


class Policy(nn.Module):
    """Features and actor together: observation (B, nu + 4 E) -> action (B, nu) in [-1, 1]."""

    def __init__(self, features: Features, actor: Actor, action_sets: Tensor) -> None:
        super().__init__()
        self.features, self.actor = features, actor
        self.action_sets: Tensor
        self.register_buffer("action_sets", action_sets.float())

    def forward(self, obs: Tensor) -> Tensor:
        """obs: (B, nu + 4 E)."""
        features, _ = self.features(obs)
        return self.act(features, split_observation(obs, self.features.effectors).active)

    def act(self, features: Tensor, active: Tensor, actor: Actor | None = None) -> Tensor:
        """Action (B, nu) of `actor`, or of the policy's own; joints that serve no active effector
        stand still.
        """
        action: Tensor = (actor or self.actor)(features)
        return action * served_joints(active, self.action_sets)


class Step(NamedTuple):
    """A batch as an update sees it; T rewards, each with a weight that is 0 where its task is not
    active.
    """

    features: Tensor  # (B, F)
    action: Tensor  # (B, nu)
    reward: Tensor  # (B, T)
    weight: Tensor  # (B, T)
    active: Tensor  # (B, E)
    next_features: Tensor  # (B, F)


class OffPolicyLearner(ABC):
    """Collects with the behaviour policy, samples from the replay, updates; `step` is one turn of
    that.
    """

    paper: ClassVar[str]

    def __init__(
        self,
        config: OffPolicyConfig,
        env: ReachEnv,
        total_steps: int,
        seed: int,
        action_sets: Tensor,
        multi: bool,
    ) -> None:
        if config.replay_size < max(config.batch_size, env.num_envs):
            raise UserError(
                f"replay_size is {config.replay_size}, but must hold a batch of "
                f"{config.batch_size} and a step of {env.num_envs} environments"
            )
        self.config, self.env, self.total_steps = config, env, total_steps
        self.device = env.device
        torch.manual_seed(seed)
        self.generator = torch.Generator(device=self.device)
        self.generator.manual_seed(seed + 1)
        features = FEATURES[config.features](env.robot)
        tasks, actions = action_sets.shape
        actor = Actor(features.size, config.hidden, actions, config.activation, config.handover)
        self.policy = Policy(features, actor, torch.tensor(env.robot.action_sets)).to(self.device)
        members = 2 if config.twin else 1
        self.critic = Critic(
            members,
            features.size,
            config.hidden,
            action_sets,
            multi,
            config.activation,
            config.layer_norm,
        ).to(self.device)
        self.target_actor = copy.deepcopy(self.policy.actor).requires_grad_(False)
        self.target_critic = copy.deepcopy(self.critic).requires_grad_(False)
        optimizer = torch.optim.RMSprop if config.optimizer == "rmsprop" else torch.optim.Adam
        self.actor_optimizer = optimizer(self.policy.actor.parameters(), lr=config.actor_lr)
        self.critic_optimizer = optimizer(self.critic.parameters(), lr=config.critic_lr)
        self.obs, _ = env.reset(seed=seed + 2, options={"stagger": True})
        self.replay = Replay(config.replay_size, self.obs.shape[1], actions, tasks, self.device)
        self.env_steps = 0
        self.updates = 0

    @abstractmethod
    def update_critic(self, step: Step) -> Metrics:
        """Take one critic step."""

    @abstractmethod
    def update_actor(self, step: Step) -> Metrics:
        """Take one actor step."""

    def prepare(self) -> None:
        """Raise UserError if the run is over before its first update."""
        if self.config.learning_starts > self.total_steps:
            raise UserError(
                f"steps is {self.total_steps}, but the first update comes after "
                f"{self.config.learning_starts} (learning_starts)"
            )

    def step(self) -> Metrics:
        """One step of all environments and the updates after it (Algorithm 1, lines 7 to 12)."""
        with torch.no_grad():
            noise = torch.randn(
                self.env.num_envs, self.env.joints, generator=self.generator, device=self.device
            )
            # a_t = mu(s_t) + N
            action = (self.policy(self.obs) + self.noise_scale * noise).clamp(-1.0, 1.0)
        next_obs, reward, _, _, infos = self.env.step(action)
        self.replay.add(Batch(self.obs, action, infos["task_reward"], infos["final_obs"]))
        self.obs = next_obs
        self.env_steps += self.env.num_envs
        metrics = {"reward": float(reward.mean()), "noise": self.noise_scale}
        if self.env_steps >= self.config.learning_starts:
            for _ in range(self.config.updates_per_step):
                metrics |= self.update()
        return metrics

    def update(self) -> Metrics:
        """One update of critic, actor and targets on a fresh batch."""
        self._schedule_rates()
        step = self._prepare(self.replay.sample(self.config.batch_size, self.generator))
        metrics = self.update_critic(step) | self.update_actor(step)
        self.move_targets()
        self.updates += 1
        return metrics

    def move_targets(self) -> None:
        """theta' <- tau theta + (1 - tau) theta' (Algorithm 1, line 12)."""
        with torch.no_grad():
            for target, network in (
                (self.target_actor, self.policy.actor),
                (self.target_critic, self.critic),
            ):
                torch._foreach_lerp_(
                    list(target.parameters()), list(network.parameters()), self.config.tau
                )

    @property
    def noise_scale(self) -> float:
        """Standard deviation of the exploration noise now."""
        done = min(1.0, self.env_steps / self.config.noise_steps)
        return self.config.noise_start + done * (self.config.noise_end - self.config.noise_start)

    def target(self, step: Step) -> Tensor:
        """y_i = r_i + gamma Q'_i(s', mu'(s')), (B, T); the smaller of two critics where there are
        two.
        """
        with torch.no_grad():
            action = self.policy.act(step.next_features, step.active, self.target_actor)
            if self.config.target_noise > 0:
                noise = torch.randn(action.shape, generator=self.generator, device=self.device)
                action = (action + (self.config.target_noise * noise.clamp(-2, 2))).clamp(-1, 1)
            q: Tensor = self.target_critic(step.next_features, action).amin(dim=0)
            return self.config.reward_scale * step.reward + self.config.gamma * q

    def apply(self, optimizer: torch.optim.Optimizer, parameters: list[nn.Parameter]) -> float:
        """Clip gradients of `parameters`, step `optimizer`; returns the norm before clipping."""
        norm = nn.utils.clip_grad_norm_(parameters, self.config.grad_clip)
        optimizer.step()
        return float(norm)

    def _prepare(self, batch: Batch) -> Step:
        effectors = self.env.effectors
        obs, next_obs, reward = batch.obs, batch.next_obs, batch.reward
        if self.config.relabel > 0:
            obs, next_obs = self._relabel_goals(obs, next_obs)
        with torch.no_grad():
            both, pose = self.policy.features(torch.cat([obs, next_obs]))
            features, next_features = both.chunk(2)
            parts = split_observation(next_obs, effectors)
            if self.config.relabel > 0:
                error = (parts.goals - pose.effector[len(obs) :]).norm(dim=-1)
                reward = self.env.task_reward(error, parts.active)
        weight = parts.active if reward.shape[1] == effectors else torch.ones_like(reward)
        return Step(features, batch.action, reward, weight, parts.active, next_features)

    def _relabel_goals(self, obs: Tensor, next_obs: Tensor) -> tuple[Tensor, Tensor]:
        count, effectors = len(obs), self.env.effectors
        goals, active = self.env.sample_goals(count, self.generator)
        chosen = (
            torch.rand(count, generator=self.generator, device=self.device) < self.config.relabel
        )
        before, after = split_observation(obs, effectors), split_observation(next_obs, effectors)
        goals = torch.where(chosen[:, None, None], goals, before.goals)
        active = torch.where(chosen[:, None], active, before.active)
        return Observation(before.joint_pos, goals, active).flat, Observation(
            after.joint_pos, goals, active
        ).flat

    def _schedule_rates(self) -> None:
        done = min(1.0, self.env_steps / self.total_steps)
        scale = 1.0 + done * (self.config.final_lr - 1.0)
        for optimizer, rate in (
            (self.actor_optimizer, self.config.actor_lr),
            (self.critic_optimizer, self.config.critic_lr),
        ):
            for group in optimizer.param_groups:
                group["lr"] = rate * scale

    _MODULES = (
        "policy",
        "critic",
        "target_actor",
        "target_critic",
        "actor_optimizer",
        "critic_optimizer",
        "replay",
        "env",
    )

    def state_dict(self) -> dict[str, Any]:
        """Everything that the rest of the run depends on."""
        parts = {name: getattr(self, name).state_dict() for name in self._MODULES}
        numbers = {"env_steps": self.env_steps, "updates": self.updates}
        return {**parts, **numbers, "obs": self.obs, "generator": self.generator.get_state()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what state_dict returned; the run then goes on as if it had never stopped."""
        for name in self._MODULES:
            getattr(self, name).load_state_dict(state[name])
        self.env_steps, self.updates = state["env_steps"], state["updates"]
        self.obs = state["obs"].to(self.device)
        self.generator.set_state(state["generator"])
