"""Records observation and action of every control period as ROS 2 messages."""

from array import array
from pathlib import Path
from time import time_ns
from typing import Any

import numpy as np
from builtin_interfaces.msg import Time as TimeMessage
from diagnostic_msgs.msg import DiagnosticStatus
from geometry_msgs.msg import PoseStamped
from rclpy.node import Node
from rclpy.time import Time
from sensor_msgs.msg import JointState
from std_msgs.msg import Float32MultiArray, MultiArrayDimension

from polyreach_description.policy_tensors import INPUTS
from polyreach_nodes.client.controller_client import goal_message
from polyreach_nodes.client.topics import COMMAND_TOPICS, STATUS, goal_topic
from polyreach_nodes.control.policy import Array32, Policy
from polyreach_nodes.control.reach_control import ReachControl
from polyreach_nodes.recording.mcap import Recorder, warm_up

KINDS = (JointState, DiagnosticStatus, PoseStamped, Float32MultiArray)
TENSORS = (*INPUTS, "joint_vel")  # of a policy, recorded under policy/<name>


def prepare_recording(command_kind: type) -> None:
    """Load what the first recording needs, so that it starts within a control period."""
    warm_up((*KINDS, command_kind))


class TickRecorder:
    """Writes observation and action under the names of the controller's topics, and, in periods in
    which the policy was computed, all of its inputs and its `joint_vel` under policy/<name>, as the
    file got and gave them.

    Messages of one control period have the same time. In a period without a message on
    goals/<effector>, that effector had no goal.
    """

    def __init__(self, node: Node, control: ReachControl, path: Path, command_kind: type) -> None:
        """Start a recording of commands of a message class; raises RecordingError that names the
        path.
        """
        name = node.get_fully_qualified_name()
        self._control = control
        self._state_topic = node.resolve_topic_name("joint_states")
        self._command_topic = node.resolve_topic_name(f"~/{COMMAND_TOPICS[control.interface]}")
        self._status_topic = f"{name}/{STATUS}"
        self._goal_topics = [f"{name}/{goal_topic(e)}" for e in control.robot.effector_names]
        self._state = JointState(name=list(control.robot.joint_names))
        self._goal = goal_message((0.0, 0.0, 0.0), control.robot.base_frame, TimeMessage())
        self._policy_topic = f"{name}/policy/"
        self._use(control.pipeline.policy)
        self._computed = self._policy.computed
        self.recorder = Recorder(
            path,
            {
                self._state_topic: JointState,
                self._command_topic: command_kind,
                self._status_topic: DiagnosticStatus,
                **dict.fromkeys(self._goal_topics, PoseStamped),
                **dict.fromkeys((self._policy_topic + t for t in TENSORS), Float32MultiArray),
            },
        )

    def tick(self, command: Any) -> None:
        """Record joint positions, goals, what the policy was computed from, and the command, if not
        None.
        """
        now_ns, control, write = time_ns(), self._control, self.recorder.write
        goals = control.goals
        stamp = Time(nanoseconds=now_ns).to_msg()
        self._state.header.stamp = self._goal.header.stamp = stamp
        self._state.position = control.joint_states.joint_pos.tolist()
        write(self._state_topic, self._state, now_ns)
        for topic, goal, turned, active in zip(
            self._goal_topics,
            goals.positions.tolist(),
            goals.orientations.tolist(),
            goals.active,
            strict=True,
        ):
            if active:
                point, q = self._goal.pose.position, self._goal.pose.orientation
                point.x, point.y, point.z = goal
                q.x, q.y, q.z, q.w = turned
                write(topic, self._goal, now_ns)
        if control.pipeline.policy is not self._policy:
            self._use(control.pipeline.policy)
            self._computed = 0
        if self._policy.computed != self._computed:
            self._computed = self._policy.computed
            for topic, tensor, values, message in self._tensors:
                values[:] = tensor
                write(topic, message, now_ns)
        if command is not None:
            write(self._command_topic, command, now_ns)

    def _use(self, policy: Policy) -> None:
        """Make the messages of this policy."""
        self._policy = policy
        self._tensors: list[tuple[str, Array32, Array32, Float32MultiArray]] = []
        for name, tensor in policy.tensors.items():
            message = _array_message(tensor)
            values = np.frombuffer(message.data, np.float32).reshape(tensor.shape)  # its data
            self._tensors.append((self._policy_topic + name, tensor, values, message))

    def status(self, status: DiagnosticStatus) -> None:
        """Record a status."""
        self.recorder.write(self._status_topic, status, time_ns())

    @property
    def problem(self) -> str:
        """What was not recorded, and why; '' if everything was."""
        lost = f"{self.recorder.dropped} messages not recorded" if self.recorder.dropped else ""
        return self.recorder.error or lost

    def close(self) -> None:
        """Complete the file."""
        self.recorder.close()


def _array_message(tensor: Array32) -> Float32MultiArray:
    """A message of this shape; strides are numbers of elements, as std_msgs defines them."""
    message = Float32MultiArray(data=array("f", bytes(tensor.nbytes)))
    for axis, size in enumerate(tensor.shape):
        stride = int(np.prod(tensor.shape[axis:]))
        message.layout.dim.append(MultiArrayDimension(size=size, stride=stride))
    return message
