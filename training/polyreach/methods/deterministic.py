"""What the deterministic policy gradient methods for robots share: lines 1 to 10 and 12 of
Algorithm 1 of digrad-2018.

A method adds how its critic and its actor are updated (line 11): see ddpg.py and digrad.py.
"""

import copy
from abc import abstractmethod
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from polyreach.envs.reach.effector_reach import EffectorReachEnv
from polyreach.errors import UserError, check_range
from polyreach.methods.learner import Metrics
from polyreach.methods.off_policy import OffPolicyConfig, OffPolicyLearner, move_target
from polyreach.networks.actor_critic import Activation, Actor, Critic, CriticKind, ReachPolicy
from polyreach.robot.features import FEATURES, FeatureSet
from polyreach.storage.replay import Batch


@dataclass(frozen=True)
class DeterministicConfig(OffPolicyConfig):
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
    gamma: float = 0.99
    """Discount factor (the paper: 0.99)."""
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
    relabel: float = 0.0
    """Share of each batch whose goals are replaced by fresh ones (Andrychowicz et al. 2017)."""
    grad_clip: float = 10.0
    """Norm at which the gradients of actor and critic are clipped."""

    def __post_init__(self) -> None:
        """Raise UserError for a value that no run can have."""
        super().__post_init__()
        check_range("relabel", self.relabel, 0.0, 1.0)
        for name in ("target_noise", "noise_start", "noise_end"):
            check_range(name, getattr(self, name), 0.0)
        check_range("noise_steps", self.noise_steps, 1)
        if self.handover and self.features != "kinematic":
            raise UserError(f"handover needs features 'kinematic', not '{self.features}'")


class Step(NamedTuple):
    """A batch with what an update needs; T rewards, each with a weight that is 0 where its task is
    not active.
    """

    features: Tensor  # (B, F)
    action: Tensor  # (B, nu)
    reward: Tensor  # (B, T)
    weight: Tensor  # (B, T)
    active: Tensor  # (B, E)
    next_features: Tensor  # (B, F)


