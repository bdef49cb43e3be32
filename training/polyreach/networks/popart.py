"""PopArt: values that are learned normalised while outputs are preserved (van Hasselt et al. 2016,
arXiv:1602.07714), with the statistics of every task apart (Hessel et al. 2018, arXiv:1809.04474).

n = W h + b is the normalised value, W and b the last layer, which every task has for itself; mu and
sigma are mean and standard deviation of the task's targets.
"""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

LEAST_SIGMA = 1e-4  # of van Hasselt et al. 2016

Head = tuple[Tensor, Tensor]
"""W (M, T, in, 1) and b (M, T, 1, 1) of a last layer."""


class PlainValues(nn.Module):
    """Values as the network gives them."""

    def sigma(self, tasks: Tensor | None = None) -> Tensor | float:
        """What errors of values are divided by."""
        return 1.0

    def restore(self, n: Tensor, tasks: Tensor | None = None) -> Tensor:
        """The values (..., T', B) of the network's outputs n (..., T', B)."""
        return n

    def update(self, targets: Tensor, heads: Iterable[Head], tasks: Tensor | None = None) -> None:
        """Take note of targets (T', B)."""


class PopArt(PlainValues):
    """mu and sigma of T tasks, moved by the share `rate` at every update; the first 1 / rate
    updates weigh the same. Until the first, mu is 0 and sigma LEAST_SIGMA, so that the first
    targets are rewards.
    """

    def __init__(self, tasks: int, rate: float) -> None:
        super().__init__()
        self.rate = rate
        self.count: Tensor
        self.mean: Tensor
        self.var: Tensor
        self.register_buffer("count", torch.zeros(tasks, 1, dtype=torch.float64))
        self.register_buffer("mean", torch.zeros(tasks, 1, dtype=torch.float64))
        self.register_buffer("var", torch.zeros(tasks, 1, dtype=torch.float64))

    def sigma(self, tasks: Tensor | None = None) -> Tensor:
        """sigma (T', 1) of `tasks`, of all if None."""
        return deviation(self.var if tasks is None else self.var[tasks]).float()

    def restore(self, n: Tensor, tasks: Tensor | None = None) -> Tensor:
        """sigma n + mu."""
        mean, var = (x if tasks is None else x[tasks] for x in (self.mean, self.var))
        return deviation(var).to(n.dtype) * n + mean.to(n.dtype)

    @torch.no_grad()
    def update(self, targets: Tensor, heads: Iterable[Head], tasks: Tensor | None = None) -> None:
        """Move the statistics of `tasks`, all if None, towards those of their targets (T', B), and
        change `heads` so that no value changes. The first targets of a task set its statistics, and
        its values then change with them.
        """
        rows = slice(None) if tasks is None else tasks
        y, count = targets.double(), self.count[rows]
        mean, var = self.mean[rows], self.var[rows]
        beta = (1 / (count + 1)).clamp(min=self.rate)
        # mu' = (1 - beta) mu + beta E[y]
        change = y.mean(dim=1, keepdim=True) - mean
        new_mean = mean + beta * change
        # sigma'^2 = nu' - mu'^2, nu' = (1 - beta) nu + beta E[y^2]
        spread = y.var(dim=1, correction=0, keepdim=True)
        new_var = (1 - beta) * (var + beta * change.square()) + beta * spread
        new = deviation(new_var)
        old, mean = (
            torch.where(count > 0, before, after)
            for before, after in ((deviation(var), new), (mean, new_mean))
        )
        scale, shift = old / new, (mean - new_mean) / new  # (T', 1)
        for weight, bias in heads:
            # W <- sigma / sigma' W, b <- (sigma b + mu - mu') / sigma'
            weight[:, rows] = (scale[..., None] * weight[:, rows]).to(weight.dtype)
            bias[:, rows] = (scale[..., None] * bias[:, rows] + shift[..., None]).to(bias.dtype)
        self.count[rows], self.mean[rows], self.var[rows] = count + 1, new_mean, new_var


def deviation(var: Tensor) -> Tensor:
    """Standard deviation of a variance, at least LEAST_SIGMA."""
    return var.sqrt().clamp(min=LEAST_SIGMA)
