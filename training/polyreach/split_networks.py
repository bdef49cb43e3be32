"""Networks whose every weight is either shared by all tasks or each task's own.

All weights of a network lie in one vector theta of P numbers, so that any of them can be split. A
task's row of the weights (T, P) holds the shared ones and its own; the gradient with respect to it
is g_i of gradient-guided-specialization-2017, eq. 5.
"""

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

OBS_CLIP = 5.0
LEAST_STD = 1e-2  # what does not vary is not blown up


class SplitMLP(nn.Module):
    """A perceptron with tanh for each of T tasks, (T, B, in) -> (T, B, out).

    After the layers' weights theta holds numbers that no layer uses, `extra` at first.
    """

    def __init__(
        self,
        tasks: int,
        widths: Sequence[int],
        extra: Sequence[float] = (),
        last_gain: float = 1.0,
    ) -> None:
        """widths: of input, hidden layers and output. Every unit's weights start with norm 1, those
        of the outputs with norm `last_gain`, as in OpenAI Baselines; biases with zero.
        """
        super().__init__()
        self.shapes = [shape for pair in pairwise(widths) for shape in (pair, (1, pair[1]))]
        self.sizes = [*(rows * columns for rows, columns in self.shapes), len(extra)]
        parts = []
        for before, after in pairwise(widths):
            weight = torch.randn(before, after)
            weight /= weight.norm(dim=0)
            parts += [weight, torch.zeros(1, after)]
        parts[-2] *= last_gain
        theta = torch.cat([*(part.flatten() for part in parts), torch.tensor(extra)])
        self.shared = nn.Parameter(theta)  # (P,)
        self.own = nn.Parameter(theta.expand(tasks, -1).clone())  # (T, P)
        self.split: Tensor
        self.register_buffer("split", torch.zeros(len(theta), dtype=torch.bool))

    def weights(self) -> Tensor:
        """theta of every task (T, P)."""
        return torch.where(self.split, self.own, self.shared)

    def set_gradients(self, gradients: Tensor) -> None:
        """Give each parameter its gradient, from g_i (T, P): an own weight that of its task, a
        shared one the mean over tasks.
        """
        self.own.grad = gradients * self.split
        self.shared.grad = gradients.mean(dim=0) * ~self.split

    def layers(self, theta: Tensor) -> list[Tensor]:
        """The weights (T, in, out) and biases (T, 1, out) in theta (T, P), in turn, and the extra
        numbers (T, extra).
        """
        *parts, extra = theta.split(self.sizes, dim=-1)
        pairs = zip(parts, self.shapes, strict=True)
        return [*(part.unflatten(-1, shape) for part, shape in pairs), extra]

    @staticmethod
    def run(layers: Sequence[Tensor], x: Tensor) -> Tensor:
        """x (T, B, in) -> (T, B, out) with what `layers` returned."""
        *hidden, weight, bias, _ = layers
        for one in range(0, len(hidden), 2):
            x = torch.tanh(torch.baddbmm(hidden[one + 1], x, hidden[one]))
        return torch.baddbmm(bias, x, weight)

    @torch.no_grad()
    def split_weights(self, chosen: Tensor, optimizer: torch.optim.Optimizer) -> None:
        """Give every task a copy of its own of the weights `chosen` (P,) bool.

        A copy starts with the weight's value, and with its moments in `optimizer`.
        """
        fresh = chosen & ~self.split
        self.own[:, fresh] = self.shared[fresh]
        state = optimizer.state
        for name, moment in state.get(self.shared, {}).items():
            if moment.shape == self.shared.shape:
                state[self.own][name][:, fresh] = moment[fresh]
        self.split |= chosen

    def layer_names(self) -> list[str]:
        """Which layer, and whether a weight or a bias: the names of the parts of theta, in turn."""
        count = len(self.shapes) // 2
        names = [*(f"layer {n + 1}" for n in range(count - 1)), "output"]
        return [f"{name} {kind}" for name in names for kind in ("weights", "biases")]


class Normalizer(nn.Module):
    """(x - mean) / std of all that was seen, clipped at 5; the first time x itself, clipped."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.count: Tensor
        self.mean: Tensor
        self.var: Tensor
        self.register_buffer("count", torch.zeros((), dtype=torch.float64))
        self.register_buffer("mean", torch.zeros(size, dtype=torch.float64))
        self.register_buffer("var", torch.ones(size, dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        """x: (..., size)."""
        mean, std = self.mean.to(x.dtype), self.var.sqrt().clamp(min=LEAST_STD).to(x.dtype)
        return ((x - mean) / std).clamp(-OBS_CLIP, OBS_CLIP)

    @torch.no_grad()
    def update(self, x: Tensor) -> None:
        """Take x (..., size) into the statistics (Chan et al. 1979, eq. 2.1)."""
        rows = x.flatten(0, -2).double()
        count = self.count + len(rows)
        delta, share = rows.mean(dim=0) - self.mean, len(rows) / count
        # sum of squares: M_AB = M_A + M_B + delta^2 m n / (m + n)
        squares = self.count * self.var + len(rows) * rows.var(dim=0, correction=0)
        self.var = (squares + delta.square() * self.count * share) / count
        self.mean = self.mean + delta * share
        self.count = count


class SplitActor(nn.Module):
    """pi_theta(a|s): a normal distribution whose mean is a SplitMLP's output and whose standard
    deviation is part of theta and does not depend on the state.

    Observations are normalised; where `one_hot`, the task's one-hot vector is appended to them.
    """

    def __init__(
        self,
        tasks: int,
        obs_size: int,
        hidden: tuple[int, ...],
        actions: int,
        initial_std: float,
        one_hot: bool,
    ) -> None:
        super().__init__()
        self.normalizer = Normalizer(obs_size)
        self.z: Tensor
        self.register_buffer("z", torch.eye(tasks) if one_hot else torch.ones(tasks, 0))
        self.inputs = obs_size + self.z.shape[1]
        widths, log_std = (self.inputs, *hidden, actions), [math.log(initial_std)] * actions
        self.net = SplitMLP(tasks, widths, log_std, last_gain=0.01)

    def normalize(self, obs: Tensor) -> Tensor:
        """What the networks see, (T, B, in), of observations (T, B, O)."""
        x: Tensor = self.normalizer(obs)
        return torch.cat([x, self.z[:, None].expand(*x.shape[:2], -1)], dim=-1)

    def distribution(self, layers: Sequence[Tensor], x: Tensor) -> tuple[Tensor, Tensor]:
        """x (T, B, in) -> mean (T, B, A) and log standard deviation (T, 1, A)."""
        return self.net.run(layers, x), layers[-1][:, None]

    def mean_action(self, obs: Tensor, tasks: Tensor | None = None) -> Tensor:
        """The action without noise, (T, B, A) in [-1, 1], for obs (T, B, O)."""
        theta = self.net.weights()
        layers = self.net.layers(theta)
        return self.distribution(layers, self.normalize(obs))[0].clamp(-1.0, 1.0)
