"""Minimal rclpy node that answers each joint state with a command: the lower bound of latency."""

import sys

import rclpy
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node
from sensor_msgs.msg import JointState
from std_msgs.msg import Float64MultiArray


def main() -> int:
    """Echo until SIGINT; the first argument is the number of joints."""
    rclpy.init()
    node = Node("echo")
    command = Float64MultiArray(data=[0.0] * int(sys.argv[1]))
    publisher = node.create_publisher(Float64MultiArray, "commands", 1)
    node.create_subscription(JointState, "joint_states", lambda _: publisher.publish(command), 1)
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    try:
        executor.spin()
    except (KeyboardInterrupt, ExternalShutdownException):
        return 0
    return 1


if __name__ == "__main__":
    sys.exit(main())
