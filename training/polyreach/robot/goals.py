"""Goals of effectors, and the errors of a pose."""

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from polyreach.robot.kinematics import ForwardKinematics, Pose, forget
from polyreach_description import Robot
from polyreach_description.policy_tensors import PolicyInputs

METRES_PER_RADIAN = 0.2  # so that 1 cm compares with 3 degrees
SMALL = 1e-9
AWAY = 1e-4  # [rad] about every axis, by which a half turn is told from none


def repeat(rows: Tensor, count: int) -> Tensor:
    """(B, ...) -> (B count, ...): every row `count` times in a row."""
    # constant shapes but for B: an exported graph has bounds
    copies = torch.stack([rows] * count, dim=1)
    return copies.reshape(-1, *map(int, rows.shape[1:]))


class Goals(NamedTuple):
    """Goals of the E effectors of B robots."""

    position: Tensor  # (B, E, 3) [m, base frame]
    active: Tensor  # (B, E) in {0, 1}
    rotation: Tensor | None = None  # (B, E, 3, 3); None for a robot without oriented effectors
    oriented: Tensor | None = None  # (B, E) in {0, 1}

    def map(self, function: Callable[[Tensor], Tensor]) -> "Goals":
        """The same with `function` applied to every tensor."""
        rotation = None if self.rotation is None else function(self.rotation)
        oriented = None if self.oriented is None else function(self.oriented)
        return Goals(function(self.position), function(self.active), rotation, oriented)

    def repeat(self, count: int) -> "Goals":
        """(B count, ...): every robot `count` times in a row."""
        return self.map(lambda part: repeat(part, count))

    @staticmethod
    def numbers(effectors: int, oriented: bool) -> int:
        """G: of E effectors, 4 each, or 14 where the robot has oriented ones."""
        return effectors * (14 if oriented else 4)

    @property
    def flat(self) -> Tensor:
        """All numbers (B, G), positions first; see `numbers`."""
        parts = (part for part in self if part is not None)
        effectors = int(self.active.shape[1])
        rows = (part.reshape(-1, effectors * math.prod(map(int, part.shape[2:]))) for part in parts)
        return torch.cat([*rows], dim=1)

    @property
    def mask(self) -> Tensor:
        """1 for what counts: (B, E), or (B, 2 E) with orientations behind the positions."""
        if self.oriented is None:
            return self.active
        return torch.cat([self.active, self.active * self.oriented], dim=1)


def _quaternion_maps() -> tuple[Tensor, Tensor]:
    """Of a rotation matrix R and its quaternion q = x y z w: the linear maps (16, 9) from R to
    4 q q^T - I, and (9, 16) from q q^T to R - I.
    """
    to_products, to_matrix = torch.zeros(4, 4, 3, 3), torch.zeros(3, 3, 4, 4)
    for i, j, k in ((0, 1, 2), (1, 2, 0), (2, 0, 1)):
        to_products[i, i, i, i] = to_products[3, 3, i, i] = 1.0
        to_products[i, i, j, j] = to_products[i, i, k, k] = -1.0
        for row, column, sign in ((i, j, -1.0), (j, i, 1.0)):
            to_products[i, j, row, column] = to_products[j, i, row, column] = 1.0
            to_products[k, 3, row, column] = to_products[3, k, row, column] = sign
            to_matrix[row, column, i, j], to_matrix[row, column, k, 3] = 2.0, 2.0 * sign
        to_matrix[i, i, j, j] = to_matrix[i, i, k, k] = -2.0
    return to_products.reshape(16, 9), to_matrix.reshape(9, 16)


TO_PRODUCTS, TO_MATRIX = _quaternion_maps()


def rotation_matrices(quaternions: Tensor) -> Tensor:
    """Rotation matrices (..., 3, 3) of unit quaternions x y z w (..., 4)."""
    products = (quaternions[..., None] * quaternions[..., None, :]).reshape(-1, 16)
    matrices = functional.linear(products, TO_MATRIX.to(products))
    identity = torch.eye(3, dtype=products.dtype, device=products.device)
    return matrices.reshape(-1, *map(int, quaternions.shape[1:-1]), 3, 3) + identity


def quaternions(matrices: Tensor) -> Tensor:
    """Unit quaternions x y z w (..., 4) of rotation matrices (..., 3, 3).

    Each of the four columns of 4 q q^T gives q; the one with the largest diagonal element is used
    (Shepperd 1978).
    """
    elements = matrices.reshape(-1, 9)
    products = functional.linear(
        elements, TO_PRODUCTS.to(elements), torch.eye(4).ravel().to(elements)
    )
    diagonal = products[:, ::5]
    products = products.reshape(-1, 4, 4)
    # one of them where several are the largest: their signs may differ
    number = torch.arange(4, device=matrices.device)
    best = (diagonal.argmax(dim=-1, keepdim=True) == number).to(products.dtype)
    chosen = (best[..., None] * products).sum(dim=-2)
    unit = chosen / chosen.norm(dim=-1, keepdim=True)
    return unit.reshape(-1, *map(int, matrices.shape[1:-2]), 4)


