"""Interpolation of trajectories, and drives that follow them; without ROS."""

import numpy as np
import pytest
from scipy.interpolate import CubicHermiteSpline
from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint

from polyreach_nodes.control.joint_reference import JointReference, Point, PositionDrives
from polyreach_nodes.ros.trajectory_message import read_trajectory

NAMES = ("a", "b")


def test_a_line_without_velocities() -> None:
    reference = JointReference(np.array([1.0, 2.0]))
    reference.follow([Point(0.5, np.array([2.0, 2.0]))], 10.0)
    position, velocity = reference.sample(10.25)
    assert position == pytest.approx([1.5, 2.0]) and velocity == pytest.approx([2.0, 0.0])
    position, velocity = reference.sample(11.0)
    assert position == pytest.approx([2.0, 2.0]) and not velocity.any()


def test_points_with_velocities_are_joined_by_cubics() -> None:
    points = [
        Point(0.2, np.array([0.1, -0.3]), np.array([0.5, -1.0])),
        Point(0.5, np.array([0.2, -0.5]), np.zeros(2)),
    ]
    reference = JointReference(np.zeros(2))
    reference.follow(points, 3.0)
    spline = CubicHermiteSpline(
        [0.0, 0.2, 0.5],
        [np.zeros(2), *(p.position for p in points)],
        [np.zeros(2), *(p.velocity for p in points)],
    )
    for time_s in np.linspace(0.0, 0.499, 23):
        position, velocity = reference.sample(3.0 + time_s)
        assert position == pytest.approx(spline(time_s))
        assert velocity == pytest.approx(spline(time_s, 1))


def test_a_new_trajectory_goes_on_from_the_present_one() -> None:
    reference = JointReference(np.zeros(2))
    reference.follow([Point(1.0, np.array([1.0, 0.0]), np.zeros(2))], 0.0)
    before = reference.sample(0.4)
    reference.follow([Point(1.0, np.array([-1.0, 0.0]), np.zeros(2))], 0.4)
    after = reference.sample(0.4)
    assert after[0] == pytest.approx(before[0]) and after[1] == pytest.approx(before[1])
    assert reference.sample(9.0)[0] == pytest.approx([-1.0, 0.0])


def test_drives_reach_a_far_position_within_their_limits() -> None:
    vel, acc, step_s = np.array([2.0, 0.5]), np.array([20.0, 5.0]), 0.005
    drives, joint_pos = PositionDrives(vel, acc), np.zeros(2)
    previous, goal = np.zeros(2), np.array([1.0, -0.4])
    for _ in range(400):
        joint_vel = drives.velocity((goal, np.zeros(2)), joint_pos, step_s)
        assert (np.abs(joint_vel) <= vel).all()
        assert (np.abs(joint_vel - previous) <= acc * step_s + 1e-9).all()
        joint_pos, previous = joint_pos + step_s * joint_vel, joint_vel
    assert joint_pos == pytest.approx(goal, abs=1e-3)


def message(**changes: object) -> JointTrajectory:
    """A valid trajectory of two points, with the joints in another order."""
    first = JointTrajectoryPoint(positions=[2.0, 1.0], velocities=[0.2, 0.1])
    last = JointTrajectoryPoint(positions=[4.0, 3.0], velocities=[0.0, 0.0])
    first.time_from_start.nanosec, last.time_from_start.sec = 500_000_000, 1
    points = changes.get("points", lambda first, last: [first, last])
    result = JointTrajectory(joint_names=changes.get("joint_names", ["b", "a"]))
    result.points = points(first, last)  # type: ignore[operator]
    return result


def test_a_message_is_read_by_joint_name() -> None:
    first, last = read_trajectory(message(), NAMES)
    assert (first.time_s, last.time_s) == (0.5, 1.0)
    assert first.position.tolist() == [1.0, 2.0] and last.position.tolist() == [3.0, 4.0]
    assert first.velocity is not None and first.velocity.tolist() == [0.1, 0.2]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"joint_names": ["a"]}, "trajectory of joints"),
        ({"joint_names": ["a", "a"]}, "but the robot has a, b"),
        ({"points": lambda first, last: []}, "0 points"),
        ({"points": lambda first, last: [last, first]}, "times"),
        ({"points": lambda first, last: [first]}, "ends in motion"),
        ({"points": lambda first, last: [JointTrajectoryPoint(positions=[1.0])]}, "1 positions"),
    ],
)
def test_what_joint_trajectory_controller_refuses_is_refused_by_name(
    changes: dict[str, object], reason: str
) -> None:
    with pytest.raises(ValueError, match=reason):
        read_trajectory(message(**changes), NAMES)
