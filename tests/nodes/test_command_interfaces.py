"""Positions and trajectories as commands, with the simulator and with joints that track them."""

import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from time import monotonic, sleep

import numpy as np
import pytest
from mcap_ros2.reader import read_ros2_messages
from rig import CommandLog, FakeHardware, Launcher, Process, set_parameter
from scenarios import Probe, assert_reaches, reachable_goals
from trajectory_msgs.msg import JointTrajectory

from polyreach_description import Robot
from polyreach_nodes.client.topics import COMMAND_TOPICS
from polyreach_nodes.demo.run_demo import DemoConfig, run_demo
from polyreach_nodes.parameters import CommandInterface

pytestmark = pytest.mark.fault
ROUNDING = 1e-9
REST = 1e-3  # [rad] of motion in REST_S
REST_S = 0.3
LEAD_PERIODS = 4.0  # the default reaction time and one


@pytest.fixture(params=[CommandInterface.POSITION, CommandInterface.TRAJECTORY], ids=str)
def interface(request: pytest.FixtureRequest) -> CommandInterface:
    return request.param


@pytest.fixture
def log(probe: Probe, interface: CommandInterface) -> CommandLog:
    return CommandLog(probe, interface)


@pytest.fixture
def start_controller(
    start: Launcher, interface: CommandInterface, autostart: dict[str, object]
) -> Callable[..., Process]:
    """Function that starts a controller with this interface and these parameters."""
    common = {**autostart, "command_interface": interface.value}
    return lambda **parameters: start("controller_node", {**common, **parameters})


def start_sim(start: Launcher, interface: CommandInterface) -> Process:
    topic = COMMAND_TOPICS[interface]
    remap = ("-r", f"{topic}:=polyreach_controller/{topic}")
    return start("sim_node", {"command_interface": interface.value}, *remap)


def assert_within_limits(robot: Robot, positions: np.ndarray) -> None:
    """Velocity and position limits hold for consecutive commanded positions (n, nu)."""
    most = robot.joint_vel_limits / robot.control_rate
    assert (np.abs(np.diff(positions, axis=0)) <= most + ROUNDING).all()
    low, high = robot.joint_pos_limits.T
    assert (positions >= low).all() and (positions <= high).all()


def wait_rest(probe: Probe) -> np.ndarray:
    """Wait until no joint moves; returns the joint positions (nu,) [rad]."""

    def rests() -> bool:
        before = probe.joint_pos
        sleep(REST_S)
        return before is not None and np.abs(probe.joint_pos - before).max() < REST

    probe.wait(rests, "all joints at rest", timeout_s=5.0)
    assert probe.joint_pos is not None
    return probe.joint_pos


def test_goals_are_reached_and_every_stop_holds_a_position(
    interface: CommandInterface,
    log: CommandLog,
    probe: Probe,
    start: Launcher,
    start_controller: Callable[..., Process],
    planar8: Robot,
    tmp_path: Path,
) -> None:
    start_sim(start, interface)
    controller = start_controller(record_folder=str(tmp_path))
    probe.wait_state("IDLE")
    assert set_parameter(probe, "record", "run.mcap") == (True, "")
    probe.wait_goals_subscribed()
    for goals in reachable_goals(planar8, seed=3, count=2):
        assert_reaches(probe, goals)
    assert_within_limits(planar8, log.since(0.0))

    # halted in motion: the command comes to rest and stays
    goals = planar8.forward_kinematics(planar8.home + 0.8)
    for effector, goal in zip(planar8.effector_names, goals, strict=True):
        probe.send_goal(effector, goal)
    wait_fast(log, planar8)
    probe.call("halt")
    halted_s = monotonic()
    wait_rest(probe)
    held = log.since(halted_s + 0.5)
    assert len(held) > 3 and (held == held[0]).all()
    assert probe.joint_pos == pytest.approx(held[0], abs=0.02)
    probe.call("resume")
    wait_fast(log, planar8)

    # the end of the process in motion: the last command is where the joints rest
    assert controller.stop(signal.SIGTERM) == 0
    rest = wait_rest(probe)
    assert rest == pytest.approx(log.positions[-1], abs=0.02)
    assert_within_limits(planar8, log.since(0.0))
    if interface is CommandInterface.TRAJECTORY:
        assert len(log.messages[-1].points) == 1 and not any(log.messages[-1].points[0].velocities)
    assert not probe.commands  # velocities

    topic = f"/polyreach_controller/{COMMAND_TOPICS[interface]}"
    recorded = [m.ros_msg for m in read_ros2_messages(tmp_path / "run.mcap", topics=[topic])]
    received = {positions.tobytes() for positions in log.positions}
    rows = [m.points[0].positions if hasattr(m, "points") else m.data for m in recorded]
    assert len(rows) > 50
    assert np.mean([np.array(row).tobytes() in received for row in rows]) > 0.95


