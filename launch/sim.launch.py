"""Bring up a robot in MuJoCo, driven by the controller's commands."""

from launch import LaunchDescription
from launch.substitutions import LaunchConfiguration

from polyreach_nodes.launch_arguments import (
    COMMON,
    declare,
    launch_specs,
    node,
    parameter_values,
)
from polyreach_nodes.parameters import SimParameters


def generate_launch_description() -> LaunchDescription:
    """Describe the simulator alone: it holds still until commands arrive."""
    names = [spec.name for spec in launch_specs(SimParameters)]
    simulator = node(
        "sim_node",
        parameters=[parameter_values(SimParameters)],
        remappings=[
            ("commands", LaunchConfiguration("commands")),
            ("position_commands", "polyreach_controller/position_commands"),
            ("joint_trajectory", "polyreach_controller/joint_trajectory"),
        ],
    )
    defaults = {"robot": SimParameters.robot, "command_interface": SimParameters.command_interface}
    return LaunchDescription([*declare(*names, *COMMON, "commands", **defaults), simulator])
