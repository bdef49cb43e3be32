"""Obstacles on the page: published, repeated and ended; its own and those of others."""

import asyncio
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from test_obstacles_guarantee import marker_of
from visualization_msgs.msg import Marker, MarkerArray

pytest.importorskip("viser", reason="the page needs viser")

import viser

from polyreach_description import Robot, load_robot
from polyreach_nodes.client.obstacles import shown_obstacles
from polyreach_nodes.control.obstacle import Obstacle, Shape
from polyreach_nodes.control.policy import Policy
from polyreach_nodes.control.reach_control import ReachControl
from polyreach_nodes.ros.markers import markers
from polyreach_nodes.view import shapes
from polyreach_nodes.view.events import MoveObstacle
from polyreach_nodes.view.obstacle_scene import BRIGHT, DIM, ObstacleScene
from polyreach_nodes.view.obstacle_tool import ObstacleTool
from polyreach_nodes.view.obstacles import (
    LIFETIME_S,
    MOST,
    REPEAT_S,
    SEND_PERIOD_S,
    OwnObstacles,
    free_place,
)
from polyreach_nodes.view.server import PageServer, listen

ORIGIN, ABOVE = np.zeros(3), np.array([0.0, 0.0, 1.0])
STILL, TURNED = np.array([0.0, 0.0, 0.0, 1.0]), np.array([0.6, 0.0, 0.0, 0.8])
BALL = Obstacle("other/3", Shape.SPHERE, (0.1, 0.0, 0.0), (1.0, 2.0, 3.0), (0.0, 0.0, 0.0, 1.0))


def test_an_obstacle_is_repeated_and_sent_at_a_limited_rate_while_it_is_dragged() -> None:
    own = OwnObstacles("page")
    number = own.add("sphere", 0.2, ORIGIN)
    assert [obstacle.name for obstacle in own.due(0.0)] == [f"page/{number}"] == ["page/1"]
    assert own.due(REPEAT_S - 1e-3) == []
    assert len(own.due(REPEAT_S)) == 1
    sent = []
    for step in range(1, 101):
        own.move(number, np.full(3, float(step)), TURNED)
        sent += [(step, o.position[0]) for o in own.due(REPEAT_S + 1.001e-3 * step)]
    assert sent == [(50, 50.0), (100, 100.0)]
    # once more from the same place: it does not move any more
    assert own.due(REPEAT_S + 0.101 + SEND_PERIOD_S)[0].orientation == tuple(TURNED)
    assert own.due(REPEAT_S + 0.1 + 3 * SEND_PERIOD_S) == []
    assert len(own.due(REPEAT_S + 0.16 + REPEAT_S)) == 1
    assert REPEAT_S < LIFETIME_S / 2


def test_obstacles_have_the_size_of_the_slider_and_numbers_are_not_used_again() -> None:
    own = OwnObstacles("page")
    box, sphere = own.add("box", 0.2, ORIGIN), own.add("sphere", 0.3, ABOVE)
    assert own.by_number[box].scale == pytest.approx((0.2, 0.2, 0.2))
    assert own.by_number[sphere].scale == pytest.approx((0.3, 0.3, 0.3))
    assert own.by_number[sphere].position == (0.0, 0.0, 1.0)
    removed = own.remove(sphere)
    assert removed is not None and removed.name == "page/2"
    assert own.remove(sphere) is None
    own.move(sphere, ORIGIN, STILL)  # a browser that did not know yet
    assert list(own.by_number) == [box] and own.add("box", 0.1, ORIGIN) == 3
    with pytest.raises(ValueError, match="shape is 'cone', but must be one of: box, sphere"):
        own.add("cone", 0.1, ORIGIN)
    for size in (0.0, float("nan"), 0.6):  # a browser may send anything
        with pytest.raises(ValueError, match=f"size is {size:g} m, but must be 0.02 to 0.5 m"):
            own.add("box", size, ORIGIN)
    for _ in range(MOST - 2):
        own.add("box", 0.1, ORIGIN)
    with pytest.raises(ValueError, match=f"the page has {MOST} obstacles, the most"):
        own.add("box", 0.1, ORIGIN)


@pytest.mark.parametrize("name", ["planar8", "humanoid27", "dual7"])
def test_a_new_obstacle_does_not_slow_a_robot_at_home(name: str) -> None:
    robot, size = load_robot(name), 0.1
    tool = SimpleNamespace(
        _robot=robot,
        own=OwnObstacles("page"),
        _reached=shapes.effector_samples(robot).reshape(-1, 3),
        _viewer=np.array([2.0, 0.0, 1.0]),
    )
    control = ReachControl(robot, None)  # type: ignore[arg-type]
    for _ in range(3):
        place = ObstacleTool._free_place(tool, size, robot.data_at_home())  # type: ignore[arg-type]
        tool.own.add("box", size, place)
        listed = [marker_of(obstacle) for obstacle in tool.own.by_number.values()]
        assert control.take_obstacles(listed, 0.0) == ""
        nearest = control.pipeline.proximity.nearest(robot.home)
        assert "obstacle" not in nearest, nearest
        assert np.linalg.norm(tool._reached - place, axis=1).min() == 0.0
    places = np.array([o.position for o in tool.own.by_number.values()])
    apart = np.linalg.norm(places[:, None] - places, axis=-1)
    assert apart[~np.eye(3, dtype=bool)].min() > size


