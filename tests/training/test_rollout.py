"""Advantages by hand and against stable-baselines3; probabilities against torch's distributions."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.distributions import Independent, Normal

from polyreach.networks.gaussian import normal_entropy, normal_log_prob
from polyreach.storage.rollout import Rollout, advantages, by_step, by_task


def rollout_of(reward: Tensor, terminated: Tensor, truncated: Tensor) -> Rollout:
    """A rollout (S, T, n) of which only rewards and ends matter."""
    nothing = torch.zeros(*reward.shape, 0)
    return Rollout(nothing, nothing, reward, terminated, terminated | truncated, nothing)


def column(*numbers: float) -> Tensor:
    """(S, 1, 1)."""
    return torch.tensor(numbers)[:, None, None]


@pytest.mark.parametrize(
    ("lam", "expected"),
    [
        # A_4 = 5 + 3/2 - 2.5, A_3 = 4 + 2.5/2 - 2 and so on: every step on its own
        (0.0, [1.0, 1.0, 5.0, 3.25, 4.0]),
        # A_3 = 3.25 + 1/4 A_4 and A_0 = 1 + 1/4 A_1; steps 1 and 2 end episodes
        (0.5, [1.25, 1.0, 5.0, 4.25, 4.0]),
        # returns minus values: A_3 = 4 + 5/2 + 3/4 - 2 and A_0 = 1 + 2/2 - 0.5
        (1.0, [1.5, 1.0, 5.0, 5.25, 4.0]),
    ],
)
def test_advantages_with_a_termination_and_a_time_limit(lam: float, expected: list[float]) -> None:
    reward = column(1.0, 2.0, 3.0, 4.0, 5.0)
    value = column(0.5, 1.0, 1.5, 2.0, 2.5)
    # after step 1 nothing follows, whatever the value there; after step 2 the state before the
    # restart is worth 7, though the next row starts in one worth 2
    next_value = column(1.0, 9.0, 7.0, 2.5, 3.0)
    terminated = column(0, 1, 0, 0, 0).bool()
    truncated = column(0, 0, 1, 0, 0).bool()
    actual = advantages(rollout_of(reward, terminated, truncated), value, next_value, 0.5, lam)
    assert actual.flatten().tolist() == expected


def test_an_episode_ends_in_one_environment_alone() -> None:
    reward = torch.ones(3, 2, 2)
    terminated, truncated = torch.zeros(2, 3, 2, 2, dtype=torch.bool)
    terminated[1, 0, 1] = truncated[1, 1, 0] = True
    value = torch.zeros(3, 2, 2)
    actual = advantages(rollout_of(reward, terminated, truncated), value, value + 2.0, 0.5, 0.5)
    # delta = 2, and 1 after a termination; gamma lambda = 1/4
    whole, fell, cut = [2.625, 2.5, 2.0], [2.25, 1.0, 2.0], [2.5, 2.0, 2.0]
    assert actual[:, 0, 0].tolist() == actual[:, 1, 1].tolist() == whole
    assert actual[:, 0, 1].tolist() == fell
    assert actual[:, 1, 0].tolist() == cut


@pytest.mark.parametrize("lam", [0.0, 0.95, 1.0])
def test_advantages_are_those_of_stable_baselines3(lam: float) -> None:
    buffers = pytest.importorskip(
        "stable_baselines3.common.buffers", reason="stable-baselines3 is not installed"
    )
    from gymnasium.spaces import Box

    draw = torch.Generator().manual_seed(0)
    steps, tasks, each, gamma = 40, 3, 2, 0.9
    reward, value, fresh = torch.randn(3, steps, tasks, each, generator=draw)
    chance = torch.rand(steps, tasks, each, generator=draw)
    terminated, truncated = chance < 0.1, chance > 0.85
    ended = terminated | truncated
    # a row's value is that of the state reached before, unless a new episode began
    last = torch.randn(1, tasks, each, generator=draw)
    next_value = torch.where(ended, fresh, torch.cat([value[1:], last]))
    actual = advantages(rollout_of(reward, terminated, truncated), value, next_value, gamma, lam)

    space = Box(-1.0, 1.0, (1,), np.float32)
    buffer = buffers.RolloutBuffer(steps, space, space, "cpu", lam, gamma, tasks * each)
    # it takes the worth of a state that is cut off into the reward before
    buffer.rewards[:] = (reward + gamma * next_value * truncated).flatten(1).numpy()
    buffer.values[:] = value.flatten(1).numpy()
    buffer.episode_starts[1:] = ended[:-1].flatten(1).numpy()
    buffer.compute_returns_and_advantage(last.flatten(), ended[-1].flatten().numpy())
    expected = torch.from_numpy(buffer.advantages).view_as(actual)
    assert torch.allclose(actual, expected, rtol=0, atol=1e-5)
    assert 0 < int(terminated.sum()) < int(ended.sum()) < ended.numel()


def test_rows_of_tasks_and_back() -> None:
    step, task, env = torch.meshgrid(*(torch.arange(n) for n in (4, 3, 2)), indexing="ij")
    numbers = 100 * task + 10 * step + env  # (S, T, n)
    rows = by_task(numbers)
    assert rows.tolist() == [
        [100 * task + 10 * step + env for step in range(4) for env in range(2)] for task in range(3)
    ]
    assert torch.equal(by_step(rows, 4), numbers)
    vectors = torch.stack([numbers, -numbers], dim=-1)
    assert torch.equal(by_task(vectors), torch.stack([rows, -rows], dim=-1))


def test_probabilities_and_entropy_of_normal_distributions() -> None:
    draw = torch.Generator().manual_seed(1)
    action, mean = torch.randn(2, 3, 5, 4, generator=draw)
    log_std = torch.randn(3, 1, 4, generator=draw)
    known = Independent(Normal(mean, log_std.exp().expand_as(mean)), 1)
    actual = normal_log_prob(action, mean, log_std)
    assert torch.allclose(actual, known.log_prob(action), rtol=1e-5, atol=1e-5)
    assert torch.allclose(normal_entropy(log_std).expand(3, 5), known.entropy(), atol=1e-5)
    # two standard deviations off, of std 1/2: -2 + log 2 - log sqrt(2 pi)
    one = normal_log_prob(*torch.tensor([[[[2.0]]], [[[1.0]]], [[[-math.log(2.0)]]]]))
    assert float(one) == pytest.approx(-2.0 + math.log(2.0) - 0.5 * math.log(2 * math.pi))
