"""Checks on a running robot, however its nodes were started: for node tests and launch tests."""

import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from math import inf
from time import monotonic, sleep

import numpy as np
import rclpy
from diagnostic_msgs.msg import DiagnosticStatus
from geometry_msgs.msg import PoseStamped
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState, GetState
from numpy.typing import NDArray
from rclpy.client import Client
from rclpy.context import Context
from rclpy.exceptions import InvalidHandle
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.publisher import Publisher
from rclpy.qos import DurabilityPolicy, QoSProfile
from sensor_msgs.msg import JointState
from std_msgs.msg import Float64MultiArray, String
from std_srvs.srv import Trigger

from polyreach_description import Robot

LATCHED = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
WAIT_S = 30.0
DISCOVERY_PERIOD_S = 0.02  # between checks for services and subscriptions
DISCOVERY_S = 0.3  # from discovery by this side to discovery by the other side

TRANSITIONS = {
    "configure": Transition.TRANSITION_CONFIGURE,
    "activate": Transition.TRANSITION_ACTIVATE,
    "deactivate": Transition.TRANSITION_DEACTIVATE,
    "cleanup": Transition.TRANSITION_CLEANUP,
}


@dataclass(frozen=True)
class Command:
    """A received command: time of receipt [s, monotonic] and velocities (nu,) [rad/s]."""

    time_s: float
    joint_vel: NDArray[np.float64]

    @property
    def is_zero(self) -> bool:
        return not self.joint_vel.any()


