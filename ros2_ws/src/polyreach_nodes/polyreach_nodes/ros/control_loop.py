"""Control periods: joint states in, commands out, zero when joint states are missing."""

from pathlib import Path
from threading import Thread
from time import monotonic, sleep
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rclpy.duration import Duration
from rclpy.node import Node
from sensor_msgs.msg import JointState
from std_msgs.msg import Float64MultiArray

from polyreach_nodes.client.topics import COMMAND_TOPICS
from polyreach_nodes.control.control_period import ControlPeriod
from polyreach_nodes.control.joint_states import Received
from polyreach_nodes.control.reach_control import ReachControl
from polyreach_nodes.parameters import ControllerParameters
from polyreach_nodes.ros.command_output import OUTPUTS, CommandOutput
from polyreach_nodes.ros.conflict_detector import ConflictDetector
from polyreach_nodes.ros.entities import Entities
from polyreach_nodes.ros.reports import TickStatistics

try:  # not when a recording starts: to import it takes longer than a control period
    from polyreach_nodes.recording.tick_recorder import TickRecorder, prepare_recording
except ImportError:
    TickRecorder = None  # type: ignore[assignment, misc]

FLUSH_S = 0.2  # [s] for the last command to arrive
MAX_BRAKE_S = 1.0  # [s] of braking at the end, where positions are commanded


class ControlLoop:
    """Publishes a command in every control period between start() and stop().

    The control period follows the node's clock (so /clock with use_sim_time) as long as that goes,
    see ControlPeriod; ages are steady time. When a simulator pauses, its joint states stop, and
    zero is published.

    Positions and trajectories end the motion by themselves. Their stops are published period by
    period, also the last one, and nothing between two periods.
    """

    def __init__(self, node: Node, entities: Entities, control: ReachControl) -> None:
        self.control = control
        self.running = False
        self.statistics = TickStatistics()
        self.recorder: TickRecorder | None = None
        if TickRecorder is not None:
            prepare_recording(OUTPUTS[control.interface].kind)
        self._node = node
        self._clock = node.get_clock()
        self._output: CommandOutput = OUTPUTS[control.interface](control)
        topic = f"~/{COMMAND_TOPICS[control.interface]}"
        self._command_pub = entities.publisher(self._output.kind, topic, 1)
        self.conflicts = ConflictDetector(node, self._command_pub)
        self._period = ControlPeriod(control.period_s, control.watchdog.timeout_s)
        self._tick_timer = entities.timer(self._period.late_tolerance_s, self._tick_on_timeout)
        self._guard_timer = entities.timer(control.watchdog.timeout_s, self._on_guard)

    def configure(self, parameters: ControllerParameters) -> None:
        """Take the parameters, at rest or in motion. Raises ValueError for times that are short."""
        self.control.configure(parameters)
        self._period.patience_s = self.control.watchdog.timeout_s
        self._guard_timer.timer_period_ns = round(self.control.watchdog.timeout_s * 1e9)

    def record(self, path: Path | None) -> None:
        """Record observation and action to a new .mcap file from now on; None ends a recording.

        Raises RecordingError that names the path; a recording under way then goes on.
        """
        if path and TickRecorder is None:
            raise ValueError("record needs the package mcap (pip install mcap)")
        recorder = None
        if path:
            recorder = TickRecorder(self._node, self.control, path, self._output.kind)
        if self.recorder is not None:
            # a disk may be slow; the interpreter ends after this thread
            Thread(target=self.recorder.close, name="end of recording").start()
        self.recorder = recorder

    def start(self) -> None:
        """Start the periods from rest, without joint state or goals."""
        self.control.activate()
        self.statistics.restart()
        self._period.restart(self._clock.now().nanoseconds, monotonic())
        self.running = True
        self._tick_timer.reset()

    def stop(self) -> None:
        """Publish zero, or the positions on the way to rest, wait for the receipt of the last
        command, and end the periods.
        """
        self._tick_timer.cancel()
        self._guard_timer.cancel()
        self.publish_zero()
        self.running = False
        end_s = monotonic() + MAX_BRAKE_S
        while self.control.pipeline.command.any() and monotonic() < end_s:
            sleep(self.control.period_s)
            self._publish(self.control.brake(monotonic()))
        self._command_pub.wait_for_all_acked(Duration(seconds=FLUSH_S))

    def publish_zero(self) -> None:
        """Publish zero at once, if the periods run; positions brake from the next period on."""
        if self.running:
            zero = self.control.stop()
            if not self._output.ends_by_itself:
                self._publish(zero)

    def publish_last_zero(self) -> None:
        """Publish zero without any of this object's buffers, which another thread may be using."""
        if self._output.ends_by_itself:
            return
        zero = Float64MultiArray(data=[0.0] * len(self.control.pipeline.zero))
        self._command_pub.publish(zero)
        self._command_pub.wait_for_all_acked(Duration(seconds=FLUSH_S))

    def clock_stands(self) -> bool:
        """Whether the node's clock stands, so that periods follow a steady clock."""
        return self._period.standing_s(monotonic()) > 0.0

    def on_joint_state(self, message: JointState) -> None:
        """Take a joint state, and begin a control period if one is due."""
        if not self.running:
            return
        stamp = message.header.stamp
        received = self.control.receive(
            message.name, message.position, monotonic(), stamp.sec + 1e-9 * stamp.nanosec
        )
        if received is Received.FRESH:
            self._guard_timer.reset()
            start_s = monotonic()
            elapsed_s = self._period.begin_on_state(self._clock.now().nanoseconds, start_s)
            if elapsed_s is not None:
                self._tick(start_s, elapsed_s)
        elif received is Received.INVALID:
            self.publish_zero()

    def _tick_on_timeout(self) -> None:
        """Begin a control period without a joint state, if one is overdue."""
        start_s = monotonic()
        elapsed_s = self._period.begin_on_timeout(self._clock.now().nanoseconds, start_s)
        if elapsed_s is not None:
            self._tick(start_s, elapsed_s)

    def _tick(self, start_s: float, elapsed_s: float) -> None:
        command = self._publish(self.control.tick(start_s, elapsed_s))
        published_s = monotonic()
        if self.recorder is not None:
            self.recorder.tick(command)
        self.statistics.add(start_s, published_s, self.control.watchdog.age_s(start_s))

    def _publish(self, joint_vel: NDArray[np.float64]) -> Any:
        """Publish the message of a command, if there is one, and return it."""
        command = self._output.message(joint_vel)
        if command is not None:
            self.conflicts.count_sent()
            self._command_pub.publish(command)
        return command

    def _on_guard(self) -> None:
        """The joint state reached its age limit: stop now, between two periods."""
        self._guard_timer.cancel()
        self.publish_zero()
