"""Differentiable forward kinematics of a branched robot and damped least squares, in torch.

Both are made of few and large operations, because they are computed in the control loop as well:
they become part of the exported graph.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from polyreach.robot.fk_constants import Segments
from polyreach_description import KinematicTree

LIMIT_MARGIN = 0.02  # share of half a joint's range within which it stands at its limit

Array = NDArray[np.float64]


class Pose(NamedTuple):
    """Where the robot is: B configurations, nu joints, E effectors, all in the base frame."""

    effector: Tensor  # (B, E, 3) [m]
    joint: Tensor  # (B, nu, 3) a point on every joint's axis [m]
    jacobian: Tensor  # (B, nu, 3 E) d effector / d joint [m/rad or m/m]; 0 for other branches


class ForwardKinematics(nn.Module):
    """Effector positions, joint positions and position Jacobians from joint positions.

    Every joint carries a frame: its z axis is the joint's axis, its origin a point on it. An
    effector carries one, too. A frame is S_1 S_2 ... S_j, a product of segments (Lynch & Park,
    Modern Robotics, section 4.1): a segment is a run of hinges with parallel axes, whose angles
    add, or one slide. The elements of a segment are linear in the sines and cosines of those sums.

    scale: (nu,) unit of each joint's motion in the Jacobian, by default 1 rad or 1 m.
    """

    def __init__(
        self,
        tree: KinematicTree,
        dtype: torch.dtype = torch.float32,
        scale: Array | None = None,
    ) -> None:
        super().__init__()
        self.joints, self.effectors = len(tree.parent), len(tree.effector)
        segments = Segments(tree)
        rounds = segments.rounds()
        for number, above in enumerate(rounds):
            self.register_buffer(f"above_{number}", torch.tensor(above), persistent=False)
        self.rounds = len(rounds)
        self.slides = np.flatnonzero(tree.is_slide).tolist()
        moves = np.repeat(tree.action_sets.T, 3, axis=1) * 1.0  # (nu, 3 E)
        lever, fixed = _lever(self.effectors)
        # the robot's own numbers are no part of a checkpoint
        for name, value in {
            "sums": segments.sums,
            "phase": segments.phase,
            "frames": segments.frames,
            "rest": segments.rest,
            "lever": lever,
            "fixed": fixed,
            "moves": moves if scale is None else moves * scale[:, None],
            "is_slide": tree.is_slide[:, None].astype(np.float64),
        }.items():
            self.register_buffer(name, torch.tensor(value, dtype=dtype), persistent=False)
        # where a frame's transposed matrix (4, 4) holds its axis and its origin
        start = 16 * np.arange(self.joints + self.effectors)[:, None]
        axis, origin = start + np.arange(8, 11), start + np.arange(12, 16)
        joints = self.joints
        for name, index in {
            "at_effector": origin[joints:, :3],
            "at_joint": origin[:joints, :3],
            "at_axis": np.tile(axis[:joints], (1, self.effectors)),
            "at_origin": np.repeat(origin[:joints], 3, axis=1),
            "at_each_axis": np.tile(axis[:joints], (1, 4)),
        }.items():
            self.register_buffer(name, torch.tensor(index.ravel()), persistent=False)
        self.register_load_state_dict_pre_hook(forget)

    sums: Tensor
    phase: Tensor
    frames: Tensor
    rest: Tensor
    lever: Tensor
    fixed: Tensor
    moves: Tensor
    is_slide: Tensor
    at_effector: Tensor
    at_joint: Tensor
    at_axis: Tensor
    at_origin: Tensor
    at_each_axis: Tensor

    def forward(self, joint_pos: Tensor) -> Pose:
        """joint_pos: (B, nu) [rad or m]."""
        waves = torch.sin(functional.linear(joint_pos, self.sums, self.phase))  # (B, 2 nu)
        if self.slides:
            waves = torch.cat([waves, joint_pos[:, self.slides]], dim=-1)
        # transposed homogeneous matrices: rows x, y, z, origin
        frame = functional.linear(waves, self.frames, self.rest)  # (B, 16 N)
        if self.rounds:
            matrix = frame.unflatten(1, (-1, 4, 4))
            for index in range(self.rounds):
                # S_i ... S_j, products of twice as many segments every time
                matrix = matrix @ matrix.index_select(1, self.get_buffer(f"above_{index}"))
            frame = matrix.flatten(1)
        effector = frame.index_select(1, self.at_effector)  # (B, 3 E)
        # J_je = w_j x (x_e - p_j), bilinear in (p_j, 1) w_j and (x_e, 1)
        products = frame.index_select(1, self.at_origin) * frame.index_select(1, self.at_each_axis)
        lever = functional.linear(effector, self.lever, self.fixed).unflatten(1, (12, -1))
        jacobian = products.unflatten(1, (self.joints, 12)) @ lever  # (B, nu, 3 E)
        if self.slides:
            axis = frame.index_select(1, self.at_axis).unflatten(1, (self.joints, -1))
            jacobian = jacobian + self.is_slide * (axis - jacobian)
        return Pose(
            effector.unflatten(1, (-1, 3)),
            frame.index_select(1, self.at_joint).unflatten(1, (-1, 3)),
            jacobian * self.moves,
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
    """Leave out of a state what older checkpoints hold there: the robot's own constants."""
    for key in [key for key in state_dict if key.startswith(prefix)]:
        del state_dict[key]


