"""Gradient-guided policy specialisation (Yu et al. 2017, arXiv:1709.07979): one policy learns all
tasks jointly, then the weights on which the tasks disagree get a copy for each task.

Letters are the paper's: theta the policy's weights, N tasks, g_i the gradient of the PPO loss on
the rollout R_i of task i (eq. 5), v_j the variance of g_1[j] ... g_N[j] (Algorithm 1), M the number
of weights that stay shared, jt the samples of joint training, sp the share of weights that are
split. Everything else is PPO, see ppo.py.

What the paper leaves open, and what is done here: v_j is averaged over the last 10 iterations
before jt, each measured on the whole rollout before its epochs (`average` gradients: of their
sums); all of theta can be split,
including biases and standard deviations; a copy starts with the weight's value and with its moments
in Adam. sp = 0 is joint training, jt = 0 with sp = 1 a policy per task; the value function and the
statistics of the observations remain common to all tasks, as the paper's value function does. For
training that is separate in every respect, set `value_gradients` and `own_statistics` too. The
authors' public code uses the standard deviation instead of the variance, and also the gradients of
the value function: see `disagreement` and `value_gradients`.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor

from polyreach.envs.task_env import TaskEnv
from polyreach.errors import UserError, check_choice, check_range
from polyreach.methods.learner import Metrics
from polyreach.methods.method import BENCHMARKS, Method
from polyreach.methods.ppo import PPO, Batch, PPOConfig, tuned_ppo
from polyreach.methods.trained_policy import PolicyReader
from polyreach.networks.per_task_weights import SplitMLP

PAPER = "Yu et al. 2017, Multi-task Learning with Gradient Guided Policy Specialization"

DISAGREEMENT: dict[str, Callable[[Tensor], Tensor]] = {
    "variance": lambda g: g.var(dim=0, correction=0),
    "std": lambda g: g.std(dim=0, correction=0),
}
"""The disagreement per weight (P,), from the tasks' gradients (T, P)."""


@dataclass(frozen=True)
class SpecializationConfig(PPOConfig):
    """Settings of gradient-guided specialisation."""

    joint_steps: int = 400_000
    """Environment steps of joint training, in total over all tasks (the paper's jt)."""
    specialized: float = 0.25
    """Share of the weights that are split, 0 to 1 (the paper's sp)."""
    selection: Literal["gradient", "random"] = "gradient"
    """gradient: the weights on which the tasks disagree most. random: random weights (the paper's
    baseline).
    """
    disagreement: Literal["variance", "std"] = "variance"
    """Measure of the disagreement of the tasks' gradients; the authors' public code uses std."""
    average_iterations: int = 10
    """Iterations before the split over which `average` is taken."""
    average: Literal["disagreement", "gradients"] = "disagreement"
    """What is averaged over these iterations: the disagreement of each (Algorithm 1), which adds
    that of the gradients' noise, or the gradients, before their disagreement is taken.
    """
    value_gradients: bool = False
    """Split the value function as well, by the gradients of its loss."""

    def __post_init__(self) -> None:
        """Raise UserError for a value that no run can have."""
        super().__post_init__()
        check_range("joint_steps", self.joint_steps, 0)
        check_range("specialized", self.specialized, 0.0, 1.0)
        check_range("average_iterations", self.average_iterations, 1)
        check_choice(
            self,
            selection=("gradient", "random"),
            disagreement=DISAGREEMENT,
            average=("disagreement", "gradients"),
        )
        if self.guided and self.joint_steps == 0:
            raise UserError(
                "joint_steps is 0, so that there are no gradients to choose weights by: "
                f"specialized is {self.specialized:g}, but must be 0 or 1 then, or selection random"
            )

    @property
    def guided(self) -> bool:
        """Whether the weights to be split are chosen by gradients."""
        return self.selection == "gradient" and 0.0 < self.specialized < 1.0


