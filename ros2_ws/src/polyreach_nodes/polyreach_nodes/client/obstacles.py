"""Markers of obstacles: for the controller's topic OBSTACLES, and those on its topic MARKERS."""

from collections.abc import Sequence

from visualization_msgs.msg import Marker, MarkerArray

from polyreach_nodes.control.obstacle import Obstacle
from polyreach_nodes.control.obstacle_markers import SHAPES, geom_size

IDENTITY = (0.0, 0.0, 0.0, 1.0)
SHOWN = "obstacles"  # namespace, on MARKERS, of the obstacles of a controller


def obstacle_marker(
    namespace: str,
    number: int,
    kind: int,
    position: Sequence[float],
    scale: Sequence[float],
    *,
    orientation: Sequence[float] = IDENTITY,
    frame: str = "",
    lifetime_s: float = 0.0,
) -> Marker:
    """A marker that adds an obstacle, or changes it.

    kind: Marker.SPHERE, CUBE or CYLINDER (along z). position: (3,) [m]. scale: (3,) lengths along
    x, y and z [m]. orientation: unit quaternion x y z w. frame: empty for the base frame.
    lifetime_s: 0 for ever.
    """
    marker = Marker(ns=namespace, id=number, type=kind, action=Marker.ADD)
    marker.header.frame_id = frame
    point, q, size = marker.pose.position, marker.pose.orientation, marker.scale
    point.x, point.y, point.z = map(float, position)
    q.x, q.y, q.z, q.w = map(float, orientation)
    size.x, size.y, size.z = map(float, scale)
    marker.lifetime.sec = int(lifetime_s)
    marker.lifetime.nanosec = int(1e9 * (lifetime_s % 1.0))
    return marker


def deletion(namespace: str, number: int) -> Marker:
    """A marker that deletes an obstacle."""
    return Marker(ns=namespace, id=number, action=Marker.DELETE)


def shown_obstacles(message: MarkerArray) -> dict[str, Obstacle]:
    """The obstacles that a controller has, by name, from a message on its topic MARKERS."""
    markers = [m for m in message.markers if m.ns == SHOWN and m.type in SHAPES]
    return {marker.text: _obstacle(marker) for marker in markers}


def _obstacle(marker: Marker) -> Obstacle:
    point, q, scale = marker.pose.position, marker.pose.orientation, marker.scale
    shape = SHAPES[marker.type]
    return Obstacle(
        marker.text,
        shape,
        geom_size(shape, (scale.x, scale.y, scale.z)),
        (point.x, point.y, point.z),
        (q.x, q.y, q.z, q.w),
    )
