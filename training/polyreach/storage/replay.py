"""Replay with one ring per task, kept as one tensor on the training device (hierarchical replay of
KTM-DRL, Xu et al. 2020, section 3.3).
"""

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor


class Batch(NamedTuple):
    """Transitions of T' tasks, B of each."""

    obs: Tensor  # (T', B, O)
    action: Tensor  # (T', B, A)
    reward: Tensor  # (T', B), or (T', B, K) where a transition has K rewards
    terminated: Tensor  # (T', B), 1 where nothing follows
    next_obs: Tensor  # (T', B, O)


class Replay:
    """T rings of `capacity` transitions each. `reward_shape`: as of TaskEnv."""

    def __init__(
        self,
        tasks: int,
        capacity: int,
        obs: int,
        action: int,
        device: torch.device,
        reward_shape: tuple[int, ...] = (),
    ) -> None:
        self.capacity, self.reward_shape = capacity, reward_shape
        self.widths = [obs, action, math.prod(reward_shape), 1, obs]
        self.store = torch.zeros(tasks, capacity, sum(self.widths), device=device)
        self.next = [0] * tasks
        self.size = [0] * tasks

    def add(self, batch: Batch, tasks: list[int] | None = None) -> None:
        """Append n transitions of each of `tasks` (T',), all if None; n is at most the capacity."""
        reward = batch.reward.reshape(*batch.terminated.shape, -1)
        terminated = batch.terminated[..., None].to(reward.dtype)
        rows = torch.cat([batch.obs, batch.action, reward, terminated, batch.next_obs], dim=-1)
        steps = torch.arange(rows.shape[1], device=rows.device)
        for row, task in zip(rows, range(len(self.size)) if tasks is None else tasks, strict=True):
            self.store[task, (self.next[task] + steps) % self.capacity] = row
            self.next[task] = (self.next[task] + len(row)) % self.capacity
            self.size[task] = min(self.size[task] + len(row), self.capacity)

    def sample(
        self, count: int, generator: torch.Generator, tasks: list[int] | None = None
    ) -> Batch:
        """`count` transitions of each of `tasks`, all if None, uniformly and with replacement."""
        sizes = self.size if tasks is None else [self.size[task] for task in tasks]
        device = self.store.device
        # in double precision a number below 1 times a size stays below the size
        uniform = torch.rand(
            len(sizes), count, generator=generator, device=device, dtype=torch.float64
        )
        return self.take((uniform * torch.tensor(sizes, device=device)[:, None]).long(), tasks)

    def take(self, index: Tensor, tasks: list[int] | None = None) -> Batch:
        """The transitions at `index` (T', B) in the rings of `tasks`, all if None."""
        chosen = list(range(len(self.size))) if tasks is None else tasks
        rows = self.store[torch.tensor(chosen, device=index.device)[:, None], index]
        obs, action, reward, terminated, next_obs = rows.split(self.widths, dim=-1)
        reward = reward.reshape(*index.shape, *self.reward_shape)
        return Batch(obs, action, reward, terminated[..., 0], next_obs)

    def rewards(self) -> list[Tensor]:
        """All rewards of every task (transitions of the task, K), K = 1 for one reward."""
        parts = self.store.split(self.widths, dim=-1)
        return [ring[:size] for ring, size in zip(parts[2], self.size, strict=True)]

    def state_dict(self) -> dict[str, Any]:
        """What has been stored so far, exactly."""
        stored = [ring[:size].clone() for ring, size in zip(self.store, self.size, strict=True)]
        return {"next": list(self.next), "size": list(self.size), "store": stored}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what state_dict returned."""
        self.next, self.size = list(state["next"]), list(state["size"])
        for ring, saved in zip(self.store, state["store"], strict=True):
            ring[: len(saved)] = saved
