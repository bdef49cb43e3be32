"""The controller with hardware that behaves like ros2_control and responds with a delay."""

import math
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from time import monotonic, sleep

import numpy as np
import pytest
import yaml
from delay_study import Motion, reach
from forward_command_controller import EXTRA_JOINT
from rig import Launcher, Process
from scenarios import LATCHED, Probe, assert_reaches, assert_within_limits, listen
from sensor_msgs.msg import JointState
from std_msgs.msg import Float64MultiArray, String, UInt64
from velocity_servos import VelocityServos

from polyreach_description import Robot, list_robots, load_robot
from polyreach_description.policy_search import find_policy
from polyreach_description.urdf_export import robot_to_urdf
from polyreach_nodes.control.policy import Policy

CONFIG = Path(__file__).parents[2] / "config"
STAND_IN = Path(__file__).with_name("forward_command_controller.py")
COMMANDS = "velocity_controller/commands"
DELAYED = ("planar8", "humanoid27")  # robots whose shipped policies meet delays
REST_SPEED = 1e-3  # [rad/s]


def goals_at(robot: Robot, joint_pos: np.ndarray) -> dict[str, np.ndarray]:
    """Goals of all effectors [m, base frame] that are reached at joint_pos (nu,)."""
    return dict(zip(robot.effector_names, robot.forward_kinematics(joint_pos), strict=True))


class Arm:
    """Client of the stand-in for ros2_control."""

    def __init__(self, probe: Probe, start: Launcher) -> None:
        self.probe = probe
        self.state = JointState()
        self.accepted = 0  # number of commands accepted by the velocity controller
        self._start = start
        node = probe.node
        self._description = node.create_publisher(String, "robot_description", LATCHED)
        listen(probe, COMMANDS, "joint_states")
        node.create_subscription(JointState, "joint_states", self._on_state, 10)
        node.create_subscription(UInt64, "velocity_controller/accepted", self._on_accepted, 10)
        self.commands = node.create_publisher(Float64MultiArray, COMMANDS, 10)

    def _on_state(self, message: JointState) -> None:
        self.state = message

    def _on_accepted(self, message: UInt64) -> None:
        self.accepted = message.data

    def switch_on(self, delay_s: float = 0.0, lag_s: float = 0.0) -> Process:
        """Start it with the shipped parameters and the robot's URDF; wait for joint states."""
        robot = self.probe.robot
        params = str(CONFIG / "ros2_control" / f"{robot.name}.yaml")
        values = {"active": "true", "delay": delay_s, "lag": lag_s}
        words = [word for key, value in values.items() for word in ("-p", f"{key}:={value}")]
        process = self._start(
            "python", None, str(STAND_IN), "--ros-args", "--params-file", params, *words
        )
        self._description.publish(String(data=robot_to_urdf(robot)))
        self.probe.wait(lambda: self.probe.joint_pos is not None, "joint states")
        return process

    def control(self) -> Process:
        """Start the controller with the shipped policy; wait until commands are accepted."""
        accepted, remap = self.accepted, ("-r", f"~/commands:={COMMANDS}")
        process = self._start("controller_node", {"autostart": True}, *remap)
        self.probe.wait(lambda: self.accepted > accepted, "commands accepted by the stand-in")
        return process

    def velocity(self) -> np.ndarray:
        """Velocities (nu,) [rad/s] of the last joint state."""
        velocity = dict(zip(self.state.name, self.state.velocity, strict=True))
        return np.array([velocity[name] for name in self.probe.robot.joint_names])

    def move(self, offset: float) -> None:
        """Send far goals and wait for fast motion."""
        probe = self.probe
        probe.wait_state("IDLE", "ACTIVE")
        probe.wait_goals_subscribed()
        for effector, goal in goals_at(probe.robot, probe.robot.home + offset).items():
            probe.send_goal(effector, goal)
        probe.wait(lambda: np.abs(self.velocity()).max() > 0.2, "fast motion")

    def wait_rest(self, timeout_s: float = 5.0) -> None:
        """Wait until no joint moves."""
        self.probe.wait(
            lambda: np.abs(self.velocity()).max() < REST_SPEED, "all joints at rest", timeout_s
        )


@pytest.fixture
def arm(probe: Probe, start: Launcher) -> Iterator[Arm]:
    return Arm(probe, start)


