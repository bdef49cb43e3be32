"""Differentiable distances between the bodies of a robot, in torch."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from polyreach.robot.fk_constants import frame_of
from polyreach.robot.kinematics import ForwardKinematics, forget
from polyreach_description import Robot

SMALL = 1e-9  # [m^2], under square roots and in quotients


@dataclass(frozen=True)
class Capsules:
    """C capsules at the reference pose of the robot's tree [m, base frame], and P pairs of them.

    mover (C,): the screw that moves a capsule last, or -1. start, end (C, 3): ends of its axis.
    radius (C,). pairs (P, 2): capsules that may collide. offset (P,) [m]: by how much their
    distance overestimates that of the bodies.
    """

    mover: NDArray[np.int64]
    start: NDArray[np.float64]
    end: NDArray[np.float64]
    radius: NDArray[np.float64]
    pairs: NDArray[np.int64]
    offset: NDArray[np.float64]


class SelfClearance(nn.Module):
    """Distances of P pairs of capsules, less their offsets, from the frames of the joints.

    The closest points of two segments as in Ericson, Real-Time Collision Detection, section 5.1.9.
    """

    def __init__(
        self, robot: Robot, capsules: Capsules, dtype: torch.dtype = torch.float32
    ) -> None:
        super().__init__()
        self.kinematics = ForwardKinematics(robot.tree, dtype)
        tree = robot.tree
        ends = np.stack([capsules.start, capsules.end - capsules.start])  # (2, C, 3)
        local = np.zeros((2, len(capsules.mover), 4))
        for c, mover in enumerate(capsules.mover):
            inverse = np.linalg.inv(
                np.eye(4) if mover < 0 else frame_of(tree.axis[mover], tree.anchor[mover])
            )
            local[0, c] = inverse @ np.append(ends[0, c], 1.0)
            local[1, c] = inverse @ np.append(ends[1, c], 0.0)
        length = (ends[1] ** 2).sum(axis=-1)
        i, j = capsules.pairs.T
        constants = {
            "local": local.transpose(1, 0, 2).reshape(-1, 2, 4),  # (C, 2, 4)
            "fixed": ends.transpose(1, 0, 2) * (capsules.mover < 0)[:, None, None],
            "moves": (capsules.mover >= 0)[:, None, None] * 1.0,
            "length_i": length[i, None] + SMALL,
            "length_j": length[j, None] + SMALL,
            "reduce": capsules.radius[i] + capsules.radius[j] + capsules.offset,
        }
        for name, value in constants.items():
            self.register_buffer(name, torch.tensor(value, dtype=dtype), persistent=False)
        for name, index in {"i": i, "j": j, "frame": np.maximum(capsules.mover, 0)}.items():
            self.register_buffer(f"at_{name}", torch.tensor(index.copy()), persistent=False)
        self.pairs = len(capsules.pairs)
        self.register_load_state_dict_pre_hook(forget)

    local: Tensor
    fixed: Tensor
    moves: Tensor
    length_i: Tensor
    length_j: Tensor
    reduce: Tensor
    at_i: Tensor
    at_j: Tensor
    at_frame: Tensor

    def at(self, joint_pos: Tensor) -> Tensor:
        """Clearances (B, P) [m] at joint_pos (B, nu) [rad or m]."""
        return self(self.kinematics.frames_at(joint_pos))

    def forward(self, frames: Tensor) -> Tensor:
        """Clearances (B, P) [m] from the frames (B, N, 4, 4) of a Pose."""
        moved = self.local @ frames.index_select(1, self.at_frame)  # (B, C, 2, 4)
        # rows last: the pairs are gathered, and computed, as runs of B numbers
        ends = (moved[..., :3] * self.moves + self.fixed).permute(1, 2, 3, 0)
        first, second = ends.index_select(0, self.at_i), ends.index_select(0, self.at_j)
        (p, u), (q, v) = first.unbind(1), second.unbind(1)  # (P, 3, B)
        w = p - q
        b, c, f = (u * v).sum(1), (u * w).sum(1), (v * w).sum(1)  # (P, B)
        a, e = self.length_i, self.length_j
        s = ((b * f - c * e) / (a * e - b * b + SMALL * SMALL)).clamp(0, 1)
        t = ((b * s + f) / e).clamp(0, 1)
        s = ((b * t - c) / a).clamp(0, 1)
        gap = (w * w).sum(1) + s * (a * s + 2 * (c - t * b)) + t * (e * t - 2 * f)
        return (gap.clamp(min=0.0) + SMALL).sqrt().transpose(0, 1) - self.reduce
