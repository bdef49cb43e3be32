"""KTM-DRL: knowledge transfer in multi-task deep reinforcement learning (Xu et al. 2020), a
baseline of PiCor (2023).

A run has three phases. First, every task has a teacher, trained by TD3 (Fujimoto et al. 2018,
arXiv:1802.09477); the teachers learn side by side in one batched update. Then, without environment
steps, one student for all tasks learns from the teachers' replay:

    critics: min E_{B_z}[(Q_1(s, a, z) - Q_1^z(s, a))^2 + (Q_2(s, a, z) - Q_2^z(s, a))^2]
    actor:   max E_{B_z}[Q_1^z(s, mu(s, z))]

with Q^z the critics of the teacher of task z. Last, the student is trained by TD3 on all tasks,
from a replay per task ("hierarchical experience replay"). The student is the policy that is
evaluated and exported.

What the papers leave open, and what is done here. The teachers' share of the environment steps
and the number of transfer updates are options; the teachers' steps count as steps of the run. The
replays keep the teachers' transitions until newer ones replace them, oldest first. The student's
target networks start as copies of its networks after the transfer. Noise on target actions is
clipped on both sides.
"""

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from polyreach.envs.task_env import TaskEnv
from polyreach.errors import UserError, check_range
from polyreach.methods.learner import Metrics
from polyreach.methods.method import BENCHMARKS, Method
from polyreach.methods.mtsac import as_floats
from polyreach.methods.off_policy import (
    OffPolicyLearner,
    TaskConditionedConfig,
    action_change,
    descend_apart,
    descend_together,
    move_target,
    tuned_for_robots,
)
from polyreach.methods.trained_policy import PolicyReader
from polyreach.networks.mlp import DeterministicActor, Sharing, TaskCritic, TaskMLP
from polyreach.storage.replay import Batch

Descend = Callable[[torch.optim.Optimizer, nn.Module, Tensor, float], Tensor]

PAPER = "Xu et al. 2020, Knowledge Transfer in Multi-Task Deep RL for Continuous Control (KTM-DRL)"


@dataclass(frozen=True)
class KTMConfig(TaskConditionedConfig):
    """Settings of KTM-DRL."""

    teacher_share: float = 0.5
    """Share of the run's environment steps in which the teachers are trained."""
    transfer_updates: int = 10_000
    """Updates of the student towards the teachers, without environment steps."""
    exploration_noise: float = 0.1
    """Standard deviation of the noise on actions (TD3's)."""
    target_noise: float = 0.2
    """Standard deviation of the noise on target actions (TD3's)."""
    target_noise_clip: float = 0.5
    """Bound of the noise on target actions, on both sides (TD3's)."""
    actor_every: int = 2
    """Updates of the critics per update of the actor (TD3's)."""

    def __post_init__(self) -> None:
        """Raise UserError for a value that no run can have."""
        super().__post_init__()
        check_range("teacher_share", self.teacher_share, 0.0, 1.0)
        check_range("transfer_updates", self.transfer_updates, 0)
        for name in ("exploration_noise", "target_noise", "target_noise_clip"):
            check_range(name, getattr(self, name), 0.0)
        check_range("actor_every", self.actor_every, 1)


