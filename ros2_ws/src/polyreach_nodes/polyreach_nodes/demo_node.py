"""Node `polyreach_demo`: sends goal sets that can be reached and measures the errors."""

import sys
from collections.abc import Callable
from pathlib import Path
from time import monotonic
from typing import NamedTuple

import numpy as np
import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from numpy.typing import NDArray
from rclpy.exceptions import ParameterException
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions
from rich.console import Console
from rich.live import Live
from sensor_msgs.msg import JointState

from polyreach_description import load_robot
from polyreach_description.closed_output import end_with_output
from polyreach_description.orientation import orientation_errors, unit_quaternion
from polyreach_description.printable import printable
from polyreach_nodes.client.controller_client import ControllerClient
from polyreach_nodes.client.status import GoalPose, read_timing
from polyreach_nodes.client.topics import NEWEST
from polyreach_nodes.control.watchdog import MOVING_STATES, State
from polyreach_nodes.demo.board import Board
from polyreach_nodes.demo.processes import READY_S
from polyreach_nodes.demo.result import DemoResult
from polyreach_nodes.parameters import DemoParameters
from polyreach_nodes.ros.declare_parameters import declare_parameters
from polyreach_nodes.ros.middleware import leave_shared_memory
from polyreach_nodes.ros.spin import StopRequest, spin_until

SETTLE_S = 0.5  # [s] for which all errors must stay within the tolerance
SAMPLE_S = 0.04  # [s] between two samples of the errors
RESEND_S = 0.5  # [s] after which goals that the status does not show are sent again
TIMING_S = 1.5  # [s] to receive the diagnostics at the end, which come every second
PERIOD_P50, PERIOD_P99 = "loop period p50 [ms]", "loop period p99 [ms]"

Vector = NDArray[np.float64]


class Poses(NamedTuple):
    """A goal for each of E effectors."""

    positions: Vector  # (E, 3) [m, base frame]
    orientations: Vector  # (E, 4) unit quaternions x y z w


class Stopped(Exception):
    """A signal ended the demo."""


class NotReady(RuntimeError):
    """No simulator, controller or command watchdog is ready."""


