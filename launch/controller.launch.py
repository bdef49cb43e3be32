"""Bring up the controller of one robot."""

from pathlib import Path

from ament_index_python.packages import get_package_share_directory
from launch import LaunchContext, LaunchDescription
from launch.actions import DeclareLaunchArgument, OpaqueFunction, Shutdown
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue

BOOLEAN = ["true", "false", "True", "False"]


def arguments() -> list[DeclareLaunchArgument]:
    """Arguments of this file; those that are given win over the parameter file."""
    return [
        DeclareLaunchArgument(
            "robot",
            default_value="",
            description="Shipped robot (planar8, humanoid27) or path of a robot.yaml; empty: what "
            "params_file says, planar8 without one.",
        ),
        DeclareLaunchArgument(
            "policy",
            default_value="",
            description="Path of a policy file (.onnx); empty: what params_file says, else the "
            "robot's shipped models/<robot>-digrad.onnx.",
        ),
        DeclareLaunchArgument(
            "namespace", default_value="", description="Namespace of nodes and topics."
        ),
        DeclareLaunchArgument(
            "use_sim_time",
            default_value="false",
            choices=BOOLEAN,
            description="Let the control loop follow /clock.",
        ),
        DeclareLaunchArgument(
            "params_file",
            default_value="",
            description="Parameter file of the controller; empty: config/<robot>.yaml.",
        ),
        DeclareLaunchArgument(
            "speed_scale",
            default_value="",
            description="Share of the policy's speed that is commanded, 0 to 1; empty: what "
            "params_file says. `ros2 param set` changes it later.",
        ),
        DeclareLaunchArgument(
            "velocity_controller",
            default_value="",
            description="Controller of ros2_control that takes the commands; empty: they stay on "
            "~/commands (with watchdog:=true: on commands), where the simulator finds them.",
        ),
        DeclareLaunchArgument(
            "watchdog",
            default_value="false",
            choices=BOOLEAN,
            description="Send the commands through the command watchdog, a process of its own that "
            "publishes zero when they stop; its parameters are in params_file.",
        ),
        DeclareLaunchArgument(
            "autostart",
            default_value="true",
            choices=BOOLEAN,
            description="Configure and activate at start; else wait for lifecycle transitions.",
        ),
        DeclareLaunchArgument(
            "action",
            default_value="false",
            choices=BOOLEAN,
            description="Serve the action polyreach_controller/reach, too (needs "
            "polyreach_interfaces).",
        ),
        DeclareLaunchArgument(
            "log_level",
            default_value="info",
            choices=["debug", "info", "warn", "error", "fatal"],
            description="Least severe messages that are logged.",
        ),
    ]


def parameter_files(robot: str, params_file: str) -> list[str]:
    """The given parameter file, else the shipped one of the robot, if there is one."""
    if params_file:
        if not Path(params_file).is_file():
            raise FileNotFoundError(f"params_file '{params_file}' does not exist")
        return [params_file]
    shipped = (
        Path(get_package_share_directory("polyreach")) / "config" / f"{robot or 'planar8'}.yaml"
    )
    return [str(shipped)] if shipped.is_file() else []


def controller(context: LaunchContext) -> list[Node]:
    """The nodes, with the parameter file first and what was given after it."""

    def value(name: str) -> str:
        return str(LaunchConfiguration(name).perform(context))

    given = {
        name: ParameterValue(value(name), value_type=str)
        for name in ("robot", "policy")
        if value(name)
    }
    if value("speed_scale"):
        scale = LaunchConfiguration("speed_scale")
        given["speed_scale"] = ParameterValue(scale, value_type=float)
    hardware, watched = value("velocity_controller"), value("watchdog").lower() == "true"
    parameter_file = parameter_files(value("robot"), value("params_file"))
    switches = {
        name: ParameterValue(LaunchConfiguration(name), value_type=bool)
        for name in ("autostart", "use_sim_time")
    }
    reach = Node(
        package="polyreach_nodes",
        executable="reach_node",
        namespace=LaunchConfiguration("namespace"),
        ros_arguments=["--log-level", LaunchConfiguration("log_level")],
        output="screen",
    )
    watchdog = Node(
        package="polyreach_nodes",
        executable="command_watchdog_node",
        namespace=LaunchConfiguration("namespace"),
        parameters=parameter_file,
        remappings=[("commands", f"{hardware}/commands")] if hardware else [],
        ros_arguments=["--log-level", LaunchConfiguration("log_level")],
        output="screen",
        on_exit=Shutdown(reason="the command watchdog ended"),
    )
    return [
        *([reach] if value("action").lower() == "true" else []),
        Node(
            package="polyreach_nodes",
            executable="controller_node",
            namespace=LaunchConfiguration("namespace"),
            parameters=[*parameter_file, {**switches, **given}],
            remappings=[("~/commands", f"{hardware}/commands")] if hardware and not watched else [],
            ros_arguments=["--log-level", LaunchConfiguration("log_level")],
            output="screen",
        ),
        *([watchdog] if watched else []),  # last: wrong arguments must show before it starts
    ]


def generate_launch_description() -> LaunchDescription:
    """Describe the controller alone: joint states come from hardware or from sim.launch.py."""
    return LaunchDescription([*arguments(), OpaqueFunction(function=controller)])
