"""Parts of the page that need no browser: shapes, handles, joint states, connections."""

import asyncio
import socket
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import mujoco
import numpy as np
import pytest

pytest.importorskip("viser", reason="the page needs viser")

from browser import pixel
from websockets.datastructures import Headers

from polyreach_description import Robot, load_robot
from polyreach_nodes.client.status import EffectorStatus
from polyreach_nodes.view import shapes
from polyreach_nodes.view.goals import ANSWER_S, SEND_PERIOD_S, GoalHandle
from polyreach_nodes.view.joints import JointPositions
from polyreach_nodes.view.scene import Scene
from polyreach_nodes.view.server import is_loopback, listen, may_connect

WIDTH, HEIGHT = 460, 400  # [px]
OWN_NAME = socket.gethostname().lower()
GEOMS = """
<mujoco>
  <asset>
    <mesh name="wedge" vertex="0 0 0  .3 0 0  0 .3 0  0 0 .3"/>
    <material name="red" rgba="1 0 0 1"/>
  </asset>
  <worldbody>
    <geom name="sphere" type="sphere" size=".1"/>
    <geom name="capsule" type="capsule" size=".1 .2"/>
    <geom name="cylinder" type="cylinder" size=".1 .2"/>
    <geom name="ellipsoid" type="ellipsoid" size=".1 .2 .3"/>
    <geom name="box" type="box" size=".1 .2 .3" pos="1 2 3" euler="0 0 90"/>
    <geom name="wedge" type="mesh" mesh="wedge" material="red"/>
    <geom name="plane" type="plane" size="1 1 .1"/>
  </worldbody>
</mujoco>
"""
VOLUMES = {
    "sphere": 4 / 3 * np.pi * 1e-3,
    "capsule": 4 / 3 * np.pi * 1e-3 + np.pi * 4e-3,
    "cylinder": np.pi * 4e-3,
    "ellipsoid": 4 / 3 * np.pi * 6e-3,
    "box": 8 * 6e-3,
    "wedge": 0.3**3 / 6,
}


@pytest.mark.parametrize("name", VOLUMES)
def test_surfaces_enclose_the_volume_of_their_geoms(name: str) -> None:
    model = mujoco.MjModel.from_xml_string(GEOMS)
    mesh = shapes.geom_mesh(model, model.geom(name).id)
    assert mesh is not None
    a, b, c = np.moveaxis(mesh[0][mesh[1]], 1, 0)
    # a volume is positive only if the faces are seen counter-clockwise from outside
    assert np.einsum("ij,ij", a, np.cross(b, c)) / 6 == pytest.approx(VOLUMES[name], rel=0.04)


def test_geoms_lie_where_the_model_has_them() -> None:
    model = mujoco.MjModel.from_xml_string(GEOMS)
    vertices, _ = shapes.geom_mesh(model, model.geom("box").id)
    assert vertices.min(axis=0) == pytest.approx([0.8, 1.9, 2.7])
    assert vertices.max(axis=0) == pytest.approx([1.2, 2.1, 3.3])
    assert shapes.geom_mesh(model, model.geom("plane").id) is None


def test_planar_effectors_keep_their_height(planar8: Robot) -> None:
    axes = shapes.free_axes(shapes.effector_samples(planar8))
    assert axes.tolist() == [[True, True, False]] * 3


def test_the_first_camera_view_shows_everything(planar8: Robot) -> None:
    samples = shapes.effector_samples(planar8)
    camera = shapes.first_camera(planar8, samples)
    for point in samples.reshape(-1, 3):
        x, y = pixel(camera, point, WIDTH, HEIGHT)
        assert 0 < x < WIDTH
        assert 0 < y < HEIGHT


def test_effectors_have_the_colours_of_their_sites(planar8: Robot) -> None:
    assert shapes.effector_colours(planar8) == [(217, 94, 3), (28, 158, 120), (117, 112, 178)]


