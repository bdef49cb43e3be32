"""Networks with a last layer for each task, or with all layers for each task."""

import math
from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from polyreach.networks.per_task_weights import Normalizer, SplitMLP
from polyreach.networks.policy import NormalPolicy

HeadSharing = Literal["trunk", "none"]
"""trunk: the tasks share the hidden layers. none: the tasks share nothing."""


def task_network(
    tasks: int,
    widths: Sequence[int],
    sharing: HeadSharing,
    last_gain: float = 1.0,
    hidden_gain: float = 1.0,
) -> SplitMLP:
    """A network with one last layer per task, or with all layers per task."""
    net = SplitMLP(tasks, widths, last_gain=last_gain, hidden_gain=hidden_gain)
    net.split_at_start(net.last_layers(1 if sharing == "trunk" else len(widths)))
    return net


class GaussianHeads(NormalPolicy):
    """pi(a|s) of every task: a normal distribution of independent actions whose mean and log
    variance are the outputs of the task's head.

    Observations are normalised by the statistics of all tasks where the tasks share layers, and
    otherwise by those of each task.
    """

    def __init__(
        self,
        tasks: int,
        obs_size: int,
        hidden: tuple[int, ...],
        actions: int,
        sharing: HeadSharing,
        initial_std: float,
        hidden_gain: float = 1.0,
    ) -> None:
        super().__init__()
        self.normalizer = Normalizer(obs_size, rows=0 if sharing == "trunk" else tasks)
        widths = (obs_size, *hidden, 2 * actions)
        self.net = task_network(tasks, widths, sharing, 0.01, hidden_gain)
        self.initial_std = initial_std
        self.set_initial_std()

    @torch.no_grad()
    def set_initial_std(self) -> None:
        """Of new weights."""
        for theta in (self.net.shared[None], self.net.own):
            *_, bias, _ = self.net.layers(theta)  # (T, 1, 2 A)
            bias[..., bias.shape[-1] // 2 :] = 2.0 * math.log(self.initial_std)

    def start_anew(self) -> None:
        """Draw all weights again; the statistics of the observations stay."""
        self.net.draw_anew()
        self.set_initial_std()

    def distribution(self, obs: Tensor, tasks: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """obs (T', B, O) of the tasks listed, all if None -> mean and log standard deviation
        (T', B, A).
        """
        layers = self.net.layers(self.net.weights(tasks))
        return self.outputs(layers, self.normalize(obs, tasks))

    def normalize(self, obs: Tensor, tasks: Tensor | None = None) -> Tensor:
        """The input of the networks for observations (T', B, O), of the same shape."""
        return self.normalizer.of_rows(tasks)(obs)

    def outputs(self, layers: Sequence[Tensor], x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log standard deviation (T', B, A) with layers of T' rows, at x (T', B, O)."""
        output = self.net.run(layers, x)
        # a fixed size: an exported graph has bounds
        mean, log_var = output.split(int(output.shape[-1]) // 2, dim=-1)
        return mean, 0.5 * log_var

    def to_action(self, u: Tensor) -> Tensor:
        """The action for a draw u: u itself, which the environment clips."""
        return u

    def mean_action(self, obs: Tensor, tasks: Tensor | None = None) -> Tensor:
        """The action without noise, (T', B, A) in [-1, 1], for obs (T', B, O)."""
        return self.to_action(self.distribution(obs, tasks)[0]).clamp(-1.0, 1.0)


class SquashableHeads(GaussianHeads):
    """Squashes its actions by tanh if the buffer `squash` is set."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.squash: Tensor
        self.register_buffer("squash", torch.zeros((), dtype=torch.bool))

    @property
    def squashes(self) -> bool:
        """Whether actions are the tanh of what is drawn."""
        return bool(self.squash)

    def to_action(self, u: Tensor) -> Tensor:
        """What is done when u was drawn."""
        return torch.where(self.squash, torch.tanh(u), u)
