"""Status, diagnostics and markers of a configured controller."""

from collections.abc import Callable
from time import monotonic

from diagnostic_msgs.msg import DiagnosticArray
from rclpy.node import Node
from rclpy.publisher import Publisher
from visualization_msgs.msg import MarkerArray

from polyreach_nodes.client.topics import MARKERS
from polyreach_nodes.ros.control_loop import ControlLoop
from polyreach_nodes.ros.description_check import DescriptionCheck
from polyreach_nodes.ros.entities import Entities
from polyreach_nodes.ros.markers import markers
from polyreach_nodes.ros.reports import (
    controller_status,
    diagnostics_status,
    status_message,
)

STATUS_PERIOD_S = 0.2
STATUS_SPACING_S = 0.02  # [s] between two of the statuses that goals bring about
DIAGNOSTICS_PERIOD_S = 1.0


class CommandConflict(RuntimeError):
    """Another node commands the same robot."""


class StatusPublisher:
    """Publishes what the control loop does, regularly and on request; logs changes of the state."""

    def __init__(
        self,
        node: Node,
        entities: Entities,
        loop: ControlLoop,
        publisher: Publisher,
        description: DescriptionCheck,
        on_conflict: Callable[[CommandConflict], None],
    ) -> None:
        """publisher: of the status. on_conflict: called if another node commands the robot."""
        self._node = node
        self._loop = loop
        self._publisher = publisher
        self._description = description
        self._on_conflict = on_conflict
        self._announced_s = 0.0
        self._logged = ("", "")
        self._diagnostics_pub = entities.publisher(DiagnosticArray, "/diagnostics", 1)
        self._markers_pub = entities.publisher(MarkerArray, f"~/{MARKERS}", 1)
        self._soon_timer = entities.timer(STATUS_SPACING_S, self.announce)
        entities.timer(STATUS_PERIOD_S, self._on_status, autostart=True)
        entities.timer(DIAGNOSTICS_PERIOD_S, self._on_diagnostics, autostart=True)

    def announce_soon(self) -> None:
        """Publish the status now, or a little later if there was one a moment ago."""
        if monotonic() - self._announced_s > STATUS_SPACING_S:
            self.announce()
        elif self._soon_timer.is_canceled():
            self._soon_timer.reset()

    def announce(self) -> None:
        """Publish the status now."""
        self._soon_timer.cancel()
        self._announced_s = monotonic()
        name, control = self._node.get_fully_qualified_name(), self._loop.control
        state, reason, has_valid_state = "INACTIVE", "", False
        if self._loop.running:
            state, reason = self._state()
            has_valid_state = control.watchdog.has_valid_state(monotonic())
        recorder = self._loop.recorder
        status = controller_status(
            control,
            state,
            reason,
            has_valid_state,
            recorder.problem if recorder is not None else "",
            self._description.difference,
        )
        self._status = status_message(name, control.robot.name, status)
        self._publisher.publish(self._status)
        if recorder is not None:
            recorder.status(self._status)

    def _state(self) -> tuple[str, str]:
        now_s, control = monotonic(), self._loop.control
        state, reason = control.state(now_s), control.reason(now_s)
        if not reason and self._loop.clock_stands():
            reason = "/clock stands (use_sim_time): control periods follow a steady clock"
        return state.value, reason

    def _on_status(self) -> None:
        if not self._loop.running:
            return
        if other := self._loop.conflicts.conflict():
            self._on_conflict(CommandConflict(other))
        self.announce()
        state, reason = self._state()
        if (state, reason) != self._logged:
            self._logged = (state, reason)
            if reason:
                self._node.get_logger().warning(f"{state}: {reason}")
            else:
                self._node.get_logger().info(state)
        if self._markers_pub.get_subscription_count():
            self._markers_pub.publish(markers(self._loop.control))

    def _on_diagnostics(self) -> None:
        status = diagnostics_status(self._status, self._loop.statistics.values())
        message = DiagnosticArray(status=[status])
        message.header.stamp = self._node.get_clock().now().to_msg()
        self._diagnostics_pub.publish(message)
