"""Stand-in for robot_state_publisher: publishes its parameter robot_description, latched."""

import sys

from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile
from std_msgs.msg import String

from polyreach_nodes.ros.spin import run_node


class RobotStatePublisher(Node):
    """Publishes the description once; frames are not needed here."""

    def __init__(self) -> None:
        super().__init__("robot_state_publisher")
        text = self.declare_parameter("robot_description", "").value
        latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        self._publisher = self.create_publisher(String, "robot_description", latched)
        self._publisher.publish(String(data=text))


if __name__ == "__main__":
    sys.exit(run_node(RobotStatePublisher, lambda node: None))
