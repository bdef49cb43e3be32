"""The page's obstacles, sent to a controller, and all obstacles that the controller has."""

from time import monotonic

from rclpy.node import Node
from visualization_msgs.msg import MarkerArray

from polyreach_nodes.client.obstacles import deletion, obstacle_marker, shown_obstacles
from polyreach_nodes.client.topics import MARKERS, OBSTACLE_QUEUE, OBSTACLES
from polyreach_nodes.control.obstacle import Obstacle
from polyreach_nodes.control.obstacle_markers import MARKER_TYPES
from polyreach_nodes.view.obstacles import LIFETIME_S

SHOWN_S = 0.6  # [s] after the last message for which obstacles count as present


class ObstacleLink:
    """Every obstacle is sent in a message of its own: one that is refused stops no other."""

    def __init__(self, node: Node, controller: str) -> None:
        self._node = node
        self._controller = controller
        self._publisher = node.create_publisher(
            MarkerArray, f"{controller}/{OBSTACLES}", OBSTACLE_QUEUE
        )
        self._subscribed = False
        self._present: dict[str, Obstacle] = {}
        self._received_s = -SHOWN_S

    def send(self, obstacle: Obstacle) -> None:
        """Add or change an obstacle, which ends LIFETIME_S after the last call."""
        namespace, _, number = obstacle.name.rpartition("/")
        marker = obstacle_marker(
            namespace,
            int(number),
            MARKER_TYPES[obstacle.shape],
            obstacle.position,
            obstacle.scale,
            orientation=obstacle.orientation,
            lifetime_s=LIFETIME_S,
        )
        self._publisher.publish(MarkerArray(markers=[marker]))

    def delete(self, obstacle: Obstacle) -> None:
        """Delete an obstacle."""
        namespace, _, number = obstacle.name.rpartition("/")
        self._publisher.publish(MarkerArray(markers=[deletion(namespace, int(number))]))

    def present(self, count: int) -> dict[str, Obstacle]:
        """The obstacles that the controller has, by name; count: of its last status.

        Markers cost the controller time, so they are subscribed to when there is the first one.
        """
        if count and not self._subscribed:
            self._subscribed = True
            topic = f"{self._controller}/{MARKERS}"
            self._node.create_subscription(MarkerArray, topic, self._on_markers, 1)
        return self._present if monotonic() - self._received_s < SHOWN_S else {}

    def _on_markers(self, message: MarkerArray) -> None:
        self._present, self._received_s = shown_obstacles(message), monotonic()
