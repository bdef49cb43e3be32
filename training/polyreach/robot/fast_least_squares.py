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

    With R = J^T / damping, the normal equations (R^T R + I) y = gain e / damping are eliminated row
    by row in [R^T R + I, -gain e / damping; 0, 0; R, 0]: its last nu rows become the step R y.
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
        identity = np.diag(np.append(np.ones(n), 0.0))
        for name, value in {
            "pick": pick.reshape(-1, groups),
            "target": target.reshape(-1, 3 * groups),
            "identity": identity.ravel(),
        }.items():
            self.register_buffer(name, torch.tensor(value), persistent=False)

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
        if place is not None:
            # the gradient J^T e, times a negative factor
            against = (rows @ base[..., -1:]).sign() * place.double()[..., None]
            rows = rows * (against > LIMIT_MARGIN - 1.0)
        work = torch.cat([rows.transpose(-1, -2) @ rows + base, rows], dim=1)
        return self._eliminate(work)[:, 1:, 0].to(error.dtype)

    def _eliminate(self, work: Tensor) -> Tensor:
        """(B, n + 1 + nu, n + 1) -> (B, 1 + nu, 1), without the first n rows and columns."""
        rows = int(work.shape[1])  # constant in an exported graph
        for left in range(self.unknowns, 0, -1):
            rows -= 1
            first, others = work.split([1, rows], 1)
            pivot, first = first.split([1, left], 2)
            column, others = others.split([1, left], 2)
            work = others - column @ (first / pivot)
        return work
