"""Goals with an orientation over ROS: topics, `polyreach goal`, and the demo."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from time import sleep
from typing import Any

import numpy as np
import pytest
from domains import reserved_domain
from geometry_msgs.msg import PoseStamped
from pose_policy import FREE, WELDER, export_pose_least_squares, reachable_poses
from rclpy.action import ActionClient
from rig import Launcher, launching
from scenarios import DISCOVERY_S, Probe
from visualization_msgs.msg import Marker, MarkerArray

from polyreach_description import Robot, load_robot
from polyreach_description.orientation import orientation_errors
from polyreach_nodes.client.obstacles import deletion, obstacle_marker
from polyreach_nodes.client.topics import OBSTACLES


@pytest.fixture(scope="module")
def welder() -> Robot:
    return load_robot(WELDER)


@pytest.fixture(scope="module")
def arm(
    welder: Robot,
    once: Callable[[str, Callable[[Path], object]], Path],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[tuple[Probe, Launcher]]:
    """A controller with the welder's policy, and its simulator."""
    policy = once("welder.onnx", lambda path: export_pose_least_squares(welder, path))
    folder = tmp_path_factory.mktemp("welder")
    with reserved_domain() as domain, launching(folder, domain) as start:
        # joint states may be late on a busy machine
        late = {"joint_state_timeout": 0.3, "outage_timeout": 0.0}
        own = {"robot": str(WELDER), "policy": str(policy), "autostart": True}
        start("controller_node", {**own, **late})
        remap = "commands:=polyreach_controller/commands"
        start("sim_node", {"robot": str(WELDER)}, "-r", remap)
        with Probe(welder, domain) as probe:
            probe.wait_goals_subscribed()
            probe.wait_state("IDLE")
            yield probe, start


def test_poses_are_reached_and_shown_with_both_errors(
    arm: tuple[Probe, Launcher], welder: Robot
) -> None:
    probe, _ = arm
    positions, orientations = reachable_poses(welder, 2)
    for name, position, orientation in zip(
        welder.effector_names, positions, orientations, strict=True
    ):
        probe.send_goal(name, position, orientation=orientation)
    probe.wait(lambda: probe.value("reached") == "true", "poses reached", 30.0)
    angles = [float(probe.value(f"angle_error/{name}")) for name in welder.effector_names]
    assert 0.0 < max(angles) <= np.degrees(0.05)
    place, turned = welder.effector_poses(probe.joint_pos)
    errors = orientation_errors(welder.effector_goals, welder.effector_axes, turned, orientations)
    assert np.degrees(errors).max() < 3.0
    assert np.linalg.norm(place - positions, axis=-1).max() < 0.02
    shown = [float(word) for word in probe.value("goal_orientation/gripper").split()]
    assert shown == orientations[0].tolist()


def test_a_zero_quaternion_is_rejected_and_the_pose_stays(arm: tuple[Probe, Launcher]) -> None:
    probe, _ = arm
    before = probe.value("goal/gripper")
    probe.send_goal("gripper", np.array([0.5, 0.0, 0.3]), orientation=(0.0, 0.0, 0.0, 0.0))
    probe.wait(lambda: "norm 0" in probe.value("rejected"), "the rejection")
    assert "goal of 'gripper' rejected: orientation (0, 0, 0, 0) has norm 0" in probe.message
    assert probe.value("goal/gripper") == before


def test_the_command_sends_poses_and_needs_them(arm: tuple[Probe, Launcher], welder: Robot) -> None:
    probe, start = arm
    positions, orientations = reachable_poses(welder, 8)
    x_y_z = [f"{value:.9f}" for value in positions[0]]
    missing = start("goal_node", None, "gripper", *x_y_z)
    assert missing.popen.wait(timeout=30) == 1
    assert "'gripper' has an orientation (pose): give --rpy or --quat" in missing.output
    quaternion = [f"{value:.9f}" for value in orientations[0]]
    probe.call("clear_goals")
    sent = start("goal_node", None, "gripper", *x_y_z, "--quat", *quaternion, "--wait", "20")
    assert sent.popen.wait(timeout=60) == 0, sent.output
    sent = start("goal_node", None, "gripper", *x_y_z, "--rpy", "0", "-1e-1", "0.2")
    assert sent.popen.wait(timeout=30) == 0, sent.output
    q = [float(word) for word in probe.value("goal_orientation/gripper").split()]
    # Rz(0.2) Ry(-0.1): half angles 0.1 and -0.05
    sy, cy, sz, cz = -np.sin(0.05), np.cos(0.05), np.sin(0.1), np.cos(0.1)
    assert q == pytest.approx([-sy * sz, sy * cz, cy * sz, cy * cz])
    far = start("goal_node", None, "gripper", *x_y_z, "--rpy", "3.1", "0", "0", "--wait", "0.1")
    assert far.popen.wait(timeout=30) == 1
    assert " mm, " in far.output and " deg from its goal after" in far.output
    probe.call("clear_goals")


