"""PiCor: multi-task deep reinforcement learning with policy correction (Bai et al. 2023, AAAI).

It differs from MTSAC in two ways: every K iterations one task z is drawn, on which the policy then
acts and improves, and every improvement is followed by a correction. Letters are the paper's: pi_t
the policy before an iteration, pi'_t after the soft actor-critic step on z (eq. 6, 7), pi_phi after
the correction, which minimises

    L(phi) = KL(pi_phi || pi'_t) + lambda/2 c_tilde(phi)^2                                    (10)
    c_tilde = max(0, c (1 - gamma) - sum_z w_z E_{s ~ B_z, a ~ pi_phi}[A^{pi_t}(s, a)])
    w = softmax(alpha / tau)                                                                   (9)

What the paper leaves open, and what is done here. c, lambda, tau and K are not given: see
PiCorConfig. d^{pi_t} is the replay of each task. A^{pi_t}(s, a) = min Q(s, a) - E_{a' ~ pi_t}[min
Q(s, a')] with the current critics, both expectations over the same states. How they are sampled is
not given: here a and a' are drawn independently, one a per state and `baseline_samples` a'. With
`common_noise` both are drawn with the same random numbers, so that an unchanged policy has
advantage 0 exactly and c_tilde is 0 after nearly every step. The divergence is that of the normal
distributions before tanh, which tanh does not change, on the same states. Line
16 of Algorithm 1, "update phi by minimizing L", is `correction_steps` steps of the actor's
optimiser; in the first of them the divergence is 0 and has no gradient, so it acts from the second
step on. The correction is skipped where c_tilde = 0 at pi'_t. Tasks are drawn uniformly; before the
first update all of them are explored with random actions.

Ablations (Table 2): without `adaptive_weights` every task has the weight 1/N ("Ada"); without
`correction` only the first phase is left ("Cor").
"""

import math
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from polyreach.envs.task_env import TaskEnv
from polyreach.errors import UserError, check_range
from polyreach.methods.learner import Metrics
from polyreach.methods.method import BENCHMARKS, Method
from polyreach.methods.mtsac import MTSAC, SACConfig, as_floats, tuned_sac
from polyreach.methods.off_policy import move_target, step_clipped
from polyreach.networks.gaussian import draw_action, normal_divergence

PAPER = "Bai et al. 2023, PiCor: Multi-Task Deep Reinforcement Learning with Policy Correction"


@dataclass(frozen=True)
class PiCorConfig(SACConfig):
    """Settings of PiCor."""

    task_steps: int = 1
    """Iterations between two draws of the task, K."""
    constraint: float = -0.01
    """Allowed loss of performance, c; negative, near 0."""
    penalty: float = 100.0
    """Weight of the constraint, lambda."""
    temperature: float = 1.0
    """Temperature of the softmax that weights the tasks, tau in eq. 9."""
    correction_steps: int = 2
    """Steps of the correction after each update of the policy."""
    common_noise: bool = False
    """Draw the actions of both expectations of the constraint with the same random numbers;
    otherwise independently.
    """
    baseline_samples: int = 1
    """Actions per state in the estimate of E_{a' ~ pi_t}[min Q(s, a')]; with `common_noise`, as
    many per state of the corrected policy too.
    """
    soft_advantage: bool = False
    """Include the entropy in the advantages: min Q(s, a) - alpha_z log pi(a|s) in place of min Q(s,
    a).
    """
    adaptive_weights: bool = True
    """Weight the tasks by their temperatures alpha; otherwise all tasks have the same weight."""
    correction: bool = True
    """Correct the policy; otherwise it is only improved on the task that was drawn."""

    def __post_init__(self) -> None:
        """Raise UserError for a value that no run can have."""
        super().__post_init__()
        check_range("task_steps", self.task_steps, 1)
        check_range("correction_steps", self.correction_steps, 1)
        check_range("baseline_samples", self.baseline_samples, 1)
        check_range("penalty", self.penalty, 0.0)
        check_range("temperature", self.temperature, 1e-6)
        if not (self.constraint <= 0 and math.isfinite(self.constraint)):
            raise UserError(f"constraint is {self.constraint:g}, but must be at most 0")


