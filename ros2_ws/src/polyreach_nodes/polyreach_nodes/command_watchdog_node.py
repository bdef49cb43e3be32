"""Node `polyreach_command_watchdog`: relays the controller's commands, and zero when they stop.

It is a process of its own, because a controller that is killed, paused or blocked cannot publish
zero. To stay small and fast, it does not import NumPy (so it has no services: rclpy's import it)
and reads messages in their serialised form.
"""

import gc
import sys
from time import monotonic

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rclpy.clock import Clock, ClockType
from rclpy.duration import Duration
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.qos import QoSProfile
from std_msgs.msg import Empty, Float64MultiArray, String

from polyreach_nodes.client.topics import COMMANDS, LATCHED, POLICY_METADATA, RESUMED
from polyreach_nodes.control.command_relay import CommandRelay, Output, State
from polyreach_nodes.parameters import COMMAND_PERIODS, WatchdogParameters
from polyreach_nodes.ros.command_message import CommandCodec, read_limits
from polyreach_nodes.ros.conflict_detector import ConflictDetector
from polyreach_nodes.ros.declare_parameters import declare_parameters
from polyreach_nodes.ros.spin import run_node

CHECK_PERIOD_S = 0.2  # between two checks for other publishers and dropped commands
DIAGNOSTICS_PERIOD_S = 1.0
FLUSH_S = 0.2  # [s] for the last zero to arrive
LEVELS = {
    State.WAITING: DiagnosticStatus.WARN,
    State.IDLE: DiagnosticStatus.OK,
    State.RELAYING: DiagnosticStatus.OK,
    State.TRIPPED: DiagnosticStatus.ERROR,
}


