"""Normal distributions of independent actions, given by mean and log standard deviation, and the
actor that squashes one by tanh.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional

from polyreach.networks.mlp import Body
from polyreach.networks.policy import NormalPolicy

LOG_STD_MIN, LOG_STD_MAX = -20.0, 2.0


def normal_log_prob(action: Tensor, mean: Tensor, log_std: Tensor) -> Tensor:
    """log N(a; mean, std) summed over actions: (T, B, A) -> (T, B)."""
    z = (action - mean) * (-log_std).exp()
    return -(0.5 * z.square() + log_std + 0.5 * math.log(2 * math.pi)).sum(dim=-1)


def normal_entropy(log_std: Tensor) -> Tensor:
    """Entropy of a normal distribution with independent actions: (..., A) -> (...)."""
    return (log_std + 0.5 * math.log(2 * math.pi * math.e)).sum(dim=-1)


def normal_divergence(
    mean: Tensor, log_std: Tensor, other_mean: Tensor, other_log_std: Tensor
) -> Tensor:
    """KL(N(mean, std) || N(other_mean, other_std)) of diagonal normals (..., A), summed over A."""
    ratio = (2 * (log_std - other_log_std)).exp()  # variance / other variance
    distance = ((mean - other_mean) / other_log_std.exp()).square()
    return (0.5 * (ratio + distance - 1) + other_log_std - log_std).sum(dim=-1)


class GaussianActor(NormalPolicy):
    """pi(a|s, z): a normal distribution squashed by tanh (Haarnoja et al. 2018, appendix C)."""

    def __init__(self, body: Body) -> None:
        super().__init__()
        self.body = body

    @property
    def squashes(self) -> bool:
        """Actions are the tanh of the draw."""
        return True

    def distribution(self, obs: Tensor, tasks: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """obs: (T', B, O) -> mean and log standard deviation before tanh, (T', B, A) each."""
        output = self.body(obs[None], tasks)[0]
        # a fixed size: an exported graph has bounds
        mean, log_std = output.split(int(output.shape[-1]) // 2, dim=-1)
        return mean, log_std.clamp(LOG_STD_MIN, LOG_STD_MAX)

    def forward(
        self, obs: Tensor, noise: Tensor, tasks: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """obs: (T', B, O), noise: standard normal (T', B, A) -> action, of its shape, and log pi
        (T', B).
        """
        return draw_action(*self.distribution(obs, tasks), noise)

    def mean_action(self, obs: Tensor, tasks: Tensor | None = None) -> Tensor:
        """The action without noise, (T', B, A), for obs (T', B, O)."""
        return torch.tanh(self.distribution(obs, tasks)[0])


def draw_action(mean: Tensor, log_std: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
    """tanh of a draw from N(mean, std) with standard normal `noise`, all (T', B, A), and its log pi
    (T', B).
    """
    u = mean + log_std.exp() * noise
    # log pi(a|s) = log N(u; mean, std) - sum log(1 - tanh(u)^2)
    normal = -0.5 * noise.square() - log_std - 0.5 * math.log(2 * math.pi)
    slope = 2 * (math.log(2) - u - functional.softplus(-2 * u))  # log(1 - tanh(u)^2)
    return torch.tanh(u), (normal - slope).sum(dim=-1)
