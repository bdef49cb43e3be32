"""Capsules that are moved until their distances are those measured between the bodies."""

from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from polyreach.robot.fk_constants import frame_of
from polyreach.robot.self_clearance import SMALL, Capsules, SelfClearance
from polyreach_description import Robot

STEPS = 500  # of Adam
BATCH = 256  # configurations in a step
RATE = 0.3  # stop distances in a step at first, then along half a cosine
LEAST = 20  # configurations over which a mean is taken
NOWHERE = 1e3  # [m], distance of what is out of sight
FALSE_ALARM = 4.0  # weight of what is called near, but is out of sight

Array = NDArray[np.float64]


def refine_capsules(
    robot: Robot,
    capsules: Capsules,
    pair_of: NDArray[np.int64],
    free: NDArray[np.bool_],
    sample: Array,
    exact: Array,
    sight: float,
) -> Capsules:
    """Capsules whose distances in the configurations (N, nu) [rad or m] are nearer to the exact
    ones (N, G) [m], which are infinite beyond `sight` [m].

    pair_of (P,): the pair of bodies, of G, to which each pair of capsules belongs; the nearest
    counts. free (C,): capsules that may move. Below the stop distance all are as near as at it.
    """
    stop, count = robot.stop_distance, exact.shape[1]
    clearance = SelfClearance(robot, capsules)
    with torch.no_grad():
        frames = clearance.kinematics.frames_at(torch.tensor(sample, dtype=torch.float32))
    shapes = _Shapes(robot, capsules, clearance, free)
    optimizer = torch.optim.Adam(shapes.parameters, lr=RATE * stop)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, STEPS)
    wanted = torch.tensor(np.minimum(exact, NOWHERE), dtype=torch.float32)
    seen = (wanted < sight).float()
    # each pair counts as much as any other, however seldom it is near
    weight = len(sample) * (
        seen / seen.sum(dim=0).clamp(min=LEAST)
        + FALSE_ALARM * (1 - seen) / (1 - seen).sum(dim=0).clamp(min=LEAST)
    )
    owner = torch.tensor(pair_of).expand(BATCH, -1)
    random = torch.Generator().manual_seed(0)
    for _ in range(STEPS):
        rows = torch.randint(len(sample), (BATCH,), generator=random)
        each = torch.func.functional_call(clearance, shapes.buffers(), (frames[rows],))
        fitted = torch.full((BATCH, count), NOWHERE).scatter_reduce(1, owner, each, "amin")
        goal = wanted[rows]
        too_far = (fitted - goal.clamp(min=stop)).clamp(min=0.0) * seen[rows]
        too_near = (goal.clamp(max=sight) - fitted).clamp(min=0.0) * (goal > stop)
        loss = (weight[rows] * (too_far + too_near)).sum() / BATCH
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return shapes.capsules()


class _Shapes:
    """Starts and directions (2, C, 3) [m] of capsules in the frames that move them, and radii."""

    def __init__(
        self, robot: Robot, capsules: Capsules, clearance: SelfClearance, free: NDArray[np.bool_]
    ) -> None:
        self._robot, self._capsules = robot, capsules
        local, fixed = clearance.local[:, :, 0, :, 0], clearance.fixed[..., 0]
        self._first = local.permute(1, 2, 0) + fixed.transpose(1, 2)
        self._first_radius = torch.tensor(capsules.radius, dtype=torch.float32)
        self._free = torch.tensor(free).float()
        self._moves = torch.tensor(capsules.mover >= 0).float()[:, None]
        self._pairs = torch.tensor(capsules.pairs.T.copy())
        self.parameters = [
            torch.zeros_like(self._first, requires_grad=True),
            torch.zeros_like(self._first_radius, requires_grad=True),
        ]

    def _now(self) -> tuple[Tensor, Tensor]:
        change, radius_change = self.parameters
        ends = self._first + change * self._free[:, None]
        return ends, (self._first_radius + radius_change * self._free).clamp(min=0.0)

    def buffers(self) -> dict[str, Tensor]:
        """The buffers of SelfClearance, without offsets."""
        ends, radius = self._now()
        length = (ends[1] ** 2).sum(dim=1)
        i, j = self._pairs
        return {
            "local": (ends * self._moves).permute(2, 0, 1)[:, :, None, :, None],
            "fixed": (ends * (1 - self._moves)).transpose(1, 2)[..., None],
            "length_i": length[i, None] + SMALL,
            "length_j": length[j, None] + SMALL,
            "reduce": radius[i] + radius[j],
        }

    def capsules(self) -> Capsules:
        """In the base frame."""
        ends, radius = (part.detach().double().numpy() for part in self._now())
        tree, (start, along) = self._robot.tree, ends
        for c, mover in enumerate(self._capsules.mover):
            if mover >= 0:
                frame = frame_of(tree.axis[mover], tree.anchor[mover])
                start[c] = frame[:3, :3] @ start[c] + frame[:3, 3]
                along[c] = frame[:3, :3] @ along[c]
        return replace(self._capsules, start=start, end=start + along, radius=radius)
