"""The launch files under the genuine `ros2 launch` and `launch_test`."""

import os
import re
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from time import monotonic, sleep

import pytest
from colcon_workspace import Workspace, program

from polyreach_nodes.parameter_spec import specs
from polyreach_nodes.parameters import ControllerParameters, SimParameters

FOLDER = Path(__file__).parent
LAUNCH_TESTS = sorted(path.name for path in FOLDER.glob("launch_test_*.py"))
PATIENT = FOLDER / "patient.yaml"
NODES = ("sim_node", "controller_node", "demo_node")
LINE = (
    r"reached (\d+)/(\d+) goals, median error ([\d.]+) mm, control period p50/p99 [\d.]+/[\d.]+ ms"
)

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not (program("launch_test") and program("ros2")),
        reason="launch_test and ros2 come with a ROS 2 installation, and none is sourced "
        "(source /opt/ros/<distro>/setup.bash)",
    ),
]


@pytest.mark.parametrize("name", LAUNCH_TESTS)
def test_launch_test(workspace: Workspace, name: str) -> None:
    done = workspace.run(program("launch_test"), FOLDER / name, timeout_s=180.0)
    assert done.returncode == 0, done.stdout


def launch(
    workspace: Workspace, *arguments: str, timeout_s: float
) -> subprocess.CompletedProcess[str]:
    return workspace.run(program("ros2"), "launch", "polyreach", *arguments, timeout_s=timeout_s)


@pytest.mark.parametrize("way", ["velocity", "watchdog", "position", "trajectory"])
def test_demo_reaches_its_goals(workspace: Workspace, tmp_path: Path, way: str) -> None:
    watchdog = way == "watchdog"
    picture = tmp_path / "motion.png"
    done = launch(
        workspace,
        "demo.launch.py",
        "goal_sets:=2",
        "seconds:=40.0",
        f"picture:={picture}",
        *(
            [f"params_file:={PATIENT}", "watchdog:=true"]
            if watchdog
            else [f"command_interface:={way}"]
        ),
        timeout_s=120.0,
    )
    assert done.returncode == 0, done.stdout
    line = re.search(LINE, done.stdout)
    assert line, done.stdout
    assert line.group(1) == line.group(2) == "6"
    assert float(line.group(3)) < 20.0
    processes = len(NODES) + watchdog
    assert done.stdout.count("process has finished cleanly") == processes, done.stdout
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_demo_fails_with_exit_code_1(workspace: Workspace) -> None:
    done = launch(workspace, "demo.launch.py", "goal_sets:=1", "seconds:=0.2", timeout_s=120.0)
    assert done.returncode == 1, done.stdout
    line = re.search(LINE, done.stdout)
    assert line, done.stdout
    assert int(line.group(1)) < int(line.group(2))
    assert "ended with exit code 1" in done.stdout


def test_an_interrupted_demo_leaves_no_process_running(
    workspace: Workspace, tmp_path: Path
) -> None:
    log = tmp_path / "log.txt"
    with log.open("wb") as output:
        child = subprocess.Popen(
            [program("ros2"), "launch", "polyreach", "demo.launch.py"],
            env=workspace.environment,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        wait_for(lambda: "[polyreach_controller]: ACTIVE" in log.read_text(), 60.0, log)
        child.send_signal(signal.SIGINT)
        try:
            child.wait(timeout=20.0)
        finally:
            survivors = group_exists(child.pid)
            if survivors:
                os.killpg(child.pid, signal.SIGKILL)
    text = log.read_text()
    assert not survivors, text
    assert child.returncode == 1, text
    for node in ("sim_node", "controller_node"):
        assert re.search(rf"{node}-\d\]: process has finished cleanly", text), text


def wait_for(done: Callable[[], bool], timeout_s: float, log: Path) -> None:
    end_s = monotonic() + timeout_s
    while not done():
        assert monotonic() < end_s, log.read_text()
        sleep(0.1)


def group_exists(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.parametrize(
    ("argument", "complaint"),
    [
        ("params_file:=/nowhere.yaml", "params_file '/nowhere.yaml' does not exist"),
        ("autostart:=perhaps", "perhaps"),
        ("command_interface:=torque", "['', 'velocity', 'position', 'trajectory']"),
        ("log_level:=loud", "loud"),
    ],
)
def test_wrong_argument_is_refused(workspace: Workspace, argument: str, complaint: str) -> None:
    done = launch(workspace, "controller.launch.py", argument, timeout_s=30.0)
    assert done.returncode == 1, done.stdout
    assert complaint in done.stdout
    assert "process started" not in done.stdout


@pytest.mark.parametrize(
    ("file", "kind"), [("controller", ControllerParameters), ("sim", SimParameters)]
)
def test_parameters_are_launch_arguments_with_their_texts(
    workspace: Workspace, file: str, kind: type
) -> None:
    done = launch(workspace, f"{file}.launch.py", "--show-args", timeout_s=30.0)
    assert done.returncode == 0, done.stdout
    shown = " ".join(done.stdout.split())
    texts = {spec.name: spec.text for spec in specs(kind) if spec.launch}
    assert texts
    for name, text in texts.items():
        assert f"'{name}': " in shown
        assert text in shown
