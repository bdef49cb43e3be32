"""Frames of TF as frames of goals, by tf2_ros where it is installed."""

import re
from typing import Any

import numpy as np
from rclpy.node import Node
from rclpy.time import Time

from polyreach_description.orientation import matrices, unit_quaternion
from polyreach_nodes.control.frame_names import MAX_NAME, shortened
from polyreach_nodes.control.goal_frames import FrameError, Pose

MAX_REASON = 200  # characters of a reason of tf2
_PARENT = re.compile(r"^(.*?): *\n +parent: '(.*)'$", re.MULTILINE)  # of all_frames_as_yaml


class TransformBuffer:
    """Listens to /tf and /tf_static, and looks up poses of frames in the base frame."""

    def __init__(self, node: Node, base_frame: str) -> None:
        """Raises ValueError where tf2_ros is missing."""
        try:
            import tf2_ros
        except ImportError as error:
            raise ValueError(
                f"use_tf needs the package tf2_ros of a ROS installation ({error}); frames of the "
                "robot need neither"
            ) from None
        self.timeout_s = 0.0  # age of the latest transform that is too old [s]; 0: none is
        self._clock = node.get_clock()
        self._base_frame = base_frame
        self._buffer: Any = tf2_ros.Buffer()
        self._error: type[Exception] = tf2_ros.TransformException
        self._listener: Any = tf2_ros.TransformListener(self._buffer, node)

    def close(self) -> None:
        """Listen no longer."""
        self._listener.unregister()

    def pose(self, frame: str, stamp_ns: int) -> Pose:
        """The frame's pose in the base frame at a time of the node's clock; 0: the latest.

        Raises FrameError if it is unknown or not connected to the base frame, if the time is
        outside of the buffer, and if the latest transform is older than timeout_s.
        """
        try:
            found = self._buffer.lookup_transform(
                self._base_frame, frame, Time(nanoseconds=stamp_ns)
            )
        except self._error as error:
            reason = " ".join(str(error).split())[:MAX_REASON]
            known = shortened(sorted(self._parents())) or "none"
            latest = "; stamp 0 takes the latest transform" if stamp_ns else ""
            raise FrameError(
                f"no transform of frame '{frame[:MAX_NAME]}': {reason}{latest} (frames of TF: "
                f"{known})"
            ) from None
        stamp = found.header.stamp
        found_ns = 10**9 * stamp.sec + stamp.nanosec
        if not stamp_ns and found_ns and self.timeout_s:  # a static transform has no time
            age_s = 1e-9 * (self._clock.now().nanoseconds - found_ns)
            if not age_s <= self.timeout_s:
                raise FrameError(
                    f"the transform of frame '{frame[:MAX_NAME]}' is {age_s:.3g} s old, more than "
                    f"transform_timeout, {self.timeout_s:g} s"
                )
        place, q = found.transform.translation, found.transform.rotation
        rotation = matrices(unit_quaternion((q.x, q.y, q.z, q.w)))
        return np.array([place.x, place.y, place.z]), rotation

    def links_above(self, frame: str) -> list[str]:
        """Frames that carry the frame, nearest first."""
        parents, above = self._parents(), []
        while (parent := parents.get(frame)) and parent not in above:
            above.append(parent)
            frame = parent
        return above

    def _parents(self) -> dict[str, str]:
        """The parent of every frame that has one."""
        return dict(_PARENT.findall(self._buffer.all_frames_as_yaml()))
