"""Topics, services and timers of one configured controller, around ReachControl."""

from array import array
from collections.abc import Callable
from functools import partial
from pathlib import Path
from threading import Thread
from time import monotonic
from typing import Any

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray
from geometry_msgs.msg import PoseStamped
from numpy.typing import NDArray
from rclpy.clock import Clock, ClockType
from rclpy.duration import Duration
from rclpy.node import Node
from rclpy.publisher import Publisher
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.subscription import Subscription
from rclpy.timer import Timer
from sensor_msgs.msg import JointState
from std_msgs.msg import Empty, Float64MultiArray, String
from std_srvs.srv import Trigger
from visualization_msgs.msg import MarkerArray

from polyreach_nodes.client.topics import (
    CLEAR_GOALS,
    COMMANDS,
    HALT,
    LATCHED,
    MARKERS,
    POLICY_METADATA,
    RESUME,
    RESUMED,
    clear_goal_service,
    goal_topic,
)
from polyreach_nodes.control.control import ReachControl, Received
from polyreach_nodes.control.control_period import ControlPeriod
from polyreach_nodes.control.policy import Policy
from polyreach_nodes.ros.command_watch import CommandWatch
from polyreach_nodes.ros.reports import (
    TickStatistics,
    controller_status,
    diagnostics_status,
    markers,
    status_message,
)

try:  # not when a recording starts: to import it takes longer than a control period
    from polyreach_nodes.recording.tick_recorder import TickRecorder, prepare_recording
except ImportError:
    TickRecorder = None  # type: ignore[assignment, misc]

# a robot's joint states may come from several publishers at the same moment
NEWEST = QoSProfile(depth=4, reliability=ReliabilityPolicy.BEST_EFFORT)
STATUS_PERIOD_S = 0.2
STATUS_SPACING_S = 0.02  # [s] between two of the statuses that goals bring about
EARLY = 0.15  # share of a control period by which news may begin it before its time
LATE = 0.5  # share of a control period after which it begins without news
FLUSH_S = 0.2  # [s] for the last zero to arrive


class CommandConflict(RuntimeError):
    """Another node commands the same robot."""