class KTM(OffPolicyLearner):
    """A TD3 teacher per task, the transfer to the student, and TD3 on the student."""

    config: KTMConfig

    def __init__(self, config: KTMConfig, env: TaskEnv, total_steps: int, seed: int) -> None:
        if config.compile:
            raise UserError("compile is on, but KTM-DRL cannot be compiled")
        super().__init__(config, env, total_steps, seed)
        self.teachers = TD3(self, "none", descend_apart)
        self.student = TD3(self, "all", descend_together)
        self.actor = self.student.actor
        self.transferred = 0
        self.parts |= {"teachers": self.teachers, "student": self.student}

    def prepare(self, read: PolicyReader) -> None:
        """Raise UserError if the teachers or the student would have no updates."""
        super().prepare(read)
        share, each = self.config.teacher_share, self.env.num_envs
        # the teachers' last step is a whole one
        teacher_steps = math.ceil(share * self.total_steps / each) * each
        if not self.first_update <= teacher_steps < self.total_steps:
            raise UserError(
                f"the teachers' share of {share:g} of {self.total_steps} steps is {teacher_steps}, "
                f"but must be at least the {self.first_update} before the first update, and leave "
                "steps to the student"
            )

    @property
    def agent(self) -> "TD3":
        """The agents that act and learn by TD3 now: teachers or student."""
        done = not self.teaching and self.transferred == self.config.transfer_updates
        return self.student if done else self.teachers

    @property
    def teaching(self) -> bool:
        """Whether the run is in the phase of the teachers."""
        return self.env_steps < self.config.teacher_share * self.total_steps

    def explore(self, obs: Tensor, tasks: Tensor | None) -> Tensor:
        """a = mu(s) + noise."""
        action: Tensor = self.agent.actor(obs, tasks)
        noise = self.normal(*action.shape)
        return (action + self.config.exploration_noise * noise).clamp(-1, 1)

    def step(self) -> Metrics:
        """A step of all environments and the updates after it, or an update of the transfer."""
        if not self.teaching and self.transferred < self.config.transfer_updates:
            self.schedule_rates()
            metrics = self.transfer(self.sample())
            self.transferred += 1
            self.updates += 1
            return as_floats(metrics)
        return super().step()

    def update(self) -> Metrics:
        """One update of TD3 on a batch of every task."""
        batch = self.sample()
        with_actor = self.updates % self.config.actor_every == 0
        return as_floats(self.agent.update(batch, self.normal(*batch.action.shape), with_actor))

    def transfer(self, batch: Batch) -> dict[str, Tensor]:
        """One update of the student from the teachers."""
        teachers, student = self.teachers, self.student
        with torch.no_grad():
            target = teachers.critic(batch.obs, batch.action)  # Q_1^z, Q_2^z: (2, T, B)
        q = student.critic(batch.obs, batch.action)
        # E[(Q_1 - Q_1^z)^2 + (Q_2 - Q_2^z)^2]
        loss = twin_loss(q, target)  # (T,)
        student.descend(student.critic_optimizer, student.critic, loss, self.config.grad_clip)
        # max E[Q_1^z(s, mu(s, z))]
        value = teachers.critic(batch.obs, student.actor(batch.obs))[0].mean(dim=-1)  # (T,)
        actor_loss = -value
        if self.config.smoothness > 0:
            actor_loss = actor_loss + self.config.smoothness * action_change(student.actor, batch)
        student.descend(student.actor_optimizer, student.actor, actor_loss, self.config.grad_clip)
        student.target_actor.load_state_dict(student.actor.state_dict())
        student.target_critic.load_state_dict(student.critic.state_dict())
        return {"transfer_loss": loss.detach().mean(), "transfer_q": value.detach().mean()}

    def state_dict(self) -> dict[str, Any]:
        """Everything that the rest of the run depends on."""
        student = {"transferred": self.transferred, "actor": self.actor.state_dict()}
        return {**super().state_dict(), **student}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what state_dict returned."""
        super().load_state_dict(state)
        self.transferred = state["transferred"]


class TD3:
    """Twin delayed deterministic policy gradient on all tasks at once: an agent per task with
    `sharing` "none" and descend_apart, one for all with "all" and descend_together.
    """

    def __init__(self, learner: KTM, sharing: Sharing, descend: Descend) -> None:
        env, config = learner.env, learner.config
        self.config, self.descend = config, descend

        def body(members: int, inputs: int, outputs: int) -> TaskMLP:
            return TaskMLP(members, env.tasks, inputs, config.hidden, outputs, sharing)

        size = env.obs_size + env.action_size
        self.actor = DeterministicActor(body(1, env.obs_size, env.action_size)).to(env.device)
        self.critic = TaskCritic(body(2, size, 1), 2).to(env.device)
        self.target_actor = copy.deepcopy(self.actor).requires_grad_(False)
        self.target_critic = copy.deepcopy(self.critic).requires_grad_(False)
        self.actor_optimizer = learner.adam(self.actor.parameters(), config.actor_lr)
        self.critic_optimizer = learner.adam(self.critic.parameters(), config.critic_lr)

    def update(self, batch: Batch, noise: Tensor, with_actor: bool) -> dict[str, Tensor]:
        """One update on batch (T, B, .) with standard normal noise (T, B, A)."""
        config = self.config
        with torch.no_grad():
            # a' = mu'(s') + clip(epsilon, -c, c)
            clip = config.target_noise_clip
            epsilon = (config.target_noise * noise).clamp(-clip, clip)
            action = (self.target_actor(batch.next_obs) + epsilon).clamp(-1, 1)
            # y = r + gamma min Q'(s', a')
            q = self.target_critic(batch.next_obs, action).amin(dim=0)  # (2, T, B) -> (T, B)
            y = batch.reward + config.gamma * (1 - batch.terminated) * q
        q = self.critic(batch.obs, batch.action)  # (2, T, B)
        loss = twin_loss(q, y)  # (T,)
        critic_loss = loss.detach().mean()
        norm = self.descend(self.critic_optimizer, self.critic, loss, config.grad_clip)
        if with_actor:
            # max E[Q_1(s, mu(s))]
            value = self.critic(batch.obs, self.actor(batch.obs))[0].mean(dim=-1)  # (T,)
            loss = -value
            if config.smoothness > 0:
                loss = loss + config.smoothness * action_change(self.actor, batch)
            self.descend(self.actor_optimizer, self.actor, loss, config.grad_clip)
            move_target(self.target_actor, self.actor, config.tau)
            move_target(self.target_critic, self.critic, config.tau)
        return {"critic_loss": critic_loss, "critic_grad": norm, "q": q.detach().mean()}

    _PARTS = (
        "actor",
        "critic",
        "target_actor",
        "target_critic",
        "actor_optimizer",
        "critic_optimizer",
    )

    def state_dict(self) -> dict[str, Any]:
        """Networks and optimisers."""
        return {name: getattr(self, name).state_dict() for name in self._PARTS}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what state_dict returned."""
        for name in self._PARTS:
            getattr(self, name).load_state_dict(state[name])


def twin_loss(q: Tensor, target: Tensor) -> Tensor:
    """E[(Q_1 - y_1)^2 + (Q_2 - y_2)^2] of every task (T,), for q (2, T, B) and the targets y
    (2, T, B), or one target for both (T, B).
    """
    return (q - target).square().mean(dim=-1).sum(dim=0)


METHOD = Method(
    name="ktm",
    paper=PAPER,
    learner=KTM,
    settings=KTMConfig(),
    tuned={"robot": tuned_for_robots(KTMConfig())} | dict.fromkeys(BENCHMARKS, KTMConfig()),
)
