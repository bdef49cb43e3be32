"""Stand-in process for ros2_control with ForwardCommandControllers of velocities and positions,
and a JointTrajectoryController of positions.

Nodes, topics, parameters and messages are those of `ros2_control_node` with a
joint_state_broadcaster and these controllers in Jazzy:

- it waits for `robot_description` and reads joints, limits and initial positions from it;
- a command that is not finite is dropped as a whole;
- a command of the wrong length is an error, which deactivates the controller permanently;
- the last command holds indefinitely, also after deactivation;
- with enforce_command_limits, velocities are clipped to the velocity and position limits, and
  a joint beyond its limits by more than a tolerance is not moved;
- joint states contain all joints in another order, and one extra joint.

The hardware is VelocityServos with the parameters `delay` and `lag` [s]; from the first position
command on, they approach that position. The service
`<manager>/activate/<controller>` replaces the services that the spawner of ros2_control calls.
"""

import sys
from collections.abc import Iterable
from contextlib import suppress
from functools import partial
from math import inf
from time import monotonic
from typing import Any
from xml.etree import ElementTree

import numpy as np
import rclpy
from rclpy.clock import Clock, ClockType
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile
from rclpy.signals import SignalHandlerOptions
from sensor_msgs.msg import JointState
from std_msgs.msg import Float64MultiArray, String, UInt64
from std_srvs.srv import Trigger
from trajectory_msgs.msg import JointTrajectory
from velocity_servos import Vector, VelocityServos

from polyreach_nodes.control.joint_reference import GAIN, JointReference
from polyreach_nodes.ros.spin import StopRequest
from polyreach_nodes.ros.trajectory_message import read_trajectory

BROADCASTER, FORWARD, TRAJECTORY = (
    "joint_state_broadcaster/JointStateBroadcaster",
    "forward_command_controller/ForwardCommandController",
    "joint_trajectory_controller/JointTrajectoryController",
)
EXTRA_JOINT = "gripper_finger"
POSITION_BOUNDS_TOLERANCE = 0.002  # [rad], of joint_limits
LATCHED = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)


class Hardware:
    """The joints of a `<ros2_control>` block over VelocityServos."""

    def __init__(self, urdf: str, delay_s: float, lag_s: float) -> None:
        root = ElementTree.fromstring(urdf)
        joints = root.findall("ros2_control/joint")
        self.names = [joint.get("name", "") for joint in joints]
        self.interfaces = {
            joint.get("name", ""): [
                each.get("name") for each in joint.iterfind("command_interface")
            ]
            for joint in joints
        }
        limits = {joint.get("name"): joint.find("limit") for joint in root.iterfind("joint")}

        def limit(key: str, default: float) -> Vector:
            elements = (limits[name] for name in self.names)
            return np.array(
                [float(e.get(key, default)) if e is not None else default for e in elements]
            )

        self.low, self.high = limit("lower", -inf), limit("upper", inf)
        self.speed = limit("velocity", inf)
        path = "state_interface[@name='position']/param[@name='initial_value']"
        initial = [float(joint.findtext(path, "0")) for joint in joints]
        self.servos = VelocityServos(initial, delay_s, lag_s)
        self.command: Vector = np.zeros(len(joints))
        self.target: Vector = np.full(len(joints), np.nan)  # position commands, if any

    def indices(self, joints: list[str], interface: str) -> list[int]:
        """Places of joints; ValueError names those without the command interface."""
        missing = [joint for joint in joints if interface not in self.interfaces.get(joint, [])]
        if missing:
            raise ValueError(f"no command interface {interface} of {', '.join(missing)}")
        return [self.names.index(joint) for joint in joints]

    def write(self, enforce_limits: bool, period_s: float, now_s: float) -> None:
        """Send the commands to the servos, clipped as by enforce_command_limits."""
        approach = np.clip(GAIN * (self.target - self.servos.position), -self.speed, self.speed)
        command = np.where(np.isnan(self.target), self.command, approach)
        if enforce_limits:
            position = self.servos.position
            low = np.maximum((self.low - position) / period_s, -self.speed)
            high = np.minimum((self.high - position) / period_s, self.speed)
            beyond = np.maximum(self.low - position, position - self.high)  # negative within
            inward = np.clip(command, np.minimum(low, 0.0), np.maximum(high, 0.0))
            command = np.where(beyond > POSITION_BOUNDS_TOLERANCE, 0.0, inward)
        self.servos.command(command, now_s)


class ForwardCommandController(Node):
    """Writes each message on ~/commands to the interfaces of `joints`, once active."""

    def __init__(self, name: str, hardware: Hardware) -> None:
        super().__init__(name)
        joints = _names(self.declare_parameter("joints", [""]).value)
        interface = self.declare_parameter("interface_name", "").value
        self._index = hardware.indices(joints, interface)
        self._written = {"velocity": hardware.command, "position": hardware.target}[interface]
        self.active = False
        self._accepted = UInt64()
        self._accepted_pub = self.create_publisher(UInt64, "~/accepted", 10)
        self.create_subscription(Float64MultiArray, "~/commands", self._on_commands, 10)

    def _on_commands(self, message: Float64MultiArray) -> None:
        values = np.asarray(message.data)
        if not np.isfinite(values).all():
            self._warn("Non-finite value received. Dropping message")
        elif self.active and len(values) != len(self._index):
            self.get_logger().error(
                f"command size ({len(values)}) does not match number of interfaces "
                f"({len(self._index)}): deactivating '{self.get_name()}'"
            )
            self.active = False
        elif self.active:
            self._written[self._index] = values
            self._accepted.data += 1
            self._accepted_pub.publish(self._accepted)

    def _warn(self, text: str) -> None:
        self.get_logger().warning(text, throttle_duration_sec=1.0)