def wait_fast(log: CommandLog, robot: Robot) -> None:
    """Wait for commands that move a joint by more than 0.2 of its velocity limit."""
    most = robot.joint_vel_limits / robot.control_rate

    def fast() -> bool:
        last = log.since(monotonic() - 0.2)
        return len(last) > 2 and bool((np.abs(np.diff(last, axis=0)) > 0.2 * most).any())

    probe_end_s = monotonic() + 10.0
    while not fast():
        assert monotonic() < probe_end_s, "no fast motion"
        sleep(0.005)


def test_a_killed_controller_leaves_the_joints_at_rest(
    interface: CommandInterface,
    log: CommandLog,
    probe: Probe,
    start: Launcher,
    start_controller: Callable[..., Process],
    planar8: Robot,
) -> None:
    start_sim(start, interface)
    controller = start_controller()
    probe.wait_state("IDLE")
    probe.wait_goals_subscribed()
    goals = planar8.forward_kinematics(planar8.home + 0.8)
    for effector, goal in zip(planar8.effector_names, goals, strict=True):
        probe.send_goal(effector, goal)
    wait_fast(log, planar8)
    controller.popen.kill()
    controller.popen.wait()
    sleep(0.1)
    last, count = log.messages[-1], len(log.messages)
    at_kill = probe.joint_pos
    rest = wait_rest(probe)
    assert len(log.messages) == count
    end = last.points[-1].positions if isinstance(last, JointTrajectory) else last.data
    assert rest == pytest.approx(np.array(end), abs=0.02)
    # at most the lead of the command and the way of braking
    vel, acc = planar8.joint_vel_limits, planar8.joint_acc_limits
    most = vel * (LEAD_PERIODS / planar8.control_rate + (vel / acc).max())
    assert (np.abs(rest - at_kill) <= most).all()

    # a new one begins where the joints are
    start_controller()
    probe.wait(lambda: len(log.messages) > count, "commands of the new controller")
    assert log.positions[count] == pytest.approx(rest, abs=REST)


def test_nothing_is_commanded_before_a_joint_state_and_while_inactive(
    log: CommandLog,
    probe: Probe,
    start_controller: Callable[..., Process],
    planar8: Robot,
) -> None:
    start_controller()
    probe.wait_state("WAITING")
    sleep(0.3)
    assert not log.messages
    hardware = FakeHardware(probe, log)
    hardware.position = planar8.home + 0.1
    probe.wait_state("IDLE")
    probe.wait(lambda: len(log.messages) > 10, "commands at rest")
    assert (np.array(log.positions) == planar8.home + 0.1).all()
    assert probe.transition("deactivate")
    sleep(0.1)
    count = len(log.messages)
    sleep(0.3)
    assert len(log.messages) == count


