"""Controller and robot: simulated (sim:=true), or hardware driven by ros2_control (sim:=false)."""

from importlib.util import find_spec
from pathlib import Path

from ament_index_python.packages import (
    PackageNotFoundError,
    get_package_prefix,
    get_package_share_directory,
)
from launch import LaunchContext, LaunchDescription
from launch.action import Action
from launch.actions import OpaqueFunction, RegisterEventHandler, Shutdown
from launch.event_handlers import OnProcessExit
from launch.events.process import ProcessExited
from launch.substitutions import EnvironmentVariable, LaunchConfiguration
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue

from polyreach_nodes.launch_arguments import COMMON, CONTROLLER, declare, include, text
from polyreach_nodes.parameters import CommandInterface, ControllerParameters

HARDWARE_PACKAGES = ("robot_state_publisher", "controller_manager", "joint_state_broadcaster")
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


def check_packages(*controllers: str) -> None:
    """Raise RuntimeError, before any process starts, if a package of ros2_control is missing."""
    missing = []
    for package in (*HARDWARE_PACKAGES, *controllers):
        try:
            get_package_prefix(package)
        except PackageNotFoundError:
            missing.append(package)
    if missing:
        debian = " ".join(f"ros-$ROS_DISTRO-{name.replace('_', '-')}" for name in missing)
        raise RuntimeError(
            f"sim:=false needs packages that are not installed: {', '.join(missing)} "
            f"(apt-get install {debian})"
        )


def existing(given: str, argument: str, shipped: Path, robot: str) -> Path:
    """The given file, or else the shipped one; FileNotFoundError names the wrong argument."""
    path = Path(given) if given else shipped
    if path.is_file():
        return path.resolve()
    if given:
        raise FileNotFoundError(f"{argument} '{given}' does not exist")
    raise FileNotFoundError(f"robot '{robot}' has no '{shipped}': give {argument}:=PATH")


def shipped_urdf(robot: str) -> Path:
    """robot.urdf beside the robot.yaml of a shipped robot or of one given by its path.

    The package is located without an import: the interpreter of `ros2 launch` may lack MuJoCo.
    """
    if robot.endswith((".yaml", ".yml")):
        return Path(robot).with_name("robot.urdf")
    package = find_spec("polyreach_description")
    folders = (package and package.submodule_search_locations) or [""]
    return Path(folders[0]) / "robots" / robot / "robot.urdf"


def hardware(context: LaunchContext) -> list[Action]:
    """Nodes of robot_state_publisher and ros2_control; the launch ends when any of them ends."""
    interface = CommandInterface.of(text(context, "command_interface"))
    controller, package = HARDWARE_CONTROLLERS[interface]
    controller = text(context, "velocity_controller") or controller
    has_watchdog = str(interface is CommandInterface.VELOCITY).lower()
    check_packages(package)
    robot = text(context, "robot")
    share = Path(get_package_share_directory("polyreach"))
    shipped = share / "config" / "ros2_control" / f"{robot}.yaml"
    urdf = existing(text(context, "urdf"), "urdf", shipped_urdf(robot), robot)
    controllers_file = existing(
        text(context, "controllers_file"), "controllers_file", shipped, robot
    )
    namespace, switch = LaunchConfiguration("namespace"), LaunchConfiguration("use_sim_time")
    clock = {"use_sim_time": ParameterValue(switch, value_type=bool)}
    log = ["--log-level", LaunchConfiguration("log_level")]
    # a process that is killed may leave Fast DDS's shared memory locked (docs/security.md)
    transports = "FASTDDS_BUILTIN_TRANSPORTS"
    udp = {transports: EnvironmentVariable(transports, default_value="UDPv4")}
    description = Node(
        package="robot_state_publisher",
        executable="robot_state_publisher",
        namespace=namespace,
        parameters=[
            {"robot_description": ParameterValue(urdf.read_text(), value_type=str), **clock}
        ],
        # the frames of robots in different namespaces must not mix
        remappings=[("/tf", "tf"), ("/tf_static", "tf_static")],
        ros_arguments=log,
        additional_env=udp,
        output="screen",
    )
    manager = Node(
        package="controller_manager",
        executable="ros2_control_node",
        namespace=namespace,
        parameters=[str(controllers_file), clock],
        ros_arguments=log,
        additional_env=udp,
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
        additional_env=udp,
        output="screen",
    )

    def on_process_exit(event: ProcessExited, context: LaunchContext) -> Shutdown | None:
        """Raise an exception, which ends the launch and makes `ros2 launch` exit with 1."""
        if event.returncode:
            raise RuntimeError(f"'{event.process_name}' ended with exit code {event.returncode}")
        if context.is_shutdown or event.action is spawner:
            return None
        return Shutdown(reason=f"'{event.process_name}' ended")

    return [
        # ros2_control keeps the last command: when controller or watchdog dies, it has to end, too
        RegisterEventHandler(OnProcessExit(on_exit=on_process_exit)),
        # first: a wrong argument of the controller must show before hardware is switched on
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


def launch_setup(context: LaunchContext) -> list[Action]:
    """Actions for hardware or simulator, and for the controller."""
    if text(context, "sim").lower() == "false":
        return hardware(context)
    watchdog = text(context, "watchdog").lower() or "false"
    commands = "commands" if watchdog == "true" else "polyreach_controller/commands"
    return [
        include("sim.launch.py", "robot", "command_interface", *COMMON, commands=commands),
        include("controller.launch.py", *PASSED, velocity_controller="", watchdog=watchdog),
    ]


def generate_launch_description() -> LaunchDescription:
    """Describe a whole robot; urdf and controllers_file apply to sim:=false."""
    arguments = declare(
        *("sim", *PASSED, "watchdog", "urdf", "controllers_file"),
        robot=ControllerParameters.robot,
        command_interface=ControllerParameters.command_interface,
        watchdog="",
    )
    return LaunchDescription([*arguments, OpaqueFunction(function=launch_setup)])
