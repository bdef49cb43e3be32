"""A stand-in for tf2_ros, which is in no package index: the part that the controller uses.

Transforms are kept with their stamps; between two of them, the earlier one counts. The errors are
worded as those of tf2.
"""

from bisect import bisect_right
from types import ModuleType
from typing import Any

import numpy as np
from geometry_msgs.msg import TransformStamped
from rclpy.time import Time


class TransformException(Exception):
    """The base of tf2's errors."""


class LookupException(TransformException):
    """A frame that does not exist."""


class ConnectivityException(TransformException):
    """Frames of two trees."""


class ExtrapolationException(TransformException):
    """A time outside of the buffer."""


class Buffer:
    """Transforms of a tree of frames, at the stamps at which they were set."""

    def __init__(self) -> None:
        self.transforms: dict[str, list[TransformStamped]] = {}

    def set(
        self, frame: str, parent: str, place: Any, yaw: float = 0.0, stamp_s: float = 0.0
    ) -> None:
        """Add a transform: place (3,) [m] and yaw [rad]; stamp 0: a static one."""
        message = TransformStamped(child_frame_id=frame)
        message.header.frame_id = parent
        message.header.stamp = Time(nanoseconds=round(1e9 * stamp_s)).to_msg()
        x, y, z = map(float, place)
        message.transform.translation.x = x
        message.transform.translation.y = y
        message.transform.translation.z = z
        message.transform.rotation.z = float(np.sin(yaw / 2))
        message.transform.rotation.w = float(np.cos(yaw / 2))
        self.transforms.setdefault(frame, []).append(message)

    def lookup_transform(self, target: str, source: str, time: Time) -> TransformStamped:
        """The transform that takes points of `source` to `target`, an ancestor of it."""
        parents = {at[0].header.frame_id for at in self.transforms.values()}
        if source not in self.transforms.keys() | parents:
            raise LookupException(
                f'"{source}" passed to lookupTransform argument source_frame does not exist. '
            )
        matrix, stamps, frame = np.eye(4), [], source
        while frame != target:
            if frame not in self.transforms:
                raise ConnectivityException(
                    f"Could not find a connection between '{target}' and '{source}' because they "
                    "are not part of the same tree."
                )
            message = self._at(frame, time.nanoseconds)
            stamps += [stamp] if (stamp := _ns(message)) else []
            matrix = _matrix(message) @ matrix
            frame = message.header.frame_id
        result = TransformStamped(child_frame_id=source)
        result.header.frame_id = target
        result.header.stamp = Time(nanoseconds=min(stamps, default=0)).to_msg()
        place, yaw = matrix[:3, 3].tolist(), np.arctan2(matrix[1, 0], matrix[0, 0])
        result.transform.translation.x, result.transform.translation.y = place[:2]
        result.transform.translation.z = place[2]
        result.transform.rotation.z = float(np.sin(yaw / 2))
        result.transform.rotation.w = float(np.cos(yaw / 2))
        return result

    def _at(self, frame: str, time_ns: int) -> TransformStamped:
        messages = self.transforms[frame]
        stamps = [_ns(message) for message in messages]
        if not time_ns or not stamps[-1]:
            return messages[-1]
        if not stamps[0] <= time_ns <= stamps[-1]:
            where = "past" if time_ns < stamps[0] else "future"
            raise ExtrapolationException(
                f"Lookup would require extrapolation into the {where}.  Requested time "
                f"{1e-9 * time_ns:.6f} but the latest data is at time {1e-9 * stamps[-1]:.6f}, "
                f"when looking up transform from frame [{frame}]"
            )
        return messages[bisect_right(stamps, time_ns) - 1]

    def all_frames_as_yaml(self) -> str:
        """The frames as BufferCore::allFramesAsYAML writes them."""
        return "".join(
            f"{frame}: \n  parent: '{messages[-1].header.frame_id}'\n"
            "  broadcaster: 'default_authority'\n  rate: 10.000\n"
            for frame, messages in self.transforms.items()
        )


class TransformListener:
    """Would subscribe to /tf and /tf_static."""

    def __init__(self, buffer: Buffer, node: Any) -> None:
        self.buffer, self.node, self.registered = buffer, node, True

    def unregister(self) -> None:
        """Listen no longer."""
        self.registered = False


def module() -> ModuleType:
    """The module tf2_ros."""
    result = ModuleType("tf2_ros")
    result.__dict__.update(
        Buffer=Buffer, TransformListener=TransformListener, TransformException=TransformException
    )
    return result


def _ns(message: TransformStamped) -> int:
    return int(10**9 * message.header.stamp.sec + message.header.stamp.nanosec)


def _matrix(message: TransformStamped) -> np.ndarray:
    place, q = message.transform.translation, message.transform.rotation
    yaw = 2.0 * np.arctan2(q.z, q.w)
    matrix = np.eye(4)
    matrix[:2, :2] = [[np.cos(yaw), -np.sin(yaw)], [np.sin(yaw), np.cos(yaw)]]
    matrix[:3, 3] = place.x, place.y, place.z
    return matrix
