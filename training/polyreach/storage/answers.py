"""States with the answers of a teacher, kept to be learned from more than once (the data set D of
Ross et al. 2011, arXiv:1011.0686).
"""

from typing import Any

import torch
from torch import Tensor


class Answers:
    """T rings of `capacity` states (O,) with the mean and log standard deviation (A,) that the
    teacher gives there.
    """

    def __init__(
        self, tasks: int, capacity: int, obs: int, action: int, device: torch.device
    ) -> None:
        self.widths = [obs, action, action]
        self.store = torch.zeros(tasks, capacity, sum(self.widths), device=device)
        self.added = [0] * tasks  # so far, replaced ones included

    def add(self, obs: Tensor, mean: Tensor, log_std: Tensor, tasks: list[int]) -> None:
        """Append B states of each of `tasks`, (T', B, .) each; the oldest are replaced.

        Of more states than a ring holds, the last are kept.
        """
        capacity = self.store.shape[1]
        rows = torch.cat([obs, mean, log_std], dim=-1)
        for row, task in zip(rows[:, -capacity:], tasks, strict=True):
            steps = torch.arange(len(row), device=row.device)
            self.store[task, (self.added[task] + steps) % capacity] = row
            self.added[task] += len(row)

    def sample(
        self, count: int, generator: torch.Generator, tasks: list[int]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """`count` states of each of `tasks`, uniformly and with replacement: observations (T', B,
        O), means and log standard deviations (T', B, A).
        """
        device = self.store.device
        sizes = torch.tensor([self.size(task) for task in tasks], device=device)[:, None]
        shape = len(tasks), count
        # in double precision a number below 1 times a size stays below the size
        uniform = torch.rand(shape, generator=generator, device=device, dtype=torch.float64)
        index = (uniform * sizes).long()
        obs, mean, log_std = self.store[torch.tensor(tasks, device=device)[:, None], index].split(
            self.widths, dim=-1
        )
        return obs, mean, log_std

    def size(self, task: int) -> int:
        """States of `task` that are kept."""
        return min(self.added[task], self.store.shape[1])

    def state_dict(self) -> dict[str, Any]:
        """What has been stored so far, exactly."""
        stored = [ring[: self.size(task)].clone() for task, ring in enumerate(self.store)]
        return {"added": list(self.added), "store": stored}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what state_dict returned."""
        self.added = list(state["added"])
        for ring, saved in zip(self.store, state["store"], strict=True):
            ring[: len(saved)] = saved
