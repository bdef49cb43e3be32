"""Networks whose every weight is either shared by all tasks or each task's own.

All weights of a network lie in one vector theta of P numbers, so that any of them can be split. A
task's row of the weights (T, P) holds the shared ones and its own; the gradient with respect to it
is g_i of gradient-guided-specialization-2017, eq. 5.
"""

import math
from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise

import torch
from torch import Tensor, nn

from polyreach.networks.policy import NormalPolicy

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
        self.draw = partial(draw_weights, widths, extra, last_gain)
        theta = self.draw()
        self.shared = nn.Parameter(theta)  # (P,)
        self.own = nn.Parameter(theta.expand(tasks, -1).clone())  # (T, P)
        self.split: Tensor
        self.register_buffer("split", torch.zeros(len(theta), dtype=torch.bool))

    def weights(self, tasks: Tensor | None = None) -> Tensor:
        """theta of the tasks listed (T', P), of all T if None."""
        own: Tensor = self.own
        return torch.where(self.split, own if tasks is None else own[tasks], self.shared)

    def last_layers(self, count: int) -> Tensor:
        """Which weights (P,) bool are of the last `count` layers, with the extra numbers."""
        chosen = torch.ones_like(self.split)
        chosen[: sum(self.sizes[: max(0, len(self.shapes) - 2 * count)])] = False
        return chosen

    @torch.no_grad()
    def split_at_start(self, chosen: Tensor) -> None:
        """Give every task weights of its own where `chosen` (P,) bool, each task's drawn anew."""
        self.split |= chosen
        self.own.copy_(torch.stack([self.draw() for _ in self.own]))

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


def draw_weights(widths: Sequence[int], extra: Sequence[float], last_gain: float) -> Tensor:
    """theta (P,) of a new network, see SplitMLP."""
    parts = []
    for before, after in pairwise(widths):
        weight = torch.randn(before, after)
        weight /= weight.norm(dim=0)
        parts += [weight, torch.zeros(1, after)]
    parts[-2] *= last_gain
    return torch.cat([*(part.flatten() for part in parts), torch.tensor(extra)])


class Normalizer(nn.Module):
    """(x - mean) / std of all that was seen, clipped at 5; the first time x itself, clipped.

    `own`: for rows (own, B, size) that have statistics each; 0 for one statistic of everything.
    """

    def __init__(self, size: int, own: int = 0) -> None:
        super().__init__()
        shape = (own, 1, size) if own else (size,)
        self.count: Tensor
        self.mean: Tensor
        self.var: Tensor
        self.register_buffer("count", torch.zeros((), dtype=torch.float64))
        self.register_buffer("mean", torch.zeros(shape, dtype=torch.float64))
        self.register_buffer("var", torch.ones(shape, dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        """x: (..., size), or (own, B, size)."""
        return self.of_rows(None)(x)

    def of_rows(self, rows: Tensor | None) -> Callable[[Tensor], Tensor]:
        """The normaliser as it is now, for x (rows, B, size) of the rows listed, all if None."""
        mean, std = self.mean.float(), self.var.sqrt().clamp(min=LEAST_STD).float()
        if rows is not None and mean.dim() == 3:
            mean, std = mean[rows], std[rows]
        return lambda x: ((x - mean) / std).clamp(-OBS_CLIP, OBS_CLIP)

    @torch.no_grad()
    def update(self, x: Tensor) -> None:
        """Take x, of either shape, into the statistics (Chan et al. 1979, eq. 2.1)."""
        keep = self.mean.dim() == 3
        rows = (x if keep else x.flatten(0, -2)).double()
        new = rows.shape[-2]
        count = self.count + new
        delta, share = rows.mean(dim=-2, keepdim=keep) - self.mean, new / count
        # sum of squares: M_AB = M_A + M_B + delta^2 m n / (m + n)
        squares = self.count * self.var + new * rows.var(dim=-2, correction=0, keepdim=keep)
        self.var = (squares + delta.square() * self.count * share) / count
        self.mean = self.mean + delta * share
        self.count = count


class SplitActor(NormalPolicy):
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
        own_statistics: bool = False,
    ) -> None:
        super().__init__()
        self.normalizer = Normalizer(obs_size, own=tasks if own_statistics else 0)
        self.z: Tensor
        self.register_buffer("z", torch.eye(tasks) if one_hot else torch.ones(tasks, 0))
        self.inputs = obs_size + self.z.shape[1]
        widths, log_std = (self.inputs, *hidden, actions), [math.log(initial_std)] * actions
        self.net = SplitMLP(tasks, widths, log_std, last_gain=0.01)

    def normalize(self, obs: Tensor, tasks: Tensor | None = None) -> Tensor:
        """What the networks see, (T', B, in), of observations (T', B, O) of the tasks listed, all T
        if None.
        """
        x: Tensor = self.normalizer.of_rows(tasks)(obs)
        z = self.z if tasks is None else self.z[tasks]
        return torch.cat([x, z[:, None].expand(*x.shape[:2], -1)], dim=-1)

    def outputs(self, layers: Sequence[Tensor], x: Tensor) -> tuple[Tensor, Tensor]:
        """x (T, B, in) -> mean (T, B, A) and log standard deviation (T, 1, A)."""
        return self.net.run(layers, x), layers[-1][:, None]

    def distribution(self, obs: Tensor, tasks: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """obs (T', B, O) of the tasks listed, all if None -> mean and log standard deviation
        (T', B, A).
        """
        layers = self.net.layers(self.net.weights(tasks))
        mean, log_std = self.outputs(layers, self.normalize(obs, tasks))
        return mean, log_std.expand_as(mean)

    def mean_action(self, obs: Tensor, tasks: Tensor | None = None) -> Tensor:
        """The action without noise, (T', B, A) in [-1, 1], for obs (T', B, O) of the tasks listed,
        all T if None.
        """
        return self.distribution(obs, tasks)[0].clamp(-1.0, 1.0)