def test_joint_states_are_matched_by_name_and_bad_ones_left_out(planar8: Robot) -> None:
    joints = JointPositions(planar8)
    home = joints.qpos.copy()
    joints.take(["other", "left_1"], [7.0, 0.5], 1.0)
    joints.take(["left_1"], [float("nan")], 2.0)
    joints.take(["left_1", "right_1"], [0.1], 3.0)
    assert joints.received_s == 1.0
    moved = planar8.model.joint("left_1").qposadr[0]
    assert joints.qpos[moved] == 0.5
    assert np.delete(joints.qpos, moved).tolist() == np.delete(home, moved).tolist()


def test_joints_that_follow_others_are_shown_where_these_put_them() -> None:
    hand = load_robot(Path(__file__).parents[1] / "robots" / "hand" / "robot.yaml")
    joints = JointPositions(hand)
    joints.take(["ring_bend"], [1.0], 1.0)
    middle, extend = (hand.model.joint(f"ring_{name}").qposadr[0] for name in ("middle", "extend"))
    assert joints.qpos[[middle, extend]] == pytest.approx([0.9, 0.018])
    joints.take(["ring_middle", "ring_bend"], [0.5, 1.0], 2.0)
    assert joints.qpos[[middle, extend]] == pytest.approx([0.5, 0.018])  # one of them measured


A, B = np.array([0.1, 0.2, 0.3]), np.array([0.4, 0.5, 0.6])
STILL, TURNED = np.array([0.0, 0.0, 0.0, 1.0]), np.array([0.6, 0.0, 0.0, 0.8])


def reported(goal: np.ndarray | None, received: int) -> EffectorStatus:
    """The status of an effector with a goal [m], after so many goals were received."""
    return EffectorStatus(None if goal is None else tuple(goal.tolist()), None, received)


def test_a_dragged_goal_is_sent_at_a_limited_rate_and_always_on_release() -> None:
    goal = GoalHandle("left")
    goal.grab(1)
    sent = []
    for step in range(101):
        goal.drag(np.full(3, float(step)))
        if (pose := goal.due(1e-3 * step)) is not None:
            sent.append(pose[0][0])
    assert sent == [0.0, 50.0, 100.0]
    goal.drag(B)
    assert goal.due(0.101) is None
    assert goal.due(0.1 + SEND_PERIOD_S) == (tuple(B), None)
    assert goal.due(9.0) is None


def test_a_handle_is_at_the_goal_of_the_controller() -> None:
    goal = GoalHandle("left")
    goal.follow(A, STILL)
    assert goal.position.tolist() == A.tolist()
    goal.update(reported(B, 1), False, 0.0)
    goal.follow(A, STILL)
    assert goal.on
    assert goal.position.tolist() == B.tolist()
    goal.grab(1)
    goal.drag(A)
    goal.update(reported(B, 1), False, 0.0)
    assert goal.position.tolist() == A.tolist()
    goal.due(0.0)
    goal.release(1)
    goal.update(reported(B, 1), False, 0.1)
    assert goal.position.tolist() == A.tolist(), "an old status must not move the handle"
    goal.update(reported(B, 1), False, ANSWER_S + 0.1)
    assert goal.position.tolist() == B.tolist(), "a goal that never arrived"


def test_a_rejected_goal_sends_the_handle_back() -> None:
    goal = GoalHandle("left")
    goal.update(reported(None, 0), True, -1.0)
    goal.drag(A)
    goal.due(0.0)
    goal.update(reported(None, 0), True, 0.1)
    assert goal.on, "an old rejection is no answer"
    goal.update(reported(None, 1), True, 0.2)
    assert not goal.on
    goal.follow(B, STILL)
    assert goal.position.tolist() == B.tolist()


def test_a_goal_switched_off_keeps_its_position() -> None:
    goal = GoalHandle("left")
    goal.update(reported(A, 1), False, 0.0)
    goal.switch_off(0.1)
    goal.update(reported(A, 1), False, 0.2)
    assert not goal.on, "an old status must not switch the goal on again"
    goal.update(reported(None, 1), False, 0.3)
    goal.follow(B, STILL)
    assert not goal.on
    goal.switch_on()
    assert goal.due(1.0) == (tuple(A), None)


