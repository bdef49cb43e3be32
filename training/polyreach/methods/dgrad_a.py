"""D-Grad (A): deconflicting gradients via architecture (d-grad-2019, section 4.2, eq. 1).

It differs from MTSAC in its networks. After the activation of every hidden layer comes
x <- M(z) x + beta(z), where a task network makes the n x n matrix M and the vector beta from the
one-hot task vector z.

What the paper leaves open, and what is done here. The task network is linear in z, so that it
holds one matrix and one vector per task and layer. It is "randomly initialised": every M is a
random orthogonal matrix, because the paper speaks of rotating the activations, and every beta is 0.
z enters through the task network only, not as an input.
"""

from dataclasses import dataclass, replace
from itertools import pairwise

from torch import Tensor, nn

from polyreach.methods.method import BENCHMARKS, Method
from polyreach.methods.mtsac import MTSAC, SACConfig, tuned_sac
from polyreach.networks.mlp import TaskBody, TaskLinear

PAPER = "Yu et al. 2019, Multi-Task Reinforcement Learning without Interference: D-Grad (A)"


@dataclass(frozen=True)
class DGradAConfig(SACConfig):
    """Settings of D-Grad (A)."""

    hidden: tuple[int, ...] = (160, 160, 160)
    """Widths of the hidden layers (the paper: three of 160)."""


class DGradA(MTSAC):
    """Activations are transformed by a matrix per task."""

    def body(self, members: int, inputs: int, outputs: int) -> TaskBody:
        """A network with a D-Grad (A) layer after each hidden layer."""
        return TurnedMLP(members, self.env.tasks, inputs, self.config.hidden, outputs)


class TurnedMLP(TaskBody):
    """(M, T', B, in) -> (M, T', B, out), with a D-Grad (A) layer after each activation."""

    def __init__(
        self, members: int, tasks: int, inputs: int, hidden: tuple[int, ...], outputs: int
    ) -> None:
        super().__init__()
        widths = (inputs, *hidden)
        self.layers = nn.ModuleList(
            TaskLinear(members, 1, before, after) for before, after in pairwise(widths)
        )
        turns = [TaskLinear(members, tasks, width, width) for width in hidden]
        for turn in turns:
            for matrix in turn.weight.flatten(0, 1):
                nn.init.orthogonal_(matrix)
            nn.init.zeros_(turn.bias)
        self.turns = nn.ModuleList(turns)
        self.head = TaskLinear(members, 1, widths[-1], outputs)

    def forward(self, x: Tensor, tasks: Tensor | None = None) -> Tensor:
        """x: (M, T', B, in)."""
        for layer, turn in zip(self.layers, self.turns, strict=True):
            x = self.activation(layer(x))
            # x <- M(z) x + beta(z)  (1)
            x = turn(x, tasks)
        out: Tensor = self.head(x, tasks)
        return out


TUNED = replace(tuned_sac(DGradAConfig()), hidden=(160, 160, 160))

METHOD = Method(
    name="dgrad-a",
    paper=PAPER,
    learner=DGradA,
    settings=DGradAConfig(),
    tuned={"robot": TUNED} | dict.fromkeys(BENCHMARKS, DGradAConfig()),
)