class JointTrajectoryController(Node):
    """Follows trajectories on ~/joint_trajectory by position commands, once active."""

    def __init__(self, name: str, hardware: Hardware) -> None:
        super().__init__(name)
        self._names = tuple(_names(self.declare_parameter("joints", [""]).value))
        interfaces = self.declare_parameter("command_interfaces", [""]).value
        from_desired = self.declare_parameter("interpolate_from_desired_state", False).value
        if list(interfaces) != ["position"] or not from_desired:
            raise ValueError(f"stand-in of positions from the desired state, not {interfaces}")
        self._hardware = hardware
        self._index = hardware.indices([*self._names], "position")
        self._reference: JointReference | None = None
        self.active = False
        self.create_subscription(JointTrajectory, "~/joint_trajectory", self._on_trajectory, 10)

    def _on_trajectory(self, message: JointTrajectory) -> None:
        if not self.active:
            return
        try:
            points = read_trajectory(message, self._names)
        except ValueError as error:
            self.get_logger().error(str(error))
            return
        if self._reference is None:
            self._reference = JointReference(self._hardware.servos.position[self._index])
        self._reference.follow(points, monotonic())

    def update(self, now_s: float) -> None:
        """Write the position of this moment."""
        if self._reference is not None:
            self._hardware.target[self._index], _ = self._reference.sample(now_s)


class JointStateBroadcaster(Node):
    """Publishes the state of all joints in reverse order, with an extra joint among them."""

    def __init__(self, name: str, hardware: Hardware) -> None:
        super().__init__(name)
        self._hardware = hardware
        self.active = False
        self._publisher = self.create_publisher(JointState, "joint_states", 10)
        order = hardware.names[::-1]
        self._message = JointState(name=[order[0], EXTRA_JOINT, *order[1:]])

    def publish(self) -> None:
        """Publish the current state."""
        if not self.active:
            return
        position, velocity = self._hardware.servos.position, self._hardware.servos.velocity
        self._message.header.stamp = self.get_clock().now().to_msg()
        self._message.position = np.insert(position[::-1], 1, 0.04).tolist()
        self._message.velocity = np.insert(velocity[::-1], 1, 0.0).tolist()
        self._publisher.publish(self._message)


class ControllerManager(Node):
    """Runs hardware and controllers at update_rate after the robot description has arrived."""

    def __init__(self, executor: SingleThreadedExecutor) -> None:
        super().__init__("controller_manager", automatically_declare_parameters_from_overrides=True)
        self._executor = executor
        self._period_s = 1.0 / self._value("update_rate", 100)
        self._enforce = bool(self._value("enforce_command_limits", False))
        self._controllers: dict[
            str, ForwardCommandController | JointTrajectoryController | JointStateBroadcaster
        ] = {}
        self._hardware: Hardware | None = None
        self.create_subscription(String, "robot_description", self._on_description, LATCHED)

    def _value(self, name: str, default: Any) -> Any:
        return self.get_parameter(name).value if self.has_parameter(name) else default

    def _on_description(self, message: String) -> None:
        if self._hardware is not None:
            return
        delay_s, lag_s = self._value("delay", 0.0), self._value("lag", 0.0)
        self._hardware = hardware = Hardware(message.data, delay_s, lag_s)
        kinds = {
            BROADCASTER: JointStateBroadcaster,
            FORWARD: ForwardCommandController,
            TRAJECTORY: JointTrajectoryController,
        }
        for name, parameter in self.get_parameters_by_prefix("").items():
            if name.endswith(".type"):
                controller = kinds[parameter.value](name.removesuffix(".type"), hardware)
                self._executor.add_node(controller)
                self._controllers[controller.get_name()] = controller
        for name, controller in self._controllers.items():
            controller.active = bool(self._value("active", False))
            self.create_service(Trigger, f"~/activate/{name}", partial(self._activate, name))
        self._updated_s = monotonic()
        wall = Clock(clock_type=ClockType.STEADY_TIME)
        self.create_timer(self._period_s, self._update, clock=wall)

    def _activate(self, name: str, _: Any, response: Trigger.Response) -> Trigger.Response:
        self._controllers[name].active = response.success = True
        return response

    def _update(self) -> None:
        assert self._hardware is not None
        now_s = monotonic()
        while self._updated_s < now_s:  # as in real time, however late this process is
            self._updated_s += self._period_s
            self._hardware.servos.advance(self._updated_s)
            for controller in self._controllers.values():
                if isinstance(controller, JointTrajectoryController):
                    controller.update(self._updated_s)
            self._hardware.write(self._enforce, self._period_s, self._updated_s)
        for controller in self._controllers.values():
            if isinstance(controller, JointStateBroadcaster):
                controller.publish()


def _names(value: Iterable[str]) -> list[str]:
    return [name for name in value if name]


def main() -> int:
    """Run until SIGINT or SIGTERM; returns the exit status."""
    stopping = StopRequest()
    rclpy.init(args=sys.argv, signal_handler_options=SignalHandlerOptions.NO)
    executor = SingleThreadedExecutor()
    executor.add_node(ControllerManager(executor))
    stopping.on_set = partial(executor.create_task, lambda: None)
    with suppress(ExternalShutdownException):
        while not stopping.is_set():
            executor.spin_once()
    executor.shutdown()
    rclpy.shutdown()
    return 0


if __name__ == "__main__":
    sys.exit(main())