class DeterministicLearner(OffPolicyLearner):
    """Collects with noise on the policy's actions, and moves target networks after each update."""

    env: EffectorReachEnv
    actor: ReachPolicy
    config: DeterministicConfig

    def __init__(
        self,
        config: DeterministicConfig,
        env: EffectorReachEnv,
        total_steps: int,
        seed: int,
        action_sets: Tensor,
        critic: CriticKind,
    ) -> None:
        if config.replay_size < max(config.batch_size, env.num_envs):
            raise UserError(
                f"replay_size is {config.replay_size}, but must hold a batch of "
                f"{config.batch_size} and a step of {env.num_envs} environments"
            )
        super().__init__(config, env, total_steps, seed)
        robot = env.robots.robot
        features = FEATURES[config.features](robot, inputs=env.robots.layout.inputs)
        mu = Actor(
            features.size, config.hidden, env.action_size, config.activation, config.handover
        )
        self.actor = ReachPolicy(features, mu, torch.tensor(robot.action_sets)).to(self.device)
        self.critic = Critic(
            2 if config.twin else 1,
            features.size,
            config.hidden,
            action_sets,
            critic,
            config.activation,
            config.layer_norm,
        ).to(self.device)
        self.target_actor = copy.deepcopy(self.actor.mu).requires_grad_(False)
        self.target_critic = copy.deepcopy(self.critic).requires_grad_(False)
        optimizer = torch.optim.RMSprop if config.optimizer == "rmsprop" else torch.optim.Adam
        self.actor_optimizer = optimizer(self.actor.mu.parameters(), lr=config.actor_lr)
        self.critic_optimizer = optimizer(self.critic.parameters(), lr=config.critic_lr)
        self.rates |= {
            self.actor_optimizer: config.actor_lr,
            self.critic_optimizer: config.critic_lr,
        }
        self.parts |= {
            "actor": self.actor,
            "critic": self.critic,
            "target_actor": self.target_actor,
            "target_critic": self.target_critic,
            "actor_optimizer": self.actor_optimizer,
            "critic_optimizer": self.critic_optimizer,
        }

    @abstractmethod
    def update_critic(self, step: Step) -> Metrics:
        """Take one critic step."""

    @abstractmethod
    def update_actor(self, step: Step) -> Metrics:
        """Take one actor step."""

    @property
    def first_update(self) -> int:
        """Steps of the environments before the first update."""
        return self.config.learning_starts

    @property
    def noise_scale(self) -> float:
        """Standard deviation of the exploration noise now."""
        done = min(1.0, self.env_steps / self.config.noise_steps)
        return self.config.noise_start + done * (self.config.noise_end - self.config.noise_start)

    def explore(self, obs: Tensor, tasks: Tensor | None) -> Tensor:
        """a_t = mu(s_t) + N (Algorithm 1, line 7)."""
        noise = self.normal(*obs.shape[:2], self.env.action_size)
        return (self.policy(obs) + self.noise_scale * noise).clamp(-1.0, 1.0)

    def behave(self, obs: Tensor, tasks: Tensor | None) -> Tensor:
        """From the first step on what `explore` does."""
        return self.explore(obs, tasks)

    def step(self) -> Metrics:
        """One step of all environments and the updates after it (Algorithm 1, lines 7 to 12)."""
        return super().step() | {"noise": self.noise_scale}

    def update(self) -> Metrics:
        """One update of critic, actor and targets on a fresh batch."""
        step = self.look_up(self.sample())
        metrics = self.update_critic(step) | self.update_actor(step)
        # theta' <- tau theta + (1 - tau) theta' (Algorithm 1, line 12)
        move_target(self.target_actor, self.actor.mu, self.config.tau)
        move_target(self.target_critic, self.critic, self.config.tau)
        return metrics

    def sample(self, tasks: list[int] | None = None) -> Batch:
        """A batch (1, B, .), rewards as they were."""
        shape = (1, self.config.batch_size)
        index = torch.randint(
            self.replay.size[0], shape, generator=self.generator, device=self.device
        )
        return self.replay.take(index)

    def target(self, step: Step) -> Tensor:
        """y_i = r_i + gamma Q'_i(s', mu'(s')), (B, T); the smaller of two critics where there are
        two.
        """
        with torch.no_grad():
            action = self.actor.act(step.next_features, step.active, self.target_actor)
            if self.config.target_noise > 0:
                noise = self.normal(*action.shape)
                action = (action + (self.config.target_noise * noise.clamp(-2, 2))).clamp(-1, 1)
            q: Tensor = self.target_critic(step.next_features, action).amin(dim=0)
            return self.config.reward_scale * step.reward + self.config.gamma * q

    def apply(self, optimizer: torch.optim.Optimizer, parameters: list[nn.Parameter]) -> float:
        """Clip gradients of `parameters`, step `optimizer`; returns the norm before clipping."""
        norm = nn.utils.clip_grad_norm_(parameters, self.config.grad_clip)
        optimizer.step()
        return float(norm)

    @torch.no_grad()
    def look_up(self, batch: Batch) -> Step:
        """The features of a batch (1, B, .), its goals relabelled as the settings say."""
        robots = self.env.robots
        obs, next_obs, reward = batch.obs[0], batch.next_obs[0], batch.reward[0]
        if self.config.relabel > 0:
            obs, next_obs = self.relabel_goals(obs, next_obs)
        both, pose = self.actor.features(torch.cat([obs, next_obs]))
        features, next_features = both.chunk(2)
        parts = robots.layout.split(next_obs)
        if self.config.relabel > 0:
            error = robots.error_at(pose.frames[len(obs) :], parts)
            reward = robots.task_reward(error, parts)
        weight = parts.active if reward.shape[1] == robots.effectors else torch.ones_like(reward)
        return Step(features, batch.action[0], reward, weight, parts.active, next_features)

    def relabel_goals(self, obs: Tensor, next_obs: Tensor) -> tuple[Tensor, Tensor]:
        """Observations (B, O) before and after, with fresh goals in the share `relabel` of them."""
        count, robots = len(obs), self.env.robots
        fresh = robots.sample_goals(count, self.generator)
        chosen = (
            torch.rand(count, generator=self.generator, device=self.device) < self.config.relabel
        )
        layout = robots.layout
        before, after = (fresh.put(layout.split(rows), chosen) for rows in (obs, next_obs))
        return layout.flat(before), layout.flat(after)
