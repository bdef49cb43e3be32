"""Targets that a search chooses between, and what they cost."""

from typing import NamedTuple

import torch
from torch import Tensor


class Choice(NamedTuple):
    """Targets, where the robot goes first, and where it goes now (B, nu) [rad or m]: as far as the
    straight way is clear. And what it would rather reach, if a way were found.
    """

    target: Tensor
    via: Tensor
    end: Tensor
    aim: Tensor
    left: Tensor  # (B, 1) cost of the error that is left at the end, by the via

    def where(self, condition: Tensor, other: "Choice") -> "Choice":
        """`other` where the condition (B, 1) holds."""
        pairs = zip(other, self, strict=True)
        return Choice(*(torch.where(condition, first, second) for first, second in pairs))


class Options(NamedTuple):
    """N choices for each of B robots, and what they cost."""

    choice: Choice  # of (B, N, nu)
    cost: Tensor  # (B, N)

    def best(self) -> Choice:
        """Those of least cost (B, nu)."""
        return Choice(*(pick(part, self.cost) for part in self.choice))


def pick(rows: Tensor, cost: Tensor) -> Tensor:
    """Of rows (B, N, nu), those of least cost (B, N)."""
    # by a product: the sizes of an exported graph are constant
    numbers = torch.arange(int(rows.shape[1]), device=rows.device)
    chosen = (cost.argmin(dim=1, keepdim=True) == numbers).float()
    return (rows * chosen[..., None]).sum(dim=1)


def join(*options: Options) -> Options:
    """All of these choices."""
    choices = zip(*(option.choice for option in options), strict=True)
    rows = Choice(*(torch.cat(parts, dim=1) for parts in choices))
    return Options(rows, torch.cat([option.cost for option in options], dim=1))
