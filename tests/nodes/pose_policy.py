"""A policy file for pose goals that needs no training: damped least squares on twists.

It has every input of the contract: it is slow in the first periods that its memory counts, and
where an obstacle is near the base, and smooths its velocities with those of the period before.
"""

import warnings
from pathlib import Path

import numpy as np
import onnxruntime as ort
import torch
from rig import metadata_of, with_metadata
from torch import Tensor, nn

from polyreach_description import Robot
from polyreach_description.contract import robot_metadata
from polyreach_description.policy_tensors import INPUTS, OUTPUTS

WELDER = Path(__file__).parents[1] / "robots" / "welder" / "robot.yaml"
MEMORY = 2
START_PERIODS = 10.0  # until full speed
SMOOTHING = 0.3  # share of the velocity of the period before
DAMPING, REACH = 0.05, 0.3  # [m], [m/rad] by which an angle counts
GAIN, STEP = 5.0, 0.1  # [1/s], [m] of the largest error
FREE = 10.0  # [m] between the base and an obstacle, from which the speed is full


def skew(v: Tensor) -> Tensor:
    """[v] of v x u = [v] u, (..., 3) -> (..., 3, 3)."""
    x, y, z = (v[..., i] for i in range(3))
    zero = torch.zeros_like(x)
    rows = [[zero, -z, y], [z, zero, -x], [-y, x, zero]]
    return torch.stack([torch.stack(row, dim=-1) for row in rows], dim=-2)


def matrices(q: Tensor) -> Tensor:
    """Rotation matrices of quaternions x y z w, (..., 4) -> (..., 3, 3)."""
    v, w = skew(q[..., :3]), q[..., 3:, None]
    return torch.eye(3) + 2.0 * w * v + 2.0 * v @ v


def quaternions(m: Tensor) -> Tensor:
    """The inverse of `matrices`."""
    (xx, xy, xz), (yx, yy, yz), (zx, zy, zz) = ([m[..., i, j] for j in range(3)] for i in range(3))
    products = [  # 4 q q^T
        [1 + xx - yy - zz, xy + yx, xz + zx, zy - yz],
        [xy + yx, 1 - xx + yy - zz, yz + zy, xz - zx],
        [xz + zx, yz + zy, 1 - xx - yy + zz, yx - xy],
        [zy - yz, xz - zx, yx - xy, 1 + xx + yy + zz],
    ]
    table = torch.stack([torch.stack(row, dim=-1) for row in products], dim=-2)
    largest = torch.stack([products[i][i] for i in range(4)], dim=-1).argmax(-1, keepdim=True)
    weight = (largest == torch.arange(4)).float()[..., None]
    q = (table * weight).sum(dim=-2)
    return q / q.norm(dim=-1, keepdim=True)


def cross(a: Tensor, b: Tensor) -> Tensor:
    """a x b, (..., 3)."""
    return (skew(a) @ b[..., None])[..., 0]


