"""Normal distributions of independent actions, given by mean and log standard deviation."""

import math

from torch import Tensor


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
