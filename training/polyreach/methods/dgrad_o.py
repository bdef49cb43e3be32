"""D-Grad (O): deconflicting gradients via optimisation (d-grad-2019, section 4.3, algorithm 1);
published later as gradient surgery, PCGrad (Yu et al. 2020, arXiv:2001.06782).

It differs from MTSAC in one step: the gradients of the tasks are projected before they are summed,
in actor and critics. g_i is the gradient of task i, K the number of tasks.

What the paper leaves open, and what is done here. Algorithm 1 does not state whether line 7
uses the original g_j or the projected one; here it is the original. Its order of the tasks j is
fixed; a new random order for every i (as in PCGrad) is an option. The paper sums the projected
gradients; their mean is an option, which matters only where gradients are clipped. There is one
projection for the twin critics together: g_i is the gradient of the sum of both losses by the
weights of both, so that a conflict in one critic also changes the step of the other.

The projections depend only on inner products, and the result is a linear combination of the g_i.
The algorithm therefore runs on the K x K inner products and gives one weight per task.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from polyreach.errors import check_choice
from polyreach.methods.method import BENCHMARKS, Method
from polyreach.methods.mtsac import SACConfig, tuned_sac
from polyreach.methods.surgery import GradientSurgery

PAPER = "Yu et al. 2019, Multi-Task Reinforcement Learning without Interference: D-Grad (O)"


@dataclass(frozen=True)
class DGradOConfig(SACConfig):
    """Settings of D-Grad (O)."""

    hidden: tuple[int, ...] = (160,) * 6
    """Widths of the hidden layers (the paper: six of 160)."""
    combine: Literal["sum", "mean"] = "sum"
    """How the projected gradients are combined (the paper: their sum)."""
    order: Literal["fixed", "random"] = "fixed"
    """Order in which a gradient is projected against the others (the paper: fixed)."""

    def __post_init__(self) -> None:
        """Raise UserError for a value that no run can have."""
        super().__post_init__()
        check_choice(self, combine=("sum", "mean"), order=("fixed", "random"))


class DGradO(GradientSurgery):
    """MTSAC with projected gradients."""

    config: DGradOConfig

    def combine(self, gradients: Tensor) -> Tensor:
        """The sum of the projected gradients, or their mean (Algorithm 1, line 12)."""
        return self.task_weights(gradients @ gradients.T) @ gradients

    def combine_stacks(self, stacks: Sequence[Tensor]) -> list[Tensor]:
        """The same, parameter by parameter, without building the vectors (K, P)."""
        weight = self.task_weights(inner_products(stacks))  # (K,)
        return [torch.einsum("k,mkio->mio", weight, stack)[:, None] for stack in stacks]

    def task_weights(self, gram: Tensor) -> Tensor:
        """Weights (K,) of the gradients g_i in the combined one, from their inner products
        (K, K).
        """
        tasks = len(gram)
        order = (
            fixed_order(tasks, gram.device)
            if self.config.order == "fixed"
            else random_order(tasks, self.generator)
        )
        weight = project_conflicts(gram.double(), order).sum(dim=0)
        return (weight if self.config.combine == "sum" else weight / tasks).to(gram.dtype)


def project_conflicts(gram: Tensor, order: Tensor) -> Tensor:
    """Algorithm 1, lines 1 to 11: row i holds the coefficients (K,) of the projected gradient of
    task i in terms of the original ones.

    gram: (K, K) inner products g_i . g_j. order: (K, K - 1), row i the tasks j in their order.
    """
    coefficients = torch.eye(len(gram), dtype=gram.dtype, device=gram.device)
    squared_norm = gram.diagonal().clamp(min=torch.finfo(gram.dtype).tiny)
    for j in order.T:
        # g_i . g_j with the projected g_i, for all i at once
        product = (coefficients * gram[j]).sum(dim=1)
        # g_i <- g_i - (g_i . g_j / |g_j|^2) g_j where g_i . g_j < 0
        share = product.clamp(max=0) / squared_norm[j]
        coefficients = coefficients.scatter_add(1, j[:, None], -share[:, None])
    return coefficients


def fixed_order(tasks: int, device: torch.device | None = None) -> Tensor:
    """(K, K - 1): for every task the others, first to last."""
    others = torch.arange(tasks - 1, device=device).expand(tasks, -1)
    return others + (others >= torch.arange(tasks, device=device)[:, None])


def random_order(tasks: int, generator: torch.Generator) -> Tensor:
    """(K, K - 1): for every task the others, in a random order drawn for each row."""
    keys = torch.rand(tasks, tasks - 1, generator=generator, device=generator.device)
    return fixed_order(tasks, generator.device).gather(1, keys.argsort(dim=1))


def inner_products(stacks: Sequence[Tensor]) -> Tensor:
    """g_i . g_j (K, K) of gradients that are stacks of tensors (M, K, in, out)."""
    rows = [stack.flatten(2) for stack in stacks]  # (M, K, in out)
    return torch.stack([(row @ row.mT).sum(dim=0) for row in rows]).sum(dim=0)


METHOD = Method(
    name="dgrad-o",
    paper=PAPER,
    learner=DGradO,
    settings=DGradOConfig(),
    tuned={"robot": tuned_sac(DGradOConfig())} | dict.fromkeys(BENCHMARKS, DGradOConfig()),
)
