"""Simulator, controller and goals for them; the exit code tells whether all were reached."""

from launch import LaunchContext, LaunchDescription
from launch.actions import (
    DeclareLaunchArgument,
    IncludeLaunchDescription,
    RegisterEventHandler,
    Shutdown,
)
from launch.event_handlers import OnProcessExit
from launch.events.process import ProcessExited
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import (
    IfElseSubstitution,
    LaunchConfiguration,
    PathJoinSubstitution,
    ThisLaunchFileDir,
)
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue

SIMULATOR_ARGUMENTS = ("robot", "namespace", "use_sim_time", "log_level")
CONTROLLER_ARGUMENTS = (*SIMULATOR_ARGUMENTS, "policy", "params_file", "autostart", "watchdog")
BOOLEAN = ["true", "false", "True", "False"]


def arguments() -> list[DeclareLaunchArgument]:
    """Arguments of this file; all but the last four go to simulator and controller."""
    return [
        DeclareLaunchArgument(
            "robot",
            default_value="planar8",
            description="Shipped robot (planar8, humanoid27) or path of a robot.yaml.",
        ),
        DeclareLaunchArgument(
            "policy",
            default_value="",
            description="Path of a policy file (.onnx); empty: the robot's shipped "
            "models/<robot>-digrad.onnx.",
        ),
        DeclareLaunchArgument(
            "namespace", default_value="", description="Namespace of nodes and topics."
        ),
        DeclareLaunchArgument(
            "use_sim_time",
            default_value="false",
            choices=BOOLEAN,
            description="Let the control loop follow the simulator's /clock.",
        ),
        DeclareLaunchArgument(
            "params_file",
            default_value="",
            description="Parameter file of the controller; empty: config/<robot>.yaml.",
        ),
        DeclareLaunchArgument(
            "autostart",
            default_value="true",
            choices=BOOLEAN,
            description="Configure and activate the controller at start; else do so within 30 s.",
        ),
        DeclareLaunchArgument(
            "watchdog",
            default_value="false",
            choices=BOOLEAN,
            description="Send the commands through the command watchdog, a process of its own.",
        ),
        DeclareLaunchArgument(
            "log_level",
            default_value="info",
            choices=["debug", "info", "warn", "error", "fatal"],
            description="Least severe messages that are logged.",
        ),
        DeclareLaunchArgument(
            "goal_sets", default_value="5", description="Sets of goals, one per effector each."
        ),
        DeclareLaunchArgument(
            "seconds", default_value="60.0", description="Time for all goals together [s]."
        ),
        DeclareLaunchArgument("seed", default_value="0", description="Seed of the goals."),
        DeclareLaunchArgument(
            "picture", default_value="", description="Path of a PNG of the motion; empty: none."
        ),
    ]


def include(
    name: str, names: tuple[str, ...], **values: IfElseSubstitution
) -> IncludeLaunchDescription:
    """A launch file beside this one, with the arguments `names` passed on, and `values`."""
    given = {argument: LaunchConfiguration(argument) for argument in names} | values
    return IncludeLaunchDescription(
        PythonLaunchDescriptionSource(PathJoinSubstitution([ThisLaunchFileDir(), name])),
        launch_arguments=given.items(),
    )


def parameters() -> dict[str, ParameterValue]:
    """Parameters of the scenario, from the arguments of the same names."""
    types = {
        "robot": str,
        "use_sim_time": bool,
        "goal_sets": int,
        "seconds": float,
        "seed": int,
        "picture": str,
        "watchdog": bool,
    }
    return {
        name: ParameterValue(LaunchConfiguration(name), value_type=kind)
        for name, kind in types.items()
    }


def generate_launch_description() -> LaunchDescription:
    """The launch ends when any process ends, with exit code 1 unless all went well."""
    scenario = Node(
        package="polyreach_nodes",
        executable="demo_node",
        namespace=LaunchConfiguration("namespace"),
        parameters=[parameters()],
        ros_arguments=["--log-level", LaunchConfiguration("log_level")],
        output="screen",
    )

    commands = IfElseSubstitution(
        LaunchConfiguration("watchdog"), "commands", "polyreach_controller/commands"
    )

    def judge(event: ProcessExited, context: LaunchContext) -> Shutdown | None:
        """An exception in a handler is what makes `ros2 launch` exit with 1."""
        if event.returncode:
            raise RuntimeError(f"'{event.process_name}' ended with exit code {event.returncode}")
        if context.is_shutdown:
            return None
        if event.action is not scenario:
            raise RuntimeError(f"'{event.process_name}' ended before the scenario")
        return Shutdown(reason="the scenario succeeded")

    return LaunchDescription(
        [
            *arguments(),
            # handlers run last first: this one after those that write what a process printed
            RegisterEventHandler(OnProcessExit(on_exit=judge)),
            include("sim.launch.py", SIMULATOR_ARGUMENTS, commands=commands),
            include("controller.launch.py", CONTROLLER_ARGUMENTS),
            scenario,
        ]
    )
