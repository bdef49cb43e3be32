"""What `colcon build` in ros2_ws finds and installs."""

import os
import sys
from pathlib import Path

import pytest
from colcon_workspace import REPOSITORY, Workspace, builds_interfaces, program, run

pytestmark = pytest.mark.slow

FOLDERS = {
    "polyreach": "..",
    "polyreach_description": "src/polyreach_description",
    "polyreach_nodes": "src/polyreach_nodes",
}
INTERFACES = "polyreach_interfaces"
EXECUTABLES = (
    *("controller_node", "command_watchdog_node", "sim_node"),
    *("goal_node", "demo_node", "reach_node"),
)

with_interfaces = pytest.mark.skipif(
    not builds_interfaces(), reason="polyreach_interfaces cannot be built here (make interfaces)"
)


def test_colcon_finds_every_package_once() -> None:
    listed = run(program("colcon"), "--log-base", os.devnull, "list", folder=REPOSITORY / "ros2_ws")
    rows = [line.split("\t") for line in listed.stdout.splitlines()]
    expected = [[name, folder, "(ros.ament_python)"] for name, folder in FOLDERS.items()]
    expected.append([INTERFACES, f"src/{INTERFACES}", "(ros.ament_cmake)"])
    assert rows == sorted(expected)


@pytest.mark.parametrize("executable", EXECUTABLES)
def test_executable_is_installed(workspace: Workspace, executable: str) -> None:
    path = workspace.prefix("polyreach_nodes") / "lib" / "polyreach_nodes" / executable
    assert os.access(path, os.X_OK)


@pytest.mark.parametrize(
    ("folder", "pattern"),
    [
        ("launch", "*.launch.py"),
        ("config", "*.yaml"),
        ("config/rviz", "*.rviz"),
        ("config/layouts", "*.*"),
        ("models", "*.onnx"),
    ],
)
def test_shared_files_are_installed(workspace: Workspace, folder: str, pattern: str) -> None:
    share = workspace.prefix("polyreach") / "share" / "polyreach"
    shipped = sorted(path.name for path in (REPOSITORY / folder).glob(pattern))
    assert shipped
    assert sorted(path.name for path in (share / folder).glob(pattern)) == shipped


@pytest.mark.parametrize("package", FOLDERS)
def test_package_is_in_the_ament_index(workspace: Workspace, package: str) -> None:
    ask = "import sys, ament_index_python as a; print(a.get_package_share_directory(sys.argv[1]))"
    answer = workspace.run(sys.executable, "-c", ask, package)
    assert Path(answer.stdout.strip()) == workspace.prefix(package) / "share" / package


def test_modules_come_from_the_workspace(workspace: Workspace) -> None:
    ask = "import polyreach, polyreach_description, polyreach_nodes; print(polyreach.__file__)\n"
    ask += "print(polyreach_description.__file__); print(polyreach_nodes.__file__)"
    answer = workspace.run(sys.executable, "-c", ask)
    assert answer.returncode == 0, answer.stdout
    for package, path in zip(FOLDERS, answer.stdout.split(), strict=True):
        assert Path(path).is_relative_to(workspace.prefix(package))


def test_executable_starts_in_the_workspace(workspace: Workspace) -> None:
    path = workspace.prefix("polyreach_nodes") / "lib" / "polyreach_nodes" / "goal_node"
    answer = workspace.run(path, "left", "1", "nan", "0")
    assert answer.returncode == 2
    assert "nan is not finite" in answer.stdout


def test_colcon_test_is_given_to_pytest(workspace: Workspace) -> None:
    base = workspace.install.parent / "build"
    command = (
        program("colcon"),
        "--log-base",
        os.devnull,
        "test",
        "--packages-select",
        "polyreach",
    )
    places = ("--build-base", base, "--install-base", workspace.install)
    asked = ("--collect-only", "-q", "tests/launch/test_colcon.py")
    tested = run(
        *(*command, *places, "--event-handlers", "console_direct+", "--pytest-args", *asked),
        folder=REPOSITORY / "ros2_ws",
        environment=workspace.environment,
    )
    assert tested.returncode == 0, tested.stdout
    assert "::test_colcon_test_is_given_to_pytest" in tested.stdout


@with_interfaces
def test_interfaces_come_from_the_workspace(workspace: Workspace) -> None:
    ask = "from polyreach_interfaces.action import ReachGoals as R; R.Goal()\n"
    ask += "from rclpy.type_support import check_for_type_support; check_for_type_support(R)\n"
    ask += "import polyreach_interfaces; print(polyreach_interfaces.__file__)"
    answer = workspace.run(sys.executable, "-c", ask)
    assert answer.returncode == 0, answer.stdout
    assert Path(answer.stdout.strip()).is_relative_to(workspace.prefix(INTERFACES))
