"""What every learner has: a policy, a place in the run, random numbers, optimisers whose rates
fall, and a state that can be saved at any step.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from typing import Any, Protocol

import torch
from torch import Tensor

from polyreach.envs.task_env import TaskEnv, TaskStep
from polyreach.methods.trained_policy import PolicyReader
from polyreach.networks.policy import Policy, RobotPolicy
from polyreach.storage.rollout import Rollout

Metrics = dict[str, float]
NoisyAct = Callable[[Tensor, Tensor], Tensor]
"""Observations (T', n, O) and standard normal noise (T', n, A) -> actions (T', n, A)."""


class RateConfig(Protocol):
    """Settings of a learner whose rates fall."""

    @property
    def final_lr(self) -> float:
        """All rates fall linearly to this share of themselves at the last step."""


class Learner(ABC):
    """Collects, updates, and can be saved at any step of the `total_steps` steps of `env`."""

    env: TaskEnv
    actor: Policy

    def __init__(self, config: RateConfig, env: TaskEnv, total_steps: int, seed: int) -> None:
        self.final_lr, self.env, self.total_steps = config.final_lr, env, total_steps
        self.device = env.device
        torch.manual_seed(seed)
        self.generator = torch.Generator(device=self.device)
        self.generator.manual_seed(seed + 1)
        self.obs = env.reset(seed + 2)
        self.env_steps = 0
        self.updates = 0
        # parts of the state: whatever has a state_dict, and optimisers with their rates
        self.parts: dict[str, Any] = {"env": env}
        self.rates: dict[torch.optim.Optimizer, float] = {}

    @abstractmethod
    def step(self) -> Metrics:
        """One step of the environments or one rollout, and the updates after it; scalars to log."""

    def take_means(self) -> Metrics:
        """Means of scalars over the updates since the last call, for the record of an evaluation;
        none by default.
        """
        return {}

    def policy(self, obs: Tensor) -> Tensor:
        """The actions without noise (T, n, A) for observations (T, n, O) of all tasks."""
        return self.actor.mean_action(obs)

    def robot_policy(self) -> RobotPolicy:
        """The policy as what drives a robot. Raises UserError if the environment has none."""
        return self.env.robot_policy(self.actor)

    def prepare(self, read: PolicyReader) -> None:  # noqa: B027
        """What a new run does first; `read` reads the trained policies that it starts from.

        Raises UserError for a run that cannot be.
        """

    def resume(self, state: dict[str, Any], read: PolicyReader) -> None:
        """Restore what state_dict returned; `read` reads the trained policies that the run needs.

        Raises UserError if they have changed since.
        """
        self.load_state_dict(state)

    def normal(self, *shape: int) -> Tensor:
        """Standard normal numbers."""
        return torch.randn(shape, generator=self.generator, device=self.device)

    def advance(self, action: Tensor, tasks: list[int] | None = None) -> TaskStep:
        """One step of the environments of `tasks`, all if None."""
        step = self.env.step(action, tasks)
        # never in place: an environment may return its own buffer
        following = self.obs.clone()
        following[slice(None) if tasks is None else tasks] = step.obs
        self.obs = following
        self.env_steps += step.terminated.numel()
        return step

    @torch.no_grad()
    def roll_out(self, act: NoisyAct, steps: int, tasks: list[int] | None = None) -> Rollout:
        """`steps` steps of the environments of `tasks`, all if None, with the actions of `act`."""
        rows = slice(None) if tasks is None else tasks
        shape = self.obs[rows].shape[:2]
        noise = self.normal(steps, *shape, self.env.action_size)
        transitions = []
        for step_noise in noise:
            obs = self.obs[rows]
            action = act(obs, step_noise)
            step = self.advance(action, tasks)
            ended = step.terminated | step.truncated
            transitions.append((obs, action, step.reward, step.terminated, ended, step.final_obs))
        return Rollout(*(torch.stack(column) for column in zip(*transitions, strict=True)))

    def adam(
        self, parameters: Iterable[Tensor], rate: float, eps: float = 1e-8
    ) -> torch.optim.Optimizer:
        """Adam in one fused kernel, at a rate that follows the schedule."""
        optimizer = torch.optim.Adam(parameters, lr=rate, eps=eps, fused=True)
        self.rates[optimizer] = rate
        return optimizer

    @property
    def done(self) -> float:
        """The share of the run after which the learning rates are those of now, 0 to 1."""
        return min(1.0, self.env_steps / self.total_steps)

    def schedule_rates(self) -> None:
        """Let the learning rates fall as `final_lr` says."""
        scale = 1.0 + self.done * (self.final_lr - 1.0)
        for optimizer, rate in self.rates.items():
            for group in optimizer.param_groups:
                group["lr"] = rate * scale

    def state_dict(self) -> dict[str, Any]:
        """Everything that the rest of the run depends on."""
        numbers = {"env_steps": self.env_steps, "updates": self.updates}
        parts = {name: part.state_dict() for name, part in self.parts.items()}
        return {**parts, **numbers, "obs": self.obs, "generator": self.generator.get_state()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what state_dict returned; the run then goes on as if it had never stopped."""
        for name, part in self.parts.items():
            part.load_state_dict(state[name])
        self.env_steps, self.updates = state["env_steps"], state["updates"]
        self.obs = state["obs"].to(self.device)
        self.generator.set_state(state["generator"])
