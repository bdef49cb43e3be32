"""Stand-in for rviz2: subscribes to what the displays of its configuration show.

It ends, as a user closes the window, once robot and markers have come.
"""

import argparse
import sys
from pathlib import Path
from typing import Any

import rclpy
import yaml
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile
from rclpy.utilities import remove_ros_args
from std_msgs.msg import String
from visualization_msgs.msg import MarkerArray

DURABILITY = {
    "Volatile": DurabilityPolicy.VOLATILE,
    "Transient Local": DurabilityPolicy.TRANSIENT_LOCAL,
}
# of a display: property with its topic, message
TOPICS = {
    "rviz_default_plugins/RobotModel": ("Description Topic", String),
    "rviz_default_plugins/MarkerArray": ("Topic", MarkerArray),
}


class Viewer(Node):
    """Notes by topic what came first."""

    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__("rviz2")
        self.awaited: set[str] = set()
        for display in config["Visualization Manager"]["Displays"]:
            if display["Class"] in TOPICS:
                self._show(*TOPICS[display["Class"]], display)

    def _show(self, key: str, kind: type, display: dict[str, Any]) -> None:
        topic = display[key]
        qos = QoSProfile(depth=topic["Depth"], durability=DURABILITY[topic["Durability Policy"]])
        subscription = self.create_subscription(
            kind, topic["Value"], lambda message: self._on_message(name, message), qos
        )
        name = subscription.topic_name
        self.awaited.add(name)

    def _on_message(self, topic: str, message: Any) -> None:
        if topic in self.awaited:
            self.awaited.remove(topic)
            frames = (
                {marker.header.frame_id for marker in message.markers}
                if isinstance(message, MarkerArray)
                else "a URDF" * message.data.startswith("<?xml")
            )
            self.get_logger().info(f"{topic} shows {frames}")


def main() -> int:
    """Show until all topics have come; returns the exit status."""
    parser = argparse.ArgumentParser()
    parser.add_argument("-d", "--display-config", type=Path, required=True)
    parser.add_argument("-f", "--fixed-frame", required=True)
    arguments = parser.parse_args(remove_ros_args(sys.argv)[1:])
    rclpy.init(args=sys.argv)
    viewer = Viewer(yaml.safe_load(arguments.display_config.read_text()))
    viewer.get_logger().info(f"fixed frame {arguments.fixed_frame}")
    while viewer.awaited:
        rclpy.spin_once(viewer, timeout_sec=0.1)
    viewer.get_logger().info("closed")
    rclpy.shutdown()
    return 0


if __name__ == "__main__":
    sys.exit(main())
