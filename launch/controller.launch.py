"""Bring up the controller of one robot."""

from pathlib import Path

from ament_index_python.packages import get_package_share_directory
from launch import LaunchContext, LaunchDescription
from launch.actions import OpaqueFunction, Shutdown
from launch_ros.actions import Node

from polyreach_nodes.launch_arguments import CONTROLLER, declare, node, parameter_values, text
from polyreach_nodes.parameters import CommandInterface, ControllerParameters


def parameter_files(robot: str, params_file: str) -> list[str]:
    """The given parameter file, or else the robot's shipped one, if it exists."""
    if params_file:
        if not Path(params_file).is_file():
            raise FileNotFoundError(f"params_file '{params_file}' does not exist")
        return [params_file]
    folder = Path(get_package_share_directory("polyreach")) / "config"
    shipped = folder / f"{robot or ControllerParameters.robot}.yaml"
    return [str(shipped)] if shipped.is_file() else []


def launch_setup(context: LaunchContext) -> list[Node]:
    """Nodes with the parameter file; launch arguments override it."""
    hardware = text(context, "velocity_controller")
    topic = f"{hardware}/commands"
    has_watchdog = text(context, "watchdog").lower() == "true"
    if has_watchdog and (interface := text(context, "command_interface")):
        CommandInterface.of(interface).check_watchdog()
    direct = [
        ("~/commands", topic),
        ("~/position_commands", topic),
        ("~/joint_trajectory", f"{hardware}/joint_trajectory"),
    ]
    parameter_file = parameter_files(text(context, "robot"), text(context, "params_file"))
    nodes = [
        node(
            "controller_node",
            parameters=[*parameter_file, parameter_values(ControllerParameters, context)],
            remappings=direct if hardware and not has_watchdog else [],
        )
    ]
    if text(context, "action").lower() == "true":
        nodes.insert(0, node("reach_node"))
    if has_watchdog:  # last: wrong arguments must show before it starts
        nodes.append(
            node(
                "command_watchdog_node",
                parameters=parameter_file,
                remappings=[("commands", topic)] if hardware else [],
                on_exit=Shutdown(reason="the command watchdog ended"),
            )
        )
    return nodes


def generate_launch_description() -> LaunchDescription:
    """Describe the controller alone: joint states come from hardware or from sim.launch.py."""
    arguments = declare(*CONTROLLER, "velocity_controller", "watchdog", "action")
    return LaunchDescription([*arguments, OpaqueFunction(function=launch_setup)])
