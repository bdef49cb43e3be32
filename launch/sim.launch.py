"""Bring up a robot in MuJoCo, driven by the controller's commands."""

from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue


def generate_launch_description() -> LaunchDescription:
    """Describe the simulator alone: it holds still until commands arrive."""
    arguments = [
        DeclareLaunchArgument(
            "robot",
            default_value="planar8",
            description="Shipped robot (planar8, humanoid27) or path of a robot.yaml.",
        ),
        DeclareLaunchArgument(
            "namespace", default_value="", description="Namespace of nodes and topics."
        ),
        DeclareLaunchArgument(
            "use_sim_time",
            default_value="false",
            choices=["true", "false", "True", "False"],
            description="Stamp joint states with simulated time.",
        ),
        DeclareLaunchArgument(
            "rate_factor",
            default_value="1.0",
            description="Simulated seconds per second; other than 1 needs use_sim_time everywhere.",
        ),
        DeclareLaunchArgument(
            "commands",
            default_value="polyreach_controller/commands",
            description="Topic of the joint velocity commands that move the robot; those of the "
            "command watchdog (watchdog:=true of controller.launch.py): commands.",
        ),
        DeclareLaunchArgument(
            "log_level",
            default_value="info",
            choices=["debug", "info", "warn", "error", "fatal"],
            description="Least severe messages that are logged.",
        ),
    ]
    simulator = Node(
        package="polyreach_nodes",
        executable="sim_node",
        namespace=LaunchConfiguration("namespace"),
        parameters=[
            {
                "robot": ParameterValue(LaunchConfiguration("robot"), value_type=str),
                "rate_factor": ParameterValue(LaunchConfiguration("rate_factor"), value_type=float),
                "use_sim_time": ParameterValue(
                    LaunchConfiguration("use_sim_time"), value_type=bool
                ),
            }
        ],
        remappings=[("commands", LaunchConfiguration("commands"))],
        ros_arguments=["--log-level", LaunchConfiguration("log_level")],
        output="screen",
    )
    return LaunchDescription([*arguments, simulator])
