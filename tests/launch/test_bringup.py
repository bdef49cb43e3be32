"""bringup.launch.py with sim:=false under the genuine `ros2 launch`.

ros2_control comes with a ROS installation that has it. Here its executables are stand-ins in a
prefix of their own: what is tested is which processes the launch file starts, with which arguments,
parameters, namespaces and remappings, that the robot then moves, and how everything ends.
"""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from colcon_workspace import Workspace, program
from scenarios import Probe, assert_reaches, assert_within_limits, listen
from test_launch import PATIENT, group_exists, wait_for
from test_launch import pytestmark as pytestmark

from polyreach_description import load_robot

STAND_INS = Path(__file__).parent / "stand_ins"
MANAGER = Path(__file__).parents[1] / "nodes" / "forward_command_controller.py"
EXECUTABLES = {
    "robot_state_publisher/robot_state_publisher": STAND_INS / "robot_state_publisher.py",
    "controller_manager/ros2_control_node": MANAGER,
    "controller_manager/spawner": STAND_INS / "spawner.py",
}
PLUGINS = ("joint_state_broadcaster", "forward_command_controller")
PROCESSES = 5


@pytest.fixture
def with_ros2_control(workspace: Workspace, tmp_path: Path) -> Workspace:
    """The workspace over a prefix with stand-ins for the packages of ros2_control."""
    return over_stand_ins(workspace, tmp_path, EXECUTABLES, *PLUGINS)


def over_stand_ins(
    workspace: Workspace, prefix: Path, executables: dict[str, Path], *packages: str
) -> Workspace:
    """The workspace over a new prefix with executables by package/name, and empty packages."""
    index = prefix / "share" / "ament_index" / "resource_index" / "packages"
    index.mkdir(parents=True)
    for name in (*packages, *(path.split("/")[0] for path in executables)):
        (index / name).touch()
    for name, source in executables.items():
        path = prefix / "lib" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(
            f"#!{sys.executable}\nimport runpy, sys\nsys.path.insert(0, {str(source.parent)!r})\n"
            f"runpy.run_path({str(source)!r}, run_name='__main__')\n"
        )
        path.chmod(0o755)
    before = workspace.environment["AMENT_PREFIX_PATH"]
    prefixes = f"{before}{os.pathsep}{prefix}"
    return replace(workspace, environment={**workspace.environment, "AMENT_PREFIX_PATH": prefixes})


