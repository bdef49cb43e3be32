"""The distance that slows the motion, as points of the two bodies and as markers."""

import numpy as np
import pytest
from geometry_msgs.msg import Point
from visualization_msgs.msg import Marker

from polyreach_description import Robot, load_robot
from polyreach_nodes.control.obstacle import Obstacle, Shape
from polyreach_nodes.control.obstacle_markers import MARKER_TYPES, MarkerFields
from polyreach_nodes.control.policy import Policy
from polyreach_nodes.control.proximity import Proximity
from polyreach_nodes.control.reach_control import ReachControl
from polyreach_nodes.ros.markers import markers

SLOW, STOP = 0.05, 0.01  # [m]
UPRIGHT = (0.0, 0.0, 0.0, 1.0)
RADIUS = 0.05  # [m]
NOW = 100.0


def test_points_of_two_bodies_by_hand(carts: Robot) -> None:
    """Balls of 0.05 m at x = 0.84 and 1; once the joints have moved on, at 0.86."""
    proximity = Proximity(carts, SLOW, STOP)
    joint_pos = np.array([0.84, 0.0, 0.0])
    assert proximity.slowing_points(joint_pos) is None
    proximity.factors(np.array([0.5, 0.0, 0.0]), joint_pos)
    expected = [[0.89, 0.0, 0.0], [0.95, 0.0, 0.0]]
    np.testing.assert_allclose(proximity.slowing_points(joint_pos), expected, atol=1e-9)
    expected[0][0] = 0.91
    later = np.array([0.86, 0.0, 0.0])
    np.testing.assert_allclose(proximity.slowing_points(later), expected, atol=1e-9)
    proximity.factors(np.array([-0.5, 0.0, 0.0]), joint_pos)
    assert proximity.slowing_points(joint_pos) is None


def test_points_of_a_wall_by_hand(carts: Robot) -> None:
    """The tip is 0.1 m before the ball; the wall is at x = 0.5."""
    proximity = Proximity(carts, SLOW, STOP, (-2.0, -2.0, -2.0, 0.5, 2.0, 2.0))
    joint_pos = np.array([0.37, 0.0, 0.0])
    proximity.factors(np.array([0.5, 0.0, 0.0]), joint_pos)
    expected = [[0.47, 0.0, 0.0], [0.5, 0.0, 0.0]]
    np.testing.assert_allclose(proximity.slowing_points(joint_pos), expected, atol=1e-9)


def test_an_obstacle_that_is_gone_has_no_points(carts: Robot) -> None:
    proximity = Proximity(carts, SLOW, STOP)
    ball = Obstacle("ball", Shape.SPHERE, (0.1, 0.0, 0.0), (0.5, 0.0, 0.0), UPRIGHT)
    proximity.set_obstacles({3: ball}, 0.0)
    joint_pos = np.array([0.29, 1.0, 0.0])
    proximity.factors(np.array([0.5, 0.0, 0.0]), joint_pos)
    expected = [[0.34, 0.0, 0.0], [0.4, 0.0, 0.0]]
    np.testing.assert_allclose(proximity.slowing_points(joint_pos), expected, atol=1e-9)
    proximity.set_obstacles({}, 0.0)
    assert proximity.slowing_points(joint_pos) is None


def test_points_are_in_the_base_frame() -> None:
    """The pelvis of the humanoid is 0.95 m above the origin of the world."""
    robot = load_robot("humanoid27")
    assert robot.data_at_home().xpos[robot.base_body][2] > 0.5
    hand = robot.forward_kinematics(robot.home)[0]
    place = hand + np.array([RADIUS + 0.15, 0.0, 0.0])
    proximity = Proximity(robot, 0.2, STOP)
    ball = Obstacle("ball", Shape.SPHERE, (RADIUS, 0.0, 0.0), tuple(place.tolist()), UPRIGHT)
    proximity.set_obstacles({0: ball}, 0.0)
    steps = 1e-4 * np.eye(len(robot.home))
    forward = np.array([(robot.forward_kinematics(robot.home + s)[0] - hand)[0] for s in steps])
    proximity.factors(forward / np.abs(forward).max(), robot.home)  # [rad/s], towards the ball
    points = proximity.slowing_points(robot.home)
    assert points is not None
    assert "obstacle 'ball'" in proximity.reason
    assert np.linalg.norm(points[1] - place) == pytest.approx(RADIUS, abs=1e-6)
    assert np.linalg.norm(points[0] - hand) < 0.15


def test_markers_show_what_slows_the_motion(planar8: Robot, policy: Policy) -> None:
    control = ReachControl(planar8, policy)
    control.activate()
    goal = planar8.forward_kinematics(planar8.home + 0.25)[0]
    sphere = MARKER_TYPES[Shape.SPHERE]
    ball = MarkerFields(
        "table", 0, 0, sphere, "", False, tuple(goal), UPRIGHT, (2.0 * RADIUS,) * 3, 0.0
    )
    names, joint_pos = list(planar8.joint_names), planar8.home
    shown: list[tuple[Marker, Marker]] = []
    for period in range(100):
        now_s = NOW + period * control.period_s
        control.receive(names, joint_pos, now_s, now_s)
        if not period:
            assert control.take_obstacles([ball], now_s) == ""
            assert control.goals.set("left", "", tuple(goal), now_s) == ""
        joint_pos = joint_pos + control.period_s * control.tick(now_s, control.period_s)
        distances = [m for m in markers(control).markers if m.ns == "distances"]
        assert bool(distances) == (control.pipeline.slowed < 1.0)
        if distances:
            shown.append(tuple(distances))
    line, text = shown[-1]
    assert (line.type, text.type) == (Marker.LINE_LIST, Marker.TEXT_VIEW_FACING)
    assert line.header.frame_id == text.header.frame_id == planar8.base_frame
    first, second = (np.array([p.x, p.y, p.z]) for p in line.points)
    assert isinstance(line.points[0], Point)
    distance = np.linalg.norm(second - first)
    assert distance == pytest.approx(planar8.stop_distance, abs=0.002)
    share = 100 * control.pipeline.slowed
    assert text.text == f"{1e3 * distance:.0f} mm, {share:.0f} %"