class Before(NamedTuple):
    """Values of the policy pi_t before both phases."""

    obs: Tensor  # (N, B, O), states of all tasks
    noise: Tensor  # (N, M B, A), by which M actions a ~ pi_phi per state are drawn
    bonus: Tensor  # (N, 1), alpha where the advantages count the entropy, else 0
    value: Tensor  # (N, B), E_{a' ~ pi_t}[min Q(s, a')], with the entropy where it counts


class PiCor(MTSAC):
    """Policy improvement on one task, then correction for all tasks."""

    config: PiCorConfig

    def __init__(self, config: PiCorConfig, env: TaskEnv, total_steps: int, seed: int) -> None:
        super().__init__(config, env, total_steps, seed)
        self.task = self.draw_task()
        self.iterations = 0
        self.corrections = 0  # since the last evaluation
        self.sums: Metrics = {}  # of their metrics

    def make_alpha_optimizer(self) -> torch.optim.Optimizer:
        """The optimiser of the temperatures; only that of the drawn task has a gradient."""
        # views, not copies: steps change the temperatures
        self.log_alphas = [nn.Parameter(row) for row in self.alpha.log_alpha.detach()]
        return self.adam(self.log_alphas, self.config.alpha_lr)

    def step(self) -> Metrics:
        """One iteration of Algorithm 1."""
        if self.updates == 0:
            reward = self.collect(None)
        else:
            # lines 3 to 5
            if self.iterations % self.config.task_steps == 0:
                self.task = self.draw_task()
            self.iterations += 1
            reward = self.collect([self.task])
        return {"reward": reward} | self.learn()

    def draw_task(self) -> int:
        """z ~ p(T), uniformly."""
        return int(
            torch.randint(self.env.tasks, (1,), generator=self.generator, device=self.device)
        )

    def update(self) -> Metrics:
        """Both phases, lines 10 to 16."""
        tasks = torch.tensor([self.task], device=self.device)
        # policy optimization phase on task z
        batch = self.sample([self.task])
        noise = self.normal(2, *batch.action.shape)
        metrics = self.update_critic(batch, noise[0], tasks)
        before = self.prepare_correction() if self.config.correction else None
        metrics |= self.update_actor(batch, noise[1], tasks)
        # policy correction phase on all tasks
        correction = self.correct_policy(before) if before is not None else {}
        move_target(self.target_critic, self.critic, self.config.tau)
        floats = as_floats(metrics | correction)
        self.corrections += before is not None
        self.sums = {name: self.sums.get(name, 0.0) + floats[name] for name in correction}
        return floats

    def take_means(self) -> Metrics:
        """Of the updates since the last call: the share that violated the constraint before the
        correction, and the means of c_tilde and of the weight of each task.
        """
        means = {name: total / self.corrections for name, total in self.sums.items()}
        self.corrections, self.sums = 0, {}
        return means

    @torch.no_grad()
    def prepare_correction(self) -> "Before":
        """The values that the correction compares with, on a new batch of every task."""
        obs = self.sample().obs  # (N, B, O)
        tasks, states, _ = obs.shape
        noise = self.normal(tasks, self.config.baseline_samples * states, self.env.action_size)
        bonus = self.alpha().detach().clone() * self.config.soft_advantage
        value = self.expected_value(obs, bonus, *self.actor.distribution(obs), noise)
        if not self.config.common_noise:
            noise = self.normal(tasks, states, self.env.action_size)
        return Before(obs, noise, bonus, value)

    def expected_value(
        self, obs: Tensor, bonus: Tensor, mean: Tensor, log_std: Tensor, noise: Tensor
    ) -> Tensor:
        """E_a[min Q(s, a) - bonus log pi(a|s)] (N, B) with the M actions per state that `noise`
        (N, M B, A) draws from the normal distributions (N, B, A).
        """
        samples = noise.shape[1] // obs.shape[1]
        obs, mean, log_std = (x.repeat(1, samples, 1) for x in (obs, mean, log_std))
        value = self.value(obs, bonus, *draw_action(mean, log_std, noise))  # (N, M B)
        return value.unflatten(1, (samples, -1)).mean(dim=1)

    def value(self, obs: Tensor, bonus: Tensor, action: Tensor, log_prob: Tensor) -> Tensor:
        """min Q(s, a) - bonus log pi(a|s) (N, B), in units of sigma_z; bonus: (N, 1), log_prob:
        (N, B).
        """
        q: Tensor = self.critic(obs, action).amin(dim=0)
        return (q - bonus * log_prob) / self.critic.values.sigma()

    def correct_policy(self, before: "Before") -> dict[str, Tensor]:
        """Move pi'_t, the current policy, towards the constraint set (line 16)."""
        obs, noise, bonus, value = before
        config = self.config
        tasks = self.env.tasks
        # w = softmax(alpha / tau)  (9)
        alpha = self.alpha().detach()[:, 0]
        weight = (
            task_weights(alpha, config.temperature)
            if config.adaptive_weights
            else torch.full_like(alpha, 1 / tasks)
        )
        with torch.no_grad():
            improved = self.actor.distribution(obs)
        metrics: dict[str, Tensor] = {}
        for step in range(config.correction_steps):
            mean, log_std = self.actor.distribution(obs)
            # A^{pi_t}(s, a) = min Q(s, a) - E_{a' ~ pi_t}[min Q(s, a')]
            now = self.expected_value(obs, bonus, mean, log_std, noise)
            advantage = (now - value).mean(dim=-1)  # (N,)
            violation = constraint_violation(advantage, weight, config.constraint, config.gamma)
            if step == 0:
                weights = zip(self.env.task_names, weight, strict=True)
                metrics = {"violated": (violation > 0).float(), "c_tilde": violation.detach()}
                metrics |= {f"weight_{name}": value for name, value in weights}
                if violation == 0:
                    break
            # L = KL(pi_phi || pi'_t) + lambda/2 c_tilde^2  (10)
            divergence = normal_divergence(mean, log_std, *improved).mean()
            loss = divergence + 0.5 * config.penalty * violation.square()
            gradients = torch.autograd.grad(loss, list(self.actor.parameters()))
            step_clipped(self.actor_optimizer, gradients, config.grad_clip)
        return metrics

    def update_alpha(self, log_prob: Tensor, tasks: Tensor | None) -> None:
        """Take one step of the temperature of the drawn task; log_prob: (1, B)."""
        self.alpha_optimizer.zero_grad()
        self.log_alphas[self.task].grad = -(log_prob + self.target_entropy).mean(dim=-1)  # (1,)
        self.alpha_optimizer.step()

    def state_dict(self) -> dict[str, Any]:
        """Everything that the rest of the run depends on."""
        return {
            **super().state_dict(),
            "task": self.task,
            "iterations": self.iterations,
            "corrections": self.corrections,
            "sums": self.sums,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what state_dict returned."""
        super().load_state_dict(state)
        self.task, self.iterations = state["task"], state["iterations"]
        # earlier versions have neither
        self.corrections, self.sums = state.get("corrections", 0), state.get("sums", {})


def task_weights(alpha: Tensor, temperature: float) -> Tensor:
    """w = softmax(alpha / tau) (N,), eq. 9."""
    return functional.softmax(alpha / temperature, dim=0)


def constraint_violation(advantage: Tensor, weight: Tensor, c: float, gamma: float) -> Tensor:
    """c_tilde = max(0, c (1 - gamma) - sum_z w_z A_z), for advantages and weights (N,), eq. 10."""
    return (c * (1 - gamma) - (weight * advantage).sum()).clamp(min=0)


# tau on the scale of the temperatures, which start low; lambda by `polyreach report picor-search`
TUNED = replace(tuned_sac(PiCorConfig()), temperature=0.01, penalty=1000.0)

METHOD = Method(
    name="picor",
    paper=PAPER,
    learner=PiCor,
    settings=PiCorConfig(),
    tuned={"robot": TUNED} | dict.fromkeys(BENCHMARKS, PiCorConfig()),
    old_settings={"common_noise": True},
)
