"""RViz with robot, goals, obstacles and distances, beside a robot that runs."""

from launch import LaunchContext, LaunchDescription
from launch.actions import OpaqueFunction
from launch_ros.actions import Node

from polyreach_nodes.launch_arguments import COMMON, declare, text
from polyreach_nodes.launch_robot import (
    DESCRIBER,
    VIEWER,
    check_packages,
    robot_state_publisher,
    robot_urdf,
    rviz,
)
from polyreach_nodes.parameters import ControllerParameters


def launch_setup(context: LaunchContext) -> list[Node]:
    """RViz and, unless another node publishes robot_description, robot_state_publisher."""
    describes = text(context, "description").lower() == "true"
    check_packages("RViz", (VIEWER, *([DESCRIBER] if describes else [])))
    description = [robot_state_publisher(robot_urdf(context))] if describes else []
    return [*description, rviz(text(context, "robot"))]


def generate_launch_description() -> LaunchDescription:
    """Describe what one sees; nothing here moves the robot."""
    arguments = declare("robot", "urdf", "description", *COMMON, robot=ControllerParameters.robot)
    return LaunchDescription([*arguments, OpaqueFunction(function=launch_setup)])
