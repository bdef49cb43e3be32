"""Goals in frames of TF, with a stand-in for tf2_ros."""

import sys
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import tf2_stand_in
from rclpy.time import Time

from polyreach_description import load_robot
from polyreach_description.policy_search import find_policy
from polyreach_nodes.control.goal_frames import FrameError
from polyreach_nodes.control.policy import Policy
from polyreach_nodes.control.reach_control import ReachControl
from polyreach_nodes.ros.transforms import TransformBuffer

NOW = 100.0
UPRIGHT = (0.0, 0.0, 0.0, 1.0)


class Tf:
    """A controller of planar8 that takes goals in frames of TF."""

    def __init__(self) -> None:
        robot = load_robot("planar8")
        self.clock_s = 50.0  # of the node, which stamps follow
        clock = SimpleNamespace(now=lambda: Time(nanoseconds=round(1e9 * self.clock_s)))
        node: Any = SimpleNamespace(get_clock=lambda: clock)
        self.transforms = TransformBuffer(node, robot.base_frame)
        self.transforms.timeout_s = 0.5
        self.buffer: tf2_stand_in.Buffer = self.transforms._buffer
        self.control = ReachControl(robot, Policy.load(find_policy("planar8"), robot))
        self.control.activate()
        self.control.receive(list(robot.joint_names), robot.home.tolist(), NOW)
        self.goals = self.control.goals
        self.goals.frames.transforms = self.transforms

    def set(self, frame: str, position: tuple = (0.1, 0.0, 0.0), stamp_s: float = 0.0) -> str:
        return self.goals.set("left", frame, position, NOW, UPRIGHT, round(1e9 * stamp_s))

    def follow(self) -> list[float]:
        """The goal after another period."""
        self.goals.follow(self.control.robot.home)
        return self.goals.positions[0].tolist()


@pytest.fixture
def tf(monkeypatch: pytest.MonkeyPatch) -> Tf:
    monkeypatch.setitem(sys.modules, "tf2_ros", tf2_stand_in.module())
    return Tf()


def test_a_goal_is_where_the_frame_was_at_its_stamp(tf: Tf) -> None:
    tf.buffer.set("table", "base_link", (0.4, 0.1, 0.0), yaw=np.pi / 2)
    tf.buffer.set("cup", "table", (0.1, 0.0, 0.0), stamp_s=49.0)
    tf.buffer.set("cup", "table", (0.2, 0.0, 0.0), stamp_s=50.0)
    # x of the table is y of the base
    assert tf.set("cup", (0.05, 0.0, 0.01), stamp_s=49.5) == ""
    assert tf.goals.positions[0] == pytest.approx([0.4, 0.25, 0.01])
    assert tf.set("cup", (0.05, 0.0, 0.01)) == ""
    assert tf.goals.positions[0] == pytest.approx([0.4, 0.35, 0.01])
    assert not tf.goals.followed and tf.goals.framed[0].frame == "cup"


def test_with_follow_frame_the_goal_follows_and_an_old_transform_holds_it(tf: Tf) -> None:
    tf.goals.frames.follow_transforms = True
    tf.buffer.set("cup", "base_link", (0.4, 0.0, 0.0), stamp_s=50.0)
    assert tf.set("cup", stamp_s=50.0) == ""
    tf.buffer.set("cup", "base_link", (0.4, 0.2, 0.0), stamp_s=50.2)
    assert tf.follow() == pytest.approx([0.5, 0.2, 0.0])
    tf.clock_s = 50.6
    assert tf.follow() == pytest.approx([0.5, 0.2, 0.0]) and not tf.goals.not_followed
    tf.clock_s = 50.8
    assert tf.follow() == pytest.approx([0.5, 0.2, 0.0])
    assert tf.goals.not_followed[0] == (
        "goal of 'left' does not follow frame 'cup': the transform of frame 'cup' is 0.6 s old, "
        "more than transform_timeout, 0.5 s"
    )
    tf.buffer.set("cup", "base_link", (0.4, 0.3, 0.0), stamp_s=50.8)
    assert tf.follow() == pytest.approx([0.5, 0.3, 0.0]) and not tf.goals.not_followed
    tf.buffer.transforms.clear()
    assert tf.follow() == pytest.approx([0.5, 0.3, 0.0])
    assert "source_frame does not exist" in tf.goals.not_followed[0]
    assert tf.control.watchdog.fault == ""


