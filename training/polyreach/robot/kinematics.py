"""Differentiable forward kinematics of a branched robot, in torch.

It consists of few large operations, because it is part of the exported graph, which the control
loop computes.
"""

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from polyreach.robot.fk_constants import Segments
from polyreach_description import KinematicTree

Array = NDArray[np.float64]


class Pose(NamedTuple):
    """Where the robot is: B configurations, nu joints, E effectors, all in the base frame."""

    effector: Tensor  # (B, E, 3) [m]
    joint: Tensor  # (B, nu, 3) a point on every joint's axis [m]
    jacobian: Tensor  # (B, nu, 3 E) d effector / d joint [m/rad or m/m]; 0 for other branches
    frames: Tensor  # (B, N, 4, 3) of n screws, effectors and, if any, the base: x, y, z, origin


class ForwardKinematics(nn.Module):
    """Effector positions, joint positions and position Jacobians from joint positions.

    Every joint carries a frame: its z axis is the joint's axis, its origin a point on it. An
    effector carries one, too. A frame is S_1 S_2 ... S_j, a product of segments (Lynch & Park,
    Modern Robotics, section 4.1): a segment is a run of hinges with parallel axes, whose angles
    add, or one slide. The elements of a segment are linear in the sines and cosines of those sums.

    A joint that follows a controlled one is a screw of its own; n screws, nu controlled joints.
    scale: (nu,) unit of each joint's motion in the Jacobian, by default 1 rad or 1 m.
    """

    def __init__(
        self,
        tree: KinematicTree,
        dtype: torch.dtype = torch.float32,
        scale: Array | None = None,
    ) -> None:
        super().__init__()
        self.joints, self.effectors = len(tree.parent), len(tree.effector)  # screws
        self.coupled, self.controlled = tree.is_coupled, len(tree.controlled)
        segments = Segments(tree)
        rounds = segments.rounds()
        for number, above in enumerate(rounds):
            self.register_buffer(f"above_{number}", torch.tensor(above), persistent=False)
        self.rounds, self.elements = len(rounds), len(segments.rest) // 16
        # of each frame x, y, z and origin
        frames = segments.frames.reshape(self.elements, 4, 4, -1)[:, :, :3].transpose(1, 2, 0, 3)
        rest = segments.rest.reshape(self.elements, 4, 4)[:, :, :3].transpose(1, 2, 0)
        self.slides = np.flatnonzero(tree.is_slide).tolist()
        moves = np.repeat(tree.screw_sets.T, 3, axis=1) * 1.0  # (n, 3 E)
        unit = np.ones(len(tree.controlled)) if scale is None else scale
        if not self.coupled:
            moves = moves * unit[:, None]
        lever, fixed = _lever(self.effectors)
        # constants of the robot are not part of a checkpoint
        for name, value in {
            "sums": segments.sums,
            "phase": segments.phase,
            "frames": frames.reshape(12 * self.elements, -1),
            "rest": rest.reshape(-1, 1),
            "is_origin": np.array([0, 0, 0, 1.0])[:, None, None, None],
            "lever": lever,
            "fixed": fixed,
            "moves": moves,
            "is_slide": tree.is_slide[:, None].astype(np.float64),
            "turns": moves * ~tree.is_slide[:, None],
            "coupling": tree.coupling,
            "offset": tree.offset,
            "gather": (tree.coupling * unit).T,  # (nu, n)
        }.items():
            self.register_buffer(name, torch.tensor(value, dtype=dtype), persistent=False)
        # where the axis and the origin of each frame are, and behind all frames a 1
        start = 12 * np.arange(self.joints + self.effectors)[:, None]
        axis, origin = start + np.arange(6, 9), start + np.arange(9, 12)
        weights = np.pad(
            origin[: self.joints], ((0, 0), (0, 1)), constant_values=12 * self.elements
        )
        joints = self.joints
        for name, index in {
            "at_effector": origin[joints:],
            "at_joint": origin[tree.controlled],
            "at_axis": np.tile(axis[:joints], (1, self.effectors)),
            "at_weights": np.repeat(weights, 3, axis=1),
            "at_each_axis": np.tile(axis[:joints], (1, 4)),
        }.items():
            self.register_buffer(name, torch.tensor(index.ravel()), persistent=False)
        self.register_load_state_dict_pre_hook(forget)

    sums: Tensor
    phase: Tensor
    frames: Tensor
    rest: Tensor
    is_origin: Tensor
    lever: Tensor
    fixed: Tensor
    moves: Tensor
    is_slide: Tensor
    turns: Tensor
    coupling: Tensor
    offset: Tensor
    gather: Tensor
    at_effector: Tensor
    at_joint: Tensor
    at_axis: Tensor
    at_weights: Tensor
    at_each_axis: Tensor

    def forward(self, joint_pos: Tensor) -> Pose:
        """joint_pos: (B, nu) [rad or m]."""
        return self.pose(self.frames_at(joint_pos))

    def frames_at(self, joint_pos: Tensor) -> Tensor:
        """Frames (B, N, 4, 3) of screws, effectors and, if any, the base."""
        if self.coupled:
            joint_pos = functional.linear(joint_pos, self.coupling, self.offset)
        waves = torch.sin(functional.linear(joint_pos, self.sums, self.phase))  # (B, 2 nu)
        if self.slides:
            waves = torch.cat([waves, joint_pos[:, self.slides]], dim=-1)
        # robots last: all products are of runs of B numbers
        frame = functional.linear(self.frames, waves) + self.rest  # (12 N, B)
        frame = frame.reshape(4, 3, self.elements, -1)
        for index in range(self.rounds):
            # S_i ... S_j, products of twice as many segments every time
            above = frame.index_select(2, self.get_buffer(f"above_{index}"))
            x, y, z, origin = above.split(1, dim=0)  # (1, 3, N, B)
            along_x, along_y, along_z = frame.split(1, dim=1)  # (4, 1, N, B)
            frame = along_x * x + along_y * y + along_z * z + self.is_origin * origin
        return frame.permute(3, 2, 0, 1)

    def _rows(self, frames: Tensor) -> Tensor:
        """(B, 12 N)."""
        return frames.reshape(-1, 12 * self.elements)

    def effectors_of(self, frames: Tensor) -> Tensor:
        """Effector positions (B, E, 3) [m]."""
        return self._of_effectors(frames)[3].permute(2, 1, 0)

    def rotations_of(self, frames: Tensor) -> Tensor:
        """Rotation matrices (B, E, 3, 3) of the effectors."""
        return self._of_effectors(frames)[:3].permute(3, 2, 1, 0)

    def _of_effectors(self, frames: Tensor) -> Tensor:
        """(4, 3, E, B), the order in which frames lie in memory."""
        return frames.permute(2, 3, 1, 0)[:, :, self.joints : self.joints + self.effectors]

    def angular_jacobian(self, frames: Tensor) -> Tensor:
        """Turns of the effectors with each joint (B, nu, 3 E) [rad/rad], about the base's axes."""
        axis = self._rows(frames).index_select(1, self.at_axis)
        axis = axis.reshape(-1, self.joints, 3 * self.effectors)
        return self._of_joints(axis * self.turns)

    def _of_joints(self, jacobian: Tensor) -> Tensor:
        """From the Jacobian of the screws (B, n, 3 E) to that of the controlled joints (B, nu,
        3 E).
        """
        return self.gather @ jacobian if self.coupled else jacobian

    def pose(self, frames: Tensor) -> Pose:
        """The pose in which frames (B, N, 4, 3) are."""
        frame = self._rows(frames)
        effector = frame.index_select(1, self.at_effector)  # (B, 3 E)
        # J_je = w_j x (x_e - p_j), bilinear in (p_j, 1) w_j and (x_e, 1)
        products = functional.pad(frame, (0, 1), value=1.0).index_select(1, self.at_weights)
        products = products * frame.index_select(1, self.at_each_axis)
        lever = functional.linear(effector, self.lever, self.fixed)
        lever = lever.reshape(-1, 12, 3 * self.effectors)
        jacobian = products.reshape(-1, self.joints, 12) @ lever  # (B, nu, 3 E)
        if self.slides:
            axis = frame.index_select(1, self.at_axis)
            axis = axis.reshape(-1, self.joints, 3 * self.effectors)
            jacobian = jacobian + self.is_slide * (axis - jacobian)
        return Pose(
            effector.reshape(-1, self.effectors, 3),
            frame.index_select(1, self.at_joint).reshape(-1, self.controlled, 3),
            self._of_joints(jacobian * self.moves),
            frames,
        )


def _lever(effectors: int) -> tuple[Array, Array]:
    """Weights (36 E, 3 E) and offsets (36 E) from the effectors to the lever (12, 3 E)."""
    weights = np.zeros((4, 3, effectors, 3, effectors, 3))  # (p, w, effector, out, effector, in)
    offsets = np.zeros((4, 3, effectors, 3))
    for i, k, m in ((0, 1, 2), (1, 2, 0), (2, 0, 1)):
        for e in range(effectors):
            # (w x (x - p))_i = w_k (x_m - p_m) - w_m (x_k - p_k)
            weights[3, k, e, i, e, m], weights[3, m, e, i, e, k] = 1.0, -1.0
            offsets[m, k, e, i], offsets[k, m, e, i] = -1.0, 1.0
    return weights.reshape(36 * effectors, 3 * effectors), offsets.reshape(-1)


def forget(module: nn.Module, state_dict: dict[str, Tensor], prefix: str, *_: object) -> None:
    """Drop the constants of the robot, which older checkpoints contain, from a state."""
    for key in [key for key in state_dict if key.startswith(prefix)]:
        del state_dict[key]
