"""What the launch files share: every launch argument once, and the nodes that take them.

`ros2 launch` imports this in its own interpreter, so nothing here needs more than the standard
library, `launch` and `launch_ros`.
"""

from dataclasses import dataclass, replace
from typing import Any

from launch import LaunchContext, SomeSubstitutionsType
from launch.actions import DeclareLaunchArgument, IncludeLaunchDescription
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution, ThisLaunchFileDir
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue

from polyreach_nodes.parameter_spec import ParameterSpec, specs
from polyreach_nodes.parameters import ControllerParameters, DemoParameters, SimParameters

BOOLEAN = ("true", "false", "True", "False")


@dataclass(frozen=True)
class Argument:
    """A launch argument; `empty` says what no value means, where that is the default."""

    text: str
    default: str = ""
    choices: tuple[str, ...] = ()
    empty: str = ""


def launch_specs(kind: type[Any]) -> tuple[ParameterSpec, ...]:
    """The parameters of a class that are launch arguments."""
    return tuple(spec for spec in specs(kind) if spec.launch)


def _of_parameter(spec: ParameterSpec, in_file: bool) -> Argument:
    """The launch argument of a node's parameter; in_file: params_file has it too."""
    is_switch = isinstance(spec.default, bool)
    default = str(spec.default).lower() if is_switch else str(spec.default)
    if in_file:
        default = spec.launch_default or ""
    text = f"{spec.text} [{spec.unit}]" if spec.unit else spec.text
    return Argument(
        text,
        default,
        BOOLEAN if is_switch else spec.choices,
        "Without a value, params_file decides." if in_file else "",
    )


ARGUMENTS = {
    **{spec.name: _of_parameter(spec, False) for spec in launch_specs(SimParameters)},
    **{spec.name: _of_parameter(spec, False) for spec in launch_specs(DemoParameters)},
    **{spec.name: _of_parameter(spec, True) for spec in launch_specs(ControllerParameters)},
    "namespace": Argument("Namespace of nodes and topics; with sim:=false of TF too."),
    "use_sim_time": Argument(
        "Run the control loop on the simulator's /clock, which then also stamps joint states.",
        "false",
        BOOLEAN,
    ),
    "log_level": Argument(
        "Lowest severity of the messages that are logged.",
        "info",
        ("debug", "info", "warn", "error", "fatal"),
    ),
    "params_file": Argument(
        "Parameter file of controller and command watchdog; empty: config/<robot>.yaml."
    ),
    "action": Argument(
        "Serve the action polyreach_controller/reach too (needs polyreach_interfaces).",
        "false",
        BOOLEAN,
    ),
    "velocity_controller": Argument(
        "Controller of ros2_control that receives the commands, of any command_interface; empty: "
        "commands stay on ~/commands (with watchdog:=true on commands), ~/position_commands or "
        "~/joint_trajectory, where the simulator receives them. With sim:=false, its name in "
        "controllers_file; empty: velocity_controller, position_controller or "
        "joint_trajectory_controller."
    ),
    "commands": Argument(
        "Topic of the joint velocity commands that move the robot; with the command watchdog: "
        "commands.",
        "polyreach_controller/commands",
    ),
    "sim": Argument("Simulate the robot; false: drive hardware by ros2_control.", "true", BOOLEAN),
    "urdf": Argument(
        "URDF of the robot, with a <ros2_control> block for sim:=false; empty: robot.urdf beside "
        "the robot.yaml (that of a shipped robot drives mock hardware)."
    ),
    "rviz": Argument(
        "Show robot, goals, obstacles and distances in RViz (needs rviz2 and "
        "robot_state_publisher).",
        "false",
        BOOLEAN,
    ),
    "description": Argument(
        "Publish robot_description and the frames of the links, by robot_state_publisher; false if "
        "another node does.",
        "true",
        BOOLEAN,
    ),
    "controllers_file": Argument(
        "Parameters of ros2_control; empty: config/ros2_control/<robot>.yaml."
    ),
}
ARGUMENTS["watchdog"] = replace(
    ARGUMENTS["watchdog"],
    empty="Without a value: true for hardware that takes velocities, else false.",
)
COMMON = ("namespace", "use_sim_time", "log_level")
CONTROLLER = (*(spec.name for spec in launch_specs(ControllerParameters)), *COMMON, "params_file")


def declare(*names: str, **defaults: str) -> list[DeclareLaunchArgument]:
    """Declare launch arguments; defaults: by name, where they differ from those of ARGUMENTS."""
    declared = []
    for name in dict.fromkeys(names):
        argument = ARGUMENTS[name]
        default = defaults.get(name, argument.default)
        choices = list(argument.choices)
        text = argument.text
        if not default and argument.empty:
            text = f"{text} {argument.empty}"
            choices = ["", *choices] if choices else []
        declared.append(
            DeclareLaunchArgument(
                name, default_value=default, description=text, choices=choices or None
            )
        )
    return declared


def include(file: str, *names: str, **values: SomeSubstitutionsType) -> IncludeLaunchDescription:
    """A launch file beside the present one, with the arguments `names` passed on, and `values`."""
    arguments = {name: LaunchConfiguration(name) for name in names} | values
    return IncludeLaunchDescription(
        PythonLaunchDescriptionSource(PathJoinSubstitution([ThisLaunchFileDir(), file])),
        launch_arguments=arguments.items(),
    )


def node(executable: str, **details: Any) -> Node:
    """A node of this package, in the namespace and with the log level of the launch."""
    return Node(
        package="polyreach_nodes",
        executable=executable,
        namespace=LaunchConfiguration("namespace"),
        ros_arguments=["--log-level", LaunchConfiguration("log_level")],
        output="screen",
        **details,
    )


def text(context: LaunchContext, name: str) -> str:
    """The value of a launch argument."""
    return str(LaunchConfiguration(name).perform(context))


def parameter_values(
    kind: type[Any], context: LaunchContext | None = None
) -> dict[str, ParameterValue]:
    """Parameters of a node from the launch arguments of the same names, and use_sim_time.

    context: leave out those without a value.
    """
    types = {spec.name: type(spec.default) for spec in launch_specs(kind)} | {"use_sim_time": bool}
    return {
        name: ParameterValue(LaunchConfiguration(name), value_type=value_type)
        for name, value_type in types.items()
        if context is None or text(context, name)
    }