class Probe:
    """Records what a controller publishes and sends it messages; spins in its own thread."""

    def __init__(
        self,
        robot: Robot,
        domain_id: int | None = None,
        controller: str = "polyreach_controller",
        namespace: str = "",
    ) -> None:
        self.robot = robot
        self.commands: list[Command] = []
        self.statuses: list[DiagnosticStatus] = []
        self.metadata: list[str] = []
        self.joint_pos: NDArray[np.float64] | None = None
        self._context = Context()
        rclpy.init(context=self._context, domain_id=domain_id)
        # as few services as possible: other nodes have to discover each of them
        self.node = Node(
            "polyreach_probe",
            context=self._context,
            namespace=namespace,
            enable_rosout=False,
            start_parameter_services=False,
            parameter_overrides=[Parameter("start_type_description_service", value=False)],
        )
        self.controller = controller
        node = self.node
        node.create_subscription(Float64MultiArray, f"{controller}/commands", self._on_command, 10)
        node.create_subscription(DiagnosticStatus, f"{controller}/status", self._on_status, LATCHED)
        node.create_subscription(
            String, f"{controller}/policy_metadata", self._on_metadata, LATCHED
        )
        node.create_subscription(JointState, "joint_states", self._on_joint_state, 10)
        self._goal_pubs = {
            effector: node.create_publisher(PoseStamped, f"{controller}/goals/{effector}", 10)
            for effector in robot.effector_names
        }
        # number of subscriptions to a topic, and the time of its last change [s, monotonic]
        self._subscriptions = dict.fromkeys(self._goal_pubs.values(), (0, 0.0))
        self._triggers = {
            name: node.create_client(Trigger, f"{controller}/{name}")
            for name in (
                "halt",
                "resume",
                "clear_goals",
                "hold",
                *(f"clear_goal/{effector}" for effector in robot.effector_names),
            )
        }
        self._change_state = node.create_client(ChangeState, f"{controller}/change_state")
        self._get_state = node.create_client(GetState, f"{controller}/get_state")
        self._clients: dict[tuple[type, str], Client] = {}
        self._awaited = {*self._triggers.values(), self._change_state, self._get_state}
        self._ready_s: dict[Client, float] = {}  # time of a service's discovery [s, monotonic]
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(node)
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._spin, daemon=True)
        self._thread.start()

    def _spin(self) -> None:
        checked_s = 0.0
        while not self._closing.is_set():
            self._executor.spin_once(timeout_sec=DISCOVERY_PERIOD_S)
            if monotonic() - checked_s > DISCOVERY_PERIOD_S:
                self._check_discovery()
                checked_s = monotonic()

    def _check_discovery(self) -> None:
        """Record when services are discovered and when numbers of subscriptions change."""
        for client in [c for c in list(self._awaited) if c.service_is_ready()]:
            self._awaited.remove(client)
            self._ready_s[client] = monotonic()
        for publisher, (previous, _) in list(self._subscriptions.items()):
            with suppress(InvalidHandle):  # a test may have destroyed it
                if (count := publisher.get_subscription_count()) != previous:
                    self._subscriptions[publisher] = (count, monotonic())

    def __enter__(self) -> "Probe":
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.set()
        self._thread.join(timeout=5.0)
        self._executor.shutdown()
        self.node.destroy_node()
        self._context.try_shutdown()

    def _on_command(self, message: Float64MultiArray) -> None:
        self.commands.append(Command(monotonic(), np.array(message.data)))

    def _on_status(self, message: DiagnosticStatus) -> None:
        self.statuses.append(message)

    def _on_metadata(self, message: String) -> None:
        self.metadata.append(message.data)

    def _on_joint_state(self, message: JointState) -> None:
        position = dict(zip(message.name, message.position, strict=False))
        if position.keys() >= set(self.robot.joint_names):
            self.joint_pos = np.array([position[name] for name in self.robot.joint_names])

    def value(self, key: str) -> str:
        """Value of a key of the last status; '' if there is none."""
        pairs = self.statuses[-1].values if self.statuses else []
        return next((pair.value for pair in pairs if pair.key == key), "")

    @property
    def message(self) -> str:
        """The text of the last status."""
        return self.statuses[-1].message if self.statuses else ""

    def wait(self, done: Callable[[], bool], what: str, timeout_s: float = WAIT_S) -> None:
        """Wait until done(); the AssertionError at the timeout names `what`."""
        end_s = monotonic() + timeout_s
        while not done():
            assert monotonic() < end_s, (
                f"not within {timeout_s:g} s: {what} (status: '{self.message}')"
            )
            sleep(0.002)

    def wait_state(self, *states: str) -> None:
        """Wait until the status shows one of these states."""
        self.wait(lambda: self.value("state") in states, f"state {' or '.join(states)}")

    def wait_goals_subscribed(self) -> None:
        """Wait until the controller subscribes to goals and discovery is complete on both sides."""
        for publisher in self._goal_pubs.values():
            self.wait_subscribed(publisher)

    def wait_subscribed(self, publisher: Publisher, subscriptions: int = 1) -> None:
        """Wait for this many subscriptions to a topic of this node, discovered on both sides."""
        self._subscriptions.setdefault(publisher, (0, 0.0))

        def discovered() -> bool:
            count, since_s = self._subscriptions[publisher]
            current = publisher.get_subscription_count()
            return subscriptions <= current == count and monotonic() - since_s > DISCOVERY_S

        self.wait(discovered, f"{subscriptions} subscriptions to {publisher.topic_name}")

    def send_goal(
        self,
        effector: str,
        position: NDArray[np.float64],
        frame: str | None = None,
        orientation: Sequence[float] = (0.0, 0.0, 0.0, 1.0),
    ) -> None:
        """Publish a goal [m], [quaternion x y z w]; frame None: the base frame."""
        message = PoseStamped()
        message.header.frame_id = self.robot.base_frame if frame is None else frame
        point = message.pose.position
        point.x, point.y, point.z = (float(value) for value in position)
        q = message.pose.orientation
        q.x, q.y, q.z, q.w = map(float, orientation)
        self._goal_pubs[effector].publish(message)

    def client(self, kind: type, name: str) -> Client:
        """Client of a service of the controller; waits for the service."""
        client = self._clients.get((kind, name))
        if client is None:
            client = self.node.create_client(kind, f"{self.controller}/{name}")
            self._clients[kind, name] = client
        assert client.wait_for_service(WAIT_S), f"no service {client.srv_name}"
        return client

    def _ready(self, client: Client) -> Client:
        """Wait for a service; before discovery on both sides, requests are seconds late."""
        if client not in self._ready_s:
            self._awaited.add(client)
        self.wait(
            lambda: monotonic() - self._ready_s.get(client, inf) > DISCOVERY_S,
            f"service {client.srv_name}",
        )
        return client

    def meet(self, name: str) -> None:
        """Wait until `call(name)` has no discovery delay."""
        self._ready(self._triggers[name])

    def call(self, name: str) -> str:
        """Call ~/halt, ~/resume, ~/hold, ~/clear_goals, ~/clear_goal/<effector>; returns the
        answer.
        """
        client = self._ready(self._triggers[name])
        future = client.call_async(Trigger.Request())
        self.wait(future.done, f"answer of ~/{name}")
        assert future.result().success
        return future.result().message

    def transition(self, name: str) -> bool:
        """Request a lifecycle transition; returns whether it succeeded."""
        client = self._ready(self._change_state)
        request = ChangeState.Request(transition=Transition(id=TRANSITIONS[name]))
        future = client.call_async(request)
        self.wait(future.done, f"answer to transition {name}")
        return future.result().success

    def lifecycle_state(self) -> str:
        """Lifecycle state reported by the controller's service."""
        future = self._ready(self._get_state).call_async(GetState.Request())
        self.wait(future.done, "answer of get_state")
        return future.result().current_state.label

    def wait_moving(self) -> None:
        """Wait for a new nonzero command."""
        start = len(self.commands)
        self.wait(lambda: any(not c.is_zero for c in self.commands[start:]), "a nonzero command")

    def commands_since(self, time_s: float) -> list[Command]:
        """Commands received since a time [s, monotonic]."""
        return [command for command in list(self.commands) if command.time_s >= time_s]


