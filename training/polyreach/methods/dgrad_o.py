"""D-Grad (O): deconflicting gradients via optimisation (d-grad-2019, section 4.3, algorithm 1);
published later as gradient surgery, PCGrad (Yu et al. 2020, arXiv:2001.06782).

It differs from MTSAC in one step: the gradients of the tasks are projected before they are added
up, in actor and critics. g_i is the gradient of task i, K the number of tasks.

What the paper leaves open, and what is done here. Algorithm 1 does not say whether line 7 uses the
original g_j or the projected one: the original. Its order of the tasks j is fixed; a fresh random
order for every i (as in PCGrad) is an option. The paper adds the projected gradients; their mean is
an option, which matters to the clipping of gradients only.

Only inner products decide what is projected, and the result is a combination of the g_i. So the
algorithm runs on the K x K inner products and ends in one weight per task.
"""

import copy
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from polyreach.envs.task_env import TaskEnv
from polyreach.errors import check_choice
from polyreach.methods.method import BENCHMARKS, Method
from polyreach.methods.mtsac import MTSAC, SACConfig, tuned_sac
from polyreach.methods.off_policy import step_clipped
from polyreach.networks.task_networks import TaskLinear, shared_product

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


class DGradO(MTSAC):
    """MTSAC with gradient surgery."""

    paper = PAPER
    config: DGradOConfig

    def __init__(self, config: DGradOConfig, env: TaskEnv, total_steps: int, seed: int) -> None:
        super().__init__(config, env, total_steps, seed)
        self.loss_actor = with_task_gradients(self.actor, env.tasks)
        self.loss_critic = with_task_gradients(self.critic, env.tasks)

    def descend(
        self, optimizer: torch.optim.Optimizer, network: nn.Module, task_loss: Tensor
    ) -> Tensor:
        """Step down the combined gradient (Algorithm 1, line 12)."""
        # g_i, each a stack of tensors (M, K, in, out)
        gradients = torch.autograd.grad(task_loss.sum(), list(network.parameters()))
        weight = self.task_weights(inner_products(gradients))  # (K,)
        combined = [torch.einsum("k,mkio->mio", weight, g)[:, None] for g in gradients]
        return step_clipped(optimizer, combined, self.config.grad_clip)

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
        # g_i . g_j of what is left of g_i, for all i at once
        product = (coefficients * gram[j]).sum(dim=1)
        # g_i <- g_i - (g_i . g_j / |g_j|^2) g_j where g_i . g_j < 0
        share = product.clamp(max=0) / squared_norm[j]
        coefficients = coefficients.scatter_add(1, j[:, None], -share[:, None])
    return coefficients


def fixed_order(tasks: int, device: torch.device | None = None) -> Tensor:
    """(K, K - 1): for every task the others, first to last."""
    everyone = torch.arange(tasks - 1, device=device).expand(tasks, -1)
    return everyone + (everyone >= torch.arange(tasks, device=device)[:, None])


def random_order(tasks: int, generator: torch.Generator) -> Tensor:
    """(K, K - 1): for every task the others, each row in a random order of its own."""
    keys = torch.rand(tasks, tasks - 1, generator=generator, device=generator.device)
    return fixed_order(tasks, generator.device).gather(1, keys.argsort(dim=1))


def inner_products(gradients: tuple[Tensor, ...]) -> Tensor:
    """g_i . g_j (K, K) of gradients that are stacks of tensors (M, K, in, out)."""
    rows = [gradient.flatten(2) for gradient in gradients]  # (M, K, in out)
    return torch.stack([(row @ row.mT).sum(dim=0) for row in rows]).sum(dim=0)


def with_task_gradients(network: Any, tasks: int) -> Any:
    """`network` over again, on the same weights, but such that the gradient of a loss with respect
    to its parameters is one for every task, (M, K, in, out).

    It costs no more than an ordinary gradient: row i of a batch is task i's, so the gradients of
    the tasks are the terms of the sum that an ordinary backward pass would have added up.
    """
    view = copy.deepcopy(network)
    originals = dict(network.named_modules())
    for name, module in list(view.named_modules()):
        if isinstance(module, TaskLinear):
            parent, _, own = name.rpartition(".")
            original = originals[name]
            setattr(view.get_submodule(parent), own, _TaskGradientLinear(original, tasks))
    return view


class _TaskGradientLinear(nn.Module):
    """The linear layer `shared` (of M members), its weights as if every task had its own."""

    def __init__(self, shared: TaskLinear, tasks: int) -> None:
        super().__init__()
        # expanded, not copied: both stay the weights of `shared`
        self.weight = nn.Parameter(shared.weight.detach().expand(-1, tasks, -1, -1))
        self.bias = nn.Parameter(shared.bias.detach().expand(-1, tasks, -1, -1))

    def forward(self, x: Tensor, tasks: Tensor | None = None) -> Tensor:
        """x: (M, K, B, in) -> (M, K, B, out)."""
        out: Tensor = _TaskGradientProduct.apply(x, self.weight, self.bias)
        return out


class _TaskGradientProduct(torch.autograd.Function):
    """shared_product, with the gradients of weight and bias left apart by task."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        return shared_product(x, weight[:, 0], bias[:, 0])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor, Tensor]:
        x, weight = ctx.saved_tensors
        below = None
        if ctx.needs_input_grad[0]:
            below = (grad.flatten(1, 2) @ weight[:, 0].mT).unflatten(1, grad.shape[1:3])
        return below, x.mT @ grad, grad.sum(dim=2, keepdim=True)


METHOD = Method(
    name="dgrad-o",
    paper=PAPER,
    learner=DGradO,
    settings=DGradOConfig(),
    tuned={"robot": tuned_sac(DGradOConfig())} | dict.fromkeys(BENCHMARKS, DGradOConfig()),
)
