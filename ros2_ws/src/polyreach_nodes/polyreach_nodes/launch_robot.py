"""What launch files start beside the nodes of this package: robot_state_publisher and RViz.

As in launch_arguments, nothing here needs more than what comes with `ros2 launch`: its interpreter
may lack MuJoCo, so polyreach_description is located without an import.
"""

from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path

import yaml
from ament_index_python.packages import (
    PackageNotFoundError,
    get_package_prefix,
    get_package_share_directory,
)
from launch import LaunchContext
from launch.events.process import ProcessExited
from launch.substitutions import EnvironmentVariable, LaunchConfiguration
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue

from polyreach_nodes.launch_arguments import text

DESCRIBER = "robot_state_publisher"  # package and executable
VIEWER = "rviz2"  # package and executable
# the frames of robots in different namespaces must not mix
OWN_TF = [("/tf", "tf"), ("/tf_static", "tf_static")]
_TRANSPORTS = "FASTDDS_BUILTIN_TRANSPORTS"


def check_packages(argument: str, packages: Iterable[str]) -> None:
    """Raise RuntimeError if a package that a launch argument needs is missing."""
    missing = []
    for package in packages:
        try:
            get_package_prefix(package)
        except PackageNotFoundError:
            missing.append(package)
    if missing:
        debian = " ".join(f"ros-$ROS_DISTRO-{name.replace('_', '-')}" for name in missing)
        raise RuntimeError(
            f"{argument} needs packages that are not installed: {', '.join(missing)} "
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


def robot_urdf(context: LaunchContext) -> Path:
    """The URDF that `urdf` names, or else robot.urdf beside the robot.yaml."""
    robot = text(context, "robot")
    return existing(
        text(context, "urdf"), "urdf", _robot_yaml(robot).with_name("robot.urdf"), robot
    )


def base_frame(robot: str) -> str:
    """The base frame in the robot.yaml of a shipped robot or of one given by its path.

    Raises ValueError where it has none.
    """
    path = _robot_yaml(robot)
    content = yaml.safe_load(path.read_text())
    frame = content.get("base_frame") if isinstance(content, dict) else None
    if not isinstance(frame, str):
        raise ValueError(f"'{path}' has no base_frame")
    return frame


def _robot_yaml(robot: str) -> Path:
    if robot.endswith((".yaml", ".yml")):
        return Path(robot)
    package = find_spec("polyreach_description")
    folders = (package and package.submodule_search_locations) or [""]
    return Path(folders[0]) / "robots" / robot / "robot.yaml"


def ros_clock() -> dict[str, ParameterValue]:
    """The parameter use_sim_time."""
    switch = LaunchConfiguration("use_sim_time")
    return {"use_sim_time": ParameterValue(switch, value_type=bool)}


def udp() -> dict[str, EnvironmentVariable]:
    """Environment of processes of other packages, which may be killed and then leave Fast DDS's
    shared memory locked (docs/security.md).
    """
    return {_TRANSPORTS: EnvironmentVariable(_TRANSPORTS, default_value="UDPv4")}


def robot_state_publisher(urdf: Path) -> Node:
    """Publishes the URDF on robot_description and the frames of its links."""
    description = ParameterValue(urdf.read_text(), value_type=str)
    return Node(
        package=DESCRIBER,
        executable=DESCRIBER,
        namespace=LaunchConfiguration("namespace"),
        parameters=[{"robot_description": description, **ros_clock()}],
        remappings=OWN_TF,
        ros_arguments=["--log-level", LaunchConfiguration("log_level")],
        additional_env=udp(),
        output="screen",
    )


def rviz(robot: str) -> Node:
    """RViz with robot, goals, obstacles and distances in the base frame."""
    share = Path(get_package_share_directory("polyreach"))
    config = share / "config" / "rviz" / "polyreach.rviz"
    return Node(
        package=VIEWER,
        executable=VIEWER,
        namespace=LaunchConfiguration("namespace"),
        arguments=["-d", str(config), "-f", base_frame(robot)],
        parameters=[ros_clock()],
        remappings=OWN_TF,
        ros_arguments=["--log-level", LaunchConfiguration("log_level")],
        additional_env=udp(),
        output="screen",
    )


def is_viewer(event: ProcessExited) -> bool:
    """Whether the process that ended is RViz, which no robot depends on."""
    return bool(event.process_name.rpartition("-")[0] == VIEWER)