class DemoNode(Node):
    """Sends goals, and measures the errors by the joint states alone; nu joints, E effectors."""

    def __init__(self, stopped: Callable[[], bool]) -> None:
        super().__init__("polyreach_demo")
        self._stopped = stopped
        self.parameters = parameters = declare_parameters(self, DemoParameters)
        self.robot = load_robot(parameters.robot)
        if parameters.goal_sets < 1 or not parameters.seconds > 0 or not parameters.tolerance > 0:
            raise ValueError("goal_sets, seconds and tolerance must be above 0")
        self._tolerances = np.array([[parameters.tolerance], [parameters.angle_tolerance]])
        self.joint_pos: Vector | None = None
        self.timing: dict[str, float] = {}  # [ms] of the controller, by name
        self._relays = not parameters.watchdog
        self._watchdog = f"{self.get_namespace().rstrip('/')}/polyreach_command_watchdog"
        self._joint_index = {name: i for i, name in enumerate(self.robot.joint_names)}
        self.client = ControllerClient(self, parameters.controller)
        self.client.advertise_goals(self.robot.effector_names)
        self.create_subscription(JointState, "joint_states", self._on_joint_state, NEWEST)
        self.create_subscription(DiagnosticArray, "/diagnostics", self._on_diagnostics, 10)
        self._executor = SingleThreadedExecutor()
        self._executor.add_node(self)

    def _on_joint_state(self, message: JointState) -> None:
        position = {
            self._joint_index[name]: value
            for name, value in zip(message.name, message.position, strict=False)
            if name in self._joint_index
        }
        if len(position) == len(self._joint_index):
            self.joint_pos = np.array([position[index] for index in range(len(position))])

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        for status in message.status:
            if status.name == self._watchdog:
                self._relays = status.message == "RELAYING"
            if status.name == self.client.name:
                self.timing = read_timing({pair.key: pair.value for pair in status.values})

    def spin(self, seconds: float, done: Callable[[], bool] = lambda: False) -> bool:
        """Handle messages for a time, or until done(); whether it is done. Stopped at a signal."""

        def check() -> bool:
            if self._stopped():
                raise Stopped
            return done()

        return spin_until(self._executor, check, seconds)

    def wait_ready(self) -> None:
        """Wait for joint states, a controller that takes goals, and the watchdog, if there is one.

        Raises NotReady.
        """
        client = self.client
        if not self.spin(READY_S, lambda: self.joint_pos is not None):
            raise NotReady(f"no joint_states of robot '{self.robot.name}' within {READY_S:g} s")
        if not self.spin(READY_S, lambda: client.status.state in (State.IDLE, *MOVING_STATES)):
            status = (
                f"its status is '{client.status.message}'"
                if client.status.state
                else "it publishes no status"
            )
            raise NotReady(
                f"controller '{client.controller}' is not ready after {READY_S:g} s: {status}"
            )
        effectors = self.robot.effector_names
        if not self.spin(READY_S, lambda: all(map(client.takes_goals, effectors))):
            raise NotReady(f"controller '{client.controller}' does not listen to goals")
        # DDS may find a topic seconds later than others, and a motion that comes first is a trip
        if not self.spin(READY_S, lambda: self._relays):
            raise NotReady(f"'{self._watchdog}' relays no commands after {READY_S:g} s")

    def errors(self, goals: Poses) -> Vector:
        """Distances [m] and angles [rad] (2, E) of the effectors from their goals."""
        assert self.joint_pos is not None
        robot = self.robot
        positions, orientations = robot.effector_poses(self.joint_pos)
        angles = orientation_errors(
            robot.effector_goals, robot.effector_axes, orientations, goals.orientations
        )
        return np.stack([np.linalg.norm(positions - goals.positions, axis=-1), angles])

    def send(self, goals: Poses) -> None:
        """Publish goals, one per effector."""
        for effector, (position, orientation) in zip(
            self.robot.effector_names, self._sent(goals), strict=True
        ):
            self.client.send_goal(effector, position, self.robot.base_frame, orientation)

    def has_goals(self, goals: Poses) -> bool:
        """Whether the controller's status shows these goals."""
        effectors = map(self.client.status.effector, self.robot.effector_names)
        return [effector.goal_pose for effector in effectors] == self._sent(goals)

    def _sent(self, goals: Poses) -> list[GoalPose]:
        x_y_z, x_y_z_w = map(tuple, goals.positions.tolist()), goals.orientations.tolist()
        return [
            (position, unit_quaternion(orientation) if oriented else None)
            for position, orientation, oriented in zip(
                x_y_z, x_y_z_w, self.robot.oriented, strict=True
            )
        ]

    def reach(
        self, goals: Poses, seconds: float, show: Callable[[Vector, float], None]
    ) -> tuple[Vector, Vector]:
        """Send goals and wait until all errors stay within the tolerances for SETTLE_S, for
        `seconds` at most.

        Returns the last errors (2, E) [m], [rad] and the joint positions on the way (T, nu) [rad or
        m].
        """
        start_s = monotonic()
        settled_s, sent_s = start_s, -np.inf
        path = []
        while True:
            now_s = monotonic()
            if now_s - sent_s > RESEND_S and not self.has_goals(goals):
                self.send(goals)
                sent_s = now_s
            errors = self.errors(goals)
            path.append(self.joint_pos)
            show(errors, now_s - start_s)
            if (errors > self._tolerances).any():
                settled_s = now_s
            if now_s - settled_s >= SETTLE_S or now_s - start_s >= seconds:
                return errors, np.array(path)
            self.spin(SAMPLE_S)

    def run(self, console: Console) -> DemoResult:
        """Send all goal sets; write the picture and the JSON file that the parameters name."""
        self.wait_ready()
        rng = np.random.default_rng(self.parameters.seed)
        configurations = self.robot.sample_configuration(rng, self.parameters.goal_sets)
        goal_sets = [Poses(*self.robot.effector_poses(q)) for q in configurations]
        tolerances = self.parameters.tolerance, self.parameters.angle_tolerance
        oriented = self.robot.oriented
        board = Board(
            self.robot.effector_names, self.parameters.goal_sets, tolerances, oriented.tolist()
        )
        all_errors, all_paths, times, messages = [], [], [], []
        with Live(board.table(), console=console, refresh_per_second=8, transient=False) as live:
            for number, goals in enumerate(goal_sets):

                def show(errors: Vector, elapsed_s: float, number: int = number) -> None:
                    live.update(board.table(number, errors, elapsed_s))

                start_s = monotonic()
                errors, path = self.reach(
                    goals, self.parameters.seconds / self.parameters.goal_sets, show
                )
                times.append(monotonic() - start_s)
                messages.append(self.client.status.message)
                board.finish(errors, times[-1])
                all_errors.append(errors)
                all_paths.append(path)
            live.update(board.table())
        if not console.is_terminal:
            console.print()
        self.spin(TIMING_S, lambda: PERIOD_P99 in self.timing)
        distances, angles = np.stack(all_errors, axis=1)  # (2, S, E)
        result = DemoResult(
            robot=self.robot.name,
            effectors=list(self.robot.effector_names),
            errors_mm=(1e3 * distances).tolist(),
            angles_deg=np.degrees(angles).tolist(),
            tolerance_mm=1e3 * self.parameters.tolerance,
            tolerance_deg=float(np.degrees(self.parameters.angle_tolerance)),
            set_seconds=times,
            set_status=messages,
            goals=distances.size,
            median_error_mm=1e3 * float(np.median(distances)),
            median_angle_deg=(
                float(np.degrees(np.median(angles[:, oriented]))) if oriented.any() else None
            ),
            period_p50_ms=self.timing.get(PERIOD_P50, float("nan")),
            period_p99_ms=self.timing.get(PERIOD_P99, float("nan")),
        )
        if self.parameters.json:
            result.write(Path(self.parameters.json))
        if self.parameters.picture:
            # Matplotlib is slow to import, and not needed without a picture
            from polyreach_nodes.demo.plots import draw_motion

            positions = np.array([goals.positions for goals in goal_sets])
            turns = np.array([goals.orientations for goals in goal_sets])
            picture = Path(self.parameters.picture)
            draw_motion(picture, self.robot, all_paths, positions, turns, result)
        return result


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
        result = node.run(Console(quiet=not node.parameters.live, markup=False, emoji=False))
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
    if node.parameters.live:
        if node.parameters.picture:
            print(f"picture of the motion: {node.parameters.picture}")
        print(*map(printable, result.missed()), result.line(), sep="\n", flush=True)
    return 0 if result.success else 1


if __name__ == "__main__":
    sys.exit(main())
