"""The controller as a process over real ROS 2 topics, with joint states made by the test."""

import json
import signal
from pathlib import Path
from time import monotonic, sleep

import numpy as np
import pytest
from builtin_interfaces.msg import Time
from diagnostic_msgs.msg import DiagnosticArray
from rig import FakeHardware, Launcher, Process, move, set_parameter, set_parameters, with_metadata
from rosgraph_msgs.msg import Clock
from scenarios import Probe, assert_reaches, assert_within_limits, reachable_goals, zero_delay
from sensor_msgs.msg import JointState
from visualization_msgs.msg import MarkerArray

from polyreach_description import Robot, load_robot
from polyreach_description.policy_search import find_policy

PERIOD_S = 0.02  # of planar8
STOPS = 5  # measurements of a delay
SCHEDULING_S = 0.3  # what a busy machine may add to a single one


def test_reaches_goals_and_reports_them(
    controller: Process, probe: Probe, hardware: FakeHardware, planar8: Robot
) -> None:
    probe.wait_goals_subscribed()
    probe.wait_state("IDLE")
    goals = planar8.forward_kinematics(planar8.home + 0.25)
    assert_reaches(probe, dict(zip(planar8.effector_names, goals, strict=True)))
    assert_within_limits(planar8, probe.commands)
    metadata = json.loads(probe.metadata[-1])
    assert metadata["robot"] == "planar8"
    assert metadata["effector_names"] == ["left", "middle", "right"]
    probe.call("clear_goals")
    probe.wait_state("IDLE")
    assert probe.value("goal/left") == ""


def test_diagnostics_and_markers(
    controller: Process, probe: Probe, hardware: FakeHardware, planar8: Robot
) -> None:
    diagnostics: list[DiagnosticArray] = []
    markers: list[MarkerArray] = []
    probe.node.create_subscription(DiagnosticArray, "/diagnostics", diagnostics.append, 10)
    marker_topic = "polyreach_controller/markers"
    probe.node.create_subscription(MarkerArray, marker_topic, markers.append, 10)
    move(probe, 0.3)
    probe.wait(lambda: probe.value("reached") == "true", "goals reached")

    def values() -> dict[str, str]:
        return {pair.key: pair.value for pair in diagnostics[-1].status[0].values}

    probe.wait(lambda: bool(diagnostics) and values()["reached"] == "true", "diagnostics")
    assert diagnostics[-1].status[0].name == "/polyreach_controller"
    assert float(values()["loop period p50 [ms]"]) == pytest.approx(1e3 * PERIOD_S, abs=2.0)
    assert 0.0 < float(values()["compute p50 [ms]"]) < 1e3 * PERIOD_S
    probe.wait(lambda: bool(markers), "markers")
    shown = {(marker.ns, marker.id): marker for marker in markers[-1].markers}
    goals = planar8.forward_kinematics(planar8.home + 0.3)
    for index, goal in enumerate(goals):
        for kind, tolerance in (("goals", 1e-6), ("effectors", 0.021)):
            marker = shown[kind, index]
            position = marker.pose.position
            assert [position.x, position.y, position.z] == pytest.approx(goal, abs=tolerance)
            assert marker.header.frame_id == "base_link"
        assert 0 <= int(shown["errors", index].text.removesuffix(" mm")) <= 21
    assert len(shown) == 9


def test_one_goal_moves_only_the_joints_of_its_effector(
    controller: Process, probe: Probe, hardware: FakeHardware, planar8: Robot
) -> None:
    probe.wait_goals_subscribed()
    probe.wait_state("IDLE")
    probe.send_goal("left", planar8.forward_kinematics(planar8.home + 0.4)[0], frame="")
    probe.wait(lambda: probe.value("reached") == "true", "left reached")
    moved = np.any([command.joint_vel != 0 for command in probe.commands], axis=0)
    assert moved[planar8.action_sets[0]].all()
    assert not moved[~planar8.action_sets[0]].any()


def assert_quick(delays: list[float]) -> None:
    """Within two periods when the machine is free, and never later than a busy one explains."""
    assert min(delays) <= 2 * PERIOD_S, delays
    assert max(delays) <= 2 * PERIOD_S + SCHEDULING_S, delays


