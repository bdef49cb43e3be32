"""What another node sees of a controller and asks of it, over its topics and services alone."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from time import monotonic

from diagnostic_msgs.msg import DiagnosticStatus
from geometry_msgs.msg import PoseStamped
from rclpy.client import Client
from rclpy.node import Node
from rclpy.publisher import Publisher
from rclpy.task import Future
from std_msgs.msg import String
from std_srvs.srv import Trigger

from polyreach_nodes.ros.qos import LATCHED

CLEAR_TIMEOUT_S = 1.0  # [s] after which the answer to a request is no longer waited for

Point = tuple[float, ...]


@dataclass(frozen=True)
class Report:
    """A status of the controller as it came: goals and errors by effector, if there are any."""

    state: str = ""
    message: str = ""  # the state and the reason for it
    rejected: str = ""  # why the last goal was not taken
    goals: dict[str, Point] = field(default_factory=dict)  # [m, base frame]
    errors: dict[str, float] = field(default_factory=dict)  # [m]
    heard: dict[str, str] = field(default_factory=dict)  # changes with every goal that came
    goal_timeout_s: float = (
        0.0  # [s] after which a goal that is not sent again is dropped; 0: never
    )
    time_s: float = float("-inf")  # of receipt, monotonic


def read_status(status: DiagnosticStatus, time_s: float) -> Report:
    """The report in a status message; ValueError if a number in it is none."""
    values = {pair.key: pair.value for pair in status.values}

    def of_effectors(kind: str) -> dict[str, str]:
        found = {key: text for key, text in values.items() if key.startswith(f"{kind}/") and text}
        return {key.removeprefix(f"{kind}/"): text for key, text in found.items()}

    return Report(
        state=values.get("state", ""),
        message=status.message,
        rejected=values.get("rejected", ""),
        goals={
            name: tuple(float(word) for word in text.split())
            for name, text in of_effectors("goal").items()
        },
        errors={name: float(text) for name, text in of_effectors("error").items()},
        heard=of_effectors("heard"),
        goal_timeout_s=float(values.get("goal_timeout") or 0.0),
        time_s=time_s,
    )


class ControllerLink:
    """Follows a controller's status and policy; sends goals and clears them.

    `changed` is called after everything that came from the controller.
    """

    def __init__(self, node: Node, controller: str, changed: Callable[[], None]) -> None:
        self.controller = controller
        self.report = Report()
        self.effectors: tuple[str, ...] = ()  # empty before the policy is known
        self.base_frame = ""
        self._node = node
        self._changed = changed
        self._publishers: dict[str, Publisher] = {}
        self._clients: dict[str, Client] = {}
        self._asked: dict[str, tuple[Future, float]] = {}
        node.create_subscription(DiagnosticStatus, f"{controller}/status", self._on_status, LATCHED)
        node.create_subscription(
            String, f"{controller}/policy_metadata", self._on_metadata, LATCHED
        )

    def _on_status(self, message: DiagnosticStatus) -> None:
        self.report = read_status(message, monotonic())
        self._changed()

    def _on_metadata(self, message: String) -> None:
        metadata = json.loads(message.data)
        self.base_frame = metadata["base_frame"]
        self._meet(tuple(metadata["effector_names"]))
        self._changed()

    def _meet(self, effectors: tuple[str, ...]) -> None:
        """Make topics and clients of the effectors, and give back those of others."""
        for name in set(self.effectors) - set(effectors):
            self._node.destroy_publisher(self._publishers.pop(name))
            self._node.destroy_client(self._clients.pop(name))
            self._asked.pop(name, None)
        for name in set(effectors) - set(self.effectors):
            topic, service = f"{self.controller}/goals/{name}", f"{self.controller}/clear_goal/"
            self._publishers[name] = self._node.create_publisher(PoseStamped, topic, 10)
            self._clients[name] = self._node.create_client(Trigger, service + name)
        self.effectors = effectors

    def listens(self, effector: str) -> bool:
        """Whether the controller would hear a goal of the effector and a request to clear it."""
        return (
            effector in self._clients
            and self._publishers[effector].get_subscription_count() > 0
            and self._clients[effector].service_is_ready()
        )

    def send(self, effector: str, position: Sequence[float]) -> None:
        """Publish a goal [m, base frame]."""
        message = PoseStamped()
        message.header.frame_id = self.base_frame
        message.header.stamp = self._node.get_clock().now().to_msg()
        point = message.pose.position
        point.x, point.y, point.z = position
        message.pose.orientation.w = 1.0
        self._publishers[effector].publish(message)

    def clear(self, effector: str) -> None:
        """Ask the controller to forget the effector's goal, unless it is being asked already."""
        if self.clearing(effector) or not self.listens(effector):
            return
        future = self._clients[effector].call_async(Trigger.Request())
        self._asked[effector] = (future, monotonic())
        future.add_done_callback(lambda _: self._changed())

    def clearing(self, effector: str) -> bool:
        """Whether a request to clear the effector's goal may still be under way."""
        future, asked_s = self._asked.get(effector, (None, 0.0))
        return future is not None and not future.done() and monotonic() - asked_s < CLEAR_TIMEOUT_S
