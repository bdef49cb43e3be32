"""Controller and robot: simulated (sim:=true), or hardware driven by ros2_control (sim:=false)."""

from pathlib import Path

from ament_index_python.packages import get_package_share_directory
from launch import LaunchContext, LaunchDescription
from launch.action import Action
from launch.actions import OpaqueFunction, RegisterEventHandler, Shutdown
from launch.event_handlers import OnProcessExit
from launch.events.process import ProcessExited
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node

from polyreach_nodes.launch_arguments import COMMON, CONTROLLER, declare, include, text
from polyreach_nodes.launch_robot import (
    DESCRIBER,
    check_packages,
    existing,
    is_viewer,
    robot_state_publisher,
    robot_urdf,
    ros_clock,
    udp,
)
from polyreach_nodes.parameters import CommandInterface, ControllerParameters

HARDWARE_PACKAGES = (DESCRIBER, "controller_manager", "joint_state_broadcaster")
# of ros2_control: name in the shipped files, and package
HARDWARE_CONTROLLERS = {
    CommandInterface.VELOCITY: ("velocity_controller", "forward_command_controller"),
    CommandInterface.POSITION: ("position_controller", "forward_command_controller"),
    CommandInterface.TRAJECTORY: (
        "joint_trajectory_controller",
        "joint_trajectory_controller",
    ),
}
BROADCASTER = "joint_state_broadcaster"
PASSED = (*CONTROLLER, "velocity_controller", "action")  # on to the controller


def hardware(context: LaunchContext) -> list[Action]:
    """Nodes of robot_state_publisher and ros2_control; the launch ends when any of them ends."""
    interface = CommandInterface.of(text(context, "command_interface"))
    controller, package = HARDWARE_CONTROLLERS[interface]
    controller = text(context, "velocity_controller") or controller
    has_watchdog = str(interface is CommandInterface.VELOCITY).lower()
    check_packages("sim:=false", (*HARDWARE_PACKAGES, package))
    robot = text(context, "robot")
    share = Path(get_package_share_directory("polyreach"))
    shipped = share / "config" / "ros2_control" / f"{robot}.yaml"
    description = robot_state_publisher(robot_urdf(context))
    controllers_file = existing(
        text(context, "controllers_file"), "controllers_file", shipped, robot
    )
    namespace = LaunchConfiguration("namespace")
    manager = Node(
        package="controller_manager",
        executable="ros2_control_node",
        namespace=namespace,
        parameters=[str(controllers_file), ros_clock()],
        ros_arguments=["--log-level", LaunchConfiguration("log_level")],
        additional_env=udp(),
        output="screen",
    )
    spawner = Node(
        package="controller_manager",
        executable="spawner",
        namespace=namespace,
        arguments=[
            BROADCASTER,
            controller,
            *("--controller-manager", "controller_manager"),
            *("--param-file", str(controllers_file)),
        ],
        additional_env=udp(),
        output="screen",
    )

    def on_process_exit(event: ProcessExited, context: LaunchContext) -> Shutdown | None:
        """Raise an exception, which ends the launch and makes `ros2 launch` exit with 1."""
        if is_viewer(event):
            return None
        if event.returncode:
            raise RuntimeError(f"'{event.process_name}' ended with exit code {event.returncode}")
        if context.is_shutdown or event.action is spawner:
            return None
        return Shutdown(reason=f"'{event.process_name}' ended")

    return [
        # ros2_control keeps the last command: when controller or watchdog dies, it has to end, too
        RegisterEventHandler(OnProcessExit(on_exit=on_process_exit)),
        # first: a missing RViz or a wrong argument must show before hardware is switched on
        *viewer(context, description="false"),
        include(
            "controller.launch.py",
            *PASSED,
            velocity_controller=controller,
            watchdog=text(context, "watchdog") or has_watchdog,
        ),
        description,
        manager,
        spawner,
    ]


def viewer(context: LaunchContext, description: str) -> list[Action]:
    """RViz, if it is asked for; description: whether it comes with robot_state_publisher."""
    if text(context, "rviz").lower() != "true":
        return []
    return [include("rviz.launch.py", "robot", "urdf", *COMMON, description=description)]


def launch_setup(context: LaunchContext) -> list[Action]:
    """Actions for hardware or simulator, and for the controller."""
    if text(context, "sim").lower() == "false":
        return hardware(context)
    watchdog = text(context, "watchdog").lower() or "false"
    commands = "commands" if watchdog == "true" else "polyreach_controller/commands"
    return [
        *viewer(context, description="true"),
        include("sim.launch.py", "robot", "command_interface", *COMMON, commands=commands),
        include("controller.launch.py", *PASSED, velocity_controller="", watchdog=watchdog),
    ]


def generate_launch_description() -> LaunchDescription:
    """Describe a whole robot; controllers_file applies to sim:=false."""
    arguments = declare(
        *("sim", *PASSED, "watchdog", "rviz", "urdf", "controllers_file"),
        robot=ControllerParameters.robot,
        command_interface=ControllerParameters.command_interface,
        watchdog="",
    )
    return LaunchDescription([*arguments, OpaqueFunction(function=launch_setup)])
