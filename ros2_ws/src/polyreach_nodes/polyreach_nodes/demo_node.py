"""Node `polyreach_demo`: sends sets of reachable goals and measures how well they are reached."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from time import monotonic
from typing import Any

import numpy as np
import rclpy
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from geometry_msgs.msg import PoseStamped
from numpy.typing import NDArray
from rcl_interfaces.msg import ParameterDescriptor
from rclpy.exceptions import ParameterException
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.signals import SignalHandlerOptions
from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text
from sensor_msgs.msg import JointState

from polyreach_description import load_robot
from polyreach_description.closed_output import end_with_output
from polyreach_description.printable import printable
from polyreach_nodes.control.watchdog import MOVING_STATES, State
from polyreach_nodes.demo.demo import READY_S, DemoResult
from polyreach_nodes.ros.middleware import leave_shared_memory
from polyreach_nodes.ros.qos import LATCHED
from polyreach_nodes.ros.spin import StopRequest

NEWEST = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
SETTLE_S = 0.5  # [s] for which all errors must stay within the tolerance
SAMPLE_S = 0.04  # [s] between two looks at the errors
RESEND_S = 0.5

Vector = NDArray[np.float64]


class Stopped(Exception):
    """A signal ended the demo."""


class NotReady(RuntimeError):
    """There is no controller or simulator to talk to."""


class DemoNode(Node):
    """Sends goals, and judges them by the joint states alone."""

    def __init__(self, stopped: Callable[[], bool]) -> None:
        super().__init__("polyreach_demo")
        self._stopped = stopped
        self.robot = load_robot(
            self._parameter("robot", "planar8", "shipped name or path of a robot.yaml")
        )
        controller = self._parameter(
            "controller", "polyreach_controller", "name of the controller node"
        )
        self.seconds: float = self._parameter("seconds", 60.0, "[s] for all goals together")
        self.goal_sets: int = self._parameter(
            "goal_sets", 5, "sets of goals, one per effector each"
        )
        self.seed: int = self._parameter("seed", 0, "of the goals")
        self.tolerance: float = self._parameter(
            "tolerance", 0.02, "[m] below which a goal counts as reached"
        )
        self.picture: str = self._parameter("picture", "", "path of a PNG of the motion")
        self.json: str = self._parameter("json", "", "path of the result as JSON")
        watchdog = self._parameter("watchdog", False, "commands pass a command watchdog")
        self.live: bool = self._parameter("live", True, "show errors and result on the terminal")
        if self.goal_sets < 1 or not self.seconds > 0 or not self.tolerance > 0:
            raise ValueError("goal_sets, seconds and tolerance must be above 0")
        self.joint_pos: Vector | None = None
        self.period_ms: dict[str, float] = {}
        self.status: DiagnosticStatus | None = None
        self._controller = controller
        self._relays = not watchdog
        self._watchdog = f"{self.get_namespace().rstrip('/')}/polyreach_command_watchdog"
        self._index = {name: i for i, name in enumerate(self.robot.joint_names)}
        self._goal_pubs = [
            self.create_publisher(PoseStamped, f"{controller}/goals/{effector}", 10)
            for effector in self.robot.effector_names
        ]
        self.create_subscription(JointState, "joint_states", self._on_joint_state, NEWEST)
        self.create_subscription(DiagnosticStatus, f"{controller}/status", self._on_status, LATCHED)
        self.create_subscription(DiagnosticArray, "/diagnostics", self._on_diagnostics, 10)
        self._executor = SingleThreadedExecutor()
        self._executor.add_node(self)

    def _parameter(self, name: str, default: Any, text: str) -> Any:
        return self.declare_parameter(
            name, default, ParameterDescriptor(description=text, read_only=True)
        ).value

    def _on_joint_state(self, message: JointState) -> None:
        found = {
            self._index[n]: p
            for n, p in zip(message.name, message.position, strict=False)
            if n in self._index
        }
        if len(found) == len(self._index):
            self.joint_pos = np.array([found[i] for i in range(len(found))])

    def _on_status(self, message: DiagnosticStatus) -> None:
        self.status = message

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        for status in message.status:
            if status.name == self._watchdog:
                self._relays = status.message == "RELAYING"
            if self.status is not None and status.name == self.status.name:
                self.period_ms = {
                    pair.key: float(pair.value)
                    for pair in status.values
                    if pair.key.startswith("loop period")
                }

    def value(self, key: str) -> str:
        """A value of the controller's last status; '' if there is none."""
        pairs = self.status.values if self.status else []
        return next((pair.value for pair in pairs if pair.key == key), "")

    def spin(self, seconds: float, done: Callable[[], bool] = lambda: False) -> bool:
        """Handle messages for a time, or until done(); whether it is done."""
        end_s = monotonic() + seconds
        while not done():
            if self._stopped():
                raise Stopped
            if (left_s := end_s - monotonic()) <= 0:
                return False
            self._executor.spin_once(timeout_sec=min(left_s, 0.1))
        return True

    def wait_ready(self) -> None:
        """Wait for joint states, a controller that takes goals, and the watchdog, if there is one.

        Raises NotReady.
        """
        if not self.spin(READY_S, lambda: self.joint_pos is not None):
            raise NotReady(f"no joint_states of robot '{self.robot.name}' within {READY_S:g} s")
        if not self.spin(READY_S, lambda: self.value("state") in (State.IDLE, *MOVING_STATES)):
            status = (
                f"its status is '{self.status.message}'"
                if self.status
                else "it publishes no status"
            )
            raise NotReady(
                f"controller '{self._controller}' is not ready after {READY_S:g} s: {status}"
            )
        if not self.spin(
            READY_S, lambda: all(pub.get_subscription_count() for pub in self._goal_pubs)
        ):
            raise NotReady(f"controller '{self._controller}' does not listen to goals")
        # DDS may find a topic seconds later than others, and a motion that comes first is a trip
        if not self.spin(READY_S, lambda: self._relays):
            raise NotReady(f"'{self._watchdog}' relays no commands after {READY_S:g} s")

    def errors(self, goals: Vector) -> Vector:
        """Distances (E,) [m] of the effectors from goals (E, 3)."""
        assert self.joint_pos is not None
        distances: Vector = np.linalg.norm(
            self.robot.forward_kinematics(self.joint_pos) - goals, axis=-1
        )
        return distances

    def send(self, goals: Vector) -> None:
        """Publish goals (E, 3) [m, base frame], one per effector."""
        for publisher, goal in zip(self._goal_pubs, goals, strict=True):
            message = PoseStamped()
            message.header.frame_id = self.robot.base_frame
            message.header.stamp = self.get_clock().now().to_msg()
            message.pose.position.x, message.pose.position.y, message.pose.position.z = (
                goal.tolist()
            )
            message.pose.orientation.w = 1.0
            publisher.publish(message)

    def taken(self, goals: Vector) -> bool:
        """Whether the controller's status shows these goals."""
        texts = [" ".join(f"{value:.6f}" for value in goal) for goal in goals]
        held = [self.value(f"goal/{effector}") for effector in self.robot.effector_names]
        return texts == held

    def reach(
        self, goals: Vector, seconds: float, show: Callable[[Vector, float], None]
    ) -> tuple[Vector, Vector]:
        """Send goals (E, 3), wait until all are reached and stay so; errors (E,), path (T, nu)."""
        start_s = monotonic()
        settled_s, sent_s = start_s, -np.inf
        path = []
        while True:
            now_s = monotonic()
            if now_s - sent_s > RESEND_S and not self.taken(goals):
                self.send(goals)
                sent_s = now_s
            errors = self.errors(goals)
            path.append(self.joint_pos)
            show(errors, now_s - start_s)
            if (errors > self.tolerance).any():
                settled_s = now_s
            if now_s - settled_s >= SETTLE_S or now_s - start_s >= seconds:
                return errors, np.array(path)
            self.spin(SAMPLE_S)

    def run(self, console: Console) -> DemoResult:
        """All goal sets; writes the picture and the JSON file that the parameters ask for."""
        self.wait_ready()
        rng = np.random.default_rng(self.seed)
        configurations = self.robot.sample_configuration(rng, self.goal_sets)
        goal_sets = np.array([self.robot.forward_kinematics(q) for q in configurations])
        board = Board(self.robot.effector_names, self.goal_sets, self.tolerance)
        all_errors, all_paths, times, messages = [], [], [], []
        with Live(board.table(), console=console, refresh_per_second=8, transient=False) as live:
            for number, goals in enumerate(goal_sets):

                def show(errors: Vector, elapsed_s: float, number: int = number) -> None:
                    live.update(board.table(number, errors, elapsed_s))

                start_s = monotonic()
                errors, path = self.reach(goals, self.seconds / self.goal_sets, show)
                times.append(monotonic() - start_s)
                messages.append(self.status.message if self.status else "no status")
                board.finish(errors, times[-1])
                all_errors.append(errors)
                all_paths.append(path)
            live.update(board.table())
        if not console.is_terminal:
            console.print()
        self.spin(1.5, lambda: "loop period p99 [ms]" in self.period_ms)
        result = DemoResult(
            robot=self.robot.name,
            effectors=list(self.robot.effector_names),
            errors_mm=[[float(error) * 1e3 for error in errors] for errors in all_errors],
            tolerance_mm=self.tolerance * 1e3,
            set_seconds=times,
            set_status=messages,
            goals=goal_sets.shape[0] * goal_sets.shape[1],
            median_error_mm=float(np.median(all_errors)) * 1e3,
            period_p50_ms=self.period_ms.get("loop period p50 [ms]", float("nan")),
            period_p99_ms=self.period_ms.get("loop period p99 [ms]", float("nan")),
        )
        if self.json:
            Path(self.json).write_text(json.dumps(result.to_dict(), indent=2) + "\n")
        if self.picture:
            from polyreach_nodes.demo.plots import draw_motion

            draw_motion(Path(self.picture), self.robot, all_paths, goal_sets, result)
        return result


