"""Send one goal to a running controller: `goal_node EFFECTOR X Y Z`."""

import argparse
import json
import math
import sys
from collections.abc import Callable, Sequence
from time import monotonic
from typing import Any

import rclpy
from diagnostic_msgs.msg import DiagnosticStatus
from geometry_msgs.msg import PoseStamped
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.utilities import remove_ros_args
from std_msgs.msg import String

from polyreach_description.closed_output import end_with_output
from polyreach_description.printable import PrintableError
from polyreach_nodes.control.watchdog import STUCK_STATES
from polyreach_nodes.ros.middleware import leave_shared_memory
from polyreach_nodes.ros.qos import LATCHED

RESEND_S = 0.5  # [s] for the controller to tell that it heard a goal


class GoalError(PrintableError, RuntimeError):
    """A goal that could not be sent, or was not taken or reached."""


class GoalNode(Node):
    """Publishes a goal and follows the controller's status."""

    def __init__(self, effector: str, controller: str) -> None:
        super().__init__("polyreach_goal")
        self.effector = effector
        self.controller = controller
        self.metadata: dict[str, Any] | None = None
        self.status: DiagnosticStatus | None = None
        self._publisher = self.create_publisher(PoseStamped, f"{controller}/goals/{effector}", 10)
        self.create_subscription(
            String, f"{controller}/policy_metadata", self._on_metadata, LATCHED
        )
        self.create_subscription(DiagnosticStatus, f"{controller}/status", self._on_status, LATCHED)
        self._executor = SingleThreadedExecutor()
        self._executor.add_node(self)

    def _on_metadata(self, message: String) -> None:
        self.metadata = json.loads(message.data)

    def _on_status(self, message: DiagnosticStatus) -> None:
        self.status = message

    def wait(self, done: Callable[[], bool], timeout_s: float) -> bool:
        """Spin until done() or the timeout [s of wall time]; whether it is done."""
        end_s = monotonic() + timeout_s
        while not done():
            if monotonic() > end_s:
                return False
            self._executor.spin_once(timeout_sec=0.05)
        return True

    def value(self, key: str) -> str:
        """A value of the last status; '' if there is none."""
        pairs = self.status.values if self.status else []
        return next((pair.value for pair in pairs if pair.key == key), "")

    def send(self, position: Sequence[float], frame: str, timeout_s: float) -> None:
        """Send the goal [m] and wait until the controller took it; GoalError if not."""
        self.wait(self._met, timeout_s)
        if self.metadata is not None and self.effector not in self.metadata["effector_names"]:
            legal = ", ".join(self.metadata["effector_names"])
            raise GoalError(
                f"unknown effector '{self.effector}' (controller '{self.controller}' has: {legal})"
            )
        if not self._publisher.get_subscription_count():
            state = f"; its status is '{self.status.message}'" if self.status else ""
            raise GoalError(
                f"no controller '{self.controller}' listens on {self._publisher.topic_name}{state}"
            )
        message = PoseStamped()
        message.header.frame_id = frame
        message.header.stamp = self.get_clock().now().to_msg()
        point = message.pose.position
        point.x, point.y, point.z = position
        message.pose.orientation.w = 1.0
        heard = self.value(f"heard/{self.effector}")
        end_s = monotonic() + timeout_s
        while self.value(f"heard/{self.effector}") == heard:
            if (left_s := end_s - monotonic()) <= 0.0:
                raise GoalError(f"controller '{self.controller}' did not answer in {timeout_s:g} s")
            self._publisher.publish(message)
            # a message that is sent just after both sides met may be lost
            self.wait(lambda: self.value(f"heard/{self.effector}") != heard, min(RESEND_S, left_s))
        rejected = self.value("rejected")
        if rejected.startswith(f"goal of '{self.effector}' "):
            raise GoalError(rejected)

    def _met(self) -> bool:
        if self.metadata is None or self.status is None:
            return False
        known = self.effector in self.metadata["effector_names"]
        return not known or self._publisher.get_subscription_count() > 0

    def wait_reached(self, tolerance: float, timeout_s: float) -> None:
        """Wait until the error is within the tolerance [m].

        GoalError after timeout_s, or when the controller reports that nothing comes nearer.
        """
        start_s = monotonic()
        self.wait(lambda: self.error() <= tolerance or self._stuck(), timeout_s)
        if not self.error() <= tolerance:
            reason = f" ({self.status.message})" if self.status and self._stuck() else ""
            raise GoalError(
                f"'{self.effector}' is {self.error():.3f} m "
                f"from its goal after {monotonic() - start_s:.3g} s{reason}"
            )

    def _stuck(self) -> bool:
        return self.value("state") in STUCK_STATES

    def error(self) -> float:
        """Distance of the effector from its goal [m], as the controller says."""
        return float(self.value(f"error/{self.effector}") or math.inf)


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Read the command line; exits with status 2 and one sentence if it is wrong."""
    parser = argparse.ArgumentParser(
        prog="polyreach goal", description="Send a goal position to a running controller."
    )
    parser.add_argument("effector", help="Name of the effector, for example left_hand.")
    for axis in "xyz":
        parser.add_argument(axis, type=_coordinate, help=f"{axis} of the goal [m, base frame].")
    parser.add_argument(
        "--frame", default="", help="Frame of the position: the base frame, or empty (default)."
    )
    parser.add_argument(
        "--controller",
        default="polyreach_controller",
        help="Name of the controller node (default: %(default)s).",
    )
    parser.add_argument(
        "--timeout",
        type=float,
        default=5.0,
        help="Time to find the controller [s] (default: %(default)s).",
    )
    parser.add_argument(
        "--wait",
        type=float,
        metavar="SECONDS",
        help="Wait until the goal is reached; exit with status 1 if it is not.",
    )
    parser.add_argument(
        "--tolerance",
        type=float,
        default=0.02,
        help="Error below which the goal is reached [m], for --wait (default: %(default)s).",
    )
    return parser.parse_args([_shielded(argument) for argument in arguments])


def _shielded(argument: str) -> str:
    """Keep argparse from taking a number such as -1e-3 for an option."""
    try:
        float(argument)
    except ValueError:
        return argument
    return f" {argument}"


def _coordinate(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise argparse.ArgumentTypeError(f"{text.strip()} is not finite")
    return value


def main(argv: Sequence[str] | None = None) -> int:
    """Send one goal; returns 0 if the controller took it (and, with --wait, reached it)."""
    with end_with_output():
        return _send(list(sys.argv if argv is None else argv))


def _send(words: list[str]) -> int:
    options = parse(remove_ros_args(words)[1:])
    leave_shared_memory()
    rclpy.init(args=words)
    node = GoalNode(options.effector, options.controller)
    try:
        node.send((options.x, options.y, options.z), options.frame, options.timeout)
        if options.wait is not None:
            node.wait_reached(options.tolerance, options.wait)
    except GoalError as error:
        print(f"polyreach goal: {error}", file=sys.stderr)
        return 1
    except (KeyboardInterrupt, rclpy.executors.ExternalShutdownException):
        return 130
    finally:
        node.destroy_node()
        rclpy.try_shutdown()
    return 0


if __name__ == "__main__":
    sys.exit(main())
