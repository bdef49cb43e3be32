"""What people do on the page."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Grab:
    """The handle of an effector is taken (held) or let go by the browser of that number."""

    effector: int
    client: int
    held: bool


@dataclass(frozen=True)
class Drag:
    """The handle of an effector is moved to a position (3,) [m, base frame]."""

    effector: int
    position: NDArray[np.float64]


@dataclass(frozen=True)
class Switch:
    """The goal of an effector is switched on or off."""

    effector: int
    on: bool


@dataclass(frozen=True)
class Press:
    """A button is pressed: 'halt', 'resume' or 'clear_goals'."""

    name: str


@dataclass(frozen=True)
class Speed:
    """The speed scale is set, 0 to 1."""

    scale: float


Event = Grab | Drag | Switch | Press | Speed
Post = Callable[[Event], None]