class ReachLoop:
    """Exists from configure to cleanup; commands flow between start() and stop().

    A control period begins with the first joint state that comes when the last one is about over,
    so that commands rest on news; without joint states it begins half a period late.

    The control period follows the node's clock (so /clock with use_sim_time) as long as that goes,
    see ControlPeriod; ages are steady time. When a simulator pauses, its joint states stop, and
    zero is published.
    """

    def __init__(self, node: Node, control: ReachControl, status: Publisher) -> None:
        self.control = control
        self.tolerance = 0.02  # [m]
        self.running = False
        self._node = node
        self._status_pub = status
        self._statistics = TickStatistics()
        self._announced_s = 0.0
        self._logged = ("", "")
        self._recorder: TickRecorder | None = None
        if TickRecorder is not None:
            prepare_recording()
        self._command = Float64MultiArray(data=array("d", control.zero))
        self._command_view = np.frombuffer(self._command.data)
        self._publishers: list[Publisher] = []
        self._command_pub = self._publisher(Float64MultiArray, f"~/{COMMANDS}", 1)
        self._watch = CommandWatch(node, self._command_pub)
        self._resumed_pub = self._publisher(Empty, f"~/{RESUMED}", 1)
        self._metadata_pub = self._publisher(String, f"~/{POLICY_METADATA}", LATCHED)
        self._diagnostics_pub = self._publisher(DiagnosticArray, "/diagnostics", 1)
        self._markers_pub = self._publisher(MarkerArray, f"~/{MARKERS}", 1)
        self._subscriptions: list[Subscription] = [
            node.create_subscription(
                JointState, "joint_states", self._safely(self._on_joint_state), NEWEST
            )
        ]
        triggers: dict[str, Callable[[], str]] = {
            HALT: self._halt,
            RESUME: self._resume,
            CLEAR_GOALS: self._clear_goals,
        }
        for effector in control.robot.effector_names:
            on_goal = self._safely(partial(self._on_goal, effector))
            topic = f"~/{goal_topic(effector)}"
            self._subscriptions.append(node.create_subscription(PoseStamped, topic, on_goal, 1))
            triggers[clear_goal_service(effector)] = partial(self._clear_goal, effector)
        self._services = [
            node.create_service(Trigger, f"~/{name}", partial(self._answer, act))
            for name, act in triggers.items()
        ]
        steady = Clock(clock_type=ClockType.STEADY_TIME)

        def timer(period_s: float, act: Callable[[], None], autostart: bool = False) -> Timer:
            return node.create_timer(period_s, self._safely(act), clock=steady, autostart=autostart)

        self._clock = node.get_clock()
        self._period = ControlPeriod(control.period_s, control.watchdog.timeout_s)
        self._tick_timer = timer(LATE * control.period_s, partial(self._tick_if_due, LATE))
        self._guard_timer = timer(control.watchdog.timeout_s, self._on_guard)
        self._soon_timer = timer(STATUS_SPACING_S, self.announce)
        self._timers = [
            self._tick_timer,
            self._guard_timer,
            self._soon_timer,
            timer(STATUS_PERIOD_S, self._on_status, autostart=True),
            timer(1.0, self._on_diagnostics, autostart=True),
        ]
        self.use_policy(control.policy)
        self.announce()

    def _publisher(self, kind: type, topic: str, qos: QoSProfile | int) -> Publisher:
        self._publishers.append(self._node.create_publisher(kind, topic, qos))
        return self._publishers[-1]

    def use_policy(self, policy: Policy) -> None:
        """Drive with another policy, already checked against the robot."""
        self.control.policy = policy
        self._metadata_pub.publish(String(data=policy.contract.to_json()))

    def set_timeout(self, timeout_s: float) -> None:
        """Age limit of the joint state [s of wall time]; 0: TIMEOUT_PERIODS control periods."""
        self.control.set_timeout(timeout_s)
        self._period.patience_s = self.control.watchdog.timeout_s
        self._guard_timer.timer_period_ns = round(self.control.watchdog.timeout_s * 1e9)

    def record(self, path: Path | None) -> None:
        """Record observation and action to a new .mcap file from now on; None ends a recording.

        Raises RecordingError that names the path; a recording under way then goes on.
        """
        if path and TickRecorder is None:
            raise ValueError("record needs the package mcap (pip install mcap)")
        following = TickRecorder(self._node, self.control, path) if path else None
        if self._recorder is not None:
            # a disk may be slow; the interpreter ends after this thread
            Thread(target=self._recorder.close, name="end of recording").start()
        self._recorder = following

    def start(self) -> None:
        """Start the periods from rest, without joint state or goals."""
        self.control.activate()
        self._statistics.restart()
        self._period.restart(self._clock.now().nanoseconds, monotonic())
        self.running = True
        self._tick_timer.reset()
        self.announce()

    def stop(self) -> None:
        """Publish zero, see that it arrives, and end the periods."""
        if not self.running:
            return
        self.running = False
        self._tick_timer.cancel()
        self._guard_timer.cancel()
        self._publish_zero()
        self._command_pub.wait_for_all_acked(Duration(seconds=FLUSH_S))
        self.announce()

    def publish_last_zero(self) -> None:
        """Publish zero without any of this object's buffers, which another thread may be using."""
        zero = Float64MultiArray(data=[0.0] * len(self.control.zero))
        self._command_pub.publish(zero)
        self._command_pub.wait_for_all_acked(Duration(seconds=FLUSH_S))

    def destroy(self) -> None:
        """Give back all topics, services and timers."""
        self.record(None)
        self._watch.close()
        for timer in self._timers:
            self._node.destroy_timer(timer)
        for subscription in self._subscriptions:
            self._node.destroy_subscription(subscription)
        for service in self._services:
            self._node.destroy_service(service)
        for publisher in self._publishers:
            self._node.destroy_publisher(publisher)

    def _safely(self, act: Callable[..., None]) -> Callable[..., None]:
        """`act`, with every exception made a fault: zero at once, the reason in the status."""

        def call(*arguments: Any) -> None:
            try:
                act(*arguments)
            except Exception as error:
                self._fail(error)

        return call

    def _fail(self, error: Exception) -> None:
        self.control.fail(error)
        if self.running:
            self._publish_zero()
        self.announce()

    def _tick_if_due(self, late: float) -> None:
        """Begin a control period if it is due, or has been for the share `late` of a period."""
        start_s = monotonic()
        elapsed_s = self._period.begin(self._clock.now().nanoseconds, start_s, late)
        if elapsed_s is None:
            return
        self._publish_command(self.control.tick(start_s, elapsed_s))
        published_s = monotonic()
        if self._recorder is not None:
            self._recorder.tick(self._command)
        self._statistics.add(start_s, published_s, self.control.watchdog.age_s(start_s))

    def _publish_command(self, joint_vel: NDArray[np.float64]) -> None:
        self._command_view[:] = joint_vel
        self._watch.sent()
        self._command_pub.publish(self._command)

    def _publish_zero(self) -> None:
        self._publish_command(self.control.stop())

    def _on_joint_state(self, message: JointState) -> None:
        if not self.running:
            return
        stamp = message.header.stamp
        received = self.control.receive(
            message.name, message.position, monotonic(), stamp.sec + 1e-9 * stamp.nanosec
        )
        if received is Received.FRESH:
            self._guard_timer.reset()
            self._tick_if_due(-EARLY)
        elif received is Received.INVALID:
            self._publish_zero()

    def _on_guard(self) -> None:
        """The joint state reached its age limit: stop now, between two periods."""
        self._guard_timer.cancel()
        if self.running:
            self._publish_zero()

    def _on_goal(self, effector: str, message: PoseStamped) -> None:
        point = message.pose.position
        if self.running:
            position = (point.x, point.y, point.z)
            self.control.set_goal(effector, message.header.frame_id, position, monotonic())
        else:
            self.control.reject_goal(effector, "the controller is not active")
        self._announce_soon()

    def _halt(self) -> str:
        self.control.watchdog.halted = True
        if self.running:
            self._publish_zero()
        self.announce()
        return "halted"

    def _resume(self) -> str:
        self._resumed_pub.publish(Empty())  # before the next command, for the command watchdog
        self.control.resume()
        self.announce()
        return "resumed"

    def _clear_goals(self) -> str:
        self.control.clear_goals()
        self.announce()
        return "goals cleared"

    def _clear_goal(self, effector: str) -> str:
        self.control.clear_goal(effector)
        self.announce()
        return f"goal of '{effector}' cleared"

    def _answer(
        self, act: Callable[[], str], _: Any, response: Trigger.Response
    ) -> Trigger.Response:
        try:
            response.message, response.success = act(), True
        except Exception as error:
            self._fail(error)
            response.message, response.success = str(error), False
        return response

    def _state(self) -> tuple[str, str]:
        now_s = monotonic()
        state, reason = self.control.state(now_s), self.control.reason(now_s)
        if not reason and self._period.standing_s(now_s):
            reason = "/clock stands (use_sim_time): control periods follow a steady clock"
        return state.value, reason

    def _announce_soon(self) -> None:
        """Publish the status now, or a little later if there was one a moment ago."""
        if monotonic() - self._announced_s > STATUS_SPACING_S:
            self.announce()
        elif self._soon_timer.is_canceled():
            self._soon_timer.reset()

    def announce(self) -> None:
        """Publish the status now."""
        self._soon_timer.cancel()
        self._announced_s = monotonic()
        state, reason, has_valid_state = "INACTIVE", "", False
        if self.running:
            state, reason = self._state()
            has_valid_state = self.control.watchdog.sees(monotonic())
        problem = self._recorder.problem if self._recorder is not None else ""
        status = controller_status(
            self.control, state, reason, self.tolerance, has_valid_state, problem
        )
        name = self._node.get_fully_qualified_name()
        self._status = status_message(name, self.control.robot.name, status)
        self._status_pub.publish(self._status)
        if self._recorder is not None:
            self._recorder.status(self._status)

    def _on_status(self) -> None:
        if not self.running:
            return
        if other := self._watch.other():
            self._fail(CommandConflict(other))
        self.announce()
        state, reason = self._state()
        if (state, reason) != self._logged:
            self._logged = (state, reason)
            if reason:
                self._node.get_logger().warning(f"{state}: {reason}")
            else:
                self._node.get_logger().info(state)
        if self._markers_pub.get_subscription_count():
            self._markers_pub.publish(markers(self.control))

    def _on_diagnostics(self) -> None:
        status = diagnostics_status(self._status, self._statistics.values())
        message = DiagnosticArray(status=[status])
        message.header.stamp = self._node.get_clock().now().to_msg()
        self._diagnostics_pub.publish(message)
