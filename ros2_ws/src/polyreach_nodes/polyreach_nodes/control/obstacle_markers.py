"""From the fields of a marker to an obstacle, or why it cannot be one."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

from polyreach_description import Robot
from polyreach_description.orientation import Quaternion, matrices, quaternions, unit_quaternion
from polyreach_description.printable import printable
from polyreach_nodes.control.frame_names import MAX_NAME, shortened
from polyreach_nodes.control.goal_frames import LinkFrames
from polyreach_nodes.control.obstacle import Obstacle, Point, Shape

MAX_DISTANCE = 100.0  # [m] from the base frame
MAX_SIZE = 100.0  # [m]
LEAST_SIZE = 1e-3  # [m]; what is smaller counts as of this size


class Action(IntEnum):
    """Actions of visualization_msgs/Marker; MODIFY is another name of ADD."""

    ADD = 0
    DELETE = 2
    DELETEALL = 3


MARKER_TYPES = {Shape.CUBE: 1, Shape.SPHERE: 2, Shape.CYLINDER: 3}  # visualization_msgs/Marker
SHAPES = {number: shape for shape, number in MARKER_TYPES.items()}


@dataclass(frozen=True)
class MarkerFields:
    """The fields of a visualization_msgs/Marker that an obstacle has, as they were received."""

    namespace: str
    number: int
    action: int
    kind: int  # see SHAPES
    frame: str
    frame_locked: bool
    position: Point  # [m]
    orientation: Quaternion  # x y z w
    scale: Point  # [m]
    lifetime_s: float  # 0: for ever

    @property
    def name(self) -> str:
        """How messages name the marker and its obstacle."""
        return f"{printable(self.namespace, MAX_NAME)}/{self.number}"


class MarkerError(ValueError):
    """A marker that cannot be an obstacle; the message names it, the value and what is legal."""

    def __init__(self, marker: MarkerFields, reason: str) -> None:
        super().__init__(f"marker '{marker.name}': {reason}")


def check_action(marker: MarkerFields) -> Action:
    """The action of a marker. Raises MarkerError for an unknown one, and for a namespace that is
    too long.
    """
    if len(marker.namespace) > MAX_NAME:
        length = len(marker.namespace)
        raise MarkerError(
            marker, f"namespace has {length} characters, but may have {MAX_NAME} at most"
        )
    try:
        return Action(marker.action)
    except ValueError:
        legal = "0 (add or modify), 2 (delete) or 3 (delete all)"
        raise MarkerError(marker, f"action is {marker.action}, but must be {legal}") from None


def read_obstacle(
    marker: MarkerFields, robot: Robot, links: LinkFrames, links_known: bool
) -> Obstacle:
    """The obstacle of a marker whose action is ADD. Raises MarkerError.

    links_known: whether the poses of links are known, those of their last update.
    """
    if (shape := SHAPES.get(marker.kind)) is None:
        legal = "1 (cube), 2 (sphere) or 3 (cylinder)"
        raise MarkerError(marker, f"type is {marker.kind}, but must be {legal}")
    if not all(0.0 < side <= MAX_SIZE for side in marker.scale):
        legal = f"greater than 0 and at most {MAX_SIZE:g} m"
        raise MarkerError(marker, f"scale is {_numbers(marker.scale)}, but must be {legal}")
    if not math.hypot(*marker.position) <= MAX_DISTANCE:
        legal = f"finite and at most {MAX_DISTANCE:g} m away"
        raise MarkerError(marker, f"position is {_numbers(marker.position)}, but must be {legal}")
    if not 0.0 <= marker.lifetime_s < math.inf:
        legal = "0 (for ever) or more"
        raise MarkerError(marker, f"lifetime is {marker.lifetime_s:g} s, but must be {legal}")
    try:
        orientation = unit_quaternion(marker.orientation)
    except ValueError as error:
        raise MarkerError(marker, str(error)) from None
    position = marker.position
    if marker.frame not in ("", robot.base_frame):
        position, orientation = _in_base(marker, orientation, robot, links, links_known)
    return Obstacle(marker.name, shape, geom_size(shape, marker.scale), position, orientation)


def _in_base(
    marker: MarkerFields,
    orientation: Quaternion,
    robot: Robot,
    links: LinkFrames,
    links_known: bool,
) -> tuple[Point, Quaternion]:
    """Position and orientation in the base frame of a marker in the frame of a link."""
    frame = printable(marker.frame, MAX_NAME)
    if marker.frame not in links:
        legal = f"'{robot.base_frame}' or empty, or of the robot: {shortened(links.names)}"
        raise MarkerError(marker, f"frame is '{frame}', but must be {legal}")
    if marker.frame_locked:
        legal = (
            f"must be false, or the frame '{robot.base_frame}': obstacles do not move with links"
        )
        raise MarkerError(marker, f"frame_locked is true in frame '{frame}', but {legal}")
    if not links_known:
        raise MarkerError(marker, f"frame is '{frame}', but there is no valid joint state")
    place, turn = links.pose(marker.frame)
    x, y, z = (place + turn @ marker.position).tolist()
    qx, qy, qz, qw = quaternions(turn @ matrices(orientation)).tolist()
    return (x, y, z), (qx, qy, qz, qw)


def geom_size(shape: Shape, scale: Point) -> Point:
    """Size of MuJoCo's geom [m]; of unequal diameters, the largest counts."""
    x, y, z = (max(side, LEAST_SIZE) / 2.0 for side in scale)
    match shape:
        case Shape.SPHERE:
            return max(x, y, z), 0.0, 0.0
        case Shape.CYLINDER:
            return max(x, y), z, 0.0
    return x, y, z


def _numbers(values: Sequence[float]) -> str:
    return f"({', '.join(f'{value:g}' for value in values)})"
