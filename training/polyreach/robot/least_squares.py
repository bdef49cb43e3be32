"""Damped least squares, equation by equation; FastLeastSquares is the variant that policies use."""

import torch
from torch import Tensor

LIMIT_MARGIN = 0.02  # share of half a joint's range within which it is at its limit


def damped_least_squares(
    jacobian: Tensor,
    error: Tensor,
    active: Tensor,
    damping: float,
    place: Tensor | None = None,
    gain: float = 1.0,
) -> Tensor:
    """Joint step (B, nu) that reduces the errors of all active effectors at once (Buss & Kim 2005,
    eq. 11), of least norm in the Jacobian's units of joint motion.

    jacobian: (B, nu, 3 E). error: (B, E, 3) [m] goal minus position. active: (B, E) in {0, 1}.
    damping [m]. place: (B, nu) joint positions as shares of half their range from its middle, in
    [-1, 1]. With place, joints at a limit that the gradient J^T e pushes outwards are left out
    (gradient projection: Rosen 1960). gain: factor on the step.
    """
    weighted = (jacobian * active.repeat_interleave(3, dim=1)[:, None]).mT  # (B, 3 E, nu)
    column = error.flatten(1)[..., None]  # (B, 3 E, 1)
    if place is not None:
        gradient = (weighted.mT @ column).squeeze(-1)  # (B, nu)
        free = place * gradient.sign() < 1.0 - LIMIT_MARGIN
        weighted = weighted * free[:, None]
    # x = J^T (J J^T + damping^2 I)^-1 e
    identity = torch.eye(weighted.shape[1], dtype=weighted.dtype)
    normal = weighted @ weighted.mT + damping**2 * identity  # (B, 3 E, 3 E)
    return gain * (weighted.mT @ torch.linalg.solve(normal, column)).squeeze(-1)
