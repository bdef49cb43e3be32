"""Networks each of whose weights is either shared by all tasks or has a copy per task.

The weights of a network are one vector theta (P,), so that any of them can be split. Row i of the
weights (T, P) holds the shared weights and the copies of task i; the gradient with respect to it is
g_i of gradient-guided-specialization-2017, eq. 5.

Where only the sum of g_i is needed, the layers before the first that is split need one row: see
SplitMLP.blocks.
"""

import math
from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from polyreach.networks.policy import NormalPolicy

OBS_CLIP = 5.0
LEAST_STD = 1e-2  # bounds the gain on observations that hardly vary

Blocks = tuple[Tensor, Tensor]
"""What SplitMLP.blocks returns, or the gradients with respect to it."""
Theta = Tensor | Blocks
"""Weights of a network: theta (T, P), or its blocks."""


def normalized_tanh(x: Tensor) -> Tensor:
    """tanh of the features (..., K) of a sample, normalised to mean 0 and variance 1 (Ba et al.
    2016, arXiv:1607.06450, without gains and biases).
    """
    return torch.tanh(functional.layer_norm(x, x.shape[-1:]))


class SplitMLP(nn.Module):
    """A perceptron with tanh for each of T tasks, (T, B, in) -> (T, B, out).

    After the weights of the layers, theta holds numbers that no layer uses; they start as `extra`.
    """

    activation: Callable[[Tensor], Tensor] = staticmethod(torch.tanh)
    """After every hidden layer."""

    def __init__(
        self,
        tasks: int,
        widths: Sequence[int],
        extra: Sequence[float] = (),
        last_gain: float = 1.0,
        hidden_gain: float = 1.0,
    ) -> None:
        """widths: of input, hidden layers and output. The weights of a hidden unit start with norm
        `hidden_gain`, those of an output with norm `last_gain` (OpenAI Baselines: 1 and, for a
        policy, 0.01); biases start at 0.
        """
        super().__init__()
        self.shapes = [shape for pair in pairwise(widths) for shape in (pair, (1, pair[1]))]
        self.sizes = [*(rows * columns for rows, columns in self.shapes), len(extra)]
        self.draw = partial(draw_weights, widths, extra, last_gain, hidden_gain)
        theta = self.draw()
        self.shared = nn.Parameter(theta)  # (P,)
        self.own = nn.Parameter(theta.expand(tasks, -1).clone())  # (T, P), the copies per task
        self.split: Tensor
        self.register_buffer("split", torch.zeros(len(theta), dtype=torch.bool))  # not shared
        self.find_trunk()
        self.register_load_state_dict_post_hook(lambda net, _: net.find_trunk())

    def find_trunk(self) -> None:
        """Count the layers before the first that has a split weight, `trunk_layers`, and their
        weights, `trunk`.
        """
        shared = [not bool(part.any()) for part in self.split.split(self.sizes)]
        pairs = [all(pair) for pair in zip(shared[0:-1:2], shared[1::2], strict=True)]
        self.trunk_layers = pairs.index(False) if False in pairs else len(pairs)
        self.trunk = sum(self.sizes[: 2 * self.trunk_layers])
        self.splits = not all(shared)
        self.own.grad = None  # that of other copies

    def weights(self, tasks: Tensor | None = None) -> Tensor:
        """theta of the tasks listed (T', P), of all T if None."""
        copies: Tensor = self.own
        return torch.where(self.split, copies if tasks is None else copies[tasks], self.shared)

    def blocks(self, tasks: Tensor | None = None) -> Blocks:
        """theta of the tasks listed, all T if None, as the row of the trunk (1, trunk), which all
        share, and the rows of the rest (T', P - trunk).
        """
        shared: Tensor = self.shared[None]
        trunk, rest = shared[:, : self.trunk], shared[:, self.trunk :]
        if not self.splits:
            return trunk, rest.expand(len(self.own if tasks is None else tasks), -1)
        copies: Tensor = self.own[:, self.trunk :]
        copies = copies if tasks is None else copies[tasks]
        return trunk, torch.where(self.split[self.trunk :], copies, rest)

    def leaves(self, tasks: Tensor | None = None) -> Blocks:
        """The same, detached: what gradients are taken with respect to."""
        trunk, rest = self.blocks(tasks)
        return trunk.detach().requires_grad_(), rest.detach().requires_grad_()

    def last_layers(self, count: int) -> Tensor:
        """Mask (P,) of the weights of the last `count` layers and of the extra numbers."""
        chosen = torch.ones_like(self.split)
        chosen[: sum(self.sizes[: max(0, len(self.shapes) - 2 * count)])] = False
        return chosen

    @torch.no_grad()
    def split_at_start(self, chosen: Tensor) -> None:
        """Split the weights of the mask `chosen` (P,), and draw those of every task anew."""
        self.split |= chosen
        self.find_trunk()
        self.own.copy_(torch.stack([self.draw() for _ in self.own]))

    @torch.no_grad()
    def draw_anew(self) -> None:
        """Draw all weights again, those of every task apart."""
        self.shared.copy_(self.draw())
        self.split_at_start(self.split)

    @torch.no_grad()
    def set_gradients(self, trunk: Tensor, rest: Tensor) -> None:
        """Set the gradients of the parameters from those of `blocks`: of the trunk (1, trunk), the
        sum over tasks, and g_i of the rest (T, P - trunk). A copy gets that of its task, a shared
        weight the mean over tasks.
        """
        shared, mean = trunk[0] / len(rest), rest.mean(dim=0)
        if not self.splits:  # without a gradient, an optimiser leaves the copies alone
            self.shared.grad = torch.cat([shared, mean])
            return
        split = self.split[self.trunk :]
        self.shared.grad = torch.cat([shared, mean * ~split])
        if self.own.grad is None:
            self.own.grad = torch.zeros_like(self.own)
        self.own.grad[:, self.trunk :] = rest * split

    def layers(self, theta: Theta) -> list[Tensor]:
        """Weights (T, in, out) and biases (T, 1, out) of every layer, alternating, then the extra
        numbers (T, extra), from theta. Layers of the trunk's block have one row for all tasks.
        """
        if isinstance(theta, Tensor):
            parts = theta.split(self.sizes, dim=-1)
        else:
            trunk, rest = theta
            first = self.trunk_layers * 2
            parts = rest.split(self.sizes[first:], dim=-1)
            if first:
                parts = (*trunk.split(self.sizes[:first], dim=-1), *parts)
        *weights, extra = parts
        pairs = zip(weights, self.shapes, strict=True)
        return [*(part.unflatten(-1, shape) for part, shape in pairs), extra]

    def head(self) -> tuple[Tensor, Tensor]:
        """W (1, T, in, out) and b (1, T, 1, out) of the copies of the last layer: views, by which
        they can be changed.
        """
        *_, weight, bias, _ = self.own.detach().split(self.sizes, dim=-1)
        shape, bias_shape = self.shapes[-2:]
        return weight.unflatten(-1, shape)[None], bias.unflatten(-1, bias_shape)[None]

    def run(self, layers: Sequence[Tensor], x: Tensor) -> Tensor:
        """x (T, B, in) -> (T, B, out) with what `layers` returned."""
        *hidden, weight, bias, _ = layers
        for index in range(0, len(hidden), 2):
            x = self.activation(affine(x, hidden[index], hidden[index + 1]))
        return affine(x, weight, bias)

    @torch.no_grad()
    def split_weights(self, chosen: Tensor, optimizer: torch.optim.Optimizer) -> None:
        """Split the weights of the mask `chosen` (P,): every task gets a copy of each.

        A copy starts with the value of the weight and with its moments in `optimizer`.
        """
        new = chosen & ~self.split
        if not new.any():
            return
        self.own[:, new] = self.shared[new]
        state = optimizer.state
        for name, moment in state.get(self.shared, {}).items():
            if moment.shape == self.shared.shape:
                state[self.own].setdefault(name, torch.zeros_like(self.own))[:, new] = moment[new]
            else:
                state[self.own].setdefault(name, moment.clone())
        self.split |= chosen
        self.find_trunk()


