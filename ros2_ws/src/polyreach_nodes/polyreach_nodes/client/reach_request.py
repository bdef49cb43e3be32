"""What a reach action asks for, and whether the controller can do it."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from polyreach_description.orientation import unit_quaternion
from polyreach_nodes.client.status import ControllerStatus, FramedPose, Point, Quaternion
from polyreach_nodes.control.frame_names import MAX_NAME, shortened


class ReachClient(Protocol):
    """The controller as a reach action needs it; ControllerClient is one."""

    controller: str
    status: ControllerStatus
    effectors: tuple[str, ...]
    goal_kinds: Mapping[str, str]
    base_frame: str
    frames: tuple[str, ...]
    takes_tf: bool

    def is_connected(self, effector: str) -> bool:
        """Whether goals and requests to clear them would be received."""

    def send_goal(
        self,
        effector: str,
        position: Sequence[float],
        frame: str,
        orientation: Sequence[float] | None = None,
        stamp_ns: int | None = None,
    ) -> None:
        """Publish a goal: position [m], and unit quaternion x y z w where it has one; stamp_ns: at
        which a frame of TF counts, 0: the latest transform.
        """

    def clear_goal(self, effector: str) -> None:
        """Ask the controller to clear a goal."""

    def is_clearing(self, effector: str) -> bool:
        """Whether such a request is under way."""

    def can_hold(self) -> bool:
        """Whether a request to hold effectors would be received."""

    def hold(self) -> None:
        """Ask the controller to hold every effector that has no goal."""

    def is_holding(self) -> bool:
        """Whether such a request is under way."""

    @property
    def hold_refusal(self) -> str:
        """Why the last such request was refused; '' if it was not."""


@dataclass(frozen=True)
class ReachRequest:
    """E effectors, the frames, positions [m] and orientations [x y z w] of their goals, tolerances
    [m] and [rad], and time [s].
    """

    effectors: tuple[str, ...]
    frames: tuple[str, ...]
    positions: tuple[Point, ...]
    orientations: tuple[Quaternion, ...]  # counts where the effector's goal has one
    tolerance: float
    angle_tolerance: float
    timeout_s: float
    stamps_ns: tuple[int, ...] = ()  # at which frames of TF count, 0: the latest; empty: all 0
    hold: bool = False  # the effectors that have no goal

    def stamp_ns(self, effector: str) -> int:
        """The stamp of the effector's goal."""
        return self.stamps_ns[self.effectors.index(effector)] if self.stamps_ns else 0

    def goals(self, client: ReachClient) -> dict[str, FramedPose]:
        """The goal of every effector, as the controller's status shows it.

        Raises ValueError for an orientation that is no unit quaternion, naming the effector.
        """
        goals: dict[str, FramedPose] = {}
        for name, frame, position, quaternion in zip(
            self.effectors, self.frames, self.positions, self.orientations, strict=True
        ):
            orientation = None
            if client.goal_kinds.get(name, "position") != "position":
                try:
                    orientation = unit_quaternion(quaternion)
                except ValueError as error:
                    raise ValueError(f"goal of '{name}': {error}") from None
            goals[name] = "" if frame == client.base_frame else frame, position, orientation
        return goals

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
            known = frame in ("", client.base_frame) or frame in client.frames
            if not known and not client.takes_tf:  # whether TF has a frame, the controller knows
                more = f", or of the robot: {shortened(client.frames)}" if client.frames else ""
                return (
                    f"frame of '{name}' is '{frame[:MAX_NAME]}', but must be '{client.base_frame}' "
                    f"or empty{more}"
                )
            if not all(map(math.isfinite, position)):
                return f"position of '{name}' is {point_text(position)}, but must be finite"
        if not 0.0 <= self.tolerance < math.inf:
            return f"tolerance is {self.tolerance:g}, but must be 0 (the default) or more [m]"
        if not 0.0 <= self.angle_tolerance < math.inf:
            return (
                f"angle_tolerance is {self.angle_tolerance:g}, but must be 0 (the default) or more "
                "[rad]"
            )
        try:
            self.goals(client)
        except ValueError as error:
            return str(error)
        if not 0.0 <= self.timeout_s < math.inf:
            return f"timeout is {self.timeout_s:g}, but must be 0 (the default) or more [s]"
        return ""


def point_text(position: Sequence[float]) -> str:
    """A position or quaternion as a message shows it."""
    return f"({', '.join(f'{value:g}' for value in position)})"
