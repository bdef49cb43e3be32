"""Differentiable forward kinematics of a branched robot, in torch and exportable to ONNX.

Product of exponentials (Lynch & Park, Modern Robotics, sections 4.1.1 and 5.1.2), evaluated level
by level of the kinematic tree, so that branches are computed side by side.
"""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from polyreach_description import KinematicTree

LIMIT_MARGIN = 0.02  # share of half a joint's range within which it stands at its limit


class Pose(NamedTuple):
    """Where the robot is: B configurations, nu joints, E effectors, all in the base frame."""

    effector: Tensor  # (B, E, 3) [m]
    joint: Tensor  # (B, nu, 3) a point on every joint's axis [m]
    jacobian: Tensor  # (B, E, 3, nu) d effector / d joint [m/rad or m/m]; 0 for other branches


class ForwardKinematics(nn.Module):
    """Effector positions, joint positions and position Jacobians from joint positions."""

    def __init__(self, tree: KinematicTree, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.levels = _levels(tree.parent)
        # the joints are computed level after level; `place` puts them back in the robot's order
        order = np.concatenate(self.levels)
        self.place = np.argsort(order).tolist()
        self.parent_place = [
            [self.place[p] for p in tree.parent[level] if p >= 0] for level in self.levels
        ]
        self.effector_parent = tree.effector_parent.tolist()
        axis = torch.tensor(tree.axis)
        self.axis: Tensor
        self.anchor: Tensor
        self.effector: Tensor
        self.reference: Tensor
        self.hinge: Tensor
        self.skew: Tensor
        self.skew_squared: Tensor
        self.moves: Tensor
        self.register_buffer("axis", axis)
        self.register_buffer("anchor", torch.tensor(tree.anchor))
        self.register_buffer("effector", torch.tensor(tree.effector))
        self.register_buffer("reference", torch.tensor(tree.reference))
        self.register_buffer("hinge", torch.tensor(~tree.is_slide).to(axis.dtype)[:, None])
        rows = torch.linalg.cross(
            axis[:, None].expand(-1, 3, 3), torch.eye(3, dtype=axis.dtype).expand(len(axis), 3, 3)
        )
        self.register_buffer("skew", rows.mT.contiguous())  # [w] v = w x v
        self.register_buffer("skew_squared", rows.mT @ rows.mT)
        self.register_buffer("moves", torch.tensor(tree.action_sets).to(axis.dtype))
        self.to(dtype)

    def forward(self, joint_pos: Tensor) -> Pose:
        """joint_pos: (B, nu) [rad or m]."""
        theta = (joint_pos - self.reference)[..., None]  # (B, nu, 1)
        angle = (theta * self.hinge)[..., None]
        # Rodrigues: exp([w] theta) = I + sin(theta) [w] + (1 - cos(theta)) [w]^2
        eye = torch.eye(3, dtype=joint_pos.dtype, device=joint_pos.device)
        rotation = (
            eye + torch.sin(angle) * self.skew + (1 - torch.cos(angle)) * self.skew_squared
        )  # (B, nu, 3, 3)
        slide = theta * (1 - self.hinge) * self.axis
        translation = self.anchor - _apply(rotation, self.anchor) + slide  # (B, nu, 3)

        rotations, translations = rotation[:, self.levels[0]], translation[:, self.levels[0]]
        for level, parents in zip(self.levels[1:], self.parent_place[1:], strict=True):
            # A_j = A_parent(j) exp_j
            above, moved = rotations[:, parents], translations[:, parents]
            moved = _apply(above, translation[:, level]) + moved
            rotations = torch.cat([rotations, _compose(above, rotation[:, level])], dim=1)
            translations = torch.cat([translations, moved], dim=1)
        rotations, translations = rotations[:, self.place], translations[:, self.place]

        last = self.effector_parent
        effector = _apply(rotations[:, last], self.effector) + translations[:, last]  # (B, E, 3)
        # a hinge leaves its own axis where it is; a slide moves its anchor, which is taken back
        joint = _apply(rotations, self.anchor - slide) + translations
        axis = _apply(rotations, self.axis)  # (B, nu, 3)
        # J_ej = w_j x (x_e - p_j) for a hinge, w_j for a slide
        lever = effector[:, :, None, :] - joint[:, None, :, :]  # (B, E, nu, 3)
        turned = torch.linalg.cross(axis[:, None].expand_as(lever), lever)
        columns = turned * self.hinge + axis[:, None] * (1 - self.hinge)
        jacobian = (columns * self.moves[..., None]).mT  # (B, E, 3, nu)
        return Pose(effector, joint, jacobian)


def _apply(rotation: Tensor, vector: Tensor) -> Tensor:
    """(..., 3, 3), (..., 3) -> (..., 3). Sums are faster here than batched products this small."""
    return (rotation * vector[..., None, :]).sum(dim=-1)


def _compose(first: Tensor, second: Tensor) -> Tensor:
    """(..., 3, 3), (..., 3, 3) -> (..., 3, 3)."""
    return (first[..., None] * second[..., None, :, :]).sum(dim=-2)


def _levels(parent: np.ndarray) -> list[list[int]]:
    """Group joints by their depth in the tree."""
    depth: list[int] = []
    for above in parent:
        depth.append(depth[above] + 1 if above >= 0 else 0)
    return [[j for j, d in enumerate(depth) if d == level] for level in range(max(depth) + 1)]


def damped_least_squares(
    pose: Pose, error: Tensor, active: Tensor, scale: Tensor, damping: float
) -> Tensor:
    """Joint step that reduces the errors of all active effectors at once (Buss & Kim 2005, eq. 11).

    error: (B, E, 3) [m] goal minus position. active: (B, E) in {0, 1}. scale: (nu,) or (B, nu)
    weights the joints: the step is scale * x with x of least norm. damping [m]. Returns x, (B, nu),
    without unit.
    """
    batch, effectors, _, joints = pose.jacobian.shape
    mask = active[:, :, None]
    weights = mask[..., None] * scale.reshape(-1, 1, 1, joints)
    jacobian = (pose.jacobian * weights).reshape(batch, 3 * effectors, joints)
    wanted = (error * mask).reshape(batch, 3 * effectors, 1)
    gram = jacobian @ jacobian.mT + damping**2 * torch.eye(
        3 * effectors, dtype=error.dtype, device=error.device
    )
    return (jacobian.mT @ solve_positive_definite(gram, wanted))[..., 0]


def limited_least_squares(
    pose: Pose, error: Tensor, active: Tensor, place: Tensor, scale: Tensor, damping: float
) -> Tensor:
    """damped_least_squares in two passes: the second leaves out joints that stand at a limit.

    place: (B, nu) joint positions as shares of half their range from its middle, in [-1, 1]. A
    joint that the first pass would push against its limit is left out; the others take its part.
    """
    first = damped_least_squares(pose, error, active, scale, damping)
    free = (place * first.sign() < 1.0 - LIMIT_MARGIN).to(first.dtype)
    return damped_least_squares(pose, error, active, scale * free, damping)


def solve_positive_definite(matrix: Tensor, rhs: Tensor) -> Tensor:
    """Solve matrix @ x = rhs by Gauss-Jordan elimination, in operations that ONNX has.

    matrix: (B, n, n) symmetric positive definite, so that no pivoting is needed. rhs: (B, n, m).
    """
    n = matrix.shape[-1]
    work = torch.cat([matrix, rhs], dim=-1)
    unit = torch.eye(n, dtype=matrix.dtype, device=matrix.device)
    for k in range(n):
        pivot = work[:, k : k + 1] / work[:, k : k + 1, k : k + 1]  # (B, 1, n + m)
        # row k becomes the pivot row, every other row loses its multiple of it
        work = work - (work[:, :, k : k + 1] - unit[:, k : k + 1]) * pivot
    return work[..., n:]