def reachable_goals(robot: Robot, seed: int, count: int) -> list[dict[str, NDArray[np.float64]]]:
    """`count` goal sets [m, base frame] for all effectors, each reached by one configuration."""
    configurations = robot.sample_configuration(np.random.default_rng(seed), count)
    return [
        dict(zip(robot.effector_names, robot.forward_kinematics(joint_pos), strict=True))
        for joint_pos in configurations
    ]


def assert_reaches(
    probe: Probe,
    goals: dict[str, NDArray[np.float64]],
    tolerance_m: float = 0.02,
    timeout_s: float = 15.0,
) -> None:
    """Send goals; assert that they are reached by joint states and by the controller's status."""
    robot = probe.robot
    goal_pos = np.array([goals[name] for name in robot.effector_names])
    probe.wait(lambda: probe.joint_pos is not None, "joint states")
    for effector, position in goals.items():
        probe.send_goal(effector, position)

    def errors() -> NDArray[np.float64]:
        assert probe.joint_pos is not None
        return np.linalg.norm(robot.forward_kinematics(probe.joint_pos) - goal_pos, axis=-1)

    end_s = monotonic() + timeout_s
    while (errors() > tolerance_m).any():
        assert monotonic() < end_s, (
            f"errors after {timeout_s:g} s: {(errors() * 1e3).round(1)} mm "
            f"(status: {probe.value('state')} '{probe.message}')"
        )
        sleep(0.02)
    probe.wait(lambda: probe.value("reached") == "true", "status reports that goals are reached")
    for effector in robot.effector_names:
        assert float(probe.value(f"error/{effector}")) <= tolerance_m


def zero_delay(probe: Probe, since_s: float, hold_s: float) -> float:
    """Time [s] from since_s to the start of a period of hold_s with zero commands only."""

    def last_zeros() -> list[Command]:
        commands = probe.commands_since(since_s)
        moving = [index for index, command in enumerate(commands) if not command.is_zero]
        return commands[moving[-1] + 1 :] if moving else commands

    def held() -> bool:
        zeros = last_zeros()
        return len(zeros) > 1 and zeros[-1].time_s - zeros[0].time_s >= hold_s

    probe.wait(held, f"only zero commands for {hold_s:g} s", timeout_s=hold_s + 3.0)
    return last_zeros()[0].time_s - since_s


def assert_within_limits(robot: Robot, commands: list[Command]) -> None:
    """Assert that every command is finite, of the right length and within the velocity limits."""
    assert commands, "no commands"
    for command in commands:
        assert command.joint_vel.shape == robot.joint_vel_limits.shape
        assert np.isfinite(command.joint_vel).all()
        assert (np.abs(command.joint_vel) <= robot.joint_vel_limits).all()


def listen(probe: Probe, commands: str, joint_states: str) -> None:
    """Subscribe the probe to commands and joint states on these topics, too."""
    probe.node.create_subscription(Float64MultiArray, commands, probe._on_command, 10)
    probe.node.create_subscription(JointState, joint_states, probe._on_joint_state, 10)