def test_zero_within_two_periods_after_joint_states_stop(
    controller: Process, probe: Probe, hardware: FakeHardware, planar8: Robot
) -> None:
    delays = []
    for number in range(STOPS):
        move(probe, 0.5 if number % 2 else -0.5)
        delays.append(zero_delay(probe, hardware.stop(), hold_s=0.3))
        probe.wait_state("STALE")
        assert "older than 0.030 s" in probe.message
        hardware.resume()
    assert_quick(delays)
    move(probe, 0.5)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_zero_within_two_periods_on_a_state_that_is_not_finite(
    controller: Process, probe: Probe, hardware: FakeHardware, planar8: Robot, value: float
) -> None:
    delays, since = [], []

    def broken(message: JointState) -> JointState:
        since.append(monotonic())
        message.position[4] = value
        return message

    for number in range(STOPS):
        move(probe, 0.5 if number % 2 else -0.5)
        since.clear()
        hardware.fault = broken
        probe.wait(lambda: bool(since), "a broken joint state")
        delays.append(zero_delay(probe, since[0], hold_s=0.3))
        probe.wait_state("STALE")
        assert f"'middle_2' is {value:g}" in probe.message
        hardware.fault = None
    assert_quick(delays)
    move(probe, 0.5)


def test_halt_is_zero_within_two_periods_and_latched_until_resumed(
    controller: Process, probe: Probe, hardware: FakeHardware, planar8: Robot
) -> None:
    delays = []
    for number in range(STOPS):
        move(probe, 0.5 if number % 2 else -0.5)
        probe.meet("halt")
        called_s = monotonic()
        probe.call("halt")
        answered_s = monotonic()
        delays.append(zero_delay(probe, called_s, hold_s=0.3))
        probe.wait_state("HALTED")
        probe.send_goal("left", planar8.forward_kinematics(planar8.home)[0])
        sleep(0.2)
        assert all(command.is_zero for command in probe.commands_since(answered_s + PERIOD_S))
        assert probe.value("state") == "HALTED"
        probe.call("resume")
        probe.wait_moving()
    assert_quick(delays)


def test_a_halt_outlives_cleanup(
    controller: Process, probe: Probe, hardware: FakeHardware, planar8: Robot
) -> None:
    move(probe, 0.5)
    probe.call("halt")
    for name in ("deactivate", "cleanup", "configure", "activate"):
        assert probe.transition(name)
    probe.wait_state("HALTED")
    start = len(probe.commands)
    probe.wait_goals_subscribed()
    probe.send_goal("left", planar8.forward_kinematics(planar8.home + 0.5)[0])
    sleep(0.3)
    assert probe.value("state") == "HALTED"
    assert all(command.is_zero for command in probe.commands[start:])
    probe.call("resume")
    probe.wait_moving()


def test_without_joint_states_no_errors_are_reported(
    controller: Process, probe: Probe, planar8: Robot
) -> None:
    probe.wait_goals_subscribed()
    probe.wait_state("WAITING")
    probe.send_goal("left", planar8.forward_kinematics(planar8.home)[0])
    probe.wait(lambda: probe.value("goal/left") != "", "the goal")
    assert probe.value("error/left") == "" and probe.value("reached") == "false"


def test_bad_goals_are_rejected_with_the_reason_and_the_old_one_stays(
    controller: Process, probe: Probe, hardware: FakeHardware, planar8: Robot
) -> None:
    probe.wait_goals_subscribed()
    probe.wait_state("IDLE")
    good = planar8.forward_kinematics(planar8.home + 0.3)[0]
    probe.send_goal("left", good)
    probe.wait(lambda: probe.value("goal/left") != "", "the good goal")
    kept = probe.value("goal/left")
    assert [float(word) for word in kept.split()] == pytest.approx(good, abs=1e-6)
    for position, frame, reason in (
        (np.array([np.nan, 0.0, 0.0]), None, "position is (nan, 0, 0), but must be finite"),
        (good, "camera", "frame is 'camera', but must be 'base_link' or empty"),
    ):
        probe.send_goal("left", position, frame)
        probe.wait(lambda reason=reason: reason in probe.message, f"status says: {reason}")
        assert reason in probe.value("rejected")
        assert probe.value("goal/left") == kept
    probe.wait(lambda: probe.value("reached") == "true", "the old goal is reached")
    assert planar8.forward_kinematics(hardware.position)[0] == pytest.approx(good, abs=0.021)
    probe.send_goal("left", good)
    probe.wait(lambda: probe.value("rejected") == "", "an accepted goal ends the complaint")


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"robot": "humanoid27"}, "'robot': found humanoid27, expected planar8"),
        ({"robot_sha256": "0" * 64}, "'robot_sha256': found 000"),
        ({"joint_names": None}, "'joint_names': missing"),
    ],
)
def test_wrong_policy_is_refused_at_configure_with_the_key(
    start: Launcher, probe: Probe, policy_file: Path, tmp_path: Path, changes: dict, reason: str
) -> None:
    wrong = with_metadata(policy_file, tmp_path / "wrong.onnx", **changes)
    process = start("controller_node", {"policy": str(wrong)})
    assert not probe.transition("configure")
    assert probe.lifecycle_state() == "unconfigured"
    probe.wait(lambda: reason in probe.message, f"status says: {reason}")
    assert set_parameter(probe, "policy", str(policy_file)) == (True, "")
    assert probe.transition("configure")
    assert process.stop() == 0
    assert reason in process.output


