"""Straight ways of the joints, as far as they are clear of the robot's own bodies and obstacles."""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from polyreach.robot.capsule_fit import fit_capsules
from polyreach.robot.goals import GoalErrors, Goals
from polyreach.robot.kinematics import ForwardKinematics
from polyreach.robot.obstacle_clearance import ObstacleClearance, Obstacles
from polyreach.robot.obstacle_spheres import cover_bodies
from polyreach.robot.self_clearance import Capsules, SelfClearance
from polyreach_description import Robot

BESIDE = 0.012  # [m], beside the stop distance, between bodies and obstacles on a new way
KEPT_BESIDE = 0.006  # [m], on a way that was clear
WORSE = 1e-4  # [m], by which a way may come nearer than its start, where that is too near


class Ways(NamedTuple):
    """R straight ways, as far as they are clear."""

    end: Tensor  # (R, nu) [rad or m] the last clear point
    error: Tensor  # (R, E) [m] there
    error_there: Tensor  # (R, E) [m] at the target
    clear_there: Tensor  # (R, 1) bool: the target itself is clear
    near: Tensor  # (R, 1) 1 where two bodies are too near at the end, as they were at the start
    near_there: Tensor  # (R, 1) the same, at the target
    hit: Tensor  # (B, W n) 1 where an obstacle is too near: on each piece, and at the target
    free: Tensor  # (B, W n) what this is without obstacles


class StraightWays(nn.Module):
    """Looks at points of straight ways."""

    def __init__(
        self,
        robot: Robot,
        kinematics: ForwardKinematics,
        errors: GoalErrors,
        capsules: Capsules | None = None,
    ) -> None:
        super().__init__()
        self.joints, self.effectors = len(robot.joint_names), len(robot.effector_names)
        self.stop_distance = robot.stop_distance
        self.kinematics, self.errors = kinematics, errors
        self.own_clearance = SelfClearance(robot, capsules or fit_capsules(robot))
        self.obstacle_clearance = ObstacleClearance(robot, cover_bodies(robot))

    def forward(
        self,
        start: Tensor,
        target: Tensor,
        goals: Goals,
        obstacles: Obstacles,
        ways: int,
        shares: Tensor,
        margin: float,
        beside: float,
        every: int = 1,
    ) -> tuple[Tensor, Ways]:
        """Frames (R, N, 4, 3) at the starts, and what becomes of the ways.

        R = B W: W ways of each of the B robots that the obstacles surround, from start to target
        (R, nu) [rad or m] and for the goals of R robots. shares (n, 1): where points of a way are
        looked at, from 0 to 1. margin, beside: [m] beyond the stop distance that the robot's own
        bodies are apart, and that obstacles are; a pair that is nearer at the start may stay as
        near. every: obstacles are looked for between every so many points.
        """
        n, pieces = len(shares), len(shares) - 1
        rows = start[:, None] + shares * (target - start)[:, None]  # (R, n, nu)
        frames = self.kinematics.frames_at(rows.reshape(-1, self.joints))
        error = self.errors.size(self.errors(frames, goals.repeat(n)))
        error = error.reshape(-1, n, self.effectors)
        own = self.own_clearance(frames).reshape(-1, n, self.own_clearance.pairs)
        needed = (own[:, :1] - WORSE).clamp(max=self.stop_distance + margin)
        blocked = ((needed - own).amax(dim=2) > 0.0).float()  # (R, n)
        near = (own.amin(dim=2) < self.stop_distance + margin).float()  # (R, n)
        places = pieces // every + 1
        seen = frames.reshape(-1, n, *map(int, frames.shape[1:]))[:, ::every]
        seen = seen.reshape(-1, *map(int, frames.shape[1:]))
        around = self.obstacle_clearance.on_ways(seen, obstacles, ways, places)
        allowed = (around.here - WORSE).clamp(max=self.stop_distance + beside)
        on_piece, there = (
            (allowed > part).float().amax(dim=(1, 3)) for part in (around.pieces, around.there)
        )  # (B, places - 1, W), (B, 1, W)
        on_piece = torch.stack([on_piece] * every, dim=2).reshape(-1, pieces, ways)
        hit = torch.cat([on_piece, there], dim=1).transpose(1, 2).reshape(-1, ways * n)
        # on each piece, the last point counted with it, and at the target
        own_hit = torch.cat([blocked[:, 1:], blocked[:, -1:]], dim=1)
        passes = own_hit + hit.reshape(-1, n) < 0.5  # (R, n)
        clear = ((~passes[:, :pieces]).float().cumsum(dim=1) < 0.5).float()  # up to each point
        count = clear.sum(dim=1, keepdim=True)  # (R, 1)
        numbers = torch.arange(n, device=count.device)
        last = (count == numbers).float()[..., None]  # (R, n, 1)
        end = start + count / pieces * (target - start)
        at_end, free = (last * error).sum(dim=1), 0.0 * blocked.reshape(-1, ways * n)
        near_end = (last * near[..., None]).sum(dim=1)
        found = Ways(
            end, at_end, error[:, -1], passes[:, pieces:], near_end, near[:, pieces:], hit, free
        )
        return frames[::n], found
