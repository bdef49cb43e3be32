"""Soft Modularization (Yang et al. 2020, arXiv:2003.13661), a baseline of PiCor (2023).

It differs from MTSAC in its networks and in the weights of the tasks' losses. Letters are its
paper's: f(s) the embedding of the state, h(z) that of the task, L layers of n modules, p^l the
routing from layer l to layer l + 1, g^l_j the output of module j in layer l.

    p^1 = W^1 ReLU(f(s) * h(z)),  p^(l+1) = W^l ReLU(U^l p^l * f(s) * h(z))         (eq. 3, 4)
    p_hat^l_ij = softmax_j p^l_ij                                                   (5)
    g^(l+1)_i = ReLU(W^(l+1)_i sum_j p_hat^l_ij g^l_j)                              (6)
    output = sum_j W_j g^L_j                                                        (7)
    w_z = exp(-alpha_z) / sum_z' exp(-alpha_z')                                     (8)

The shallow version has two layers of two modules of width 256, the deep one four layers of four
modules of width 128.

What the paper leaves open, and what is done here: f has one hidden layer, and f and h are 400
wide; h is linear; the modules of the first layer read f(s); z enters through h only.
"""

from dataclasses import dataclass, replace
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from polyreach.errors import check_range
from polyreach.methods.method import BENCHMARKS, Method
from polyreach.methods.mtsac import MTSAC, SACConfig, tuned_sac
from polyreach.networks.mlp import TaskBody, TaskLinear

PAPER = "Yang et al. 2020, Multi-Task Reinforcement Learning with Soft Modularization"


@dataclass(frozen=True)
class SoftModularizationConfig(SACConfig):
    """Settings of Soft Modularization; `hidden` is the hidden layer of the state's embedding."""

    hidden: tuple[int, ...] = (400,)
    """Widths of the hidden layers of f."""
    embedding: int = 400
    """Width of f(s) and h(z)."""
    layers: int = 4
    """Layers of modules, L (shallow: 2)."""
    modules: int = 4
    """Modules of a layer, n (shallow: 2)."""
    width: int = 128
    """Width of a module (shallow: 256)."""

    def __post_init__(self) -> None:
        """Raise UserError for a value that no run can have."""
        super().__post_init__()
        for name in ("embedding", "modules", "width"):
            check_range(name, getattr(self, name), 1)
        # the task enters through the routing between layers
        check_range("layers", self.layers, 2)


class SoftModularization(MTSAC):
    """Modules whose outputs a routing network combines softly, for every task and state."""

    config: SoftModularizationConfig

    def body(self, members: int, inputs: int, outputs: int) -> TaskBody:
        """Modules and their routing."""
        return ModularNetwork(members, self.env.tasks, inputs, outputs, self.config)

    def descend(
        self, optimizer: torch.optim.Optimizer, network: nn.Module, task_loss: Tensor
    ) -> Tensor:
        """Step down the weighted loss."""
        # w_z = exp(-alpha_z) / sum_z' exp(-alpha_z')  (8)
        weight = functional.softmax(-self.alpha().detach()[:, 0], dim=0)  # (T,)
        tasks = len(weight)
        return super().descend(optimizer, network, tasks * weight * task_loss)


class ModularNetwork(TaskBody):
    """(M, T', B, in) -> (M, T', B, out)."""

    def __init__(
        self,
        members: int,
        tasks: int,
        inputs: int,
        outputs: int,
        config: SoftModularizationConfig,
    ) -> None:
        super().__init__()
        self.members, self.modules_per_layer = members, config.modules
        size, n, width = config.embedding, config.modules, config.width
        widths = (inputs, *config.hidden, size)
        self.state_embedding = nn.ModuleList(
            TaskLinear(members, 1, before, after) for before, after in pairwise(widths)
        )
        self.task_embedding = TaskLinear(members, 1, tasks, size)
        self.z: Tensor
        self.register_buffer("z", torch.eye(tasks))
        self.expand_routing = nn.ModuleList(
            TaskLinear(members, 1, n * n, size) for _ in range(config.layers - 2)
        )
        self.routing = nn.ModuleList(
            TaskLinear(members, 1, size, n * n) for _ in range(config.layers - 1)
        )
        self.layers = nn.ModuleList(
            TaskLinear(members * n, 1, before, width)
            for before in (size, *[width] * (config.layers - 1))
        )
        self.head = TaskLinear(members, 1, n * width, outputs)

    def forward(self, x: Tensor, tasks: Tensor | None = None) -> Tensor:
        """x: (M, T', B, in)."""
        n = self.modules_per_layer
        for index, layer in enumerate(self.state_embedding):
            x = layer(self.activation(x) if index else x)
        z = self.z if tasks is None else self.z[tasks]
        both = x * self.task_embedding(z[:, None].expand(self.members, -1, 1, -1))  # f(s) * h(z)
        x = functional.relu(x)
        # every module of the first layer reads f(s)
        g = self._run_modules(0, x[:, None].expand(-1, n, -1, -1, -1))  # (M, n, T', B, d)
        logits = self.routing[0](functional.relu(both))
        for index in range(1, len(self.layers)):
            # p_hat_ij = softmax_j p_ij  (5)
            p = functional.softmax(logits.unflatten(-1, (n, n)), dim=-1)  # (M, T', B, n, n)
            # sum_j p_hat_ij g_j, as input of module i  (6)
            mixed = p @ g.permute(0, 2, 3, 1, 4)  # (M, T', B, n, d)
            g = self._run_modules(index, mixed.permute(0, 3, 1, 2, 4))
            if index < len(self.routing):
                # p^(l+1) = W ReLU(U p^l * f(s) * h(z))  (4)
                logits = self.routing[index](
                    functional.relu(self.expand_routing[index - 1](logits) * both)
                )
        # sum_j W_j g_j  (7)
        out: Tensor = self.head(g.permute(0, 2, 3, 1, 4).flatten(3), tasks)
        return out

    def _run_modules(self, index: int, x: Tensor) -> Tensor:
        """Every module applied to its input: (M, n, T', B, in) -> (M, n, T', B, d)."""
        y = self.activation(self.layers[index](x.flatten(0, 1)))
        return y.unflatten(0, (self.members, self.modules_per_layer))


TUNED = replace(
    tuned_sac(SoftModularizationConfig()),
    hidden=(128,),
    embedding=128,
    layers=2,
    modules=2,
    width=128,
)

METHOD = Method(
    name="soft-modularization",
    paper=PAPER,
    learner=SoftModularization,
    settings=SoftModularizationConfig(),
    tuned={"robot": TUNED} | dict.fromkeys(BENCHMARKS, SoftModularizationConfig()),
)
