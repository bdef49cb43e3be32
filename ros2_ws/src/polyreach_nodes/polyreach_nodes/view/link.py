"""What the page says to a controller, and hears from it and from the robot, over ROS 2."""

from collections.abc import Sequence
from contextlib import suppress
from time import monotonic
from typing import Any

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from geometry_msgs.msg import PoseStamped
from numpy.typing import NDArray
from rcl_interfaces.msg import ParameterEvent
from rcl_interfaces.srv import GetParameters, SetParameters
from rclpy.client import Client
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.task import Future
from sensor_msgs.msg import JointState
from std_srvs.srv import Trigger

from polyreach_description import Robot
from polyreach_nodes.control.watchdog import State
from polyreach_nodes.ros.qos import LATCHED

NEWEST = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
ANSWER_S = 2.0  # [s] for a service to answer
SILENCE_S = 1.5  # [s] without status or joint states that the page tells
PERIODIC = tuple(State)  # states that are published at 5 Hz
SPEED = "speed_scale"

Vector = NDArray[np.float64]


class Joints:
    """The robot's full configuration, from joint states matched by name; held joints included."""

    def __init__(self, robot: Robot) -> None:
        model = robot.model
        names = (model.joint(joint).name for joint in range(model.njnt))
        self._address = {
            name: int(model.jnt_qposadr[joint]) for joint, name in enumerate(names) if name
        }
        self.qpos: Vector = robot.qpos(robot.home)
        self.received_s = -np.inf  # [s, monotonic] of the last that named a joint of the robot
        self._names: list[str] = []
        self._source: list[int] = []
        self._target: list[int] = []

    def take(self, names: list[str], position: Sequence[float], now_s: float) -> None:
        """Take positions [rad or m]; what is malformed or not finite is left out."""
        if len(names) != len(position):
            return
        if names != self._names:
            pairs = [
                (i, self._address[name]) for i, name in enumerate(names) if name in self._address
            ]
            self._names = list(names)
            self._source = [source for source, _ in pairs]
            self._target = [target for _, target in pairs]
        found = np.asarray(position, dtype=np.float64)[self._source]
        if len(found) and np.isfinite(found).all():
            self.qpos[self._target] = found
            self.received_s = now_s


