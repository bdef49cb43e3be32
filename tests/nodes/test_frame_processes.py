"""Goals in frames of the robot over ROS: topics, `polyreach goal --frame` and the action."""

from collections.abc import Iterator
from time import monotonic, sleep
from typing import Any

import numpy as np
import pytest
from domains import reserved_domain
from geometry_msgs.msg import PoseStamped
from rclpy.action import ActionClient
from rig import Launcher, launching
from scenarios import DISCOVERY_S, Probe

from polyreach_description import Robot, load_robot
from polyreach_nodes.control.goal_frames import LinkFrames

LEFT, RIGHT = 0, 1
STEP = np.array([0.06, 0.05, 0.05])  # [m] by which the right hand moves


@pytest.fixture(scope="module")
def robot() -> Robot:
    return load_robot("humanoid27")


@pytest.fixture(scope="module")
def arms(
    robot: Robot, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Probe, Launcher]]:
    """A controller of humanoid27 and its simulator."""
    folder = tmp_path_factory.mktemp("frames")
    with reserved_domain() as domain, launching(folder, domain) as start:
        # joint states may be late on a busy machine
        late = {"joint_state_timeout": 0.3, "outage_timeout": 0.0}
        start("controller_node", {"robot": "humanoid27", "autostart": True, **late})
        remap = "commands:=polyreach_controller/commands"
        start("sim_node", {"robot": "humanoid27"}, "-r", remap)
        with Probe(robot, domain) as probe:
            probe.wait(lambda: probe.value("state") == "IDLE", "the controller", 90.0)
            probe.wait_goals_subscribed()
            yield probe, start


def at_home(robot: Robot, palm: str, frame: str) -> np.ndarray:
    """A palm in the frame of the other one, at home (3,) [m]."""
    links = LinkFrames(robot, lambda: robot.qpos(robot.home))
    links.update(robot.home)
    place, rotation = links.pose(frame)
    offset: np.ndarray = rotation.T @ (links.pose(palm)[0] - place)
    return offset


@pytest.fixture
def apart(robot: Robot) -> np.ndarray:
    """The left hand in the frame of the right hand, at home (3,) [m]."""
    return at_home(robot, "left_palm", "right_palm")


def expected_goal(robot: Robot, joint_pos: np.ndarray, offset: np.ndarray) -> np.ndarray:
    """Where a goal in the frame of the right hand is (3,) [m, base frame]."""
    links = LinkFrames(robot, lambda: robot.qpos(robot.home))
    links.update(joint_pos)
    place, rotation = links.pose("right_hand")
    goal: np.ndarray = place + rotation @ offset
    return goal


def shown_goal(probe: Probe) -> np.ndarray:
    return np.array([float(word) for word in probe.value("goal/left_hand").split()])


def test_a_goal_in_the_frame_of_the_other_hand_follows_that_hand(
    arms: tuple[Probe, Launcher], robot: Robot, apart: np.ndarray
) -> None:
    probe, _ = arms
    probe.call("clear_goals")
    home = robot.forward_kinematics(robot.home)
    probe.send_goal("right_hand", home[RIGHT])
    probe.wait(lambda: bool(probe.value("goal/right_hand")), "the goal of the right hand")
    probe.send_goal("left_hand", apart, frame="right_hand")
    probe.wait(lambda: probe.value("goal_frame/left_hand") == "right_hand", "the goal in a frame")
    probe.wait(lambda: probe.value("reached") == "true", "both hands", 30.0)
    assert [float(word) for word in probe.value("goal_in_frame/left_hand").split()] == (
        apart.tolist()
    )
    before = shown_goal(probe)
    probe.send_goal("right_hand", home[RIGHT] + STEP)
    probe.wait(lambda: np.linalg.norm(shown_goal(probe) - before) > 0.03, "the goal moves", 20.0)
    probe.wait(lambda: probe.value("reached") == "true", "both hands", 30.0)
    end_s = monotonic() + 10.0
    while np.abs(probe.commands[-1].joint_vel).max() > 0.01 and monotonic() < end_s:
        sleep(0.1)
    sleep(1.5)  # a status after that
    assert probe.joint_pos is not None
    goal = expected_goal(robot, probe.joint_pos, apart)
    assert shown_goal(probe) == pytest.approx(goal, abs=0.003)
    place = robot.forward_kinematics(probe.joint_pos)
    assert np.linalg.norm(place[LEFT] - goal) < 0.025
    assert np.linalg.norm(place[RIGHT] - home[RIGHT] - STEP) < 0.025
    reason = "frame 'left_palm' moves with 'right_hand' itself, by way of the goal of 'left_hand'"
    probe.send_goal("right_hand", apart, frame="left_palm")
    probe.wait(lambda: reason in probe.value("rejected"), "the refused loop")
    probe.call("clear_goals")
    probe.wait_state("IDLE")


