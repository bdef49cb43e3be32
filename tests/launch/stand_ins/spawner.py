"""Stand-in for the spawner of controller_manager, with the command-line options that are used here.

The controllers are those of tests/nodes/forward_command_controller.py, which provides one service
per controller instead of the services of controller_manager_msgs.
"""

import argparse
import sys
from pathlib import Path

import rclpy
import yaml
from rclpy.node import Node
from rclpy.utilities import remove_ros_args
from std_srvs.srv import Trigger

TIMEOUT_S = 60.0


def parse(argv: list[str]) -> argparse.Namespace:
    """Parse the arguments, without those of ROS."""
    parser = argparse.ArgumentParser()
    parser.add_argument("controller_names", nargs="+")
    parser.add_argument("-c", "--controller-manager", default="controller_manager")
    parser.add_argument("-p", "--param-file", action="append", default=[])
    return parser.parse_args(remove_ros_args(argv)[1:])


def main() -> int:
    """Activate the controllers in order; returns the exit status."""
    arguments = parse(sys.argv)
    for path in arguments.param_file:
        yaml.safe_load(Path(path).read_text())
    rclpy.init(args=sys.argv)
    node = Node(f"spawner_{arguments.controller_names[0]}")
    try:
        for name in arguments.controller_names:
            client = node.create_client(Trigger, f"{arguments.controller_manager}/activate/{name}")
            if not client.wait_for_service(TIMEOUT_S):
                node.get_logger().fatal(f"no service {client.srv_name}")
                return 1
            future = client.call_async(Trigger.Request())
            rclpy.spin_until_future_complete(node, future, timeout_sec=TIMEOUT_S)
            if not (future.done() and future.result().success):
                node.get_logger().fatal(f"cannot activate '{name}'")
                return 1
            node.get_logger().info(f"Configured and activated {name}")
    finally:
        node.destroy_node()
        rclpy.shutdown()
    return 0


if __name__ == "__main__":
    sys.exit(main())
