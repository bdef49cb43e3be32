"""Processes that are killed, paused, started twice or flooded, and clocks that jump."""

import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from time import monotonic, sleep

import numpy as np
import onnx
import pytest
import rclpy
from builtin_interfaces.msg import Time
from onnx import TensorProto, helper
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rig import FakeHardware, Launcher, Process, move, set_parameter
from rosgraph_msgs.msg import Clock
from scenarios import (
    WAIT_S,
    Probe,
    assert_reaches,
    assert_within_limits,
    zero_delay,
)
from shared import SharedController
from std_msgs.msg import Float64MultiArray

from polyreach_description.policy_search import find_policy

PERIOD_S = 0.02
SCHEDULING_S = 0.3  # what a busy machine may add
COMMANDS = "commands:=polyreach_controller/commands"
pytestmark = pytest.mark.fault


@pytest.fixture
def simulator(start: Launcher) -> Process:
    return start("sim_node", {"robot": "planar8"}, "-r", COMMANDS)


@pytest.fixture
def controller(start: Launcher, autostart: dict[str, object]) -> Process:
    return start("controller_node", autostart)


def speed(probe: Probe) -> float:
    """Greatest joint speed [rad/s] over the next 50 ms."""
    probe.wait(lambda: probe.joint_pos is not None, "joint states")
    before, start_s = probe.joint_pos.copy(), monotonic()
    sleep(0.05)
    return float(np.abs(probe.joint_pos - before).max() / (monotonic() - start_s))


def set_in_motion(probe: Probe) -> None:
    """Send far goals until joints are seen to move: one motion lasts half a second, and a busy
    machine may look away for so long.
    """
    probe.wait(lambda: probe.joint_pos is not None, "joint states")
    offset, end_s = 0.6, monotonic() + WAIT_S
    move(probe, offset)
    while speed(probe) < 0.1:
        assert monotonic() < end_s, f"joints stand (status: '{probe.message}')"
        if probe.value("reached") == "true":
            offset = -offset
            move(probe, offset)


def reach(probe: Probe, seed: int) -> None:
    """Reach goals not far from home, to which least squares finds from wherever a fault left it."""
    probe.wait_goals_subscribed()
    probe.wait_state("IDLE", "ACTIVE")
    robot = probe.robot
    offset = np.random.default_rng(seed).uniform(-0.3, 0.3, len(robot.joint_names))  # [rad]
    goals = robot.forward_kinematics(robot.home + offset)
    assert_reaches(probe, dict(zip(robot.effector_names, goals, strict=True)), timeout_s=30.0)


def test_controller_killed_the_simulator_stops_by_itself_and_a_new_one_takes_over(
    simulator: Process,
    controller: Process,
    start: Launcher,
    probe: Probe,
    autostart: dict[str, object],
) -> None:
    set_in_motion(probe)
    controller.stop(signal.SIGKILL)
    probe.wait(lambda: speed(probe) < 1e-3, "joints stand", timeout_s=2.0)
    rest = probe.joint_pos.copy()
    sleep(0.5)
    assert np.abs(probe.joint_pos - rest).max() < 1e-3
    count = len(probe.commands)
    again = start("controller_node", autostart)
    probe.wait(lambda: len(probe.commands) > count + 20, "commands of the new controller")
    assert all(command.is_zero for command in probe.commands[count:])  # no old goals
    reach(probe, 1)
    sleep(1.0)  # the killed one is still listed as a publisher; that is no conflict
    assert probe.value("state") in ("ACTIVE", "IDLE")
    assert again.stop() == 0


def test_controller_paused_the_simulator_stops_by_itself(
    simulator: Process, controller: Process, probe: Probe
) -> None:
    set_in_motion(probe)
    controller.popen.send_signal(signal.SIGSTOP)
    probe.wait(lambda: speed(probe) < 1e-3, "joints stand", timeout_s=2.0)
    sleep(0.5)  # longer than the outage_timeout in all
    count = len(probe.commands)
    controller.popen.send_signal(signal.SIGCONT)
    probe.wait_state("FAULT")
    assert all(command.is_zero for command in probe.commands[count:])
    probe.call("resume")
    reach(probe, 1)
    assert_within_limits(probe.robot, probe.commands[count:])


