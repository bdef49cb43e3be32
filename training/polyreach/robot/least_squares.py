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
    [-1, 1]. With place, a second pass leaves out the joints that the first one pushes against their
    limits. gain: factor on the step.
    """
    weighted = (jacobian * active.repeat_interleave(3, dim=1)[:, None]).mT  # (B, 3 E, nu)
    step = _solve(weighted, error, damping)
    if place is not None:
        free = place * step.sign() < 1.0 - LIMIT_MARGIN  # (B, nu)
        step = _solve(weighted * free[:, None], error, damping)
    return gain * step


def _solve(jacobian: Tensor, error: Tensor, damping: float) -> Tensor:
    # x = J^T (J J^T + damping^2 I)^-1 e
    identity = torch.eye(jacobian.shape[1], dtype=jacobian.dtype)
    normal = jacobian @ jacobian.mT + damping**2 * identity  # (B, 3 E, 3 E)
    return (jacobian.mT @ torch.linalg.solve(normal, error.flatten(1)[..., None])).squeeze(-1)
