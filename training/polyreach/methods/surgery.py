"""Gradient surgery: MTSAC whose actor and critics step along a combination of the tasks' gradients.

A method of this kind is one function, `combine`; see dgrad_o.py.
"""

import copy
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from polyreach.envs.task_env import TaskEnv
from polyreach.errors import UserError
from polyreach.methods.mtsac import MTSAC, SACConfig
from polyreach.methods.off_policy import step_clipped
from polyreach.networks.mlp import TaskLinear, shared_product

Network = TypeVar("Network", bound=nn.Module)


class GradientSurgery(MTSAC, ABC):
    """MTSAC with one gradient per task, for T tasks and the P weights of a network."""

    def __init__(self, config: SACConfig, env: TaskEnv, total_steps: int, seed: int) -> None:
        if config.popart:
            raise UserError("popart is on, but gradient surgery has no last layer per task")
        super().__init__(config, env, total_steps, seed)
        self.loss_actor = with_task_gradients(self.actor, env.tasks)
        self.loss_critic = with_task_gradients(self.critic, env.tasks)

    @abstractmethod
    def combine(self, gradients: Tensor) -> Tensor:
        """The gradient of the step (P,), from those of the tasks (T, P)."""

    def descend(
        self, optimizer: torch.optim.Optimizer, network: nn.Module, task_loss: Tensor
    ) -> Tensor:
        """Step down the combined gradient, clipped; returns its norm before that."""
        stacks = torch.autograd.grad(task_loss.sum(), list(network.parameters()))
        return step_clipped(optimizer, self.combine_stacks(stacks), self.config.grad_clip)

    def combine_stacks(self, stacks: Sequence[Tensor]) -> list[Tensor]:
        """The combined gradient of every parameter (M, 1, in, out), from (M, T, in, out)."""
        gradients = torch.cat([stack.transpose(0, 1).flatten(1) for stack in stacks], dim=1)
        parts = self.combine(gradients).split([stack[:, 0].numel() for stack in stacks])
        return [part.view_as(stack[:, :1]) for part, stack in zip(parts, stacks, strict=True)]


def with_task_gradients(network: Network, tasks: int) -> Network:
    """A view of `network` on the same weights whose parameters have one gradient per task,
    (M, T, in, out).

    It costs no more than an ordinary gradient: row i of a batch belongs to task i, so the gradients
    of the tasks are the terms of the sum that an ordinary backward pass computes.
    """
    view = copy.deepcopy(network)
    originals = dict(network.named_modules())
    for name, module in list(view.named_modules()):
        if isinstance(module, TaskLinear):
            parent, _, child = name.rpartition(".")
            layer = _TaskGradientLinear(originals[name], tasks)
            setattr(view.get_submodule(parent), child, layer)
    return view


class _TaskGradientLinear(nn.Module):
    """The linear layer `shared` of M members, with its weights expanded to one copy per task."""

    def __init__(self, shared: TaskLinear, tasks: int) -> None:
        super().__init__()
        # expanded, not copied: both are the weights of `shared`
        self.weight = nn.Parameter(shared.weight.detach().expand(-1, tasks, -1, -1))
        self.bias = nn.Parameter(shared.bias.detach().expand(-1, tasks, -1, -1))

    def forward(self, x: Tensor, tasks: Tensor | None = None) -> Tensor:
        """x: (M, T, B, in) -> (M, T, B, out)."""
        out: Tensor = _TaskGradientProduct.apply(x, self.weight, self.bias)
        return out


class _TaskGradientProduct(torch.autograd.Function):
    """shared_product whose gradients of weight and bias are not summed over tasks."""

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