class Bringup:
    """A running `ros2 launch polyreach bringup.launch.py`."""

    def __init__(self, workspace: Workspace, log: Path, *arguments: str) -> None:
        self.log = log
        with log.open("wb") as output:
            self.popen = subprocess.Popen(
                [program("ros2"), "launch", "polyreach", "bringup.launch.py", *arguments],
                env=workspace.environment,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def output(self) -> str:
        return self.log.read_text()

    def pid(self, executable: str) -> int:
        """Process id of an executable, from the log of the launch."""
        match = re.search(rf"\[{executable}-\d\]: process started with pid \[(\d+)\]", self.output)
        assert match, self.output
        return int(match.group(1))

    def wait_active(self) -> None:
        """Wait until the spawner has activated the velocity controller."""

        def done() -> bool:
            return "activated velocity_controller" in self.output or self.popen.poll() is not None

        wait_for(done, 60.0, self.log)
        assert self.popen.poll() is None, self.output

    def end(self, timeout_s: float = 20.0) -> int:
        """Wait for the end, after which no process may be left; returns the exit code."""
        try:
            return self.popen.wait(timeout=timeout_s)
        finally:
            survivors = group_exists(self.popen.pid)
            if survivors:
                os.killpg(self.popen.pid, signal.SIGKILL)
            assert not survivors, self.output


@pytest.fixture(params=["", "arm"], ids=["root", "namespace"])
def namespace(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def watchdog() -> str:
    """The launch argument; empty: the default."""
    return ""


@pytest.fixture
def bringup(
    with_ros2_control: Workspace, tmp_path: Path, namespace: str, watchdog: str
) -> Iterator[Bringup]:
    arguments = ["sim:=false", "robot:=planar8", "speed_scale:=0.5", f"params_file:={PATIENT}"]
    if namespace:
        arguments.append(f"namespace:={namespace}")
    if watchdog:
        arguments.append(f"watchdog:={watchdog}")
    running = Bringup(with_ros2_control, tmp_path / "log.txt", *arguments)
    yield running
    if group_exists(running.popen.pid):
        os.killpg(running.popen.pid, signal.SIGKILL)
    running.popen.wait()


def test_hardware_reaches_goals_and_ends_at_rest(
    bringup: Bringup, ros_domain_id: int, namespace: str
) -> None:
    robot = load_robot("planar8")
    prefix = f"/{namespace}" if namespace else ""
    with Probe(robot, ros_domain_id, f"{prefix}/polyreach_controller") as probe:
        topic = f"{prefix}/velocity_controller/commands"
        listen(probe, topic, f"{prefix}/joint_states")
        bringup.wait_active()
        assert source_of(probe, topic) == "polyreach_command_watchdog"
        for executable in ("ros2_control_node", "robot_state_publisher"):
            variables = Path(f"/proc/{bringup.pid(executable)}/environ").read_text().split("\0")
            assert "FASTDDS_BUILTIN_TRANSPORTS=UDPv4" in variables
        probe.wait_state("IDLE")
        probe.wait_goals_subscribed()
        goals = robot.forward_kinematics(robot.home + 0.3)
        assert_reaches(probe, dict(zip(robot.effector_names, goals, strict=True)))
        assert_within_limits(robot, probe.commands)
        limits = 0.5 * robot.joint_vel_limits + 1e-9
        assert all((abs(command.joint_vel) <= limits).all() for command in probe.commands)
        bringup.popen.send_signal(signal.SIGINT)
        bringup.end()
        probe.wait(lambda: probe.commands[-1].is_zero, "zero as the last command", timeout_s=2.0)
    assert bringup.output.count("process started") == PROCESSES
    assert bringup.output.count("process has finished cleanly") == PROCESSES, bringup.output


@pytest.mark.parametrize("namespace", [""])
@pytest.mark.parametrize(
    "executable", ["controller_node", "command_watchdog_node", "ros2_control_node"]
)
def test_death_of_one_process_ends_all(bringup: Bringup, executable: str) -> None:
    bringup.wait_active()
    os.kill(bringup.pid(executable), signal.SIGKILL)
    assert bringup.end() == 1, bringup.output
    assert "ended with exit code -9" in bringup.output


def source_of(probe: Probe, topic: str) -> str:
    """Name of the only node that publishes on a topic."""
    names: list[str] = []

    def known() -> bool:
        infos = probe.node.get_publishers_info_by_topic(topic)
        names[:] = [info.node_name for info in infos]
        return len(names) == 1 and not names[0].startswith("_")

    probe.wait(known, f"one publisher on {topic}")
    return names[0]


@pytest.mark.parametrize(("namespace", "watchdog"), [("", "false")])
def test_without_the_watchdog_the_controller_commands_the_hardware(
    bringup: Bringup, ros_domain_id: int
) -> None:
    with Probe(load_robot("planar8"), ros_domain_id) as probe:
        bringup.wait_active()
        assert source_of(probe, "/velocity_controller/commands") == "polyreach_controller"
    bringup.popen.send_signal(signal.SIGINT)
    bringup.end()
    assert bringup.output.count("process started") == PROCESSES - 1


def test_missing_packages_are_named_before_anything_starts(workspace: Workspace) -> None:
    done = workspace.run(
        *(program("ros2"), "launch", "polyreach", "bringup.launch.py", "sim:=false"), timeout_s=30.0
    )
    assert done.returncode == 1, done.stdout
    assert "sim:=false needs packages that are not installed: " in done.stdout
    assert "controller_manager" in done.stdout
    assert "apt-get install" in done.stdout
    assert "process started" not in done.stdout


@pytest.mark.parametrize(
    ("argument", "complaint"),
    [
        ("urdf:=/nowhere.urdf", "urdf '/nowhere.urdf' does not exist"),
        ("controllers_file:=/no.yaml", "controllers_file '/no.yaml' does not exist"),
        ("robot:=octopus", "robot 'octopus' has no"),
        ("params_file:=/none.yaml", "params_file '/none.yaml' does not exist"),
        ("speed_scale:=fast", "fast"),
        ("log_level:=loud", "loud"),
    ],
)
def test_wrong_argument_starts_no_hardware(
    with_ros2_control: Workspace, tmp_path: Path, argument: str, complaint: str
) -> None:
    refused = Bringup(with_ros2_control, tmp_path / "log.txt", "sim:=false", argument)
    assert refused.end(timeout_s=30.0) == 1, refused.output
    assert complaint in refused.output
    assert "process started" not in refused.output