class Board:
    """The table on the terminal: a row per goal set, errors in millimetres."""

    def __init__(self, effectors: tuple[str, ...], goal_sets: int, tolerance: float) -> None:
        self._effectors, self._goal_sets, self._tolerance = effectors, goal_sets, tolerance
        self._rows: list[tuple[Vector, float]] = []

    def finish(self, errors: Vector, seconds: float) -> None:
        """Keep a set's last errors (E,) [m]."""
        self._rows.append((errors, seconds))

    def table(
        self, number: int | None = None, errors: Vector | None = None, seconds: float = 0.0
    ) -> Table:
        """The sets done, and the one at work."""
        table = Table(title="distance to goal [mm]", title_justify="left")
        table.add_column("set", justify="right")
        for effector in self._effectors:
            table.add_column(effector, justify="right")
        table.add_column("time [s]", justify="right")
        rows = (
            [*self._rows, (errors, seconds)]
            if errors is not None and number is not None
            else self._rows
        )
        for index, (row, elapsed_s) in enumerate(rows):
            cells = [
                Text(f"{error * 1e3:.1f}", "green" if error <= self._tolerance else "yellow")
                for error in row
            ]
            table.add_row(f"{index + 1}/{self._goal_sets}", *cells, f"{elapsed_s:.1f}")
        return table


def main(argv: list[str] | None = None) -> int:
    """Run the scenario; returns 0 if all goals were reached, 1 if not, 2 if it could not run."""
    with end_with_output():
        return _run(argv)


def _run(argv: list[str] | None) -> int:
    stopping = StopRequest()
    leave_shared_memory()
    rclpy.init(
        args=sys.argv if argv is None else argv, signal_handler_options=SignalHandlerOptions.NO
    )
    node: DemoNode | None = None
    try:
        node = DemoNode(stopping.is_set)
        result = node.run(Console(quiet=not node.live, markup=False, emoji=False))
    except Stopped:
        print("polyreach demo: interrupted", file=sys.stderr)
        return 2
    except (NotReady, ParameterException, ValueError, OSError) as error:
        print(f"polyreach demo: {printable(str(error))}", file=sys.stderr)
        return 2
    finally:
        if node is not None:
            node.destroy_node()
        rclpy.shutdown()
    if node.live:
        if node.picture:
            print(f"picture of the motion: {node.picture}")
        print(*map(printable, result.missed()), result.line(), sep="\n", flush=True)
    return 0 if result.success else 1


if __name__ == "__main__":
    sys.exit(main())