class CommandWatchdogNode(Node):
    """Relays `<controller>/commands` to `commands`; CommandRelay decides what passes."""

    def __init__(self) -> None:
        no_services = [Parameter("start_type_description_service", value=False)]
        super().__init__(
            "polyreach_command_watchdog",
            start_parameter_services=False,
            parameter_overrides=no_services,
        )
        self._settings = declare_parameters(self, WatchdogParameters)
        self._relay: CommandRelay | None = None  # before limits are known
        self._codec = CommandCodec(0)
        self._problem = ""  # with the metadata
        self._conflict = ""  # another publisher on the hardware's topic
        self._announced = (State.WAITING, 0, "")
        self._dropped = 0  # in the last diagnostics
        self._publisher = self.create_publisher(Float64MultiArray, "commands", 1)
        self._conflicts = ConflictDetector(self, self._publisher)
        self._diagnostics_pub = self.create_publisher(DiagnosticArray, "/diagnostics", 10)
        wall = Clock(clock_type=ClockType.STEADY_TIME)
        self._deadline_timer = self.create_timer(
            1.0, self._on_deadline, clock=wall, autostart=False
        )
        # in this order: what is ready at the same moment is handled in order of creation
        reliable = QoSProfile(depth=1)
        self.create_subscription(
            Empty, f"{self._settings.controller}/{RESUMED}", self._on_resumed, reliable, raw=True
        )
        self.create_subscription(
            Float64MultiArray,
            f"{self._settings.controller}/{COMMANDS}",
            self._on_command,
            reliable,
            raw=True,
        )
        self.create_subscription(
            String,
            f"{self._settings.controller}/{POLICY_METADATA}",
            self._on_metadata,
            LATCHED,
            raw=True,
        )
        self.create_timer(CHECK_PERIOD_S, self._on_check, clock=wall)
        self.create_timer(DIAGNOSTICS_PERIOD_S, self._publish_diagnostics, clock=wall)
        if self._settings.velocity_limits and self._settings.timeout:
            self._start(self._settings.velocity_limits, self._settings.timeout)
        gc.collect()
        gc.freeze()

    def _start(self, limits: tuple[float, ...], timeout_s: float) -> None:
        """Let commands within the limits pass; repeat zero until then."""
        self._relay = CommandRelay(limits, timeout_s, monotonic())
        self._codec = CommandCodec(len(limits))
        self._deadline_timer.timer_period_ns = round(1e9 * self._relay.deadline_s)
        self._deadline_timer.reset()
        self._publish(self._codec.zero)

    def _on_metadata(self, data: bytes) -> None:
        """Take the first limits, and report later ones that differ: a watchdog serves one robot."""
        try:
            limits, rate = read_limits(data)
            limits = self._settings.velocity_limits or limits
            timeout_s = self._settings.timeout or COMMAND_PERIODS / rate
            if self._relay is None:
                self._start(limits, timeout_s)
            elif (limits, timeout_s) != (self._relay.limits, self._relay.timeout_s):
                raise ValueError("metadata of another robot: restart the watchdog for this robot")
            self._problem = ""
        except ValueError as error:
            self._problem = str(error)
        self._announce()

    def _on_command(self, data: bytes) -> None:
        relay = self._relay
        if relay is None:
            return
        output = relay.command(self._codec.read(data), monotonic())
        if output is Output.COMMAND:
            self._publish(data)
            self._deadline_timer.reset()
        elif output is Output.ZERO:
            self._publish(self._codec.zero)
        if relay.state is not self._announced[0]:
            self._announce()

    def _on_deadline(self) -> None:
        assert self._relay is not None
        if self._relay.deadline(monotonic()) is Output.ZERO:
            self._publish(self._codec.zero)
        if self._relay.state is State.IDLE:
            self._deadline_timer.cancel()
        self._announce()

    def _on_resumed(self, _: bytes) -> None:
        if self._relay is not None:
            self._relay.resumed(monotonic())
            self._announce()

    def _publish(self, data: bytes) -> None:
        self._conflicts.count_sent()
        self._publisher.publish(data)

    def _on_check(self) -> None:
        """Trip if another node commands the hardware; report dropped commands."""
        conflict = self._conflicts.conflict()
        relay = self._relay
        if conflict and relay is not None and relay.state is State.RELAYING:
            relay.trip(conflict, monotonic())
            self._publish(self._codec.zero)
        if conflict or self.count_publishers(self._publisher.topic_name) < 2:
            self._conflict = conflict
        self._announce()
        if relay is not None and sum(relay.dropped.values()) > self._dropped:
            self._publish_diagnostics()

    def _announce(self) -> None:
        """Publish diagnostics, and log, if the state or its reason has changed."""
        relay = self._relay
        state = State.WAITING if relay is None else relay.state
        present = (state, 0 if relay is None else relay.trips, self._problem or self._conflict)
        if present == self._announced:
            return
        self._announced = present
        status = self._publish_diagnostics()
        if status.level == DiagnosticStatus.OK:
            self.get_logger().info(status.message)
        else:
            self.get_logger().warning(status.message)

    def _publish_diagnostics(self) -> DiagnosticStatus:
        relay, values = self._relay, {"controller": self._settings.controller}
        state, reason, level = State.WAITING, "no velocity limits", DiagnosticStatus.WARN
        if relay is not None:
            state, level = relay.state, LEVELS[relay.state]
            reason = relay.reason if state is State.TRIPPED else ""
            dropped = sum(relay.dropped.values())
            if dropped > self._dropped:
                level = max(level, DiagnosticStatus.WARN)
            self._dropped = dropped
            values |= {
                "timeout": f"{relay.timeout_s:g}",
                "velocity_limits": " ".join(f"{limit:g}" for limit in relay.limits),
                "relayed": str(relay.relayed),
                "trips": str(relay.trips),
                "last trip": relay.reason,
                **{f"dropped, {drop}": str(count) for drop, count in relay.dropped.items()},
            }
        problems = [text for text in (self._problem, self._conflict) if text]
        if problems:
            level = max(level, DiagnosticStatus.WARN)
        words = "; ".join(filter(None, [reason, *(p for p in problems if p != reason)]))
        values = {"state": state.value, **values}
        status = DiagnosticStatus(
            level=level,
            name=self.get_fully_qualified_name(),
            message=f"{state}: {words}" if words else state.value,
            values=[KeyValue(key=key, value=value) for key, value in values.items()],
        )
        message = DiagnosticArray(status=[status])
        message.header.stamp = self.get_clock().now().to_msg()
        self._diagnostics_pub.publish(message)
        return status

    def close(self) -> None:
        """Publish zero and wait for its receipt, if the last command that passed was not zero."""
        if self._relay is not None and self._relay.moving:
            self._publish(self._codec.zero)
            self._publisher.wait_for_all_acked(Duration(seconds=FLUSH_S))


def main(argv: list[str] | None = None) -> int:
    """Run the watchdog until SIGINT or SIGTERM; returns the exit status."""
    return run_node(CommandWatchdogNode, CommandWatchdogNode.close, argv)


if __name__ == "__main__":
    sys.exit(main())
