"""The command watchdog between controllers that fail and hardware that holds the last command.

test_hardware.py shows that such hardware keeps moving without it.
"""

import math
import signal
from pathlib import Path
from time import monotonic, sleep

import numpy as np
import pytest
from diagnostic_msgs.msg import DiagnosticStatus
from holding_hardware import HoldingHardware, WatchdogReport
from rig import SLOW_GOAL, Launcher, Process, move, slow_controller
from scenarios import LATCHED, Command, Probe, assert_within_limits
from std_msgs.msg import Float64MultiArray, String

from polyreach_nodes.control.command_relay import SLACK
from polyreach_nodes.demo.run_demo import DemoConfig, run_demo

pytestmark = pytest.mark.fault
TIMEOUT_S = 0.2  # a busy machine may hold the controller up for longer than two periods
SCHEDULING_S = 0.5  # what a busy machine may add
REMAP = ("-r", "commands:=velocity_controller/commands")
NODE = "command_watchdog_node"


class Rig:
    """Hardware, watchdog and controller in motion."""

    def __init__(self, probe: Probe, start: Launcher, parameters: dict[str, object]) -> None:
        self.probe, self._start, self._parameters = probe, start, parameters
        self.hardware = HoldingHardware(probe, "velocity_controller/commands")
        self.report = WatchdogReport(probe)
        self.watchdog = self.start_watchdog()
        self.controller = self.start_controller()

    def start_watchdog(self) -> Process:
        return self._start(NODE, {"timeout": TIMEOUT_S}, *REMAP)

    def start_controller(self) -> Process:
        return self._start("controller_node", self._parameters)

    def move(self, offset: float = 0.8) -> None:
        """Send far goals until the hardware moves."""
        self.report.wait("state", "RELAYING")
        move(self.probe, offset)
        self.probe.wait(lambda: self.hardware.speed > 0, "the hardware moves")

    def wait_trip(self, reason: str, since_s: float) -> None:
        """Wait for the trip, after which nothing moves any more."""
        self.report.wait("state", "TRIPPED")
        assert reason in self.report.status.message
        assert self.report.status.level == DiagnosticStatus.ERROR
        after = self.commands_since(since_s)
        first = next(index for index, command in enumerate(after) if command.is_zero)
        assert after[first].time_s - since_s < TIMEOUT_S + SCHEDULING_S
        assert all(command.is_zero for command in after[first:])

    def commands_since(self, time_s: float) -> list[Command]:
        """What the hardware got from a time on."""
        return [command for command in list(self.hardware.commands) if command.time_s >= time_s]

    def assert_latched(self, seconds: float) -> None:
        """Nothing moves, though the controller may want to."""
        before, since_s = self.hardware.position.copy(), monotonic()
        sleep(seconds)
        assert all(command.is_zero for command in self.commands_since(since_s))
        assert self.commands_since(since_s), "zero is repeated"
        assert (self.hardware.position == before).all()
        assert self.report["state"] == "TRIPPED"

    def release(self) -> None:
        """Bring the commands to rest, then resume."""
        self.probe.call("halt")
        sleep(3 * TIMEOUT_S)
        self.probe.call("resume")
        self.probe.wait(lambda: self.report["state"] in ("IDLE", "RELAYING"), "the latch is open")


@pytest.fixture
def rig(probe: Probe, start: Launcher, autostart: dict[str, object]) -> Rig:
    return Rig(probe, start, autostart)


def test_killed_controller(rig: Rig) -> None:
    rig.move()
    rig.controller.popen.kill()
    killed_s = monotonic()
    rig.wait_trip("no command for", killed_s)

    rig.start_controller()
    rig.probe.wait_state("IDLE")
    move(rig.probe, 0.8)  # the new one commands motion
    rig.assert_latched(0.5)
    rig.release()
    rig.move(-0.5)
    assert rig.report["trips"] == "1"


