"""Perceptrons for several tasks, and the deterministic actor and the critics built on them.

Every row of a batch (T, B, dim) belongs to one task. A body maps (M, T', B, in) to (M, T', B, out):
M members side by side, T' rows of tasks. `tasks` (T',) lists the task of each row; None stands for
all T in order.
"""

from collections.abc import Callable
from itertools import pairwise
from typing import Literal, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional

from polyreach.networks.policy import Policy
from polyreach.networks.popart import PlainValues

Sharing = Literal["all", "trunk", "none"]


class Body(Protocol):
    """The network of an actor or a critic."""

    def __call__(self, x: Tensor, tasks: Tensor | None = None) -> Tensor:
        """x: (M, T', B, in) -> (M, T', B, out)."""


class TaskLinear(nn.Module):
    """Linear layers (M, T', B, in) -> (M, T', B, out).

    `copies` is 1 for weights that all tasks share, or T for a copy per task. Weights and biases are
    drawn as by torch.nn.Linear.
    """

    def __init__(self, members: int, copies: int, inputs: int, outputs: int) -> None:
        super().__init__()
        bound = inputs**-0.5
        self.weight = nn.Parameter(
            torch.empty(members, copies, inputs, outputs).uniform_(-bound, bound)
        )
        self.bias = nn.Parameter(torch.empty(members, copies, 1, outputs).uniform_(-bound, bound))

    def forward(self, x: Tensor, tasks: Tensor | None = None) -> Tensor:
        """x: (M, T', B, in)."""
        weight: Tensor = self.weight
        bias: Tensor = self.bias
        if weight.shape[1] == 1:
            return shared_product(x, weight.flatten(0, 1), bias.flatten(0, 1))
        if tasks is not None:
            weight, bias = weight[:, tasks], bias[:, tasks]
        flat = torch.baddbmm(bias.flatten(0, 1), x.flatten(0, 1), weight.flatten(0, 1))
        return flat.unflatten(0, x.shape[:2])


def shared_product(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """x W + b with one W (M, in, out) and b (M, 1, out) for all tasks of x (M, T', B, in)."""
    product = torch.baddbmm(bias, x.flatten(1, 2), weight)
    return product.unflatten(1, (int(x.shape[1]), -1))  # of fixed sizes but for B


def normalized_relu(x: Tensor) -> Tensor:
    """ReLU of the features (..., K) of a sample, normalised to mean 0 and variance 1 (Ba et al.
    2016, arXiv:1607.06450, without gains and biases).
    """
    return functional.relu(functional.layer_norm(x, x.shape[-1:]))


class TaskBody(nn.Module):
    """A network (M, T', B, in) -> (M, T', B, out) whose last layer is `head`."""

    head: TaskLinear
    activation: Callable[[Tensor], Tensor] = staticmethod(functional.relu)
    """After every hidden layer."""


class TaskMLP(TaskBody):
    """`members` perceptrons with ReLU, whose tasks share all weights, all but those of the last
    layer (`sharing` trunk), or none.

    Where weights are shared, the task's one-hot vector z is appended to the input.
    """

    def __init__(
        self,
        members: int,
        tasks: int,
        inputs: int,
        hidden: tuple[int, ...],
        outputs: int,
        sharing: Sharing,
    ) -> None:
        super().__init__()
        self.z: Tensor
        self.register_buffer("z", torch.eye(tasks) if sharing != "none" else torch.ones(tasks, 0))
        trunk = tasks if sharing == "none" else 1
        widths = (inputs + self.z.shape[1], *hidden)
        self.layers = nn.ModuleList(
            TaskLinear(members, trunk, before, after) for before, after in pairwise(widths)
        )
        head = 1 if sharing == "all" else tasks
        self.head = TaskLinear(members, head, widths[-1], outputs)

    def forward(self, x: Tensor, tasks: Tensor | None = None) -> Tensor:
        """x: (M, T', B, in) -> (M, T', B, out)."""
        x = append_task(x, self.z, tasks)
        for layer in self.layers:
            x = self.activation(layer(x, tasks))
        out: Tensor = self.head(x, tasks)
        return out


def append_task(x: Tensor, z: Tensor, tasks: Tensor | None) -> Tensor:
    """(M, T', B, in) and task vectors z (T, K) -> (M, T', B, in + K)."""
    rows = z if tasks is None else z[tasks]
    # not expand: the shapes of an exported graph follow from its operators
    return torch.cat([x, rows[:, None] + 0.0 * x[..., :1]], dim=-1)


class DeterministicActor(Policy):
    """mu(s, z) in [-1, 1]."""

    def __init__(self, body: Body) -> None:
        super().__init__()
        self.body = body

    def forward(self, obs: Tensor, tasks: Tensor | None = None) -> Tensor:
        """obs: (T', B, O) -> (T', B, A)."""
        return torch.tanh(self.body(obs[None], tasks)[0])

    def mean_action(self, obs: Tensor, tasks: Tensor | None = None) -> Tensor:
        """The action, (T', B, A), for obs (T', B, O)."""
        return self.forward(obs, tasks)


class TaskCritic(nn.Module):
    """Q(s, a, z) of every member."""

    def __init__(self, body: TaskBody, members: int, values: PlainValues | None = None) -> None:
        """values: how the values follow from the outputs of `body`; they are the same if None."""
        super().__init__()
        self.body, self.members = body, members
        self.values = values or PlainValues()

    def forward(self, obs: Tensor, action: Tensor, tasks: Tensor | None = None) -> Tensor:
        """obs: (T', B, O), action: (T', B, A) -> (M, T', B)."""
        x = torch.cat([obs, action], dim=-1)
        n: Tensor = self.body(x.expand(self.members, *x.shape), tasks)[..., 0]
        return self.values.restore(n, tasks)
