"""Detect another node that commands the same robot."""

from rclpy.node import Node
from rclpy.publisher import Publisher
from rclpy.qos import QoSProfile
from rclpy.subscription import Subscription

SLACK = 3  # own messages that may be in transit when the count starts


class ConflictDetector:
    """Counts the messages on a command topic, less those of its own publisher.

    A second publisher alone is no conflict: after SIGKILL, the old one stays listed for many
    seconds. The topic is subscribed to only while a second publisher is listed.
    """

    def __init__(self, node: Node, publisher: Publisher) -> None:
        self._node, self._publisher = node, publisher
        self._subscription: Subscription | None = None
        self._surplus = 0

    def count_sent(self) -> None:
        """Note that the own publisher sends a message."""
        self._surplus -= 1

    def conflict(self) -> str:
        """Which other node sends commands, as a sentence; '' if none does. Call it regularly."""
        topic = self._publisher.topic_name
        if self._node.count_publishers(topic) < 2:
            self.close()
            return ""
        if self._subscription is None:
            self._surplus = 0
            depth = QoSProfile(depth=100)
            self._subscription = self._node.create_subscription(
                self._publisher.msg_type, topic, self._on_command, depth, raw=True
            )
            return ""
        if self._surplus <= SLACK:
            return ""
        self._surplus = 0
        return f"another node publishes on {topic}: {self._names(topic)}"

    def close(self) -> None:
        """Unsubscribe from the topic."""
        if self._subscription is not None:
            self._node.destroy_subscription(self._subscription)
            self._subscription = None

    def _on_command(self, _: object) -> None:
        self._surplus += 1

    def _names(self, topic: str) -> str:
        own = self._node.get_fully_qualified_name()
        infos = self._node.get_publishers_info_by_topic(topic)
        names = [f"{info.node_namespace.rstrip('/')}/{info.node_name}" for info in infos]
        if own in names:
            names.remove(own)
        return ", ".join(sorted(set(names))) or "unknown"