def test_a_paused_controller_does_not_resume_motion_by_itself(rig: Rig) -> None:
    rig.move()
    rig.controller.popen.send_signal(signal.SIGSTOP)
    stopped_s = monotonic()
    rig.wait_trip("no command for", stopped_s)
    sleep(max(0.0, stopped_s + 1.5 - monotonic()))
    rig.controller.popen.send_signal(signal.SIGCONT)
    rig.assert_latched(1.0)
    rig.release()
    rig.move(-0.5)


def test_a_slow_policy_trips_the_watchdog(
    rig: Rig, probe: Probe, start: Launcher, autostart: dict[str, object], tmp_path: Path
) -> None:
    rig.controller.stop(signal.SIGTERM)  # it may not have started yet, and ignore SIGINT
    start(slow_controller(tmp_path, 0.55), autostart)
    rig.move()
    probe.send_goal("left", SLOW_GOAL)
    rig.report.wait("state", "TRIPPED")
    tripped_s = monotonic()
    count = len(probe.commands)
    probe.wait(lambda: len(probe.commands) > count, "the controller commands again")
    rig.assert_latched(0.5)
    assert all(command.is_zero for command in rig.commands_since(tripped_s))


def test_bad_commands_of_another_node(rig: Rig) -> None:
    rig.report.wait("state", "RELAYING")
    robot, node = rig.probe.robot, rig.probe.node
    rogue = node.create_publisher(Float64MultiArray, "polyreach_controller/commands", 10)
    rig.probe.wait_subscribed(rogue, subscriptions=2)  # probe and watchdog
    nu = len(robot.joint_names)
    over = robot.joint_vel_limits.copy()
    over[-1] *= 1.001
    cases = {
        "wrong length": [[0.1] * (nu - 1), [0.1] * (nu + 1), []],
        "not finite": [[math.nan] + [0.1] * (nu - 1), [0.1] * (nu - 1) + [math.inf]],
        "over limit": [over.tolist(), [0.0] * (nu - 1) + [-1e6]],
    }
    for reason, commands in cases.items():
        for number, command in enumerate(commands, start=1):
            rogue.publish(Float64MultiArray(data=command))
            rig.report.wait(f"dropped, {reason}", str(number))
    malformed = [b"\x00\x01\x00\x00", b"\x00\x01\x00\x00" + b"\xff" * 60, bytes(84)]
    for number, data in enumerate(malformed, start=len(cases["wrong length"]) + 1):
        rogue.publish(data)
        rig.report.wait("dropped, wrong length", str(number))
    assert rig.hardware.messages == len(rig.hardware.commands)
    assert all(command.is_zero for command in rig.hardware.commands)


def test_another_node_on_the_hardware_topic_is_reported_and_trips(rig: Rig) -> None:
    rig.move()
    topic = "velocity_controller/commands"
    rogue = rig.probe.node.create_publisher(Float64MultiArray, topic, 10)
    command = Float64MultiArray(data=[0.01] * len(rig.probe.robot.joint_names))

    def tripped() -> bool:
        rogue.publish(command)
        sleep(0.02)
        return rig.report["state"] == "TRIPPED"

    rig.probe.wait(tripped, "the trip")
    assert f"another node publishes on /{topic}: /polyreach_probe" in rig.report.status.message
    rig.probe.node.destroy_publisher(rogue)
    rig.probe.wait(lambda: rig.probe.node.count_publishers(topic) == 1, "one publisher")
    sleep(0.3)
    rig.assert_latched(0.3)
    rig.release()
    rig.move(-0.5)


def test_restarted_watchdog_stops_what_its_predecessor_left_moving(rig: Rig) -> None:
    rig.move()
    rig.watchdog.popen.kill()
    rig.watchdog.popen.wait()
    assert rig.hardware.speed
    rig.probe.statuses.clear()
    rig.report.status = DiagnosticStatus()
    rig.start_watchdog()
    rig.probe.wait(lambda: not rig.hardware.speed, "zero")
    rig.report.wait("state", "TRIPPED")
    assert "commands were not zero at the start" in rig.report.status.message
    rig.assert_latched(0.5)
    rig.release()
    rig.move(-0.5)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["SIGINT", "SIGTERM"])
