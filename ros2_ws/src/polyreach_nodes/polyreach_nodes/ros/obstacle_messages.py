"""Obstacles as visualization_msgs/MarkerArray: received, and shown."""

from visualization_msgs.msg import Marker, MarkerArray

from polyreach_nodes.control.obstacle_markers import MarkerFields
from polyreach_nodes.control.obstacles import MAX_MARKERS


def marker_fields(message: MarkerArray) -> list[MarkerFields]:
    """The fields that obstacles have, of one marker more than MAX_MARKERS at most."""
    return [_fields(marker) for marker in message.markers[: MAX_MARKERS + 1]]


def _fields(marker: Marker) -> MarkerFields:
    point, q, scale = marker.pose.position, marker.pose.orientation, marker.scale
    return MarkerFields(
        namespace=marker.ns,
        number=marker.id,
        action=marker.action,
        kind=marker.type,
        frame=marker.header.frame_id,
        frame_locked=marker.frame_locked,
        position=(point.x, point.y, point.z),
        orientation=(q.x, q.y, q.z, q.w),
        scale=(scale.x, scale.y, scale.z),
        lifetime_s=marker.lifetime.sec + 1e-9 * marker.lifetime.nanosec,
    )