def test_a_killed_simulator_restarts_in_another_pose(
    simulator: Process, controller: Process, start: Launcher, probe: Probe
) -> None:
    move(probe, 0.6)
    sleep(0.5)
    simulator.stop(signal.SIGKILL)
    killed_s = monotonic()
    assert zero_delay(probe, killed_s, hold_s=0.3) < 2 * PERIOD_S + SCHEDULING_S
    probe.wait_state("FAULT")
    count = len(probe.commands)
    # ROS may take seconds to bring commands to the new one
    assert set_parameter(probe, "following_timeout", 0.0) == (True, "")
    before = probe.joint_pos
    start("sim_node", {"robot": "planar8"}, "-r", COMMANDS)  # joints are at home again
    probe.wait(lambda: probe.joint_pos is not before, "joint states again")
    sleep(0.3)
    assert all(command.is_zero for command in probe.commands[count:])
    probe.call("resume")
    reach(probe, 1)
    commands = probe.commands[count:]
    first = next(i for i, command in enumerate(commands) if not command.is_zero)
    change = np.abs(commands[first].joint_vel)
    assert (change <= probe.robot.joint_acc_limits * PERIOD_S + 1e-9).all()


def test_simulator_paused(simulator: Process, controller: Process, probe: Probe) -> None:
    move(probe, 0.6)
    simulator.popen.send_signal(signal.SIGSTOP)
    paused_s = monotonic()
    assert zero_delay(probe, paused_s, hold_s=0.3) < 2 * PERIOD_S + SCHEDULING_S
    probe.wait_state("FAULT")
    count, before = len(probe.commands), probe.joint_pos
    simulator.popen.send_signal(signal.SIGCONT)
    probe.wait(lambda: probe.joint_pos is not before, "joint states again")
    sleep(0.3)
    assert all(command.is_zero for command in probe.commands[count:])
    probe.call("resume")
    reach(probe, 1)


@pytest.mark.parametrize("jump_s", [-50.0, -0.5, 3600.0])
def test_time_jumps(
    start: Launcher, probe: Probe, autostart: dict[str, object], jump_s: float
) -> None:
    """With use_sim_time, the control period follows /clock; the hardware lives on wall time."""
    hardware = FakeHardware(probe)
    publisher = probe.node.create_publisher(Clock, "/clock", 10)
    begin_s, offset = monotonic() - 100.0, [0.0]

    def send_clock() -> None:
        now_s = monotonic() - begin_s + offset[0]
        publisher.publish(Clock(clock=Time(sec=int(now_s), nanosec=int(now_s % 1 * 1e9))))

    probe.node.create_timer(0.005, send_clock)
    start("controller_node", {**autostart, "use_sim_time": True})
    move(probe, 0.4)
    offset[0] = jump_s
    probe.wait(lambda: probe.value("reached") == "true", "the goals")
    assert_within_limits(probe.robot, probe.commands)
    move(probe, -0.4)
    stopped_s = hardware.stop()
    assert zero_delay(probe, stopped_s, hold_s=0.2) < 2 * PERIOD_S + SCHEDULING_S


@pytest.mark.parametrize(
    ("words", "name"),
    [
        (("-r", "__node:=second", "-r", f"~/{COMMANDS}"), "/second"),
        ((), "/polyreach_controller"),
    ],
    ids=["another name", "the same name"],
)
def test_two_controllers_on_one_robot_are_detected_and_stop(
    controller: Process,
    start: Launcher,
    probe: Probe,
    autostart: dict[str, object],
    words: tuple[str, ...],
    name: str,
) -> None:
    hardware = FakeHardware(probe)
    move(probe, 0.5)
    second = start("controller_node", autostart, *words)
    probe.wait(
        lambda: (
            f"another node publishes on /polyreach_controller/commands: {name}" in probe.message
        ),
        "status tells of the other one",
    )
    probe.wait_state("FAULT")
    sleep(0.1)
    count = len(probe.commands)
    sleep(0.3)
    assert all(command.is_zero for command in probe.commands[count:])
    probe.call("resume")
    probe.wait_state("FAULT")  # again, as long as there are two
    assert second.stop() == 0
    probe.wait(lambda: probe.node.count_publishers("/polyreach_controller/commands") == 1, "one")
    sleep(0.5)
    probe.call("resume")
    move(probe, -0.5)
    hardware.stop()