class LeastSquares(nn.Module):
    """Joint step that reduces the errors of all active effectors at once (Buss & Kim 2005, eq. 11).

    damping [m]. axes: coordinates along which effectors can move; the others are left out. gain:
    factor on the step. Computed in double precision, whatever the inputs are.

    The normal equations (J J^T + damping^2 I) y = e are eliminated two rows at a time, by minors
    instead of quotients. With R = J^T / damping, K = [R^T R + I, -e / damping; 0, 1; R, 0] loses
    column after column; what is left of its last 1 + nu rows is, up to one positive factor, the 1
    and the step J^T y.
    """

    def __init__(
        self, effectors: int, damping: float, axes: Sequence[int] = (0, 1, 2), gain: float = 1.0
    ) -> None:
        super().__init__()
        self.unknowns = n = effectors * len(axes)
        owner = np.repeat(range(effectors), len(axes))
        chosen = 3 * owner + np.tile(axes, effectors)
        pick = np.zeros((3 * effectors, n + 1, effectors))
        pick[chosen, range(n), owner] = 1.0 / damping
        wanted = np.zeros((n + 1, n + 1, 3 * effectors))
        wanted[range(n), n, chosen] = -gain / damping
        for name, value in {
            "pick": pick.reshape(-1, effectors),
            "wanted": wanted.reshape(-1, 3 * effectors),
            "one": np.eye(n + 1).ravel(),
        }.items():
            self.register_buffer(name, torch.tensor(value), persistent=False)
        # two unknowns at a time, the last on its own if their number is odd
        self.steps = nn.ModuleList(Elimination(n + 1 - k, min(2, n - k)) for k in range(0, n, 2))

    pick: Tensor
    wanted: Tensor
    one: Tensor

    def forward(
        self, pose: Pose, error: Tensor, active: Tensor, place: Tensor | None = None
    ) -> Tensor:
        """Step x (B, nu) of least norm, in the Jacobian's units of joint motion.

        error: (B, E, 3) [m] goal minus position. active: (B, E) in {0, 1}. place: (B, nu) joint
        positions as shares of half their range from its middle, in [-1, 1]: with it, a joint that
        the step would push against its limit is left out, and a second pass gives the others its
        part.
        """
        pick = functional.linear(active.double(), self.pick).unflatten(1, (-1, self.unknowns + 1))
        rows = pose.jacobian.double() @ pick  # (B, nu, n + 1)
        base = functional.linear(error.double().flatten(1), self.wanted, self.one)
        base = base.unflatten(1, (self.unknowns + 1, -1))
        one, step = self._eliminate(rows, rows, base)
        if place is not None:
            pushed = place.double()[..., None] * step.sign()
            free = torch.where(pushed < 1.0 - LIMIT_MARGIN, rows, 0.0)
            one, step = self._eliminate(rows, free, base)
        return (step / one).flatten(1).to(error.dtype)

    def _eliminate(self, rows: Tensor, weighted: Tensor, base: Tensor) -> tuple[Tensor, Tensor]:
        """What is left of the 1 (B, 1, 1) and of the step (B, nu, 1)."""
        work = torch.cat([rows.mT @ weighted + base, weighted], dim=1)  # (B, n + 1 + nu, n + 1)
        for count, step in enumerate(self.steps, start=1):
            work = step(work)
            if count % 3 == 0 and count < len(self.steps):
                # products of so many minors would leave the range of a double
                work = work / work[:, self.unknowns - 2 * count, None, -1:]
        one, step = work.split([1, rows.shape[1]], dim=1)
        return one, step


class Elimination(nn.Module):
    """Solve the first one or two rows of a matrix of `columns` columns for as many of its first
    columns, and put that into the other rows.
    """

    def __init__(self, columns: int, unknowns: int) -> None:
        super().__init__()
        self.unknowns, kept = unknowns, columns - unknowns
        later = range(kept)
        if unknowns == 2:
            # (m_1j, -m_0j, m_01 at j): a row times this is its minor with the two above
            minors = np.zeros((columns, columns, columns, kept))  # a, b, row, column: of k_0a k_1b
            for j in later:
                for a, b, row in ((1, j + 2, 0), (j + 2, 0, 1), (0, 1, j + 2)):
                    minors[a, b, row, j], minors[b, a, row, j] = 1.0, -1.0
            combine = minors.reshape(columns * columns, columns * kept)
        else:
            ratios = np.zeros((columns, columns, kept))
            for j in later:
                ratios[0, j + 1, j], ratios[j + 1, 0, j] = 1.0, -1.0
            combine = ratios.reshape(columns, columns * kept)
        self.shape = (columns, kept)
        self.register_buffer("combine", torch.tensor(combine), persistent=False)

    combine: Tensor

    def forward(self, matrix: Tensor) -> Tensor:
        """(B, rows, columns) -> (B, rows - unknowns, columns - unknowns), times a positive
        factor.
        """
        *solved, others = matrix.split([1] * self.unknowns + [matrix.shape[1] - self.unknowns], 1)
        terms = solved[0].mT @ solved[1] if self.unknowns == 2 else solved[0]
        result: Tensor = others @ (terms.flatten(1) @ self.combine).unflatten(1, self.shape)
        return result


def damped_least_squares(
    pose: Pose, error: Tensor, active: Tensor, scale: Tensor, damping: float
) -> Tensor:
    """Joint step (B, nu) of LeastSquares, in one pass, without its constants prepared.

    scale: (nu,) or (B, nu) weights the joints: the step is scale * x with x of least norm; returns
    x.
    """
    scaled = pose._replace(jacobian=pose.jacobian * scale[..., None])
    solver: Tensor = LeastSquares(error.shape[1], damping).to(error.device)(scaled, error, active)
    return solver
