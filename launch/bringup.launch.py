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
from launch.actions import (
    DeclareLaunchArgument,
    IncludeLaunchDescription,
    OpaqueFunction,
    RegisterEventHandler,
    Shutdown,
)
from launch.event_handlers import OnProcessExit
from launch.events.process import ProcessExited
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import (
    EnvironmentVariable,
    LaunchConfiguration,
    PathJoinSubstitution,
    ThisLaunchFileDir,
)
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue

SIMULATOR_ARGUMENTS = ("robot", "namespace", "use_sim_time", "log_level")
CONTROLLER_ARGUMENTS = (
    *SIMULATOR_ARGUMENTS,
    *("policy", "params_file", "autostart", "speed_scale", "velocity_controller", "action"),
)
BOOLEAN = ["true", "false", "True", "False"]
HARDWARE_PACKAGES = (
    "robot_state_publisher",
    "controller_manager",
    "joint_state_broadcaster",
    "forward_command_controller",
)
BROADCASTER = "joint_state_broadcaster"


def arguments() -> list[DeclareLaunchArgument]:
    """Arguments of this file; urdf, controllers_file and velocity_controller are of sim:=false."""
    return [
        DeclareLaunchArgument(
            "sim",
            default_value="true",
            choices=BOOLEAN,
            description="Simulate the robot; false: drive hardware through ros2_control.",
        ),
        DeclareLaunchArgument(
            "robot",
            default_value="planar8",
            description="Shipped robot (planar8, humanoid27) or path of a robot.yaml.",
        ),
        DeclareLaunchArgument(
            "policy",
            default_value="",
            description="Path of a policy file (.onnx); empty: what params_file says, else the "
            "robot's shipped models/<robot>-digrad.onnx.",
        ),
        DeclareLaunchArgument(
            "namespace", default_value="", description="Namespace of nodes and topics, TF included."
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
            "params_file says. First motions of hardware: 0.1.",
        ),
        DeclareLaunchArgument(
            "autostart",
            default_value="true",
            choices=BOOLEAN,
            description="Configure and activate the controller at start.",
        ),
        DeclareLaunchArgument(
            "action",
            default_value="false",
            choices=BOOLEAN,
            description="Serve the action polyreach_controller/reach, too (needs "
            "polyreach_interfaces).",
        ),
        DeclareLaunchArgument(
            "urdf",
            default_value="",
            description="URDF with a <ros2_control> block; empty: the shipped one of the robot, "
            "which drives mock hardware.",
        ),
        DeclareLaunchArgument(
            "controllers_file",
            default_value="",
            description="Parameters of ros2_control; empty: config/ros2_control/<robot>.yaml.",
        ),
        DeclareLaunchArgument(
            "velocity_controller",
            default_value="velocity_controller",
            description="Name of the forward_command_controller in controllers_file.",
        ),
        DeclareLaunchArgument(
            "watchdog",
            default_value="",
            choices=["", *BOOLEAN],
            description="Send the commands through the command watchdog, a process of its own that "
            "publishes zero when they stop; empty: true for hardware, false for the simulator.",
        ),
        DeclareLaunchArgument(
            "log_level",
            default_value="info",
            choices=["debug", "info", "warn", "error", "fatal"],
            description="Least severe messages that are logged.",
        ),
    ]


def include(name: str, names: tuple[str, ...], **values: str) -> IncludeLaunchDescription:
    """A launch file beside this one, with the arguments `names` passed on, or `values` instead."""
    given = {argument: LaunchConfiguration(argument) for argument in names} | values
    return IncludeLaunchDescription(
        PythonLaunchDescriptionSource(PathJoinSubstitution([ThisLaunchFileDir(), name])),
        launch_arguments=given.items(),
    )


def check_packages() -> None:
    """Raise RuntimeError, before any process starts, if a package of ros2_control is missing."""
    missing = []
    for package in HARDWARE_PACKAGES:
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
    """The given file, else the shipped one; FileNotFoundError names the argument that is wrong."""
    path = Path(given) if given else shipped
    if path.is_file():
        return path.resolve()
    if given:
        raise FileNotFoundError(f"{argument} '{given}' does not exist")
    raise FileNotFoundError(f"robot '{robot}' has no '{shipped}': give {argument}:=PATH")


def shipped_urdf(robot: str) -> Path:
    """robot.urdf beside the robot.yaml of a shipped robot or of one given by its path.

    The package is found, but not imported: the interpreter of `ros2 launch` may lack what it needs.
    """
    if robot.endswith((".yaml", ".yml")):
        return Path(robot).with_name("robot.urdf")
    package = find_spec("polyreach_description")
    folders = (package and package.submodule_search_locations) or [""]
    return Path(folders[0]) / "robots" / robot / "robot.urdf"


def hardware(context: LaunchContext) -> list[Action]:
    """robot_state_publisher, ros2_control and its controllers; the launch ends with any of them."""

    def value(name: str) -> str:
        return str(LaunchConfiguration(name).perform(context))

    check_packages()
    robot = value("robot")
    share = Path(get_package_share_directory("polyreach"))
    shipped = share / "config" / "ros2_control" / f"{robot}.yaml"
    urdf = existing(value("urdf"), "urdf", shipped_urdf(robot), robot)
    controllers_file = existing(value("controllers_file"), "controllers_file", shipped, robot)
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
            value("velocity_controller"),
            *("--controller-manager", "controller_manager"),
            *("--param-file", str(controllers_file)),
        ],
        additional_env=udp,
        output="screen",
    )

    def judge(event: ProcessExited, context: LaunchContext) -> Shutdown | None:
        """An exception in a handler ends the launch, and `ros2 launch` with exit code 1."""
        if event.returncode:
            raise RuntimeError(f"'{event.process_name}' ended with exit code {event.returncode}")
        if context.is_shutdown or event.action is spawner:
            return None
        return Shutdown(reason=f"'{event.process_name}' ended")

    return [
        # ros2_control keeps the last command: when controller or watchdog dies, it has to end, too
        RegisterEventHandler(OnProcessExit(on_exit=judge)),
        # first: a wrong argument of the controller must show before hardware is switched on
        include("controller.launch.py", CONTROLLER_ARGUMENTS, watchdog=value("watchdog") or "true"),
        description,
        manager,
        spawner,
    ]


def what_sim_says(context: LaunchContext) -> list[Action]:
    """Hardware or simulator, and the controller."""
    if LaunchConfiguration("sim").perform(context).lower() == "false":
        return hardware(context)
    watchdog = LaunchConfiguration("watchdog").perform(context).lower() or "false"
    commands = "commands" if watchdog == "true" else "polyreach_controller/commands"
    return [
        include("sim.launch.py", SIMULATOR_ARGUMENTS, commands=commands),
        include(
            "controller.launch.py",
            CONTROLLER_ARGUMENTS,
            velocity_controller="",
            watchdog=watchdog,
        ),
    ]


def generate_launch_description() -> LaunchDescription:
    """Describe a whole robot."""
    return LaunchDescription([*arguments(), OpaqueFunction(function=what_sim_says)])
