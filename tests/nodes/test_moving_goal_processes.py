"""Goals that move, by streams of poses and by twists, with the simulator and the shipped policy."""

import math
from collections.abc import Iterator
from time import monotonic, sleep

import numpy as np
import pytest
from geometry_msgs.msg import TwistStamped
from rig import Launcher, Process
from scenarios import Probe, assert_within_limits

from polyreach_description import Robot

SPEED = 0.2  # [m/s] of the fastest effector
RATE = 25.0  # [Hz] of goals
WAY_S, WAYS = 2.5, 8  # [s] of one way
TIMEOUT_S = 0.2  # of twists, the default


@pytest.fixture
def simulation(start: Launcher, probe: Probe) -> Iterator[Process]:
    """planar8 at home, with a controller that has been active for a moment."""
    controller = start("controller_node", {"autostart": True, "joint_state_timeout": 0.5})
    remap = "commands:=polyreach_controller/commands"
    start("sim_node", None, "--ros-args", "-r", remap)
    probe.wait_goals_subscribed()
    probe.wait_state("IDLE")
    probe.wait(lambda: probe.joint_pos is not None, "joint states")
    yield controller
    assert controller.stop() == 0
    assert "Traceback" not in controller.output


def poses(probe: Probe, since_s: float, seconds: float) -> list[tuple[float, np.ndarray]]:
    """Times [s] since since_s, and where the effectors were (E, 3) [m], for this long."""
    found: list[tuple[float, np.ndarray]] = []
    while (now_s := monotonic() - since_s) < seconds:
        assert probe.joint_pos is not None
        found.append((now_s, probe.robot.forward_kinematics(probe.joint_pos)))
        sleep(0.005)
    return found


def test_a_streamed_goal_is_followed_within_5_mm(
    simulation: Process, probe: Probe, planar8: Robot
) -> None:
    """To and fro on one path, until a way without delays of a busy machine."""
    way = np.array([0.3, -0.4, 0.3, 0.4, 0.4, 0.4, 0.4, 0.4])
    begin = planar8.forward_kinematics(planar8.home)
    near = planar8.forward_kinematics(planar8.home + 1e-4 * way)
    way *= SPEED / (np.linalg.norm(near - begin, axis=-1).max() / 1e-4)  # [rad/s]

    def goals(now_s: float) -> np.ndarray:
        back, since_s = divmod(now_s, WAY_S)
        return planar8.forward_kinematics(
            planar8.home + way * (WAY_S - since_s if back % 2 else since_s)
        )

    errors: list[list[float]] = [[] for _ in range(WAYS)]
    sent, now_s, start_s = 0, 0.0, monotonic()
    while now_s < WAYS * WAY_S - 0.1:
        now_s = monotonic() - start_s
        if now_s >= sent / RATE:
            sent = math.floor(now_s * RATE) + 1
            for effector, goal in zip(planar8.effector_names, goals(now_s), strict=True):
                probe.send_goal(effector, goal)
        assert probe.joint_pos is not None
        late = np.linalg.norm(planar8.forward_kinematics(probe.joint_pos) - goals(now_s), axis=-1)
        number, since_s = divmod(now_s, WAY_S)
        if 1.0 < since_s < WAY_S - 0.1:
            errors[int(number)].append(float(late.max()))
        sleep(0.005)
        if number and np.median(errors[int(number) - 1]) < 0.005:
            break
    last = [float(value) for effector in goals(now_s) for value in effector]
    for effector, goal in zip(planar8.effector_names, np.reshape(last, (3, 3)), strict=True):
        probe.send_goal(effector, goal)
    medians = [np.median(each) for each in errors if each]
    assert min(medians) < 0.005, medians  # 11 mm as sent
    assert_settles(probe, np.reshape(last, (3, 3)))
    assert_within_limits(planar8, probe.commands)


def assert_settles(probe: Probe, goals: np.ndarray) -> None:
    """On the last goals sent (E, 3) [m], not where they would be by now: within 1 mm for 0.5 s, in
    10 s at most.
    """

    def error() -> float:
        assert probe.joint_pos is not None
        at = probe.robot.forward_kinematics(probe.joint_pos)
        return float(np.linalg.norm(at - goals, axis=-1).max())

    since_s = start_s = monotonic()
    while (now_s := monotonic()) - since_s < 0.5:
        sleep(0.01)
        if error() >= 0.001:
            since_s = now_s
            assert now_s - start_s < 10.0, error()


def test_twists_move_an_effector_until_their_timeout(
    simulation: Process, probe: Probe, planar8: Robot
) -> None:
    publisher = probe.node.create_publisher(TwistStamped, "polyreach_controller/twists/middle", 10)
    probe.wait_subscribed(publisher)

    def send(x: float, y: float, frame: str = "") -> None:
        message = TwistStamped()
        message.header.frame_id = frame
        message.twist.linear.x, message.twist.linear.y = x, y
        publisher.publish(message)

    begin = planar8.forward_kinematics(planar8.home)[1]
    start_s = monotonic()
    while monotonic() - start_s < 1.0:
        send(-0.1, 0.05, "base_link")
        sleep(0.02)
    last_s = monotonic()
    track = poses(probe, last_s, 1.5)
    assert probe.joint_pos is not None
    stopped = track[-1][1][1]
    moved = stopped - begin
    # a second, and the timeout at most
    assert math.hypot(0.1, 0.05) * 0.9 < np.linalg.norm(moved) < math.hypot(0.1, 0.05) * 1.4
    assert moved[1] / moved[0] == pytest.approx(-0.5, abs=0.05)
    after = [at[1] for now_s, at in track if now_s > TIMEOUT_S + 0.5]
    assert np.linalg.norm(np.array(after) - stopped, axis=-1).max() < 1e-3
    assert probe.value("goal/middle") != ""
    assert probe.value("goal/left") == ""
    send(math.nan, 0.0)
    probe.wait(lambda: "must be finite" in probe.value("twists"), "the reason of a rejection")
    assert probe.value("twists") == (
        "twist of 'middle' rejected: linear velocity is (nan, 0, 0), but must be finite"
    )
    probe.call("clear_goals")
    probe.wait_state("IDLE")
    assert_within_limits(planar8, probe.commands)
