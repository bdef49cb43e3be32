"""Differentiable distances between the bodies of a robot, in torch."""

from collections.abc import Sequence
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
    distance overestimates that of the bodies. misjudged: share of random configurations in which
    they do not see that bodies are near, or call clear ones near.
    """

    mover: NDArray[np.int64]
    start: NDArray[np.float64]
    end: NDArray[np.float64]
    radius: NDArray[np.float64]
    pairs: NDArray[np.int64]
    offset: NDArray[np.float64]
    misjudged: float = 0.0


class SelfClearance(nn.Module):
    """Distances of P pairs of capsules, less their offsets, from the frames of the joints.

    local: starts and directions in the frames that move the capsules. fixed: those of capsules that
    nothing moves.

    The closest points of two segments as in Ericson, Real-Time Collision Detection, section 5.1.9.
    """

    def __init__(
        self, robot: Robot, capsules: Capsules, dtype: torch.dtype = torch.float32
    ) -> None:
        super().__init__()
        self.kinematics = ForwardKinematics(robot.tree, dtype)
        tree = robot.tree
        ends = np.stack([capsules.start, capsules.end - capsules.start])  # (2, C, 3)
        moves = capsules.mover >= 0
        local = np.zeros((2, len(capsules.mover), 4))
        for c in np.flatnonzero(moves):
            mover = capsules.mover[c]
            inverse = np.linalg.inv(frame_of(tree.axis[mover], tree.anchor[mover]))
            local[0, c] = inverse @ np.append(ends[0, c], 1.0)
            local[1, c] = inverse @ np.append(ends[1, c], 0.0)
        length = (ends[1] ** 2).sum(axis=-1)
        i, j = capsules.pairs.T
        constants = {
            "local": local.transpose(2, 0, 1)[:3, :, None, :, None],  # (3, 2, 1, C, 1)
            "is_start": np.stack([moves, 0 * moves])[:, None, :, None],  # (2, 1, C, 1)
            "fixed": (ends * ~moves[:, None]).transpose(0, 2, 1)[..., None],  # (2, 3, C, 1)
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
    is_start: Tensor
    fixed: Tensor
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
        """Clearances (B, P) [m] from the frames (B, N, 4, 3) of a Pose."""
        # robots last: all operations are of runs of B numbers
        x, y, z, origin = frames.permute(2, 3, 1, 0).index_select(2, self.at_frame).split(1)
        along_x, along_y, along_z = self.local  # (2, 1, C, 1)
        # start and direction of each capsule
        ends = along_x * x + along_y * y + along_z * z + self.is_start * origin  # (2, 3, C, B)
        parts = (ends + self.fixed).reshape(6, len(self.at_frame), -1).split(1)  # (1, C, B)
        first, second = (
            [part.index_select(1, at) for part in parts] for at in (self.at_i, self.at_j)
        )
        between = [p - q for p, q in zip(first[:3], second[:3], strict=True)]  # (1, P, B)
        u, v = first[3:], second[3:]
        b, c, f = _dot(u, v), _dot(u, between), _dot(v, between)
        a, e = self.length_i, self.length_j
        # the gradient needs none of s and t: the gap is least in them, or they are at their limits
        with torch.no_grad():
            s = ((b * f - c * e) / (a * e - b * b).clamp(min=SMALL * SMALL)).clamp(0, 1)
            t = ((b * s + f) / e).clamp(0, 1)
        h = b * t - c
        s = (h.detach() / a).clamp(0, 1)
        # |between + s u - t v|^2
        gap = _dot(between, between) + s * (a * s - 2 * h) + t * (e * t - 2 * f)
        return gap.clamp(min=SMALL).sqrt()[0].transpose(0, 1) - self.reduce


def _dot(first: Sequence[Tensor], second: Sequence[Tensor]) -> Tensor:
    x, y, z = (p * q for p, q in zip(first, second, strict=True))
    return x + y + z