def test_an_outage_of_the_joint_state_brakes_and_holds(
    log: CommandLog,
    probe: Probe,
    start_controller: Callable[..., Process],
    planar8: Robot,
) -> None:
    hardware = FakeHardware(probe, log)
    start_controller()
    move_positions(probe, planar8, log)
    stopped_s = hardware.stop()
    probe.wait_state("STALE", "FAULT")
    slowest_s = float((planar8.joint_vel_limits / planar8.joint_acc_limits).max())
    sleep(slowest_s + 0.5)
    held = log.since(stopped_s + slowest_s + 0.2)
    assert len(held) > 3 and (held == held[0]).all()
    assert_within_limits(planar8, log.since(0.0))
    # after the outage, motion goes on from there once it is resumed
    probe.wait_state("FAULT")
    hardware.resume()
    probe.call("resume")
    move_positions(probe, planar8, log, -0.5)
    assert_within_limits(planar8, log.since(0.0))


def move_positions(probe: Probe, robot: Robot, log: CommandLog, offset: float = 0.8) -> None:
    """Send far goals and wait for fast motion."""
    probe.wait_goals_subscribed()
    probe.wait_state("IDLE", "ACTIVE")
    goals = robot.forward_kinematics(robot.home + offset)
    for effector, goal in zip(robot.effector_names, goals, strict=True):
        probe.send_goal(effector, goal)
    wait_fast(log, robot)


def test_joints_that_do_not_track_positions_are_a_fault_and_do_not_wind_up(
    log: CommandLog,
    probe: Probe,
    start_controller: Callable[..., Process],
    planar8: Robot,
) -> None:
    hardware = FakeHardware(probe)  # the joints stay where they are
    start_controller()
    move_positions(probe, planar8, log)
    probe.wait_state("FAULT")
    assert "does not track its command" in probe.message
    lead = planar8.joint_vel_limits * LEAD_PERIODS / planar8.control_rate
    assert (np.abs(log.since(0.0) - hardware.position) <= lead + ROUNDING).all()


def test_commands_of_another_node_are_a_fault(
    interface: CommandInterface,
    log: CommandLog,
    probe: Probe,
    start_controller: Callable[..., Process],
    planar8: Robot,
) -> None:
    FakeHardware(probe, log)
    start_controller()
    probe.wait_state("IDLE")
    kind = type(log.messages[-1])
    topic = f"polyreach_controller/{COMMAND_TOPICS[interface]}"
    rogue = probe.node.create_publisher(kind, topic, 10)
    message = log.messages[-1]

    def fault() -> bool:
        rogue.publish(message)
        sleep(0.02)
        return probe.value("state") == "FAULT"

    probe.wait(fault, "the fault")
    assert f"another node publishes on /{topic}: /polyreach_probe" in probe.message


def test_the_demo_reaches_its_goals_and_refuses_the_watchdog(interface: CommandInterface) -> None:
    config = DemoConfig(goal_sets=1, seconds=40.0, live=False, command_interface=interface.value)
    result = run_demo(config)
    assert result.success, result.missed()
    with pytest.raises(ValueError, match=f"not command_interface '{interface}', whose commands"):
        run_demo(replace(config, watchdog=True))


def test_the_interface_changes_only_while_unconfigured(
    probe: Probe, start: Launcher, autostart: dict[str, object]
) -> None:
    start("controller_node", autostart)
    probe.wait_state("WAITING")
    changed, reason = set_parameter(probe, "command_interface", "position")
    assert not changed and "clean up first" in reason
    assert probe.transition("deactivate") and probe.transition("cleanup")
    changed, reason = set_parameter(probe, "command_interface", "torque")
    assert not changed
    assert "unknown command_interface 'torque' (legal: velocity, position, trajectory)" in reason
    assert set_parameter(probe, "command_interface", "position") == (True, "")
    assert probe.transition("configure")
    topics = dict(probe.node.get_topic_names_and_types())
    assert topics["/polyreach_controller/position_commands"] == ["std_msgs/msg/Float64MultiArray"]
