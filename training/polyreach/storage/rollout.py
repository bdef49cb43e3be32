"""What on-policy methods collect, and the advantages in it."""

from typing import NamedTuple

import torch
from torch import Tensor


class Rollout(NamedTuple):
    """S steps of n environments of each of T tasks, in the order in which they were made."""

    obs: Tensor  # (S, T, n, O)
    action: Tensor  # (S, T, n, A), as drawn, before the environment clips it
    reward: Tensor  # (S, T, n)
    terminated: Tensor  # (S, T, n) bool: nothing follows
    ended: Tensor  # (S, T, n) bool: terminated or truncated
    next_obs: Tensor  # (S, T, n, O), before any restart


def by_task(x: Tensor) -> Tensor:
    """(S, T, n, ...) -> (T, S n, ...)."""
    return x.transpose(0, 1).flatten(1, 2)


def by_step(x: Tensor, steps: int) -> Tensor:
    """(T, S n) -> (S, T, n)."""
    return x.unflatten(1, (steps, -1)).transpose(0, 1)


def advantages(
    rollout: Rollout, value: Tensor, next_value: Tensor, gamma: float, lam: float
) -> Tensor:
    """Generalised advantage estimates (S, T, n) from values (S, T, n) of the states and of those
    that followed them (Schulman et al. 2015, arXiv:1506.02438, eq. 11 to 16).

    A termination is worth nothing; a time limit cuts the sum off, and the value stands for the
    rest. lam = 1 gives n-step returns minus values.
    """
    # delta_t = r_t + gamma V(s_t+1) - V(s_t)
    delta = rollout.reward + gamma * next_value * ~rollout.terminated - value
    factor = gamma * lam * ~rollout.ended
    advantage = torch.empty_like(delta)
    later = torch.zeros_like(delta[0])
    for step in range(len(delta) - 1, -1, -1):
        # A_t = delta_t + gamma lambda A_t+1
        later = torch.addcmul(delta[step], factor[step], later)
        advantage[step] = later
    return advantage