class GoalErrors(nn.Module):
    """What is missing from a pose to its goals, as vectors along and about the base's axes.

    The turn of an effector whose goal is a pose is the rotation vector (Lynch & Park, Modern
    Robotics, section 3.2.3); of one whose goal is an axis, the shortest that aligns the axes.
    """

    def __init__(self, robot: Robot, kinematics: ForwardKinematics) -> None:
        super().__init__()
        self.kinematics, self.effectors = kinematics, kinematics.effectors
        self.turning = np.flatnonzero(robot.oriented).tolist()
        # of which columns of the rotation matrix a turn consists, and their weights
        columns = np.zeros((len(robot.effector_names), 1, 3))
        for effector, (kind, axis) in enumerate(
            zip(robot.effector_goals, robot.effector_axes, strict=True)
        ):
            columns[effector] = np.abs(axis) if kind == "axis" else 0.5
        # sums over columns of now x there and now . there, from the products there_i now_j
        turns = np.zeros((3, 3, 4))
        for i, j, k in ((0, 1, 2), (1, 2, 0), (2, 0, 1)):
            turns[k, j, i], turns[j, k, i], turns[i, i, 3] = 1.0, -1.0, 1.0
        is_pose = np.array([kind == "pose" for kind in robot.effector_goals])
        for name, value in {
            "columns": columns,
            "turns": turns.reshape(9, 4),
            "cosine": np.where(is_pose, -0.5, 0.0)[:, None] * [0, 0, 0, 1],
            "can_turn": robot.oriented * 1.0,
        }.items():
            tensor = torch.tensor(value, dtype=kinematics.frames.dtype)
            self.register_buffer(name, tensor, persistent=False)
        self.register_load_state_dict_pre_hook(forget)

    columns: Tensor
    turns: Tensor
    cosine: Tensor
    can_turn: Tensor

    def goals_of(self, parts: PolicyInputs[Tensor]) -> Goals:
        """The goals among the inputs of a policy; orientations that are left out do not count."""
        if not self.turning:
            return Goals(parts.goals, parts.active)
        if parts.goal_orientations is None or parts.oriented is None:
            rotation = torch.eye(3, dtype=parts.goals.dtype).expand(*parts.active.shape, 3, 3)
            return Goals(parts.goals, parts.active, rotation, 0.0 * parts.active)
        rotation = rotation_matrices(parts.goal_orientations)
        return Goals(parts.goals, parts.active, rotation, parts.oriented * self.can_turn)

    def forward(self, frames: Tensor, goals: Goals) -> Tensor:
        """Errors (B, E, 3) [m], or (B, 2 E, 3) with turns behind, in METRES_PER_RADIAN; 0 where
        not active.
        """
        error = goals.position - self.kinematics.effectors_of(frames)
        if goals.rotation is not None:
            error = torch.cat([error, METRES_PER_RADIAN * self.turn(frames, goals)], dim=1)
        return error * goals.mask[..., None]

    def jacobian(self, pose: Pose, goals: Goals) -> Tensor:
        """What the errors decrease by with each joint, (B, nu, 3 E) or (B, nu, 6 E)."""
        if goals.rotation is None:
            return pose.jacobian
        turns = METRES_PER_RADIAN * self.kinematics.angular_jacobian(pose.frames)
        return torch.cat([pose.jacobian, turns], dim=2)

    def turn(self, frames: Tensor, goals: Goals) -> Tensor:
        """Rotation vectors (B, E, 3) [rad] from the effectors' orientations to the goals'."""
        assert goals.rotation is not None
        there = goals.rotation * self.columns
        products = there @ self.kinematics.rotations_of(frames).transpose(-1, -2)  # (B, E, 3, 3)
        # sin(angle) times the axis of the turn, and cos(angle)
        turn = products.reshape(-1, self.effectors, 9) @ self.turns + self.cosine
        sine, cosine = turn.split([3, 1], -1)
        sine = sine - AWAY * cosine.clamp(max=0.0)  # a half turn, whose sine is 0, has any axis
        length = (sine.square().sum(dim=-1, keepdim=True) + SMALL).sqrt()
        # the angle from 0 to pi
        return sine * ((torch.pi / 2 - torch.atan(cosine / length)) / length)

    def size(self, error: Tensor) -> Tensor:
        """Of errors (B, E or 2 E, 3), one number per effector (B, E) [m]: positions and, if any,
        turns together.
        """
        parts = error.reshape(-1, int(error.shape[1]) // self.effectors, self.effectors, 3)
        return (parts.square().sum(dim=(1, 3)) + SMALL * SMALL).sqrt()
