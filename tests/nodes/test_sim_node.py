"""The simulator as a process: what it publishes, and when it moves."""

import signal
from time import monotonic, sleep

import numpy as np
import pytest
from rig import Launcher, Process
from rosgraph_msgs.msg import Clock
from scenarios import Probe
from sensor_msgs.msg import JointState
from std_msgs.msg import Float64MultiArray

from polyreach_description import Robot, load_robot


class Watcher:
    """Sends commands to the simulator and records what it publishes."""

    def __init__(self, probe: Probe) -> None:
        self.states: list[JointState] = []
        self.received_s: list[float] = []
        self.clock_s: list[float] = []
        self._probe = probe
        node = probe.node
        node.create_subscription(JointState, "joint_states", self._on_state, 50)
        node.create_subscription(Clock, "/clock", self._on_clock, 50)
        self._publisher = node.create_publisher(Float64MultiArray, "commands", 10)

    def _on_state(self, message: JointState) -> None:
        self.received_s.append(monotonic())
        self.states.append(message)

    def _on_clock(self, message: Clock) -> None:
        self.clock_s.append(message.clock.sec + 1e-9 * message.clock.nanosec)

    def wait(self, count: int = 1) -> None:
        """Wait for states sent from now on."""
        start = len(self.states)
        self._probe.wait(lambda: len(self.states) >= start + count, f"{count} joint states")
        self._probe.wait_subscribed(self._publisher)

    def drive(self, joint_vel: list[float], seconds: float) -> None:
        """Send a command at 50 Hz."""
        end_s = monotonic() + seconds
        while monotonic() < end_s:
            self._publisher.publish(Float64MultiArray(data=joint_vel))
            sleep(0.02)

    def position(self) -> np.ndarray:
        """The last joint positions [rad]."""
        return np.array(self.states[-1].position)


@pytest.fixture
def watcher(probe: Probe) -> Watcher:
    return Watcher(probe)


@pytest.fixture
def sim(start: Launcher, watcher: Watcher) -> Process:
    process = start("sim_node", {"robot": "planar8"})
    watcher.wait()
    return process


def test_publishes_all_joints_of_the_model_and_holds_them(
    start: Launcher, watcher: Watcher
) -> None:
    humanoid: Robot = load_robot("humanoid27")
    start("sim_node", {"robot": "humanoid27"})
    watcher.wait(200)
    model = humanoid.model
    state = watcher.states[-1]
    assert state.name == [model.joint(joint).name for joint in range(model.njnt)]
    assert len(state.name) == 27
    home = humanoid.qpos(humanoid.home)
    assert list(state.position) == pytest.approx(home[model.jnt_qposadr], abs=0.02)
    assert list(state.velocity) == pytest.approx(np.zeros(27), abs=0.02)


@pytest.mark.parametrize("rate_factor", [1.0, 3.0])
def test_clock_runs_in_real_time_or_faster(
    start: Launcher, watcher: Watcher, rate_factor: float
) -> None:
    start("sim_node", {"robot": "planar8", "rate_factor": rate_factor, "publish_rate": 50.0})
    watcher.wait(10)
    factors = []
    for _ in range(8):  # it leaves out what a busy machine takes from it
        begin_s, begin_sim_s = monotonic(), watcher.clock_s[-1]
        sleep(0.5)
        factors.append((watcher.clock_s[-1] - begin_sim_s) / (monotonic() - begin_s))
    assert (np.diff(watcher.clock_s) > 0).all()
    assert np.median(factors) == pytest.approx(rate_factor, rel=0.15)


def test_joints_track_the_commands_and_stop_with_them(sim: Process, watcher: Watcher) -> None:
    before = watcher.position()
    command = [0.5, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, -0.5]
    watcher.drive(command, 1.0)
    moved = watcher.position() - before
    # 0.5 rad, less what a busy machine takes from the simulation
    assert 0.1 < moved[0] < 0.6
    assert 0.1 < -moved[7] < 0.6
    assert np.abs(moved[1:7]).max() < 0.05
    sleep(0.5)
    assert np.abs(watcher.states[-1].velocity).max() < 0.01
    rest = watcher.position()
    sleep(0.5)
    assert watcher.position() == pytest.approx(rest, abs=0.005)


@pytest.mark.parametrize(
    ("command", "complaint"),
    [
        ([1.0] * 7, "command of 7 values ignored"),
        ([1.0] * 7 + [float("nan")], "not finite"),
        ([], "of 0 values"),
    ],
)
def test_malformed_commands_are_ignored_with_few_warnings(
    sim: Process, watcher: Watcher, command: list[float], complaint: str
) -> None:
    before = watcher.position()
    watcher.drive(command, 1.0)
    assert watcher.position() == pytest.approx(before, abs=0.005)
    assert sim.stop() == 0
    assert sim.output.count(complaint) == 1


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["SIGINT", "SIGTERM"])
def test_clean_exit(sim: Process, number: signal.Signals) -> None:
    assert sim.stop(number) == 0
    assert sim.output == ""


def test_a_wrong_robot_is_one_clear_line(start: Launcher) -> None:
    process = start("sim_node", {"robot": "octopus"})
    assert process.popen.wait(timeout=20) == 1
    assert "unknown robot 'octopus' (shipped: dual7, humanoid27, planar8" in process.output
    assert "Traceback" not in process.output