@pytest.fixture
def crowd(ros_domain_id: int) -> Iterator[Callable[[int], list[int]]]:
    """Make nodes of ten subscriptions each to the command topic; returns what they hear."""
    context = Context()
    rclpy.init(context=context, domain_id=ros_domain_id)
    executor = SingleThreadedExecutor(context=context)
    heard: list[int] = []

    done = threading.Event()

    def spin() -> None:
        while not done.is_set():
            executor.spin_once(timeout_sec=0.05)

    thread = threading.Thread(target=spin, daemon=True)

    def gather(count: int) -> list[int]:
        heard.extend([0] * count)
        for first in range(0, count, 10):
            node = Node(f"crowd_{first}", context=context)
            for index in range(first, min(first + 10, count)):

                def hear(_: Float64MultiArray, index: int = index) -> None:
                    heard[index] += 1

                topic = "polyreach_controller/commands"
                node.create_subscription(Float64MultiArray, topic, hear, 1)
            executor.add_node(node)
        thread.start()
        return heard

    yield gather
    done.set()
    thread.join()
    executor.shutdown()
    context.try_shutdown()


def test_a_hundred_subscribers(
    simulator: Process, controller: Process, probe: Probe, crowd: Callable[[int], list[int]]
) -> None:
    heard = crowd(100)
    probe.wait(lambda: all(heard), "everybody hears commands", timeout_s=60.0)
    reach(probe, 2)
    start_s, count = monotonic(), len(probe.commands)
    sleep(2.0)
    rate = (len(probe.commands) - count) / (monotonic() - start_s)
    assert rate > 0.6 / PERIOD_S, "commands keep coming, though this process is busy with hearing"
    assert_within_limits(probe.robot, probe.commands)


def failing_policy(path: Path) -> Path:
    """The shipped policy, but with an operator that fails once a goal is higher than 5 m.

    No random input of the check at load is as high.
    """
    model = onnx.load(find_policy("planar8"))
    graph = model.graph
    for name, value in (("fault_limit", 5.0), ("fault_first", [0.0]), ("fault_at", 2)):
        kind = TensorProto.INT64 if name == "fault_at" else TensorProto.FLOAT
        shape = [1] if isinstance(value, list) else []
        values = value if isinstance(value, list) else [value]
        graph.initializer.append(helper.make_tensor(name, kind, shape, values))
    velocity = next(node for node in graph.node if "joint_vel" in node.output)
    velocity.output[list(velocity.output).index("joint_vel")] = "fault_sound_vel"
    graph.node.extend(
        [
            helper.make_node("Gather", ["goals", "fault_at"], ["fault_heights"], axis=2),
            helper.make_node("ReduceMax", ["fault_heights"], ["fault_height"], keepdims=0),
            helper.make_node("Greater", ["fault_height", "fault_limit"], ["fault_far"]),
            helper.make_node("Cast", ["fault_far"], ["fault_index"], to=TensorProto.INT64),
            helper.make_node(
                "Gather", ["fault_first", "fault_index"], ["fault_zero"], axis=0
            ),  # 1 is out of bounds
            helper.make_node("Add", ["fault_sound_vel", "fault_zero"], ["joint_vel"]),
        ]
    )
    onnx.save(model, path)
    return path


def test_a_policy_that_fails_while_the_robot_moves(
    shared: SharedController, probe: Probe, hardware: FakeHardware, tmp_path: Path
) -> None:
    policy = failing_policy(tmp_path / "failing.onnx")
    shared.reset({"policy": str(policy)})
    move(probe, 1.0)
    sent_s = monotonic()
    probe.send_goal("left", np.array([0.8, 0.3, 6.0]))
    probe.wait_state("FAULT")
    assert zero_delay(probe, sent_s, hold_s=0.3) < 2 * PERIOD_S + SCHEDULING_S
    assert "indices element out of data bounds" in probe.message
    probe.call("resume")
    probe.wait_state("FAULT")
    probe.send_goal("left", np.array([0.8, 0.3, 0.07]))
    probe.call("resume")
    probe.wait_moving()
    hardware.stop()


def test_a_recording_that_cannot_be_written_is_rejected(
    shared: SharedController, probe: Probe, hardware: FakeHardware, tmp_path: Path
) -> None:
    shared.reset({})
    move(probe, 0.5)
    for path, reason in (
        ("no/where.mcap", "cannot be written"),
        (str(tmp_path / "data.bag"), "ends in .mcap"),
    ):
        taken, text = set_parameter(probe, "record", path)
        assert not taken
        assert reason in text
    assert set_parameter(probe, "record", str(tmp_path / "run.mcap")) == (True, "")
    probe.wait(lambda: probe.value("reached") == "true", "the goals")
    assert set_parameter(probe, "record", "") == (True, "")
    probe.wait(lambda: (tmp_path / "run.mcap").stat().st_size > 10_000, "the recording")
    hardware.stop()