class PageLink:
    """Topics and services of one controller, named relative to the node's namespace."""

    def __init__(self, node: Node, robot: Robot, controller: str) -> None:
        self.joints = Joints(robot)
        self.name = node.resolve_topic_name(f"{controller}/status").removesuffix("/status")
        self.values: dict[str, str] = {}  # of the last status
        self.message = ""
        self.timing: dict[str, float] = {}  # [ms] by name
        self.speed_scale: float | None = None
        self.failure = ""  # of the last request that was not done
        self._node = node
        self._frame = robot.base_frame
        self._status_s = -np.inf
        self._goals = [
            node.create_publisher(PoseStamped, f"{controller}/goals/{effector}", 10)
            for effector in robot.effector_names
        ]
        services = ["halt", "resume", "clear_goals"]
        services += [f"clear_goal/{effector}" for effector in robot.effector_names]
        self._triggers = {
            name: node.create_client(Trigger, f"{controller}/{name}") for name in services
        }
        self._set = node.create_client(SetParameters, f"{controller}/set_parameters")
        self._get = node.create_client(GetParameters, f"{controller}/get_parameters")
        self._calls: list[tuple[str, float, Future]] = []
        self._speed_call: Future | None = None
        self._speed_wanted: float | None = None
        self._status = node.create_subscription(
            DiagnosticStatus, f"{controller}/status", self._on_status, LATCHED
        )
        node.create_subscription(JointState, "joint_states", self._on_joints, NEWEST)
        node.create_subscription(DiagnosticArray, "/diagnostics", self._on_diagnostics, 10)
        node.create_subscription(ParameterEvent, "/parameter_events", self._on_parameters, 10)

    def _on_status(self, message: DiagnosticStatus) -> None:
        self.values = {pair.key: pair.value for pair in message.values}
        self.message = message.message
        self._status_s = monotonic()

    def _on_joints(self, message: JointState) -> None:
        self.joints.take(message.name, message.position, monotonic())

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        for status in message.status:
            if status.name == self.name:
                with suppress(ValueError):
                    self.timing = {
                        pair.key: float(pair.value)
                        for pair in status.values
                        if pair.key.endswith(" [ms]")
                    }

    def _on_parameters(self, message: ParameterEvent) -> None:
        asked = self._speed_wanted is not None or self._speed_call is not None
        if message.node == self.name and not asked:
            for parameter in (*message.new_parameters, *message.changed_parameters):
                if parameter.name == SPEED:
                    self.speed_scale = parameter.value.double_value

    def state(self) -> tuple[str, str]:
        """The controller's state and the reason, as told, or that it tells nothing."""
        state = self.values.get("state", "")
        silent_s = monotonic() - self._status_s
        if not self._status.get_publisher_count() or not state:
            return "NO CONTROLLER", f"nobody publishes {self.name}/status"
        if state in PERIODIC and silent_s > SILENCE_S:
            return "SILENT", f"no status of {self.name} for {silent_s:.0f} s (last: {state})"
        return state, self.message.removeprefix(state).removeprefix(":").strip()

    def send_goal(self, effector: int, position: Vector) -> None:
        """Publish a goal (3,) [m, base frame]."""
        message = PoseStamped()
        message.header.frame_id = self._frame
        message.header.stamp = self._node.get_clock().now().to_msg()
        point = message.pose.position
        point.x, point.y, point.z = (float(value) for value in position)
        message.pose.orientation.w = 1.0
        self._goals[effector].publish(message)

    def trigger(self, name: str) -> None:
        """Call ~/halt, ~/resume, ~/clear_goals or ~/clear_goal/<effector>."""
        self.failure = ""
        self._call(name, self._triggers[name], Trigger.Request())

    def set_speed(self, scale: float) -> None:
        """Set the controller's speed scale; of many values in a row the last one counts."""
        self._speed_wanted = self.speed_scale = scale

    def _call(self, name: str, client: Client, request: Any) -> Future | None:
        if not client.service_is_ready():
            self.failure = f"{name} NOT DONE: {self.name} does not offer it"
            return None
        self._calls.append((name, monotonic(), client.call_async(request)))
        return self._calls[-1][2]

    def update(self) -> None:
        """See to answers, and to a speed scale that is to be read or set; often, in ROS' thread."""
        now_s = monotonic()
        for call in list(self._calls):
            name, asked_s, future = call
            if future.done():
                self._calls.remove(call)
                self._answered(name, future)
            elif now_s - asked_s > ANSWER_S:
                self._calls.remove(call)
                future.cancel()
                self.failure = f"{name} NOT DONE: no answer of {self.name} in {ANSWER_S:g} s"
        if self._speed_call is not None and self._speed_call.done():
            self._speed_call = None
        if self._speed_call is None:
            self._update_speed()

    def _update_speed(self) -> None:
        if (scale := self._speed_wanted) is not None:
            self._speed_wanted = None
            value = Parameter(SPEED, value=scale).to_parameter_msg()
            request = SetParameters.Request(parameters=[value])
            self._speed_call = self._call(SPEED, self._set, request)
        elif self.speed_scale is None and self._get.service_is_ready() and self.values:
            request = GetParameters.Request(names=[SPEED])
            self._speed_call = self._call(SPEED, self._get, request)

    def _answered(self, name: str, future: Future) -> None:
        if (error := future.exception()) is not None:
            self.failure = f"{name} NOT DONE: {error}"
            return
        answer = future.result()
        if isinstance(answer, GetParameters.Response):
            self.speed_scale = answer.values[0].double_value if answer.values else None
        elif isinstance(answer, SetParameters.Response):
            if not answer.results[0].successful:
                self.failure = f"{name} NOT SET: {answer.results[0].reason}"
                self.speed_scale = None  # read again
        elif not answer.success:
            self.failure = f"{name} NOT DONE: {answer.message}"
