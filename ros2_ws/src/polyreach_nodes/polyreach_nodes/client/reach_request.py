"""What a reach action asks for, and whether the controller can do it."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from polyreach_nodes.client.status import ControllerStatus, Point


class ReachClient(Protocol):
    """The controller as a reach action needs it; ControllerClient is one."""

    controller: str
    status: ControllerStatus
    effectors: tuple[str, ...]
    base_frame: str

    def is_connected(self, effector: str) -> bool:
        """Whether goals and requests to clear them would be received."""

    def send_goal(self, effector: str, position: Sequence[float], frame: str) -> None:
        """Publish a goal [m]."""

    def clear_goal(self, effector: str) -> None:
        """Ask the controller to clear a goal."""

    def is_clearing(self, effector: str) -> bool:
        """Whether such a request is under way."""


@dataclass(frozen=True)
class ReachRequest:
    """E effectors, the frames and positions [m] of their goals, tolerance [m] and time [s]."""

    effectors: tuple[str, ...]
    frames: tuple[str, ...]
    positions: tuple[Point, ...]
    tolerance: float
    timeout_s: float

    def fault(self, client: ReachClient) -> str:
        """Why the action cannot be started, with the value and the legal choices; or ''."""
        legal = f"(controller '{client.controller}' has: {', '.join(client.effectors)})"
        if not self.effectors:
            return f"effectors is empty {legal}"
        if len(self.positions) != len(self.effectors):
            return (
                f"{len(self.effectors)} effectors, but {len(self.positions)} poses: "
                "there must be one pose for every effector"
            )
        for name, frame, position in zip(self.effectors, self.frames, self.positions, strict=True):
            if name not in client.effectors:
                return f"unknown effector '{name}' {legal}"
            if self.effectors.count(name) > 1:
                return f"effector '{name}' is named twice, but may be named once"
            if frame not in ("", client.base_frame):
                return f"frame of '{name}' is '{frame}', but must be '{client.base_frame}' or empty"
            if not all(map(math.isfinite, position)):
                return f"position of '{name}' is {point_text(position)}, but must be finite"
        if not 0.0 <= self.tolerance < math.inf:
            return f"tolerance is {self.tolerance:g}, but must be 0 (the default) or more [m]"
        if not 0.0 <= self.timeout_s < math.inf:
            return f"timeout is {self.timeout_s:g}, but must be 0 (the default) or more [s]"
        return ""


def point_text(position: Point) -> str:
    """A position as a message shows it."""
    return f"({', '.join(f'{value:g}' for value in position)})"