@pytest.mark.parametrize("delay_s", [0.0, 0.05])
def test_goals_are_reached_over_remapped_topics(
    arm: Arm, probe: Probe, planar8: Robot, delay_s: float
) -> None:
    arm.switch_on(delay_s, lag_s=0.02)
    assert arm.state.name[1] == EXTRA_JOINT
    assert [name for name in arm.state.name if name != EXTRA_JOINT] == [*planar8.joint_names][::-1]
    arm.control()
    probe.wait_state("IDLE")
    probe.wait_goals_subscribed()
    for offset in (0.4, -0.3):
        assert_reaches(probe, goals_at(planar8, planar8.home + offset))
    assert_within_limits(planar8, probe.commands)
    probe.call("clear_goals")
    arm.wait_rest()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["SIGINT", "SIGTERM"])
def test_the_last_command_is_zero_and_the_joints_are_at_rest(
    arm: Arm, probe: Probe, number: signal.Signals
) -> None:
    arm.switch_on(delay_s=0.02, lag_s=0.02)
    controller = arm.control()
    arm.move(0.8)
    assert controller.stop(number) == 0
    probe.wait(lambda: probe.commands[-1].is_zero, "zero as the last command")
    arm.wait_rest()
    rest = probe.joint_pos
    sleep(0.5)
    assert probe.joint_pos == pytest.approx(rest, abs=1e-4)


@pytest.mark.parametrize(
    ("interface", "remap"),
    [
        ("position", "~/position_commands:=position_controller/commands"),
        ("trajectory", "~/joint_trajectory:=joint_trajectory_controller/joint_trajectory"),
    ],
)
def test_a_killed_controller_of_positions_leaves_the_joints_at_rest(
    arm: Arm, probe: Probe, planar8: Robot, start: Launcher, interface: str, remap: str
) -> None:
    """With the shipped controllers of ros2_control, which have these interfaces."""
    arm.switch_on(lag_s=0.02)
    parameters = {"autostart": True, "command_interface": interface}
    controller = start("controller_node", parameters, "-r", remap)
    probe.wait_state("IDLE")
    probe.wait_goals_subscribed()
    assert_reaches(probe, goals_at(planar8, planar8.home + 0.4))
    arm.move(-0.8)
    controller.popen.kill()
    arm.wait_rest()
    rest = probe.joint_pos
    sleep(0.5)
    assert probe.joint_pos == pytest.approx(rest, abs=1e-3)


def test_a_killed_controller_leaves_the_joints_moving_until_it_restarts(
    arm: Arm,
    probe: Probe,
    planar8: Robot,
) -> None:
    arm.switch_on()
    controller = arm.control()
    arm.move(0.8)
    controller.popen.kill()
    controller.popen.wait()
    sleep(0.3)
    last, count = probe.commands[-1].joint_vel, len(probe.commands)
    assert np.abs(last).max() > 0.05
    before, begin_s = probe.joint_pos, monotonic()
    sleep(0.5)
    assert len(probe.commands) == count
    low, high = planar8.joint_pos_limits.T
    assert before is not None and probe.joint_pos is not None
    expected = np.clip(before + last * (monotonic() - begin_s), low, high)
    assert probe.joint_pos == pytest.approx(expected, abs=0.1 * np.abs(last).max() + 0.02)
    assert np.abs(probe.joint_pos - before).max() > 0.3 * np.abs(last).max()

    arm.control()
    probe.wait(lambda: len(probe.commands) > count, "commands of the new controller")
    assert probe.commands[count].is_zero
    arm.wait_rest()
    probe.wait_state("IDLE")
    probe.wait_goals_subscribed()
    assert all(command.is_zero for command in probe.commands[count:])
    assert_reaches(probe, goals_at(planar8, planar8.home - 0.3))


def test_joints_left_moving_stop_at_the_limits_of_the_urdf(arm: Arm, planar8: Robot) -> None:
    arm.switch_on()
    command = Float64MultiArray(data=(2.0 * planar8.joint_vel_limits).tolist())
    arm.probe.wait_subscribed(arm.commands, subscriptions=2)  # probe and velocity controller
    arm.commands.publish(command)
    arm.probe.wait(lambda: bool(arm.velocity().any()), "motion")
    assert arm.velocity() == pytest.approx(planar8.joint_vel_limits)
    arm.wait_rest()
    assert arm.probe.joint_pos == pytest.approx(planar8.joint_pos_limits[:, 1], abs=0.05)


def test_command_that_is_not_finite_is_dropped_as_a_whole(
    arm: Arm, probe: Probe, planar8: Robot
) -> None:
    process = arm.switch_on()
    probe.wait_subscribed(arm.commands, subscriptions=2)
    wanted = [0.1] * len(planar8.joint_names)
    arm.commands.publish(Float64MultiArray(data=wanted))
    probe.wait(lambda: arm.velocity() == pytest.approx(wanted), "motion")
    arm.commands.publish(Float64MultiArray(data=[math.nan, *[0.0] * 7]))
    probe.wait(lambda: "Dropping message" in process.output, "a warning")
    assert arm.velocity() == pytest.approx(wanted)