def affine(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """x W + b of every task: x (T, B, in), W (T, in, out) and b (T, 1, out), or of one row for all
    tasks.
    """
    if len(weight) == len(x):
        return torch.baddbmm(bias, x, weight)
    return torch.addmm(bias[0], x.flatten(0, 1), weight[0]).unflatten(0, x.shape[:2])


def draw_weights(
    widths: Sequence[int], extra: Sequence[float], last_gain: float, hidden_gain: float = 1.0
) -> Tensor:
    """theta (P,) of a new network, see SplitMLP."""
    parts = []
    for before, after in pairwise(widths):
        weight = torch.randn(before, after)
        weight /= weight.norm(dim=0)
        parts += [hidden_gain * weight, torch.zeros(1, after)]
    parts[-2] = last_gain * weight
    return torch.cat([*(part.flatten() for part in parts), torch.tensor(extra)])


class Normalizer(nn.Module):
    """(x - mean) / std with the statistics of all updates so far, clipped at 5; before the first
    update x, clipped.

    `rows`: number of rows (rows, B, size) with separate statistics; 0 for common statistics.
    """

    def __init__(self, size: int, rows: int = 0) -> None:
        super().__init__()
        shape = (rows, 1, size) if rows else (size,)
        self.count: Tensor
        self.mean: Tensor
        self.var: Tensor
        self.register_buffer("count", torch.zeros((), dtype=torch.float64))
        self.register_buffer("mean", torch.zeros(shape, dtype=torch.float64))
        self.register_buffer("var", torch.ones(shape, dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        """x: (..., size), or (rows, B, size)."""
        return self.of_rows(None)(x)

    def of_rows(self, rows: Tensor | None) -> Callable[[Tensor], Tensor]:
        """The normaliser with its current statistics, for x (rows, B, size) of the rows listed, all
        if None.
        """
        mean, std = self.mean.float(), self.var.sqrt().clamp(min=LEAST_STD).float()
        if rows is not None and mean.dim() == 3:
            mean, std = mean[rows], std[rows]
        return lambda x: ((x - mean) / std).clamp(-OBS_CLIP, OBS_CLIP)

    @torch.no_grad()
    def update(self, x: Tensor) -> None:
        """Update the statistics with x, of either shape (Chan et al. 1979, eq. 2.1)."""
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
    """pi_theta(a|s): a normal distribution whose mean is the output of a SplitMLP, and whose
    standard deviation is part of theta and does not depend on the state.

    Observations are normalised; with `one_hot`, the task's one-hot vector is appended to them.
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
        self.normalizer = Normalizer(obs_size, rows=tasks if own_statistics else 0)
        self.z: Tensor
        self.register_buffer("z", torch.eye(tasks) if one_hot else torch.ones(tasks, 0))
        self.inputs = obs_size + self.z.shape[1]
        widths, log_std = (self.inputs, *hidden, actions), [math.log(initial_std)] * actions
        self.net = SplitMLP(tasks, widths, log_std, last_gain=0.01)

    def normalize(self, obs: Tensor, tasks: Tensor | None = None) -> Tensor:
        """The input of the networks (T', B, in) for observations (T', B, O) of the tasks listed,
        all T if None.
        """
        x: Tensor = self.normalizer.of_rows(tasks)(obs)
        z = self.z if tasks is None else self.z[tasks]
        # not expand: the shapes of an exported graph follow from its operators
        return torch.cat([x, z[:, None] + 0.0 * x[..., :1]], dim=-1)

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