class PoseLeastSquares(nn.Module):
    """Joint velocities (B, nu) that turn and move effectors to their goals."""

    def __init__(self, robot: Robot) -> None:
        super().__init__()
        self.tree, self.robot = robot.tree, robot
        self.limits = torch.tensor(robot.joint_vel_limits).float()
        self.low, self.high = torch.tensor(robot.joint_pos_limits.T).float()
        poses = [goal == "pose" for goal in robot.effector_goals]
        self.is_pose = torch.tensor(poses).float()[:, None]
        self.axes = torch.tensor(robot.effector_axes).float()

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        """tensors: all of PolicyInputs."""
        joint_pos, goals, active, previous, quaternion, oriented, obstacles, memory = tensors
        position, turned, jacobian = self.kinematics(joint_pos)
        wanted = matrices(quaternion)
        # half the sum of x_i x x'_i is the axis times the sine of the angle
        turn = 0.5 * cross(turned.transpose(-1, -2), wanted.transpose(-1, -2)).sum(dim=-2)
        line = turned @ self.axes[..., None], wanted @ self.axes[..., None]
        align = cross(line[0][..., 0], line[1][..., 0])
        angle = self.is_pose * turn + (1.0 - self.is_pose) * align
        error = torch.cat(
            [goals - position, REACH * oriented[..., None] * angle], dim=-1
        )  # (B, E, 6)
        error = error * torch.clamp(STEP / (error.norm(dim=-1, keepdim=True) + 1e-9), max=1.0)
        across = torch.eye(3) - line[0] @ line[0].transpose(-1, -2)
        rows = self.is_pose[..., None] * torch.eye(3) + (1.0 - self.is_pose[..., None]) * across
        twist = torch.cat([jacobian[:, :, :3], REACH * rows @ jacobian[:, :, 3:]], dim=2)
        counts = torch.stack([active] * 3 + [active * oriented] * 3, dim=-1)
        size = 6 * len(self.tree.effector)
        a = (counts[..., None] * twist).reshape(-1, size, len(self.tree.parent))  # (B, 6 E, nu)
        step = (
            a.transpose(-1, -2) @ solve(a @ a.transpose(-1, -2), (counts * error).reshape(-1, size))
        )[..., 0]
        step = step * torch.clamp((memory[:, :1] + 1.0) / START_PERIODS, max=1.0)
        step = step * torch.clamp(obstacles[..., :3].norm(dim=-1).amin(1, True) / FREE, max=1.0)
        step = GAIN * step / torch.clamp((GAIN * step.abs() / self.limits).amax(-1, True), min=1.0)
        joint_vel = SMOOTHING * previous + (1.0 - SMOOTHING) * step
        joint_vel = torch.minimum(torch.maximum(joint_vel, -self.limits), self.limits)
        return joint_vel, position, quaternions(turned), memory + 1.0

    def kinematics(self, joint_pos: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Positions (B, E, 3), rotations (B, E, 3, 3), Jacobian of twists (B, E, 6, nu)."""
        tree, one = self.tree, torch.eye(3)
        still = joint_pos[:, :1, None] * 0.0
        rotations, shifts, axes, anchors = [], [], [], []
        for j, parent in enumerate(tree.parent.tolist()):
            above = rotations[parent] if parent >= 0 else still + one
            shift = shifts[parent] if parent >= 0 else 0.0 * joint_pos[:, :3]
            axis, anchor = (torch.tensor(v[j]).float() for v in (tree.axis, tree.anchor))
            k, angle = skew(axis), (joint_pos[:, j] - float(tree.reference[j]))[:, None, None]
            turn = one + angle.sin() * k + (1.0 - angle.cos()) * (k @ k)
            axes.append(above @ axis)
            anchors.append(above @ anchor + shift)
            rotations.append(above @ turn)
            shifts.append((above @ (anchor - turn @ anchor)[..., None])[..., 0] + shift)
        positions, turned, jacobians = [], [], []
        for e, parent in enumerate(tree.effector_parent.tolist()):
            place, frame = (
                torch.tensor(v[e]).float() for v in (tree.effector, tree.effector_rotation)
            )
            positions.append(rotations[parent] @ place + shifts[parent])
            turned.append(rotations[parent] @ frame)
            columns = []
            for j, moves in enumerate(tree.action_sets[e].tolist()):
                arm = cross(axes[j], positions[-1] - anchors[j])
                columns.append(float(moves) * torch.cat([arm, axes[j]], dim=-1))
            jacobians.append(torch.stack(columns, dim=-1))
        return tuple(torch.stack(parts, dim=1) for parts in (positions, turned, jacobians))


def solve(a: Tensor, b: Tensor) -> Tensor:
    """(a + DAMPING^2 I)^-1 b by Gauss and Jordan; (B, n, n), (B, n) -> (B, n, 1)."""
    n = int(a.shape[-1])
    table = torch.cat([a + DAMPING**2 * torch.eye(n), b[..., None]], dim=-1)
    for k in range(n):
        row = table[:, k : k + 1] / table[:, k : k + 1, k : k + 1]
        unit = torch.eye(n)[:, k : k + 1]
        table = table + (unit - table[:, :, k : k + 1]) * row - unit * table[:, k : k + 1]
    return table[:, :, n:]


def export_pose_least_squares(robot: Robot, path: Path) -> None:
    """Write the policy file for a robot whose joints are hinges."""
    sizes = len(robot.joint_names), len(robot.effector_names), MEMORY
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # the exporter for traced modules: ten times faster
        torch.onnx.export(
            PoseLeastSquares(robot).eval(),
            tuple(torch.ones(1, *spec.shape(*sizes)) for spec in INPUTS.values()),
            str(path),
            input_names=list(INPUTS),
            output_names=list(OUTPUTS),
            dynamic_axes={name: {0: "batch"} for name in (*INPUTS, *OUTPUTS)},
            dynamo=False,
        )
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.optimized_model_filepath = str(path)  # constants folded, so that all shapes are fixed
    ort.InferenceSession(str(path), options)
    metadata = {**metadata_of(robot), **robot_metadata(robot, INPUTS, MEMORY)}
    with_metadata(path, path, **metadata)


def reachable_poses(robot: Robot, seed: int, span: float = 0.6) -> tuple[np.ndarray, np.ndarray]:
    """Effector poses at random joint positions within `span` [rad] of home."""
    offset = np.random.default_rng(seed).uniform(-span, span, len(robot.home))
    low, high = robot.joint_pos_limits.T
    return robot.effector_poses(np.clip(robot.home + offset, low + 0.1, high - 0.1))