def test_the_command_takes_frames(
    arms: tuple[Probe, Launcher], robot: Robot, apart: np.ndarray
) -> None:
    probe, start = arms
    probe.call("clear_goals")
    words = [f"{value:.9f}" for value in apart]
    probe.send_goal("right_hand", robot.forward_kinematics(robot.home)[RIGHT])
    probe.wait(lambda: bool(probe.value("goal/right_hand")), "the goal of the right hand")
    sent = start("goal_node", None, "left_hand", *words, "--frame", "right_palm", "--wait", "20")
    assert sent.popen.wait(timeout=60) == 0, sent.output
    assert probe.value("goal_frame/left_hand") == "right_palm"
    for frame, reason in (
        ("left_forearm", "frame 'left_forearm' moves with 'left_hand' itself: the goal would run"),
        ("camera", "frame is 'camera', but must be 'pelvis' or empty, or of the robot: left_hand"),
    ):
        sent = start("goal_node", None, "left_hand", *words, "--frame", frame)
        assert sent.popen.wait(timeout=30) == 1
        assert reason in sent.output
    probe.call("clear_goals")


def test_the_action_takes_frames(arms: tuple[Probe, Launcher], robot: Robot) -> None:
    why = "polyreach_interfaces is not built (make interfaces)"
    action = pytest.importorskip("polyreach_interfaces.action", reason=why).ReachGoals
    probe, start = arms
    probe.call("clear_goals")
    start("reach_node", {"settle_time": 0.3})
    client = ActionClient(probe.node, action, "polyreach_controller/reach")
    assert client.wait_for_server(30.0)
    sleep(DISCOVERY_S)
    home = robot.forward_kinematics(robot.home)
    places = home[LEFT] + STEP, at_home(robot, "right_palm", "left_palm")

    def reach(frame: str) -> Any:
        poses = [PoseStamped(), PoseStamped()]
        poses[RIGHT].header.frame_id = frame
        for pose, place in zip(poses, places, strict=True):
            point = pose.pose.position
            point.x, point.y, point.z = place.tolist()
        future = client.send_goal_async(action.Goal(effectors=robot.effector_names, poses=poses))
        probe.wait(future.done, "answer to the goal")
        result = future.result().get_result_async()
        probe.wait(result.done, "the result of the action", 40.0)
        return result.result().result

    result = reach("left_palm")
    assert result.success, result.message
    assert max(result.errors) <= 0.02
    assert probe.value("goal_frame/right_hand") == "left_palm"
    result = reach("camera")
    assert not result.success
    assert "frame of 'right_hand' is 'camera', but must be 'pelvis' or empty" in result.message
    assert probe.value("goal_frame/right_hand") == "left_palm"
    result = reach("right_forearm")
    assert "frame 'right_forearm' moves with 'right_hand' itself" in result.message
    probe.call("clear_goals")


def test_use_tf_without_tf2_ros_is_refused_by_name(arms: tuple[Probe, Launcher]) -> None:
    try:
        import tf2_ros  # noqa: F401
    except ImportError:
        pass
    else:
        pytest.skip("tf2_ros is installed")
    _, start = arms
    words = ("-r", "__node:=other_controller")
    node = start("controller_node", {"robot": "planar8", "autostart": True, "use_tf": True}, *words)
    deadline = monotonic() + 60.0
    while "configure refused: use_tf needs the package tf2_ros" not in node.output:
        assert monotonic() < deadline and node.popen.poll() is None, node.output
        sleep(0.2)
    assert node.stop() == 0
