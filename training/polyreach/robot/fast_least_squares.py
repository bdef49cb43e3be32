"""Damped least squares as few large operations, for the exported graph.

least_squares.py has the same as two equations. This variant computes it without a solver: ONNX has
none, and the control loop computes the graph in every period.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from polyreach.robot.least_squares import LIMIT_MARGIN


class FastLeastSquares(nn.Module):
    """damped_least_squares with its constants prepared, in double precision for any inputs.

    damping [m]. axes: coordinates along which effectors can move; the others are left out. gain:
    factor on the step. turning: effectors whose orientation counts; if there are any, the Jacobian
    and the error have 3 E more columns for turns of the effectors, in units in which they compare
    with positions, and `active` has E more for these.

    The normal equations (J J^T + damping^2 I) y = e are eliminated two rows at a time, by minors
    instead of quotients. With R = J^T / damping, K = [R^T R + I, -e / damping; 0, 1; R, 0] loses
    column after column; its last 1 + nu rows become, up to one positive factor, the 1 and the step
    J^T y.
    """

    def __init__(
        self,
        effectors: int,
        damping: float,
        axes: Sequence[int] = (0, 1, 2),
        gain: float = 1.0,
        turning: Sequence[int] = (),
    ) -> None:
        super().__init__()
        positions = [(e, axis) for e in range(effectors) for axis in axes]
        turns = [(effectors + e, axis) for e in turning for axis in range(3)]
        owner, axis = np.array(positions + turns).T
        self.unknowns = n = len(owner)
        groups = 2 * effectors if turns else effectors
        chosen = 3 * owner + axis
        pick = np.zeros((3 * groups, n + 1, groups))
        pick[chosen, range(n), owner] = 1.0 / damping
        target = np.zeros((n + 1, n + 1, 3 * groups))
        target[range(n), n, chosen] = -gain / damping
        for name, value in {
            "pick": pick.reshape(-1, groups),
            "target": target.reshape(-1, 3 * groups),
            "identity": np.eye(n + 1).ravel(),
        }.items():
            self.register_buffer(name, torch.tensor(value), persistent=False)
        # two unknowns at a time, the last on its own if their number is odd
        self.steps = nn.ModuleList(Elimination(n + 1 - k, min(2, n - k)) for k in range(0, n, 2))

    pick: Tensor
    target: Tensor
    identity: Tensor

    def forward(
        self, jacobian: Tensor, error: Tensor, active: Tensor, place: Tensor | None = None
    ) -> Tensor:
        """Arguments and result as of damped_least_squares, with the pose's Jacobian."""
        pick = functional.linear(active.double(), self.pick).reshape(
            -1, self.pick.shape[0] // (self.unknowns + 1), self.unknowns + 1
        )
        rows = jacobian.double() @ pick  # (B, nu, n + 1)
        base = functional.linear(
            error.double().reshape(-1, self.target.shape[1]), self.target, self.identity
        )
        base = base.reshape(-1, self.unknowns + 1, self.unknowns + 1)
        scale, step = self._eliminate(rows, rows, base)
        if place is not None:
            pushed = place.double()[..., None] * step.sign()
            free = torch.where(pushed < 1.0 - LIMIT_MARGIN, rows, 0.0)
            scale, step = self._eliminate(rows, free, base)
        return (step / scale)[..., 0].to(error.dtype)

    def _eliminate(self, rows: Tensor, weighted: Tensor, base: Tensor) -> tuple[Tensor, Tensor]:
        """The last rows: the factor (B, 1, 1), and the step (B, nu, 1) times this factor."""
        work = torch.cat(
            [rows.transpose(-1, -2) @ weighted + base, weighted], dim=1
        )  # (B, n + 1 + nu, n + 1)
        for count, step in enumerate(self.steps, start=1):
            work = step(work)
            if count % 3 == 0 and count < len(self.steps):
                # products of so many minors would leave the range of a double
                work = work / work[:, self.unknowns - 2 * count, None, -1:]
        scale, step = work.split([1, int(rows.shape[1])], dim=1)
        return scale, step


class Elimination(nn.Module):
    """Eliminate the first one or two unknowns of a matrix of `columns` columns: its first rows are
    solved for them, and the solution is substituted in the other rows.
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
        rows = int(matrix.shape[1])  # constant in an exported graph
        *solved, others = matrix.split([1] * self.unknowns + [rows - self.unknowns], 1)
        terms = solved[0].transpose(-1, -2) @ solved[1] if self.unknowns == 2 else solved[0]
        result: Tensor = others @ (terms.reshape(-1, self.combine.shape[0]) @ self.combine).reshape(
            -1, *self.shape
        )
        return result
