"""Where goals may be: near, and in the workspace."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

MAX_GOAL_DISTANCE = 100.0  # [m]

Vector = NDArray[np.float64]


def check_distance(position: Sequence[float] | Vector) -> None:
    """Raise ValueError unless a position [m] is finite and at most MAX_GOAL_DISTANCE away."""
    if not np.isfinite(position).all():
        raise ValueError(f"position is {_point(position)}, but must be finite")
    if not np.linalg.norm(position) <= MAX_GOAL_DISTANCE:
        raise ValueError(f"position is {_point(position)}, more than {MAX_GOAL_DISTANCE:g} m away")


def check_workspace(position: Sequence[float] | Vector, workspace: Vector) -> None:
    """Raise ValueError unless a position [m, base frame] is near, and in the workspace (2, 3)."""
    check_distance(position)
    low, high = workspace
    if not ((low <= position) & (position <= high)).all():
        legal = f"{_point(low)} to {_point(high)}"
        raise ValueError(f"position is {_point(position)}, but the workspace is {legal} [m]")


def _point(position: Sequence[float] | Vector) -> str:
    return f"({', '.join(f'{value:g}' for value in position)})"
