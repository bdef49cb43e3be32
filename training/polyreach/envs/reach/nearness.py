"""What it costs a task that bodies of the robot come near each other."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from polyreach_description import Robot

LARGEST = 2.0  # cost of a pair, in units of that at the stop distance
SAMPLES = 32  # configurations, to find the joints that change a distance
CHANGED = 1e-4  # [m]

Clearance = Callable[[Tensor], Tensor]
"""From joint_pos (B, nu) [rad or m] to distances of P pairs of bodies, or of parts of them, (B, P)
[m].
"""


class Nearness:
    """Costs of the effectors' tasks.

    A pair costs 0 from the robot's slow distance on and 1 at its stop distance, linearly between
    and beyond, up to LARGEST. It concerns the tasks with a joint that changes its distance. A task
    costs as much as the dearest of its pairs.
    """

    def __init__(self, clearance: Clearance, robot: Robot, device: torch.device) -> None:
        self.clearance = clearance
        self.slow_distance = robot.slow_distance
        self.margin = robot.slow_distance - robot.stop_distance
        changing = pair_joints(clearance, robot, device)  # (P, nu)
        action_sets = torch.tensor(robot.action_sets, device=device)
        concerned = (changing[:, None] & action_sets).any(dim=-1)  # (P, E)
        self.pairs = [pairs.nonzero()[:, 0] for pairs in concerned.T]

    @torch.no_grad()
    def __call__(self, joint_pos: Tensor) -> Tensor:
        """Costs (B, E) at joint_pos (B, nu) [rad or m]."""
        short = self.slow_distance - self.clearance(joint_pos)  # (B, P)
        cost = (short / self.margin).clamp(0.0, LARGEST)
        none = cost.new_zeros(len(cost))
        return torch.stack(
            [cost[:, pairs].amax(dim=1) if len(pairs) else none for pairs in self.pairs], dim=1
        )


@torch.no_grad()
def pair_joints(clearance: Clearance, robot: Robot, device: torch.device) -> Tensor:
    """Which joints change the distance of which pairs (P, nu) bool: in random configurations, each
    joint is put elsewhere in its range.
    """
    low, high = robot.joint_pos_limits.T
    rng, nu = np.random.default_rng(0), len(low)
    places = rng.uniform(low, high, (2, SAMPLES, nu))
    moved = np.where(np.eye(nu, dtype=bool)[:, None], places[1], places[0])  # (nu, SAMPLES, nu)
    rows = torch.tensor(np.concatenate([places[:1], moved]), dtype=torch.float32, device=device)
    distance = clearance(rows.flatten(0, 1)).unflatten(0, (nu + 1, SAMPLES))
    change = (distance[1:] - distance[0]).abs().amax(dim=1)  # (nu, P)
    return (change > CHANGED).mT