def test_a_goal_that_is_sent_again_stays_when_its_stamp_has_left_the_buffer(tf: Tf) -> None:
    tf.buffer.set("cup", "base_link", (0.4, 0.0, 0.0), stamp_s=50.0)
    assert tf.set("cup", stamp_s=50.0) == ""
    tf.buffer.transforms.clear()
    tf.buffer.set("cup", "base_link", (0.4, 0.3, 0.0), stamp_s=70.0)
    received = tf.goals.received["left"]
    assert tf.set("cup", stamp_s=50.0) == "" and tf.goals.received["left"] == received + 1
    assert tf.goals.positions[0] == pytest.approx([0.5, 0.0, 0.0])
    assert "extrapolation into the past" in tf.set("cup", (0.2, 0.0, 0.0), stamp_s=50.0)


@pytest.mark.parametrize(
    ("frame", "stamp_s", "reason"),
    [
        ("spoon", 0.0, "no transform of frame 'spoon': \"spoon\" passed to lookupTransform"),
        ("spoon", 0.0, "does not exist. (frames of TF: cup, island, old, table)"),
        ("island", 0.0, "because they are not part of the same tree"),
        ("cup", 60.0, "extrapolation into the future"),
        ("cup", 60.0, "; stamp 0 takes the latest transform (frames of TF"),
        ("cup", 40.0, "extrapolation into the past"),
        ("old", 0.0, "the transform of frame 'old' is 20 s old, more than transform_timeout"),
        ("y" * 101, 0.0, "or a frame of TF of at most 100 characters"),
    ],
)
def test_transforms_that_are_refused_are_named(
    tf: Tf, frame: str, stamp_s: float, reason: str
) -> None:
    tf.buffer.set("table", "base_link", (0.0, 0.0, 0.0))
    tf.buffer.set("cup", "table", (0.4, 0.0, 0.0), stamp_s=50.0)
    tf.buffer.set("old", "table", (0.4, 0.0, 0.0), stamp_s=30.0)
    tf.buffer.set("island", "sea", (0.0, 0.0, 0.0))
    sentence = tf.set(frame, stamp_s=stamp_s)
    assert reason.rstrip() in " ".join(sentence.split()) and len(sentence) < 500
    assert not tf.goals.any_active


def test_the_robots_own_links_come_before_tf(tf: Tf) -> None:
    tf.buffer.set("shared_2_link", "base_link", (9.0, 9.0, 9.0))
    assert tf.set("shared_2_link") == ""
    assert np.abs(tf.goals.positions[0]).max() < 3.0


def test_a_frame_that_the_effector_carries_is_followed_by_others_only(tf: Tf) -> None:
    tf.goals.frames.follow_transforms = True
    tf.buffer.set("left_1_link", "base_link", (0.4, 0.0, 0.0))
    tf.buffer.set("mount", "left_1_link", (0.0, 0.1, 0.0))
    tf.buffer.set("camera", "mount", (0.0, 0.1, 0.0))
    assert tf.transforms.links_above("camera") == ["mount", "left_1_link", "base_link"]
    assert "frame 'camera' moves with 'left' itself" in tf.set("camera")
    assert tf.goals.set("left", "", (0.5, 0.2, 0.0), NOW) == ""
    assert tf.goals.set("right", "camera", (0.1, 0.0, 0.0), NOW) == ""
    assert "by way of the goal of 'right'" in tf.set("right")
    tf.goals.frames.follow_transforms = False
    tf.goals.clear_all()
    assert tf.set("camera") == ""  # a point in the base frame


def test_a_transform_that_is_no_rotation_is_refused(tf: Tf) -> None:
    tf.buffer.set("cup", "base_link", (0.4, 0.0, 0.0))
    lookup = tf.buffer.lookup_transform

    def broken(*arguments: Any) -> Any:
        message = lookup(*arguments)
        message.transform.rotation.w = np.nan
        return message

    tf.buffer.lookup_transform = broken  # type: ignore[method-assign]
    assert "has norm nan" in tf.set("cup")


def test_parents_in_a_circle_end(tf: Tf) -> None:
    tf.buffer.set("a", "b", (0.0, 0.0, 0.0))
    tf.buffer.set("b", "a", (0.0, 0.0, 0.0))
    assert tf.transforms.links_above("a") == ["b", "a"]


def test_without_tf2_ros_the_parameter_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tf2_ros", None)
    with pytest.raises(ValueError, match=r"use_tf needs the package tf2_ros of a ROS installation"):
        TransformBuffer(SimpleNamespace(), "base_link")
    assert issubclass(FrameError, ValueError)


def test_closing_ends_the_subscriptions(tf: Tf) -> None:
    assert tf.transforms._listener.registered
    tf.transforms.close()
    assert not tf.transforms._listener.registered