def test_a_wrong_length_deactivates_the_controller_and_the_joints_keep_moving(
    arm: Arm, probe: Probe, planar8: Robot
) -> None:
    process = arm.switch_on()
    probe.wait_subscribed(arm.commands, subscriptions=2)
    wanted = [0.1] * len(planar8.joint_names)
    arm.commands.publish(Float64MultiArray(data=wanted))
    probe.wait(lambda: arm.velocity() == pytest.approx(wanted), "motion")
    arm.commands.publish(Float64MultiArray(data=[0.0] * 7))
    probe.wait(lambda: "does not match number of interfaces" in process.output, "an error")
    arm.commands.publish(Float64MultiArray(data=[0.0] * 8))
    sleep(0.5)
    assert arm.velocity() == pytest.approx(wanted)


def test_halt_stops_the_joints_over_a_late_servo(arm: Arm, probe: Probe) -> None:
    arm.switch_on(delay_s=0.1)
    arm.control()
    arm.move(0.8)
    probe.call("halt")
    arm.wait_rest()
    assert probe.value("state") == "HALTED"


Motions = Callable[[float, float], list[Motion]]


@pytest.fixture(scope="module", params=DELAYED)
def motions(request: pytest.FixtureRequest) -> Motions:
    """Motions of the shipped policy with joints that respond with a delay."""
    robot = load_robot(request.param)
    policy = Policy.load(find_policy(robot.name), robot)
    starts = robot.sample_configuration(np.random.default_rng(0), 4)
    goals = [robot.forward_kinematics(joint_pos) for joint_pos in starts[::-1]]

    def run(delay_s: float, speed_scale: float) -> list[Motion]:
        ways = zip(starts, goals, strict=True)
        return [reach(robot, policy, *way, delay_s, speed_scale) for way in ways]

    return run


@pytest.mark.parametrize(
    ("delay_s", "speed_scale"), [(0.02, 1.0), (0.05, 1.0), (0.1, 1.0), (0.2, 0.5), (0.2, 0.25)]
)
def test_a_motion_settles_despite_a_delay(
    motions: Motions, delay_s: float, speed_scale: float
) -> None:
    for motion in motions(delay_s, speed_scale):
        assert motion.settled
        assert motion.overshoot < 0.1


def test_a_motion_settles_after_a_long_delay(motions: Motions) -> None:
    assert all(motion.settled for motion in motions(0.2, 1.0))


@pytest.mark.parametrize("name", list_robots())
def test_shipped_joint_order_is_that_of_the_robot(name: str) -> None:
    content = yaml.safe_load((CONFIG / "ros2_control" / f"{name}.yaml").read_text())
    manager = content["/**/controller_manager"]["ros__parameters"]
    forward = content["/**/velocity_controller"]["ros__parameters"]
    robot = load_robot(name)
    assert tuple(forward["joints"]) == robot.joint_names  # and so of every policy that loads
    assert forward["interface_name"] == "velocity"
    positions = content["/**/position_controller"]["ros__parameters"]
    assert positions == {"interface_name": "position", "joints": forward["joints"]}
    trajectory = content["/**/joint_trajectory_controller"]["ros__parameters"]
    assert trajectory["joints"] == forward["joints"]
    assert trajectory["command_interfaces"] == ["position"]
    assert trajectory["interpolate_from_desired_state"] is True
    assert manager["velocity_controller"]["type"] == (
        "forward_command_controller/ForwardCommandController"
    )
    assert manager["enforce_command_limits"] is True
    assert manager["update_rate"] >= 2.5 * robot.control_rate


@pytest.mark.parametrize("steps", [1, 7, 500])
def test_servos_integrate_exactly_for_any_step_size(steps: int) -> None:
    servos = VelocityServos([1.0], delay_s=0.1, lag_s=0.05)
    servos.advance(0.0)
    servos.command([2.0], 0.0)
    for now_s in np.linspace(0.0, 0.5, steps + 1)[1:]:
        servos.advance(float(now_s))
    # v = u (1 - e^(-t / lag)), from the delay on
    moving_s, decay = 0.4, math.exp(-0.4 / 0.05)
    assert servos.velocity == pytest.approx([2.0 * (1 - decay)])
    assert servos.position == pytest.approx([1.0 + 2.0 * (moving_s - 0.05 * (1 - decay))])