def test_a_handle_of_a_pose_is_sent_and_moved_with_its_orientation() -> None:
    goal = GoalHandle("left", oriented=True)
    goal.follow(A, TURNED)
    assert goal.orientation.tolist() == TURNED.tolist()
    goal.drag(B, STILL)
    assert goal.due(0.0) == (tuple(B), (0.0, 0.0, 0.0, 1.0))
    position, turned = tuple(B.tolist()), tuple(TURNED.tolist())
    goal.update(EffectorStatus(position, None, 1, goal_orientation=turned), False, 0.1)
    assert goal.orientation.tolist() == STILL.tolist(), "another goal is no answer"
    goal.update(EffectorStatus(position, None, 1, goal_orientation=turned), False, ANSWER_S + 0.1)
    assert goal.orientation.tolist() == goal.goal_orientation.tolist() == TURNED.tolist()


@pytest.mark.parametrize(
    ("host", "origin", "loopback", "may"),
    [
        ("127.0.0.1:8080", None, True, True),
        ("127.0.0.1:8080", "http://127.0.0.1:8080", True, True),
        ("localhost:9000", "http://localhost:9000", True, True),
        ("[::1]:8080", "http://[::1]:8080", True, True),
        ("127.0.0.1:8080", "http://evil.example", True, False),
        ("127.0.0.1:8080", "http://127.0.0.1:9999", True, False),
        ("127.0.0.1:8080", "null", True, False),
        ("evil.example:8080", "http://evil.example:8080", True, False),
        ("192.168.0.7:8080", "http://192.168.0.7:8080", False, True),
        (f"{OWN_NAME}:8080", f"http://{OWN_NAME}:8080", False, True),
        ("192.168.0.7:8080", "http://evil.example", False, False),
        ("evil.example:8080", "http://evil.example:8080", False, False),
        ("[::1", None, False, False),
    ],
)
def test_only_own_pages_may_connect(
    host: str, origin: str | None, loopback: bool, may: bool
) -> None:
    headers = Headers({"Host": host} if origin is None else {"Host": host, "Origin": origin})
    assert may_connect(headers, loopback) is may


@pytest.mark.parametrize(
    ("position", "w_x_y_z", "orientation"),
    [
        ((1.0, 2.0), (1.0, 0.0, 0.0, 0.0), None),
        ((1.0, 2.0, float("nan")), (1.0, 0.0, 0.0, 0.0), None),
        ((1.0, 2.0, 3.0), (0.0, 0.0, 0.0, 0.0), None),
        ((1.0, 2.0, 3.0), (1.0, 0.0, float("inf"), 0.0), None),
        ((1.0, 2.0, 3.0), (1.0, 0.0, 0.0), None),
        ((1.0, 2.0, 3.0), (1.6, 1.2, 0.0, 0.0), (0.6, 0.0, 0.0, 0.8)),
    ],
)
def test_messages_of_a_browser_are_validated(
    position: tuple[float, ...],
    w_x_y_z: tuple[float, ...],
    orientation: tuple[float, ...] | None,
) -> None:
    posted: list[Any] = []
    target = SimpleNamespace(position=position, wxyz=w_x_y_z)
    event = SimpleNamespace(phase="update", client_id=1, target=target)
    asyncio.run(Scene._on_drag(SimpleNamespace(_post=posted.append), 0, event))  # type: ignore[arg-type]
    assert len(posted) == (orientation is not None)
    for drag in posted:
        assert drag.position.tolist() == [1, 2, 3]
        assert drag.orientation.tolist() == pytest.approx(orientation)


def test_loopback_names() -> None:
    assert all(map(is_loopback, ("localhost", "127.0.0.1", "127.1.2.3", "::1")))
    assert not any(map(is_loopback, ("0.0.0.0", "::", "192.168.0.7", "localhost.evil.example")))


@pytest.mark.parametrize("host", ["256.0.0.1", "203.0.113.7"])
def test_an_address_of_another_machine_is_refused(host: str) -> None:
    with pytest.raises(ValueError, match=host.replace(".", r"\.")):
        listen(host, 0).close()
