"""What the controller saw and did in every control period, as messages in a recording."""

from pathlib import Path
from time import time_ns

from diagnostic_msgs.msg import DiagnosticStatus
from geometry_msgs.msg import PoseStamped
from rclpy.node import Node
from rclpy.time import Time
from sensor_msgs.msg import JointState
from std_msgs.msg import Float64MultiArray

from polyreach_nodes.control.reach_control import ReachControl
from polyreach_nodes.recording.mcap import Recorder, warm_up

KINDS = (JointState, Float64MultiArray, DiagnosticStatus, PoseStamped)


def prepare_recording() -> None:
    """Have the first recording start within a control period."""
    warm_up(KINDS)


class TickRecorder:
    """Writes observation and action under the names of the controller's topics.

    Messages of one control period have one time. A period without a message on goals/<effector> is
    one in which that effector had no goal.
    """

    def __init__(self, node: Node, control: ReachControl, path: Path) -> None:
        """Start a recording; raises RecordingError that names the path."""
        name = node.get_fully_qualified_name()
        self._control = control
        self._state_topic = node.resolve_topic_name("joint_states")
        self._command_topic = node.resolve_topic_name("~/commands")
        self._status_topic = f"{name}/status"
        self._goal_topics = [f"{name}/goals/{e}" for e in control.robot.effector_names]
        self._state = JointState(name=list(control.robot.joint_names))
        self._goal = PoseStamped()
        self._goal.header.frame_id = control.robot.base_frame
        self._goal.pose.orientation.w = 1.0
        self.recorder = Recorder(
            path,
            {
                self._state_topic: JointState,
                self._command_topic: Float64MultiArray,
                self._status_topic: DiagnosticStatus,
                **dict.fromkeys(self._goal_topics, PoseStamped),
            },
        )

    def tick(self, command: Float64MultiArray) -> None:
        """Record the joint positions and goals that the policy saw, and the command."""
        now_ns, control, write = time_ns(), self._control, self.recorder.write
        goals = control.goals
        stamp = Time(nanoseconds=now_ns).to_msg()
        self._state.header.stamp = self._goal.header.stamp = stamp
        self._state.position = control.joint_states.joint_pos.tolist()
        write(self._state_topic, self._state, now_ns)
        for topic, goal, active in zip(
            self._goal_topics, goals.positions.tolist(), goals.active, strict=True
        ):
            if active:
                point = self._goal.pose.position
                point.x, point.y, point.z = goal
                write(topic, self._goal, now_ns)
        write(self._command_topic, command, now_ns)

    def status(self, status: DiagnosticStatus) -> None:
        """Record a status."""
        self.recorder.write(self._status_topic, status, time_ns())

    @property
    def problem(self) -> str:
        """What was lost, in words; '' if nothing."""
        lost = f"{self.recorder.dropped} messages not recorded" if self.recorder.dropped else ""
        return self.recorder.error or lost

    def close(self) -> None:
        """Complete the file."""
        self.recorder.close()