def test_without_a_free_place_it_is_the_farthest_one() -> None:
    places, centres = np.array([[1.0, 0, 0], [3.0, 0, 0], [2.0, 0, 0]]), np.zeros((1, 3))
    for clear, expected in ((5.0, 3.0), (2.5, 3.0), (1.5, 2.0)):
        place = free_place(places, centres, np.array([0.1]), clear, centres, ABOVE)
        assert place.tolist() == [expected, 0.0, 0.0]


def test_of_the_places_near_a_hand_it_is_the_one_nearest_to_the_viewer() -> None:
    angle = np.arange(8) * np.pi / 4
    ring = np.stack([np.cos(angle), np.sin(angle), np.zeros(8)], axis=-1)
    hands, here = np.array([[1.0, 0.1, 0.0]]), np.array([0.9])
    place = free_place(ring, np.zeros((1, 3)), here, 0.05, hands, np.array([9.0, -1.0, 0.0]))
    assert place.tolist() == ring[0].tolist()
    place = free_place(ring, np.zeros((1, 3)), here, 0.05, hands, np.array([0.0, 9.0, 0.0]))
    assert place.tolist() == ring[1].tolist()


def test_the_markers_of_a_controller_name_its_obstacles(policy: Policy, planar8: Robot) -> None:
    control = ReachControl(planar8, policy)
    box = Obstacle("a/1", Shape.CUBE, (0.1, 0.2, 0.3), (1.0, 1.0, 1.0), tuple(TURNED))
    rod = Obstacle("b", Shape.CYLINDER, (0.1, 0.2, 0.0), (2.0, 1.0, 1.0), tuple(STILL))
    rod = Obstacle("b/0", rod.shape, rod.size, rod.position, rod.orientation)
    listed = [BALL, box, rod]
    assert control.take_obstacles([marker_of(obstacle) for obstacle in listed], 0.0) == ""
    shown = shown_obstacles(markers(control))
    assert list(shown) == ["other/3", "a/1", "b/0"]
    for obstacle in listed:
        same = shown[obstacle.name]
        assert same.shape is obstacle.shape and same.size == pytest.approx(obstacle.size)
        assert same.position == pytest.approx(obstacle.position)
        assert same.orientation == pytest.approx(obstacle.orientation)
    foreign = MarkerArray(markers=[Marker(ns="obstacles", type=Marker.ARROW), Marker(ns="goals")])
    assert shown_obstacles(foreign) == {}


@pytest.fixture
def server() -> Iterator[PageServer]:
    server = PageServer(listen("127.0.0.1", 0), "test")
    yield server
    server.stop()


def test_only_own_obstacles_have_handles_and_others_follow_the_controller(
    server: PageServer,
) -> None:
    posted: list[Any] = []
    scene = ObstacleScene(server, "/robot/1", 0.1, posted.append)
    own = OwnObstacles("page")
    number = own.add("box", 0.2, ABOVE)
    scene.show_own(own.by_number, {})
    handle, surface = scene._own[number]
    assert surface.opacity == DIM and surface.dimensions == pytest.approx((0.2, 0.2, 0.2))
    assert handle.position.tolist() == ABOVE.tolist()
    scene.show_own(own.by_number, {"page/1": own.by_number[number], "page/2": BALL})
    assert scene._own[number] == (handle, surface) and surface.opacity == BRIGHT

    def drag(position: list[float], phase: str = "update") -> None:
        target = SimpleNamespace(position=position, wxyz=[0.8, 0.6, 0.0, 0.0])
        event = SimpleNamespace(phase=phase, client_id=1, target=target)
        asyncio.run(scene._on_drag(number, event))

    drag([1.0, 2.0, 3.0])
    drag([1.0, 2.0, float("nan")])
    drag([1.0, 2.0, 3.0], phase="end")
    (event,) = posted
    assert isinstance(event, MoveObstacle) and event.number == number
    assert event.position.tolist() == [1.0, 2.0, 3.0]
    assert event.orientation.tolist() == pytest.approx([0.6, 0.0, 0.0, 0.8])

    scene.show_others({BALL.name: BALL})
    _, node = scene._others[BALL.name]
    assert not isinstance(node, viser.TransformControlsHandle)
    assert (node.radius, node.position.tolist()) == (0.1, [1.0, 2.0, 3.0])
    elsewhere = Obstacle(BALL.name, BALL.shape, BALL.size, (4.0, 0.0, 0.0), tuple(TURNED))
    scene.show_others({BALL.name: elsewhere})
    assert scene._others[BALL.name][1] is node and node.position.tolist() == [4.0, 0.0, 0.0]
    assert node.wxyz.tolist() == pytest.approx([0.8, 0.6, 0.0, 0.0])
    rod = Obstacle(BALL.name, Shape.CYLINDER, (0.1, 0.2, 0.0), (4.0, 0.0, 0.0), tuple(STILL))
    scene.show_others({BALL.name: rod})
    other = scene._others[BALL.name][1]
    assert other is not node and other.name != node.name
    assert (other.radius, other.height) == (0.1, 0.4)
    scene.show_others({})
    own.remove(number)
    scene.show_own(own.by_number, {})
    assert not scene._others and not scene._own