class Specialization(PPO):
    """PPO whose policy is split after the joint phase."""

    config: SpecializationConfig

    def __init__(
        self, config: SpecializationConfig, env: TaskEnv, total_steps: int, seed: int
    ) -> None:
        super().__init__(config, env, total_steps, seed)
        self.candidates: tuple[SplitMLP, ...] = (
            self.nets if config.value_gradients else self.nets[:1]
        )
        # sums over iterations: of the disagreement (P,), or of the gradients (T, P)
        averaged = [
            net.own if config.average == "gradients" else net.shared for net in self.candidates
        ]
        self.measured = [torch.zeros_like(weights.detach()) for weights in averaged]
        self.joint = True
        self.split_if_due()

    def prepare(self, read: PolicyReader) -> None:
        """Raise UserError if nothing would be split, or if one task gives no disagreement."""
        config = self.config
        if self.env.tasks == 1 and config.guided:
            raise UserError(
                f"the environment has one task, so that no tasks disagree: specialized is "
                f"{config.specialized:g}, but must be 0 or 1, or selection random"
            )
        if config.specialized and config.joint_steps >= self.total_steps:
            raise UserError(
                f"joint_steps is {config.joint_steps}, but must be fewer than the "
                f"{self.total_steps} steps of the run: nothing would be split"
            )

    def improve(self, batch: Batch) -> Metrics:
        """The epochs over a batch; in the joint phase the disagreement is measured before them."""
        following = (self.config.average_iterations - 1) * self.steps * self.env.num_envs
        if self.joint and self.env_steps + following >= self.config.joint_steps:
            self.measure(batch)
        metrics = super().improve(batch)
        self.split_if_due()
        return {**metrics, "split": float(self.actor.net.split.float().mean())}

    def measure(self, batch: Batch) -> None:
        """Add what is averaged: each weight's disagreement between the tasks, or its gradients."""
        per_network = self.task_gradients(batch)[: len(self.candidates)]
        for total, gradients in zip(self.measured, per_network, strict=True):
            # v_j = variance(g_1[j], ..., g_N[j])
            total += gradients if self.averages_gradients else self.disagreement(gradients)

    @property
    def averages_gradients(self) -> bool:
        """Whether the gradients are averaged, and not their disagreement."""
        return self.config.average == "gradients"

    def disagreement(self, gradients: Tensor) -> Tensor:
        """Of the tasks on each weight (P,), by their gradients (T, P)."""
        return DISAGREEMENT[self.config.disagreement](gradients)

    def split_if_due(self) -> None:
        """Split at the end of the joint phase."""
        if not self.joint or self.env_steps < self.config.joint_steps:
            return
        self.joint = False
        for net, total in zip(self.candidates, self.measured, strict=True):
            score = self.disagreement(total) if self.averages_gradients else total
            if self.config.selection == "random":
                score = torch.rand(len(total), generator=self.generator, device=self.device)
            net.split_weights(largest(score, self.config.specialized), self.optimizer)

    def state_dict(self) -> dict[str, Any]:
        """Everything that the rest of the run depends on."""
        phase = {"joint": self.joint, "disagreement": self.measured}
        return {**super().state_dict(), **phase}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what state_dict returned."""
        super().load_state_dict(state)
        self.joint = state["joint"]
        self.measured = [total.to(self.device) for total in state["disagreement"]]


def largest(score: Tensor, share: float) -> Tensor:
    """Mask (P,) of the largest `share` of the scores (P,); the M smallest remain, of equal scores
    the first.
    """
    chosen = torch.zeros_like(score, dtype=torch.bool)
    smallest = score.argsort(stable=True)[: len(score) - round(share * len(score))]
    chosen[smallest] = True
    return ~chosen


TUNED = replace(tuned_ppo(SpecializationConfig()), joint_steps=300_000)

METHOD = Method(
    name="specialization",
    paper=PAPER,
    learner=Specialization,
    settings=SpecializationConfig(),
    tuned={"robot": TUNED} | dict.fromkeys(BENCHMARKS, SpecializationConfig()),
)
