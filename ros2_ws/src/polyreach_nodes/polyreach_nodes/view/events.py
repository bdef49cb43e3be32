"""Events of the page: what a browser requests."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Grab:
    """A browser, by its number, starts to drag the handle of an effector, or stops."""

    effector: int
    client: int
    dragging: bool


@dataclass(frozen=True)
class Drag:
    """The handle of an effector moves to a position (3,) [m, base frame], with an orientation (4,)
    [unit quaternion x y z w].
    """

    effector: int
    position: NDArray[np.float64]
    orientation: NDArray[np.float64]


@dataclass(frozen=True)
class Switch:
    """The goal of an effector is set or cleared."""

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


@dataclass(frozen=True)
class Choose:
    """Goals are set by a program, one of PROGRAMS."""

    program: str


@dataclass(frozen=True)
class UsePolicy:
    """The controller is to use a shipped policy of a method."""

    method: str


@dataclass(frozen=True)
class AddObstacle:
    """The page is to publish an obstacle: 'box' or 'sphere', side or diameter [m]."""

    shape: str
    size: float


@dataclass(frozen=True)
class MoveObstacle:
    """An obstacle of the page moves to a position (3,) [m, base frame], with an orientation (4,)
    [unit quaternion x y z w].
    """

    number: int
    position: NDArray[np.float64]
    orientation: NDArray[np.float64]


@dataclass(frozen=True)
class RemoveObstacle:
    """An obstacle of the page is removed."""

    number: int


ObstacleEvent = AddObstacle | MoveObstacle | RemoveObstacle
Event = Grab | Drag | Switch | Press | Speed | Choose | UsePolicy | ObstacleEvent
Post = Callable[[Event], None]
