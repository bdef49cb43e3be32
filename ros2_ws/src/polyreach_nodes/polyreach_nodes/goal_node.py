"""Send one goal to a running controller: `goal_node EFFECTOR X Y Z [--rpy ... | --quat ...]`."""

import argparse
import math
import sys
from collections.abc import Callable, Sequence
from time import monotonic

import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.utilities import remove_ros_args

from polyreach_description.closed_output import end_with_output
from polyreach_description.orientation import from_rpy
from polyreach_description.printable import PrintableError
from polyreach_nodes.client.controller_client import ControllerClient
from polyreach_nodes.client.sent_goals import SentGoals
from polyreach_nodes.client.status import EffectorStatus, error_text
from polyreach_nodes.client.topics import HOLD, clear_goal_service, goal_topic
from polyreach_nodes.control.watchdog import STUCK_STATES
from polyreach_nodes.parameters import ANGLE_TOLERANCE
from polyreach_nodes.ros.middleware import leave_shared_memory
from polyreach_nodes.ros.spin import spin_until

RESEND_S = 0.5  # [s] after which a goal that the status does not count as received is sent again


class GoalError(PrintableError, RuntimeError):
    """A goal that could not be sent, or was rejected, or was not reached."""


class GoalNode(Node):
    """Publishes a goal and follows the controller's status."""

    def __init__(self, effector: str, controller: str) -> None:
        super().__init__("polyreach_goal")
        self.effector = effector
        self.client = ControllerClient(self, controller)
        self.client.follow_policy()
        self.client.advertise_goals([effector])
        self._sent = SentGoals(self.client)
        self._executor = SingleThreadedExecutor()
        self._executor.add_node(self)

    def wait(self, done: Callable[[], bool], timeout_s: float) -> bool:
        """Spin until done() or the timeout [s of wall time]; whether it is done."""
        return spin_until(self._executor, done, timeout_s)

    def effector_status(self) -> EffectorStatus:
        """What the controller reports of the effector."""
        return self.client.status.effector(self.effector)

    def is_within(self, tolerance: float, angle_tolerance: float) -> bool:
        """Whether the effector is within the tolerances [m], [rad] of its goal."""
        status = self.effector_status()
        angle = status.angle or 0.0
        return status.error is not None and status.error <= tolerance and angle <= angle_tolerance

    def send(
        self,
        position: Sequence[float],
        orientation: Sequence[float] | None,
        frame: str,
        timeout_s: float,
        hold: bool = False,
    ) -> None:
        """Send the goal, a position [m] and a unit quaternion x y z w where the effector's goals
        have one, and wait until the controller received it. hold: before, hold the effectors that
        have no goal; if the goal is not taken, they are released.

        Raises GoalError if it does not in timeout_s, if the orientation is missing or too much, or
        if the controller rejects the goal, or to hold.
        """
        client = self.client
        self.wait(self._is_connected, timeout_s)
        if client.effectors and self.effector not in client.effectors:
            legal = ", ".join(client.effectors)
            raise GoalError(
                f"unknown effector '{self.effector}' (controller '{client.controller}' has: "
                f"{legal})"
            )
        if not client.takes_goals(self.effector):
            state = f"; its status is '{client.status.message}'" if client.status.state else ""
            raise GoalError(
                f"no controller '{client.controller}' listens on "
                f"{client.name}/{goal_topic(self.effector)}{state}"
            )
        kind = client.goal_kinds.get(self.effector, "position")
        if kind == "position" and orientation is not None:
            raise GoalError(
                f"the goal of '{self.effector}' is a position: leave out --rpy and --quat"
            )
        if kind != "position" and orientation is None:
            raise GoalError(
                f"the goal of '{self.effector}' has an orientation ({kind}): give --rpy or --quat"
            )
        if hold:
            self._hold_others(timeout_s)
        try:
            self._send(position, orientation, frame, timeout_s)
        except GoalError:
            self.wait(lambda: self._sent.clear(monotonic()), timeout_s)
            raise

    def _hold_others(self, timeout_s: float) -> None:
        client, sent = self.client, self._sent
        client.use_services([HOLD, *map(clear_goal_service, client.effectors)])
        done = self.wait(
            lambda: sent.hold_others(monotonic()) or bool(sent.hold_refusal), timeout_s
        )
        if sent.hold_refusal:
            raise GoalError(sent.hold_refusal)
        if not done:
            raise GoalError(
                f"controller '{client.controller}' did not hold its effectors in {timeout_s:g} s"
            )

    def _send(
        self,
        position: Sequence[float],
        orientation: Sequence[float] | None,
        frame: str,
        timeout_s: float,
    ) -> None:
        client = self.client
        received = self.effector_status().goals_received

        def is_received() -> bool:
            return self.effector_status().goals_received != received

        end_s = monotonic() + timeout_s
        while not is_received():
            if (left_s := end_s - monotonic()) <= 0.0:
                raise GoalError(
                    f"controller '{client.controller}' did not answer in {timeout_s:g} s"
                )
            # a message that is sent just after both sides met may be lost
            stamp_ns = 0 if frame else None  # the latest transform, for a frame of TF
            client.send_goal(self.effector, position, frame, orientation, stamp_ns)
            self.wait(is_received, min(RESEND_S, left_s))
        if client.status.rejected_effector == self.effector:
            raise GoalError(client.status.rejected)

    def _is_connected(self) -> bool:
        """Whether policy and status are known, and the controller takes goals of the effector."""
        client = self.client
        if not client.effectors or not client.status.state:
            return False
        return self.effector not in client.effectors or client.takes_goals(self.effector)

    def wait_reached(self, tolerance: float, angle_tolerance: float, timeout_s: float) -> None:
        """Wait until the effector is within the tolerances [m], [rad] of its goal.

        Raises GoalError after timeout_s, or when the controller reports no progress.
        """
        start_s = monotonic()

        def reached() -> bool:
            return self.is_within(tolerance, angle_tolerance)

        self.wait(lambda: reached() or self._is_stuck(), timeout_s)
        if not reached():
            status = self.effector_status()
            error = math.inf if status.error is None else status.error
            reason = f" ({self.client.status.message})" if self._is_stuck() else ""
            raise GoalError(
                f"'{self.effector}' is {error_text(error, status.angle)} "
                f"from its goal after {monotonic() - start_s:.3g} s{reason}"
            )

    def _is_stuck(self) -> bool:
        return self.client.status.state in STUCK_STATES


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Parse the command line; exits with status 2 and one sentence if it is wrong."""
    parser = argparse.ArgumentParser(
        prog="polyreach goal", description="Send a goal to a running controller."
    )
    parser.add_argument("effector", help="Name of the effector, for example left_hand.")
    for axis in "xyz":
        parser.add_argument(axis, type=_coordinate, help=f"{axis} of the goal [m, in its frame].")
    orientation = parser.add_mutually_exclusive_group()
    orientation.add_argument(
        "--rpy",
        nargs=3,
        type=_coordinate,
        metavar=("ROLL", "PITCH", "YAW"),
        help="Orientation, for effectors whose goal has one: rotations about the fixed axes x, y "
        "and z [rad].",
    )
    orientation.add_argument(
        "--quat",
        nargs=4,
        type=_coordinate,
        metavar=("X", "Y", "Z", "W"),
        help="The same as a unit quaternion.",
    )
    parser.add_argument(
        "--frame",
        default="",
        help="Frame of the goal: the base frame or empty (default), a link or effector of the "
        "robot, which the goal follows, or a frame of TF, see the controller's parameter use_tf.",
    )
    parser.add_argument(
        "--hold",
        action="store_true",
        help="Hold the effectors that have no goal where they are, until the goal is cleared.",
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
    parser.add_argument(
        "--angle-tolerance",
        type=float,
        default=ANGLE_TOLERANCE,
        help="Angle below which it is reached [rad], for --wait (default: %(default)s).",
    )
    return parser.parse_args([_escaped(argument) for argument in arguments])


def _escaped(argument: str) -> str:
    """The argument; a space before a number such as -1e-3, for argparse takes it for an option."""
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
    """Send one goal; returns 0 if the controller accepted it (and, with --wait, reached it)."""
    with end_with_output():
        return _send(list(sys.argv if argv is None else argv))


def _send(words: list[str]) -> int:
    options = parse(remove_ros_args(words)[1:])
    leave_shared_memory()
    rclpy.init(args=words)
    node = GoalNode(options.effector, options.controller)
    try:
        position = (options.x, options.y, options.z)
        orientation = from_rpy(*options.rpy) if options.rpy else options.quat
        node.send(position, orientation, options.frame, options.timeout, options.hold)
        if options.wait is not None:
            node.wait_reached(options.tolerance, options.angle_tolerance, options.wait)
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
