"""Client of one controller: publishes goals, calls its services, follows its status and policy."""

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from time import monotonic

from builtin_interfaces.msg import Time
from diagnostic_msgs.msg import DiagnosticStatus
from geometry_msgs.msg import PoseStamped
from rclpy.client import Client
from rclpy.node import Node
from rclpy.publisher import Publisher
from rclpy.task import Future
from rclpy.time import Time as RosTime
from std_msgs.msg import String
from std_srvs.srv import Trigger

from polyreach_nodes.client.status import ControllerStatus, StatusError, decode
from polyreach_nodes.client.topics import (
    FRAMES,
    HOLD,
    LATCHED,
    POLICY_METADATA,
    STATUS,
    TAKES_TF,
    clear_goal_service,
    goal_topic,
)

CALL_TIMEOUT_S = 1.0  # [s] after which the answer to a request is no longer waited for
GOAL_QUEUE = 10  # goals of one effector that wait to be sent


class ControllerClient:
    """Topics and services of a controller, named relative to the node's namespace.

    At first it only subscribes to the status. `follow_policy`, `advertise_goals` and `use_services`
    make the rest, so that a node has the topics and services that it needs and no others.

    A status or metadata that cannot be read are logged, and the last ones stay.
    """

    def __init__(
        self, node: Node, controller: str, on_status: Callable[[], object] = lambda: None
    ) -> None:
        """on_status: called after every status, and after every answer to clear_goal and hold."""
        self.controller = controller
        self.name = node.resolve_topic_name(f"{controller}/{STATUS}").removesuffix(f"/{STATUS}")
        self.status = ControllerStatus()
        self.effectors: tuple[str, ...] = ()  # of the policy; empty before it is known
        self.goal_kinds: Mapping[str, str] = {}  # position, axis or pose of each effector
        self.base_frame = ""  # of the policy
        self.frames: tuple[str, ...] = ()  # of the robot in which it takes goals, but the base
        self.takes_tf = False  # whether it takes goals in frames of TF
        self._node = node
        self._on_status = on_status
        self._goals: dict[str, Publisher] = {}
        self._services: dict[str, Client] = {}
        self._calls: dict[str, tuple[Future, float]] = {}  # by service, and when called [s]
        self._subscription = node.create_subscription(
            DiagnosticStatus, f"{controller}/{STATUS}", self._take_status, LATCHED
        )

    @property
    def has_publisher(self) -> bool:
        """Whether anybody publishes the status."""
        return bool(self._subscription.get_publisher_count())

    def _take_status(self, message: DiagnosticStatus) -> None:
        values = {pair.key: pair.value for pair in message.values}
        try:
            self.status = decode(values, message.message, monotonic())
        except StatusError as error:
            self._node.get_logger().error(f"{self.name}/{STATUS}: {error}")
            return
        self._on_status()

    def follow_policy(self, on_policy: Callable[[], object] = lambda: None) -> None:
        """Subscribe to the policy's metadata for `effectors`, `goal_kinds` and the frames."""

        def take_metadata(message: String) -> None:
            try:
                metadata = json.loads(message.data)
                base_frame = str(metadata["base_frame"])
                effectors = tuple(map(str, metadata["effector_names"]))
                kinds = metadata.get("effector_goals", ["position"] * len(effectors))
                goal_kinds = dict(zip(effectors, map(str, kinds), strict=True))
                frames = tuple(map(str, metadata.get(FRAMES, ())))
                takes_tf = bool(metadata.get(TAKES_TF, False))
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                self._node.get_logger().error(
                    f"{self.name}/{POLICY_METADATA} has no base_frame and effector_names: {error!r}"
                )
                return
            self.base_frame, self.effectors = base_frame, effectors
            self.goal_kinds = goal_kinds
            self.frames, self.takes_tf = frames, takes_tf
            on_policy()

        self._node.create_subscription(
            String, f"{self.controller}/{POLICY_METADATA}", take_metadata, LATCHED
        )

    def advertise_goals(self, effectors: Collection[str]) -> None:
        """Make the goal publishers of these effectors; destroy those of all others."""
        for effector in self._goals.keys() - set(effectors):
            self._node.destroy_publisher(self._goals.pop(effector))
        for effector in effectors:
            if effector not in self._goals:
                topic = f"{self.controller}/{goal_topic(effector)}"
                publisher = self._node.create_publisher(PoseStamped, topic, GOAL_QUEUE)
                self._goals[effector] = publisher

    def use_services(self, services: Collection[str]) -> None:
        """Make the clients of these services (std_srvs/Trigger); destroy those of all others."""
        for service in self._services.keys() - set(services):
            self._node.destroy_client(self._services.pop(service))
            self._calls.pop(service, None)
        for service in services:
            if service not in self._services:
                name = f"{self.controller}/{service}"
                self._services[service] = self._node.create_client(Trigger, name)

    def takes_goals(self, effector: str) -> bool:
        """Whether the controller subscribes to goals of the effector, which are advertised."""
        return effector in self._goals and self._goals[effector].get_subscription_count() > 0

    def send_goal(
        self,
        effector: str,
        position: Sequence[float],
        frame: str,
        orientation: Sequence[float] | None = None,
        stamp_ns: int | None = None,
    ) -> None:
        """Publish a goal of an effector whose goals are advertised: position (3,) [m], and unit
        quaternion x y z w (4,) where its goals have an orientation; stamp_ns: its stamp, by default
        the time of the node.
        """
        now = self._node.get_clock().now()
        stamp = (now if stamp_ns is None else RosTime(nanoseconds=stamp_ns)).to_msg()
        self._goals[effector].publish(goal_message(position, frame, stamp, orientation))

    def offers(self, service: str) -> bool:
        """Whether the controller offers a service, which is used."""
        return service in self._services and self._services[service].service_is_ready()

    def call(self, service: str) -> Future:
        """Call a service that is used; the result of the future is a Trigger.Response."""
        return self._services[service].call_async(Trigger.Request())

    def is_connected(self, effector: str) -> bool:
        """Whether the controller would receive a goal of the effector and a request to clear it."""
        return self.takes_goals(effector) and self.offers(clear_goal_service(effector))

    def clear_goal(self, effector: str) -> None:
        """Ask the controller to clear the effector's goal, unless such a request is under way."""
        if self.offers(service := clear_goal_service(effector)):
            self._request(service)

    def is_clearing(self, effector: str) -> bool:
        """Whether a request to clear the effector's goal may still be under way."""
        return self._is_under_way(clear_goal_service(effector))

    def can_hold(self) -> bool:
        """Whether the controller would receive a request to hold effectors."""
        return self.offers(HOLD)

    def hold(self) -> None:
        """Ask the controller to hold every effector without a goal, unless such a request is under
        way.
        """
        if self.can_hold():
            self._request(HOLD)

    def is_holding(self) -> bool:
        """Whether such a request may still be under way."""
        return self._is_under_way(HOLD)

    @property
    def hold_refusal(self) -> str:
        """Why the last such request was refused; '' if it was not, or before there is an answer."""
        future, _ = self._calls.get(HOLD, (None, 0.0))
        answer = future.result() if future is not None and future.done() else None
        return "" if answer is None or answer.success else answer.message

    def _request(self, service: str) -> None:
        if not self._is_under_way(service):
            future = self.call(service)
            self._calls[service] = (future, monotonic())
            future.add_done_callback(lambda _: self._on_status())

    def _is_under_way(self, service: str) -> bool:
        if (call := self._calls.get(service)) is None:
            return False
        future, called_s = call
        return not future.done() and monotonic() - called_s < CALL_TIMEOUT_S


def goal_message(
    position: Sequence[float],
    frame: str,
    stamp: Time,
    orientation: Sequence[float] | None = None,
) -> PoseStamped:
    """A goal in a frame: position (3,) [m], quaternion x y z w (4,) or None for no rotation."""
    message = PoseStamped()
    message.header.frame_id = frame
    message.header.stamp = stamp
    point = message.pose.position
    point.x, point.y, point.z = map(float, position)
    if orientation is not None:
        q = message.pose.orientation
        q.x, q.y, q.z, q.w = map(float, orientation)
    return message
