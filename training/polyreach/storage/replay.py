"""Replay of transitions, kept as tensors on the training device."""

from typing import Any, NamedTuple

import torch
from torch import Tensor


class Batch(NamedTuple):
    """Transitions: obs (B, O), action (B, nu), reward (B, T), next_obs (B, O)."""

    obs: Tensor
    action: Tensor
    reward: Tensor
    next_obs: Tensor


class Replay:
    """A ring of `capacity` transitions; there is no terminal flag, since reach episodes are only
    cut by time.
    """

    def __init__(
        self, capacity: int, obs: int, action: int, reward: int, device: torch.device
    ) -> None:
        self.capacity = capacity
        self.store = Batch(
            *(torch.zeros(capacity, width, device=device) for width in (obs, action, reward, obs))
        )
        self.next = 0
        self.size = 0

    def add(self, batch: Batch) -> None:
        """Append N transitions; the oldest give way. N must not exceed the capacity."""
        count = len(batch.obs)
        index = (self.next + torch.arange(count, device=batch.obs.device)) % self.capacity
        for kept, new in zip(self.store, batch, strict=True):
            kept[index] = new
        self.next = (self.next + count) % self.capacity
        self.size = min(self.size + count, self.capacity)

    def sample(self, count: int, generator: torch.Generator) -> Batch:
        """Draw `count` transitions uniformly, with replacement."""
        index = torch.randint(self.size, (count,), generator=generator, device=generator.device)
        return Batch(*(kept[index] for kept in self.store))

    def state_dict(self) -> dict[str, Any]:
        """What has been stored so far, exactly."""
        return {
            "next": self.next,
            "size": self.size,
            "store": [kept[: self.size].clone() for kept in self.store],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what state_dict returned."""
        self.next, self.size = state["next"], state["size"]
        for kept, saved in zip(self.store, state["store"], strict=True):
            kept[: self.size] = saved