def test_parameters_are_checked(
    controller: Process, probe: Probe, hardware: FakeHardware, planar8: Robot, policy_file: Path
) -> None:
    probe.wait_state("IDLE")
    for name, value, reason in (
        ("speed_scale", 1.5, "range"),
        ("speed_scale", float("nan"), "range"),
        ("joint_state_timeout", -1.0, "range"),
        ("joint_state_timeout", 1e-3, "must be 0 or at least 0.01"),
        ("policy", "other.onnx", "policy cannot change while active"),
        ("robot", "humanoid27", "robot cannot change while configured"),
        ("autostart", False, "read-only"),
    ):
        successful, text = set_parameter(probe, name, value)
        assert not successful, name
        assert reason in text
    assert probe.transition("deactivate")
    successful, text = set_parameter(probe, "policy", "other.onnx")
    assert not successful
    assert "'other.onnx' does not exist" in text
    assert set_parameter(probe, "policy", str(policy_file)) == (True, "")
    assert set_parameter(probe, "speed_scale", 0.0) == (True, "")
    assert probe.transition("activate")
    probe.wait_state("IDLE")
    start = len(probe.commands)
    probe.send_goal("left", planar8.forward_kinematics(planar8.home + 0.5)[0])
    probe.wait_state("ACTIVE")
    sleep(0.2)
    assert all(command.is_zero for command in probe.commands[start:])


def test_parameters_that_are_refused_together_change_nothing(
    controller: Process, probe: Probe, hardware: FakeHardware, planar8: Robot, tmp_path: Path
) -> None:
    assert set_parameter(probe, "speed_scale", 0.0) == (True, "")
    assert set_parameter(probe, "record", str(tmp_path / "run.mcap")) == (True, "")
    for refused in ({"reaction_time": 0.001}, {"record": str(tmp_path / "nowhere" / "run.mcap")}):
        successful, _ = set_parameters(probe, speed_scale=1.0, **refused)
        assert not successful
    start = len(probe.commands)
    probe.send_goal("left", planar8.forward_kinematics(planar8.home + 0.5)[0])
    probe.wait_state("ACTIVE")
    sleep(0.2)
    assert all(command.is_zero for command in probe.commands[start:])
    size = (tmp_path / "run.mcap").stat().st_size
    probe.wait(lambda: (tmp_path / "run.mcap").stat().st_size > size, "the recording goes on")


def test_lifecycle_stops_and_starts_without_old_goals(
    start: Launcher, probe: Probe, hardware: FakeHardware, planar8: Robot, policy_file: Path
) -> None:
    start("controller_node", {"policy": str(policy_file)})
    assert probe.lifecycle_state() == "unconfigured"
    assert probe.transition("configure")
    probe.wait_goals_subscribed()
    probe.send_goal("left", planar8.forward_kinematics(planar8.home)[0])
    probe.wait(lambda: "not active" in probe.message, "goals are refused while inactive")
    assert not probe.commands
    assert probe.transition("activate")
    move(probe, 0.5)
    assert probe.transition("deactivate")
    probe.wait(lambda: probe.commands[-1].is_zero, "zero as the last command")
    count = len(probe.commands)
    sleep(0.2)
    assert len(probe.commands) == count
    assert probe.transition("activate")
    probe.wait_state("IDLE")
    assert all(command.is_zero for command in probe.commands[count:])
    assert probe.transition("deactivate")
    assert probe.transition("cleanup")
    assert probe.lifecycle_state() == "unconfigured"
    assert probe.transition("configure")
    assert probe.transition("activate")
    move(probe, 0.5)