def test_the_reach_action_takes_poses_and_reports_angles(
    arm: tuple[Probe, Launcher], welder: Robot
) -> None:
    reason = "polyreach_interfaces is not built (make interfaces)"
    action = pytest.importorskip("polyreach_interfaces.action", reason=reason).ReachGoals
    probe, start = arm
    start("reach_node", {"settle_time": 0.3})
    client = ActionClient(probe.node, action, "polyreach_controller/reach")
    assert client.wait_for_server(30.0)
    sleep(DISCOVERY_S)
    positions, orientations = reachable_poses(welder, 9)

    def reach(turned: np.ndarray, angle_tolerance: float) -> tuple[Any, list[Any]]:
        poses = [PoseStamped(), PoseStamped()]
        for pose, position, quaternion in zip(poses, positions, turned, strict=True):
            point, q = pose.pose.position, pose.pose.orientation
            point.x, point.y, point.z = position.tolist()
            q.x, q.y, q.z, q.w = quaternion.tolist()
        goal = action.Goal(
            effectors=list(welder.effector_names), poses=poses, angle_tolerance=angle_tolerance
        )
        feedback: list[Any] = []
        future = client.send_goal_async(goal, lambda message: feedback.append(message.feedback))
        probe.wait(future.done, "answer to the goal")
        result = future.result().get_result_async()
        probe.wait(result.done, "the result of the action", 40.0)
        return result.result().result, feedback

    result, feedback = reach(orientations, 0.03)
    assert result.success, result.message
    assert 0.0 < max(result.angle_errors) <= 0.03
    assert feedback and all(len(message.angle_errors) == 2 for message in feedback)
    result, _ = reach(np.zeros((2, 4)), 0.03)
    assert not result.success
    assert "goal of 'gripper': orientation (0, 0, 0, 0) has norm 0" in result.message
    probe.call("clear_goals")


def test_the_policy_is_told_of_obstacles_beyond_the_slow_distance(
    arm: tuple[Probe, Launcher], welder: Robot
) -> None:
    """The welder's policy is slow where one is near its base; nothing else slows the robot."""
    probe, _ = arm
    topic = f"{probe.controller}/{OBSTACLES}"
    publisher = probe.node.create_publisher(MarkerArray, topic, 10)
    probe.wait(lambda: publisher.get_subscription_count() > 0, "subscription to obstacles")
    assert probe.value("avoids obstacles") == "true"
    share = 0.2
    away = [0.0, 0.0, -share * FREE]
    ball = obstacle_marker("test", 0, Marker.SPHERE, away, [0.1] * 3, lifetime_s=60.0)

    def fastest(goal_seed: int) -> float:
        """Greatest share of a joint's velocity limit on the way to goals."""
        probe.commands.clear()
        for name, *pose in zip(
            welder.effector_names, *reachable_poses(welder, goal_seed), strict=True
        ):
            probe.send_goal(name, pose[0], orientation=pose[1])
        probe.wait(lambda: probe.value("reached") == "false", "new goals")
        probe.wait(lambda: probe.value("reached") == "true", "poses reached", 60.0)
        assert probe.value("slowed") == ""
        shares = [np.abs(command.joint_vel) / welder.joint_vel_limits for command in probe.commands]
        return float(np.max(shares))

    free = fastest(3)
    publisher.publish(MarkerArray(markers=[ball]))
    probe.wait(lambda: probe.value("obstacles") == "1", "the obstacle")
    near = fastest(2)
    publisher.publish(MarkerArray(markers=[deletion("test", 0)]))
    probe.wait(lambda: probe.value("obstacles") == "0", "no obstacle")
    again = fastest(3)
    assert near < 2.0 * share * min(free, again)
    probe.call("clear_goals")
    probe.node.destroy_publisher(publisher)


def test_the_page_shows_a_robot_whose_goals_have_axes(
    arm: tuple[Probe, Launcher], welder: Robot
) -> None:
    pytest.importorskip("viser", reason="the page needs viser")
    probe, start = arm
    page = start("view_node", {"robot": str(WELDER), "port": 0})
    probe.wait(lambda: "polyreach view: http" in page.output, "the page", 60.0)
    positions, orientations = reachable_poses(welder, 2)
    probe.send_goal("gripper", positions[0], orientation=orientations[0])
    probe.wait(lambda: bool(probe.value("angle_error/gripper")), "an angle")
    sleep(1.0)  # frames of the page with that goal
    assert page.stop() == 0, page.output
    assert "Traceback" not in page.output
    probe.call("clear_goals")


def test_the_demo_draws_and_counts_poses(arm: tuple[Probe, Launcher], tmp_path: Path) -> None:
    probe, start = arm
    picture, results = tmp_path / "motion.png", tmp_path / "result.json"
    parameters = {
        "robot": str(WELDER),
        "goal_sets": 2,
        "seconds": 20.0,
        "picture": str(picture),
        "json": str(results),
    }
    demo = start("demo_node", parameters)
    assert demo.popen.wait(timeout=90) in (0, 1), demo.output  # without training, goals may stay
    assert "angle [deg] to goal" in demo.output
    result = json.loads(results.read_text())
    angles, errors = np.array(result["angles_deg"]), np.array(result["errors_mm"])
    assert angles.shape == errors.shape == (2, 2)
    within = (angles <= result["tolerance_deg"]) & (errors <= 20.0)
    assert result["reached"] == within.sum()
    assert result["median_angle_deg"] == pytest.approx(np.median(angles))
    assert f"{result['median_angle_deg']:.1f} deg" in demo.output
    assert picture.stat().st_size > 20_000
    probe.call("clear_goals")
