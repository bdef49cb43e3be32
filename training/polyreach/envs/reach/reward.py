"""Rewards of the reach tasks: pure functions of the effectors' errors.

Each takes error (N, E) [m] and active (N, E) in {0, 1} and returns the reward of every critic
output: (N, E) for methods that see one reward per task, (N, 1) for those that see one in all.
"""

import math
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

DONE_REWARD = 0.1  # for a task that is done: "a small positive reward"
BONUS = 1.0  # for every task when all are done
FINE = 0.005  # [m], where the logarithmic reward flattens

RewardName = Literal["paper", "precise", "paper_scalar", "paper_sum", "precise_sum"]
Reward = Callable[[Tensor, Tensor, float], Tensor]


def paper_reward(error: Tensor, active: Tensor, tolerance: float) -> Tensor:
    """digrad-2018, section 5, "Reward function":

    r_i > 0 if task i is done, a bonus if all are, else -error_i.
    """
    done = error < tolerance
    all_done = (done | (active == 0)).all(dim=-1, keepdim=True)
    reward = torch.where(done, torch.full_like(error, DONE_REWARD), -error)
    return (reward + BONUS * all_done) * active


def paper_scalar_reward(error: Tensor, active: Tensor, tolerance: float) -> Tensor:
    """The paper's reward for DDPG: positive when all effectors are at their goals, else minus the
    summed error.
    """
    all_done = ((error < tolerance) | (active == 0)).all(dim=-1, keepdim=True)
    return torch.where(
        all_done, torch.full_like(error[:, :1], BONUS), -(error * active).sum(dim=-1, keepdim=True)
    )


def paper_sum_reward(error: Tensor, active: Tensor, tolerance: float) -> Tensor:
    """The paper's second setting for DDPG: the sum of DiGrad's rewards r_i."""
    return paper_reward(error, active, tolerance).sum(dim=-1, keepdim=True)


def precise_reward(error: Tensor, active: Tensor, tolerance: float) -> Tensor:
    """-error_i less logarithms of the own and of the largest error, steep down to millimetres.

    The share of the largest error is the smooth counterpart of the paper's bonus: a task gains from
    the others' success.
    """
    error = error * active
    largest = error.amax(dim=-1, keepdim=True)
    return -(0.5 * error + _logarithm(error) + _logarithm(largest)) * active


def _logarithm(error: Tensor) -> Tensor:
    """0 at the goal, 1 at 1 m."""
    return torch.log1p(error / FINE) / math.log1p(1.0 / FINE)


def precise_sum_reward(error: Tensor, active: Tensor, tolerance: float) -> Tensor:
    """The sum of precise_reward over the tasks."""
    return precise_reward(error, active, tolerance).sum(dim=-1, keepdim=True)


REWARDS: dict[RewardName, Reward] = {
    "paper": paper_reward,
    "precise": precise_reward,
    "paper_scalar": paper_scalar_reward,
    "paper_sum": paper_sum_reward,
    "precise_sum": precise_sum_reward,
}


def reward_size(name: RewardName, effectors: int) -> int:
    """Number of rewards T that the named function returns per environment."""
    one = torch.zeros(1, effectors)
    return REWARDS[name](one, one, 0.01).shape[-1]
