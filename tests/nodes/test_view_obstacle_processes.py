"""Obstacles of the page at a controller: they are shared, and they end with the page."""

import signal
from collections.abc import Iterator
from pathlib import Path
from time import monotonic, sleep

import numpy as np
import pytest
from rig import Launcher
from scenarios import Probe
from visualization_msgs.msg import Marker, MarkerArray

pytest.importorskip("viser", reason="the page needs viser")

from browser import browser, find_browser

from polyreach_description import Robot
from polyreach_nodes.client.obstacles import obstacle_marker, shown_obstacles
from polyreach_nodes.client.status import ControllerStatus, decode
from polyreach_nodes.client.topics import MARKERS, OBSTACLES
from polyreach_nodes.control.obstacle import Shape
from polyreach_nodes.view.events import AddObstacle, MoveObstacle, RemoveObstacle
from polyreach_nodes.view.obstacle_tool import ObstacleTool
from polyreach_nodes.view.obstacles import LIFETIME_S, REPEAT_S
from polyreach_nodes.view.scene import Scene
from polyreach_nodes.view.server import PageServer, listen

TURNED = np.array([0.6, 0.0, 0.0, 0.8])


@pytest.fixture
def server() -> Iterator[PageServer]:
    server = PageServer(listen("127.0.0.1", 0), "test")
    yield server
    server.stop()


def test_obstacles_of_the_page_end_with_it(
    start: Launcher, probe: Probe, planar8: Robot, server: PageServer
) -> None:
    """Added, moved, shared with others, removed; without the page, its obstacles end."""
    start("controller_node", {"robot": "planar8", "autostart": True})
    probe.wait_state("WAITING")
    scene = Scene(server, planar8, [(0, 0, 0)] * 3, False, lambda _: None)
    tool = ObstacleTool(probe.node, server, scene, planar8, "polyreach_controller", lambda _: None)
    data = planar8.data_at_home()

    def status() -> ControllerStatus:
        return decode({pair.key: pair.value for pair in probe.statuses[-1].values})

    def updated() -> ControllerStatus:
        tool.update(monotonic(), status())
        return status()

    def wait_count(count: int, timeout_s: float = 10.0) -> None:
        probe.wait(lambda: updated().obstacles == count, f"{count} obstacles", timeout_s)

    tool.handle(AddObstacle("box", 0.1), data)
    tool.handle(AddObstacle("sphere", 0.1), data)
    wait_count(2)
    end_s = monotonic() + LIFETIME_S + 1.0
    while monotonic() < end_s:
        assert updated().obstacles == 2
        sleep(0.05)
    present = tool._link.present(2)
    name = probe.node.get_fully_qualified_name().strip("/")
    assert set(present) == {f"{name}/1", f"{name}/2"}
    place = np.array([5.0, 6.0, 7.0])
    tool.handle(MoveObstacle(1, place, TURNED), data)

    def moved() -> bool:
        updated()
        shown = tool._link.present(2).get(f"{name}/1")
        return shown is not None and shown.position == (5.0, 6.0, 7.0)

    probe.wait(moved, "the obstacle at its new place")
    assert tool._link.present(2)[f"{name}/1"].orientation == pytest.approx(tuple(TURNED))
    publisher = probe.node.create_publisher(MarkerArray, f"polyreach_controller/{OBSTACLES}", 10)
    probe.wait(lambda: publisher.get_subscription_count() > 0, "subscription to obstacles")
    other = obstacle_marker("other", 0, Marker.SPHERE, [9.0, 0.0, 0.0], [0.2] * 3)
    publisher.publish(MarkerArray(markers=[other]))
    wait_count(3)
    tool.handle(RemoveObstacle(2), data)
    wait_count(2)
    probe.wait(
        lambda: updated() and "other/0" in tool._scene._others, "the obstacle of another node"
    )
    # the page does nothing any more
    begin_s = monotonic()
    probe.wait(lambda: status().obstacles == 1, "the end of its obstacle", LIFETIME_S + 2.0)
    assert monotonic() - begin_s > LIFETIME_S - REPEAT_S - 0.5
    probe.node.destroy_publisher(publisher)


@pytest.mark.skipif(find_browser() is None, reason="no Chromium or Chrome is installed")
def test_a_person_adds_and_removes_an_obstacle(
    start: Launcher, probe: Probe, tmp_path: Path
) -> None:
    start("controller_node", {"robot": "planar8", "autostart": True})
    page = start("view_node", {"robot": "planar8", "port": 0, "shadows": False})
    probe.wait(lambda: "http://" in page.output, "the page")
    probe.wait_state("WAITING")
    shown: list[MarkerArray] = []
    topic = f"polyreach_controller/{MARKERS}"
    subscription = probe.node.create_subscription(MarkerArray, topic, shown.append, 1)
    with browser(tmp_path) as tab:
        tab.open(page.output.split()[-1], 760, 900)
        tab.wait_text("speed scale")

        def click(label: str, then: int) -> None:
            """Click on a button that changes the number of obstacles."""
            for _ in range(3):  # it may move under the mouse
                tab.click(*tab.centre("button", label))
                end_s = monotonic() + 10.0
                while monotonic() < end_s:
                    if probe.value("obstacles") == str(then):
                        return
                    sleep(0.02)
            raise AssertionError(f"nothing came of clicks on {label}")

        click("sphere", then=1)
        tab.wait_text("The policy goes around obstacles")
        tab.wait_text("Remove sphere 1")
        probe.wait(lambda: bool(shown_obstacles(shown[-1]) if shown else {}), "its marker")
        obstacle = shown_obstacles(shown[-1])["polyreach_view/1"]
        assert obstacle.shape is Shape.SPHERE and obstacle.size[0] == pytest.approx(0.05)
        click("Remove sphere 1", then=0)
        click("box", then=1)
        tab.wait_text("Remove box 2")
        assert tab.complaints == []
        page.popen.send_signal(signal.SIGKILL)
        probe.wait(lambda: probe.value("obstacles") == "0", "the end of the page's obstacle")
    probe.node.destroy_subscription(subscription)