def test_ended_watchdog_leaves_the_hardware_at_zero(rig: Rig, number: signal.Signals) -> None:
    rig.move()
    assert rig.watchdog.stop(number) == 0
    rig.probe.wait(lambda: not rig.hardware.speed, "zero as the last command", timeout_s=3.0)


def test_a_deactivated_controller_does_not_trip_the_watchdog(rig: Rig) -> None:
    rig.move()
    assert rig.probe.transition("deactivate")
    rig.report.wait("state", "IDLE")
    assert not rig.hardware.speed
    assert rig.probe.transition("activate")
    rig.move(-0.5)
    assert rig.report["trips"] == "0"
    assert_within_limits(rig.probe.robot, rig.hardware.commands)


def test_metadata_of_another_robot_changes_no_limits(rig: Rig) -> None:
    rig.report.wait("state", "RELAYING")
    limits = rig.report["velocity_limits"]
    expected = rig.probe.robot.joint_vel_limits
    assert np.array(limits.split(), dtype=float) == pytest.approx(expected, rel=1e-5)
    topic = "polyreach_controller/policy_metadata"
    rogue = rig.probe.node.create_publisher(String, topic, LATCHED)
    higher = '{"joint_names": ["a"], "joint_vel_limits": [1000], "update_rate": 1}'
    for text, reason in (
        (higher, "metadata of another robot"),
        ("{", "expected JSON"),
        ("x" * 200_000, "expected at most"),
    ):
        rogue.publish(String(data=text))
        rig.probe.wait(lambda reason=reason: reason in rig.report.status.message, reason)
        assert rig.report.status.level == DiagnosticStatus.WARN
        assert rig.report["velocity_limits"] == limits
    rogue.publish(b"\x00\x01\x00\x00\xff\xff\xff\xff\xff\xfe")
    rig.move()


def test_parameters_replace_the_metadata_and_numpy_is_not_imported(
    probe: Probe, start: Launcher
) -> None:
    """Without a controller; modules loaded by a process that has relayed commands."""
    program = f"import sys; from polyreach_nodes.{NODE} import main; status = main(); "
    program += "print('modules', *sys.modules); sys.exit(status)"
    words = ("--ros-args", "-p", "velocity_limits:=[0.5, 0.25]", "-p", f"timeout:={TIMEOUT_S}")
    report = WatchdogReport(probe)
    sent = probe.node.create_publisher(Float64MultiArray, "polyreach_controller/commands", 10)
    received: list[list[float]] = []
    probe.node.create_subscription(
        Float64MultiArray, "commands", lambda message: received.append(list(message.data)), 10
    )
    process = start("python", None, "-c", program, *words)
    probe.wait(lambda: [0.0, 0.0] in received, "zero at the start")
    probe.wait_subscribed(sent, subscriptions=2)
    report.wait("state", "IDLE")
    sent.publish(Float64MultiArray(data=[0.5 + 10 * SLACK, 0.0]))
    report.wait("dropped, over limit", "1")
    assert not any(map(any, received))
    sent.publish(Float64MultiArray(data=[0.5, -0.25]))
    probe.wait(lambda: [0.5, -0.25] in received, "a command within the limits")
    probe.wait(lambda: received[-1] == [0.0, 0.0], "zero after the timeout")
    assert process.stop() == 0
    _, *modules = process.output.splitlines()[-1].split()
    assert "rclpy" in modules
    assert not {"numpy", "mujoco", "onnxruntime", "polyreach_description.robot"} & set(modules)


@pytest.mark.parametrize(
    ("parameter", "complaint"),
    [
        ("velocity_limits:=[1.0, -1.0]", "expected finite numbers above 0"),
        ("timeout:=11.0", "timeout"),
    ],
)
def test_wrong_parameters_are_refused(start: Launcher, parameter: str, complaint: str) -> None:
    words = ("--ros-args", "-p", "timeout:=0.1", "-p", parameter)
    process = start(NODE, None, *words)
    assert process.popen.wait(timeout=30.0) == 1
    assert complaint in process.output


def test_demo_through_the_watchdog() -> None:
    result = run_demo(DemoConfig(goal_sets=1, seconds=40.0, live=False, watchdog=True))
    assert result.success, result.missed()
