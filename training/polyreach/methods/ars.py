"""ARS: adaptive reward scaling (Cho et al. 2025, ICML, openreview.net/forum?id=U0mI6M7lvI).

It differs from MTSAC in two ways: the rewards of every task are scaled so that the tasks' rewards
in the replay are of one magnitude, and networks are reinitialised several times in a run, when new
scales are taken; the replay is kept. Letters are the paper's: D_i the replay of task i, c_i its
scale (eq. 6).

    c_i = max_j r_j / r_i,   r_i = E_{D_i}[|r|]

The first scales are taken before the first update. Where rewards are not negative, as those of
Meta-World, r_i is the mean reward as in the paper.

What the paper leaves open, and what is done here. Networks, batches and rates are those of
mtsac.py, so that both methods can be compared. n resets divide the steps of a run into n + 1 equal
parts. A reset also forgets the moments of the optimisers and sets
the temperatures to their start. A task without any reward in its replay has the scale 1.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from polyreach.envs.task_env import TaskEnv
from polyreach.errors import UserError, check_range
from polyreach.methods.learner import Metrics
from polyreach.methods.method import BENCHMARKS, Method
from polyreach.methods.mtsac import MTSAC, SACConfig, tuned_sac
from polyreach.methods.trained_policy import PolicyReader
from polyreach.storage.replay import Batch

PAPER = "Cho et al. 2025, ARS: Adaptive Reward Scaling for Multi-Task Reinforcement Learning"


@dataclass(frozen=True)
class ARSConfig(SACConfig):
    """Settings of ARS."""

    resets: int = 4
    """Resets in a run, evenly spaced (the paper: 4 on MT10, 6 on MT50)."""

    def __post_init__(self) -> None:
        """Raise UserError for a value that no run can have."""
        super().__post_init__()
        check_range("resets", self.resets, 0)


class ARS(MTSAC):
    """MTSAC with scaled rewards and resets."""

    config: ARSConfig

    def __init__(self, config: ARSConfig, env: TaskEnv, total_steps: int, seed: int) -> None:
        super().__init__(config, env, total_steps, seed)
        self.scale = torch.ones(env.tasks, 1, device=self.device)  # c
        self.resets_done = 0

    def prepare(self, read: PolicyReader) -> None:
        """Raise UserError if the first reset came before the first update."""
        super().prepare(read)
        if self.config.resets and self.next_reset < self.first_update:
            raise UserError(
                f"resets is {self.config.resets}, so that the first comes after "
                f"{self.next_reset:.0f} of {self.total_steps} steps, but the first update comes "
                f"after {self.first_update}"
            )

    @property
    def next_reset(self) -> float:
        """Steps of the environments after which the next reset is due."""
        return (self.resets_done + 1) * self.total_steps / (self.config.resets + 1)

    def sample(self, tasks: list[int] | None = None) -> Batch:
        """A batch of each of `tasks`, rewards scaled."""
        batch = super().sample(tasks)
        scale = self.scale if tasks is None else self.scale[tasks]
        return batch._replace(reward=scale * batch.reward)

    def learn(self) -> Metrics:
        """The updates that follow a step, and the reset if one is due."""
        if self.updates == 0 and self.env_steps >= self.first_update:
            self.take_scales()
        metrics = super().learn()
        if self.resets_done < self.config.resets and self.env_steps >= self.next_reset:
            self.take_scales()
            self.reinitialize()
            self.resets_done += 1
        return {**metrics, "resets": self.resets_done, "scale_max": float(self.scale.max())}

    def take_scales(self) -> None:
        """Scale rewards by what is in the replay now."""
        self.scale = reward_scales(
            torch.stack([rewards.double().abs().mean() for rewards in self.replay.rewards()])
        )

    def reinitialize(self) -> None:
        """New networks, temperatures and optimisers; optimisers and targets keep their tensors."""
        seed = torch.randint(2**62, (1,), generator=self.generator, device=self.device)
        # weights are drawn from PyTorch's generator, which is not part of a run's state
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(int(seed))
            actor, critic = self.new_actor(), self.new_critic()
        self.actor.load_state_dict(actor.state_dict())
        self.critic.load_state_dict(critic.state_dict())
        self.target_critic.load_state_dict(critic.state_dict())
        with torch.no_grad():
            self.alpha.log_alpha.fill_(self.config.initial_alpha).log_()
        for optimizer in self.rates:
            optimizer.state.clear()

    def state_dict(self) -> dict[str, Any]:
        """Everything that the rest of the run depends on."""
        return {**super().state_dict(), "scale": self.scale, "resets_done": self.resets_done}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what state_dict returned."""
        super().load_state_dict(state)
        self.scale, self.resets_done = state["scale"].to(self.device), state["resets_done"]


def reward_scales(magnitude: Tensor) -> Tensor:
    """c (N, 1) for mean rewards r (N,), none negative; 1 where r is 0."""
    # c_i = max_j r_j / r_i  (6)
    scale = magnitude.max() / magnitude
    return torch.where(magnitude > 0, scale, 1.0)[:, None].float()


METHOD = Method(
    name="ars",
    paper=PAPER,
    learner=ARS,
    settings=ARSConfig(),
    tuned={"robot": tuned_sac(ARSConfig())} | dict.fromkeys(BENCHMARKS, ARSConfig()),
)
