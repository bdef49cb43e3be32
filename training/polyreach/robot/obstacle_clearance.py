"""Distances between the bodies of a robot and obstacles, along ways, in torch."""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from polyreach.robot.fk_constants import frame_of
from polyreach.robot.goals import rotation_matrices
from polyreach.robot.kinematics import forget
from polyreach.robot.obstacle_spheres import Spheres
from polyreach_description import Robot
from polyreach_description.policy_tensors import NO_OBSTACLE

SMALL = 1e-9  # [m^2], under square roots and in quotients
NOWHERE = NO_OBSTACLE[2] / 2  # [m], height below which a row is no obstacle


class Obstacles(NamedTuple):
    """K rounded boxes around each of B robots."""

    turn: Tensor  # (B, 3 K, 3) from the base frame to those of the boxes
    place: Tensor  # (B, 3 K, 1) [m] of their middles there
    half: Tensor  # (B, K, 3, 1) half sides [m]
    radius: Tensor  # (B, K, 1, 1, 1) [m]


def read_obstacles(rows: Tensor) -> Obstacles:
    """Of a policy's input (B, K, 11)."""
    count = int(rows.shape[1])
    place, quaternion, half, radius = rows[..., None].split([3, 4, 3, 1], dim=2)
    turn = rotation_matrices(quaternion.reshape(-1, 4)).transpose(-1, -2)
    turn = turn.reshape(-1, count, 3, 3)
    return Obstacles(
        turn.reshape(-1, 3 * count, 3),
        (turn @ place).reshape(-1, 3 * count, 1),
        half,
        radius[..., None],
    )


def are_none(rows: Tensor) -> Tensor:
    """Whether no row of a policy's input (B, K, 11) is an obstacle, () bool."""
    return (rows[:, :, 2] < NOWHERE).all()


class Distances(NamedTuple):
    """Distances [m] of S spheres from K obstacles, on W ways of each of B robots."""

    here: Tensor  # (B, K, 1, S, W) at the start
    pieces: Tensor  # (B, K, n - 1, S, W) the least between one point and the next
    there: Tensor  # (B, K, 1, S, W) at the end


class ObstacleClearance(nn.Module):
    """Distances of S spheres that cover a robot from obstacles."""

    def __init__(self, robot: Robot, spheres: Spheres) -> None:
        super().__init__()
        tree, local = robot.tree, np.zeros((len(spheres.mover), 3))
        for number, (mover, centre) in enumerate(zip(spheres.mover, spheres.centre, strict=True)):
            inverse = np.linalg.inv(frame_of(tree.axis[mover], tree.anchor[mover]))
            local[number] = (inverse @ np.append(centre, 1.0))[:3]
        for name, value in {
            "local": local.T[:, None, :, None],  # (3, 1, S, 1)
            "radius": spheres.radius[:, None],
        }.items():
            self.register_buffer(name, torch.tensor(value, dtype=torch.float32), persistent=False)
        at = torch.tensor(spheres.mover.copy())
        self.register_buffer("at", at, persistent=False)
        self.spheres = len(spheres.mover)
        self.register_load_state_dict_pre_hook(forget)

    local: Tensor
    radius: Tensor
    at: Tensor

    def centres(self, frames: Tensor) -> Tensor:
        """Centres of the spheres (3, S, R) [m, base frame] from the frames (R, N, 4, 3)."""
        # robots last, as frames lie in memory
        x, y, z, origin = frames.permute(2, 3, 1, 0).index_select(2, self.at)
        along_x, along_y, along_z = self.local  # (1, S, 1)
        return along_x * x + along_y * y + along_z * z + origin

    def on_ways(self, frames: Tensor, obstacles: Obstacles, ways: int, points: int) -> Distances:
        """Distances by the frames (B W n, N, 4, 3) at the n points of W ways.

        Spheres are taken to go straight between two points. The distance of a box from what goes
        straight is convex in time, so it is never below both tangents at the ends of a piece, and
        their intersection bounds it.
        """
        spheres, count = self.spheres, int(obstacles.half.shape[1])
        centres = self.centres(frames).reshape(3, spheres, -1, ways, points)
        # points before spheres: those that follow each other are apart in memory as a whole
        centres = centres.permute(2, 0, 4, 1, 3).reshape(-1, 3, points * spheres * ways)
        place = obstacles.turn @ centres - obstacles.place  # in the frames of the boxes
        place = place.reshape(-1, count, 3, points * spheres * ways)
        outside = place - torch.minimum(torch.maximum(place, -obstacles.half), obstacles.half)
        distance = (outside.square().sum(dim=2) + SMALL).sqrt()  # (B, K, n S W)
        last = spheres * ways  # of the runs that follow are those of a point
        way = place[..., last:] - place[..., :-last]
        first, second = distance[..., :-last], distance[..., last:]
        falls = ((outside[..., :-last] * way).sum(dim=2) / first).clamp(max=0.0)
        rises = ((outside[..., last:] * way).sum(dim=2) / second).clamp(min=0.0)
        share = ((first - second + rises) / (rises - falls + SMALL)).clamp(0.0, 1.0)
        reduce = obstacles.radius + self.radius
        distance = distance.reshape(-1, count, points, spheres, ways) - reduce
        pieces = (first + falls * share).reshape(-1, count, points - 1, spheres, ways) - reduce
        return Distances(distance[:, :, :1], pieces, distance[:, :, -1:])