@pytest.mark.parametrize(
    "number",
    [signal.SIGINT, signal.SIGTERM, signal.SIGHUP],
    ids=["SIGINT", "SIGTERM", "SIGHUP"],
)
@pytest.mark.parametrize(
    "transitions",
    [(), ("configure",), ("configure", "activate")],
    ids=["unconfigured", "inactive", "active"],
)
def test_clean_exit_in_every_lifecycle_state(
    start: Launcher,
    probe: Probe,
    hardware: FakeHardware,
    planar8: Robot,
    policy_file: Path,
    number: signal.Signals,
    transitions: tuple[str, ...],
) -> None:
    process = start("controller_node", {"policy": str(policy_file)})
    assert probe.lifecycle_state() == "unconfigured"
    for name in transitions:
        assert probe.transition(name)
    if "activate" in transitions:
        move(probe, 0.5)
    assert process.stop(number) == 0, process.output
    assert "Traceback" not in process.output
    if "activate" in transitions:
        probe.wait(lambda: probe.commands[-1].is_zero, "zero as the last command", timeout_s=2.0)
    else:
        assert not probe.commands


def test_a_stopped_clock_does_not_stop_the_control_periods(
    start: Launcher, probe: Probe, hardware: FakeHardware, planar8: Robot, policy_file: Path
) -> None:
    clock = probe.node.create_publisher(Clock, "/clock", 10)
    begin_s = monotonic()

    def send_clock() -> None:
        elapsed_ns = round((monotonic() - begin_s) * 1e9)
        clock.publish(Clock(clock=Time(sec=elapsed_ns // 10**9, nanosec=elapsed_ns % 10**9)))

    timer = probe.node.create_timer(0.005, send_clock)
    start("controller_node", {"policy": str(policy_file), "autostart": True, "use_sim_time": True})
    move(probe, 0.5)
    timer.cancel()
    probe.wait(lambda: "/clock stands" in probe.message, "status says that /clock stands")
    count, stood_s = len(probe.commands), monotonic()
    move(probe, -0.5)
    probe.wait(lambda: probe.value("reached") == "true", "goals without /clock")
    rate = (len(probe.commands) - count) / (monotonic() - stood_s)
    assert rate > 0.5 / PERIOD_S, "limits are looked at in every period, as with /clock"
    move(probe, 0.5)
    assert zero_delay(probe, hardware.stop(), hold_s=0.2) < 2 * PERIOD_S + SCHEDULING_S
    hardware.resume()
    timer.reset()
    probe.wait(lambda: "/clock" not in probe.message, "status says nothing of /clock any more")


def test_another_policy_can_be_loaded_while_inactive(start: Launcher, probe: Probe) -> None:
    FakeHardware(probe)
    robot = probe.robot
    start("controller_node", {"autostart": True})
    for number, method in enumerate(("apg", "ddpg", "apg")):
        if number:
            assert probe.transition("deactivate")
            path = str(find_policy("planar8", method))
            assert set_parameter(probe, "policy", path) == (True, "")
            assert probe.transition("activate")
        told = f'"method": "{method}"'
        probe.wait(lambda told=told: bool(probe.metadata) and told in probe.metadata[-1], method)
        probe.wait_goals_subscribed()
        probe.wait_state("IDLE")
        assert_reaches(probe, reachable_goals(robot, 3 + number, 1)[0])


def test_two_robots_in_namespaces_do_not_disturb_each_other(
    start: Launcher, ros_domain_id: int
) -> None:
    probes = []
    for name in ("planar8", "humanoid27"):
        words = ("-r", f"__ns:=/{name}")
        remap = ("-r", "commands:=polyreach_controller/commands")
        start("sim_node", {"robot": name}, *words, *remap)
        start("controller_node", {"robot": name, "autostart": True}, *words)
        probes.append(Probe(load_robot(name), ros_domain_id, namespace=f"/{name}"))
    diagnostics: list[DiagnosticArray] = []
    probes[0].node.create_subscription(DiagnosticArray, "/diagnostics", diagnostics.append, 10)
    try:
        for probe in probes:
            probe.wait_goals_subscribed()
            probe.wait_state("IDLE")
        for seed in (1, 2):
            goals = [reachable_goals(probe.robot, seed, 1)[0] for probe in probes]
            for probe, wanted in zip(probes, goals, strict=True):
                for effector, position in wanted.items():
                    probe.send_goal(effector, position)
            for probe, wanted in zip(probes, goals, strict=True):
                assert_reaches(probe, wanted, timeout_s=30.0)
        probes[0].call("halt")
        probes[0].wait_state("HALTED")
        assert probes[1].value("state") == "ACTIVE"
        for probe in probes:
            assert_within_limits(probe.robot, probe.commands)
        names = {status.name for message in diagnostics for status in message.status}
        assert names == {"/planar8/polyreach_controller", "/humanoid27/polyreach_controller"}
    finally:
        for probe in probes:
            probe.__exit__()
