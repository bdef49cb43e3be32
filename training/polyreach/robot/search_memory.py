"""What a configuration search carries from one control period to the next."""

from typing import NamedTuple

import torch
from torch import Tensor


class Memory(NamedTuple):
    """Of B robots."""

    target: Tensor  # (B, nu) [rad or m]
    via: Tensor  # (B, nu) [rad or m] where the robot goes first; the target, where straight there
    aim: Tensor  # (B, nu) [rad or m] the best that is clear, if no straight way to it is
    left: Tensor  # (B, 1) cost of the error that is left at the end of the way by `via`
    joint_pos: Tensor  # (B, nu) [rad or m] of the period before
    drift: Tensor  # (B, nu) velocity of the target [rad/s or m/s]
    behind: Tensor  # (B, nu) of the Response, as the next two
    mean: Tensor  # (B, nu)
    reaction: Tensor  # (B, 1)
    goals: Tensor  # (B, G) all numbers of the goals of the period before, their positions first
    settled: Tensor  # (B, 1) 1 where refinement no longer moved the target to these goals
    chosen_for: Tensor  # (B, E, 3) [m] goals for which the policy was asked
    active: Tensor  # (B, E) of these
    searches: Tensor  # (B, 1) since then

    @property
    def flat(self) -> Tensor:
        """(B, M)."""
        return torch.cat(
            [p.reshape(-1, 3 * int(p.shape[1])) if p.dim() > 2 else p for p in self], dim=1
        )


def memory_size(joints: int, effectors: int, goals: int) -> int:
    """M, by the numbers of a robot and G."""
    return sum(_sizes(joints, effectors, goals))


def read_memory(memory: Tensor, joints: int, effectors: int, goals: int) -> Memory:
    """The parts of a memory (B, M)."""
    parts = Memory(*memory.split(_sizes(joints, effectors, goals), 1))
    return parts._replace(chosen_for=parts.chosen_for.reshape(-1, effectors, 3))


def _sizes(joints: int, effectors: int, goals: int) -> list[int]:
    return [joints] * 3 + [1] + [joints] * 4 + [1, goals, 1, 3 * effectors, effectors, 1]
