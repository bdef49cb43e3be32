"""rviz:=true under the genuine `ros2 launch`; RViz and robot_state_publisher are stand-ins."""

from pathlib import Path

import pytest
from colcon_workspace import Workspace
from test_bringup import STAND_INS, over_stand_ins
from test_launch import launch
from test_launch import pytestmark as pytestmark

EXECUTABLES = {
    "robot_state_publisher/robot_state_publisher": STAND_INS / "robot_state_publisher.py",
    "rviz2/rviz2": STAND_INS / "rviz2.py",
}
PROCESSES = 5


def test_rviz_shows_robot_and_markers_in_the_base_frame(
    workspace: Workspace, tmp_path: Path
) -> None:
    done = launch(
        over_stand_ins(workspace, tmp_path, EXECUTABLES),
        *("demo.launch.py", "rviz:=true", "robot:=humanoid27", "namespace:=arm", "goal_sets:=1"),
        timeout_s=120.0,
    )
    assert done.returncode == 0, done.stdout
    assert "fixed frame pelvis" in done.stdout
    assert "/arm/robot_description shows a URDF" in done.stdout
    assert "/arm/polyreach_controller/markers shows {'pelvis'}" in done.stdout
    assert "reached 2/2 goals" in done.stdout
    assert done.stdout.count("process has finished cleanly") == PROCESSES, done.stdout


@pytest.mark.parametrize(
    ("file", "argument"),
    [("demo", "rviz:=true"), ("bringup", "rviz:=true"), ("rviz", "description:=false")],
)
def test_a_missing_rviz_is_named_before_anything_starts(
    workspace: Workspace, file: str, argument: str
) -> None:
    done = launch(workspace, f"{file}.launch.py", argument, timeout_s=30.0)
    assert done.returncode == 1, done.stdout
    assert "RViz needs packages that are not installed: rviz2" in done.stdout
    assert "apt-get install ros-$ROS_DISTRO-rviz2" in done.stdout
    assert "process started" not in done.stdout


@pytest.mark.parametrize(
    ("argument", "complaint"),
    [
        ("robot:=octopus", "robot 'octopus' has no"),
        ("urdf:=/nowhere.urdf", "urdf '/nowhere.urdf' does not exist"),
        ("rviz:=maybe", "maybe"),
    ],
)
def test_a_wrong_argument_is_refused(
    workspace: Workspace, tmp_path: Path, argument: str, complaint: str
) -> None:
    with_rviz = over_stand_ins(workspace, tmp_path, EXECUTABLES)
    wanted = [] if argument.startswith("rviz") else ["rviz:=true"]
    done = launch(with_rviz, "demo.launch.py", *wanted, argument, timeout_s=30.0)
    assert done.returncode == 1, done.stdout
    assert complaint in done.stdout
    assert "process started" not in done.stdout
