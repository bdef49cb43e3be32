"""The page as a process: connections it accepts, and the effect of mouse input."""

import json
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from time import monotonic, sleep
from urllib.request import urlopen

import mujoco
import numpy as np
import pytest
from rcl_interfaces.srv import GetParameters
from rig import Launcher, Process, set_parameter
from scenarios import Probe, zero_delay

pytest.importorskip("viser", reason="the page needs viser")

from browser import Tab, browser, find_browser, pixel
from websockets.sync.client import connect

from polyreach_description.policy_search import find_policy
from polyreach_nodes.client.status import Point, decode
from polyreach_nodes.view import shapes
from polyreach_nodes.view.link import PageLink
from polyreach_nodes.view.scene import HANDLE_SHARE

WIDTH, HEIGHT = 760, 400  # [px] of the browser's window
GOALS = ("--ros-args", "-p", "port:=0", "-p")
View = Callable[..., tuple[Process, int]]


@pytest.fixture
def view(start: Launcher) -> View:
    """Start the page with parameters; returns the process and its port."""

    def run(**parameters: object) -> tuple[Process, int]:
        words = ["-m", "polyreach_nodes.view_node", "--ros-args"]
        for name, value in {"port": 0, **parameters}.items():
            words += ["-p", f"{name}:={value}"]
        process = start("python", None, *words)
        end_s = monotonic() + 30
        while "http://" not in process.output:
            assert process.popen.poll() is None and monotonic() < end_s, process.output
            sleep(0.05)
        return process, int(process.output.split("http://")[1].split(":")[1].split()[0])

    return run


def listening_on(port: int) -> set[str]:
    """Local addresses [hexadecimal] on which this machine listens at a port."""
    rows = [
        line.split()
        for name in ("tcp", "tcp6")
        if (path := Path("/proc/net") / name).exists()
        for line in path.read_text().splitlines()[1:]
    ]
    return {
        row[1].split(":")[0] for row in rows if row[3] == "0A" and row[1].endswith(f"{port:04X}")
    }


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["SIGINT", "SIGTERM"])
def test_serves_on_loopback_only_and_ends_at_once(view: View, number: signal.Signals) -> None:
    process, port = view()
    assert listening_on(port) == {"0100007F"}  # 127.0.0.1
    with connect(f"ws://127.0.0.1:{port}", subprotocols=["viser-v0"]) as other:
        assert other.request.headers["Host"] == f"127.0.0.1:{port}"
    with pytest.raises(Exception, match="403"):
        connect(f"ws://127.0.0.1:{port}", origin="http://evil.example")
    begin_s = monotonic()
    assert process.stop(number) == 0
    assert monotonic() - begin_s < 3.0
    assert listening_on(port) == set()
    assert process.output.strip() == f"polyreach view: http://127.0.0.1:{port}"


def test_a_busy_port_is_one_clear_error_line(start: Launcher) -> None:
    with socket.create_server(("127.0.0.1", 0)) as busy:
        port = busy.getsockname()[1]
        words = ["-m", "polyreach_nodes.view_node", "--ros-args", "-p", f"port:={port}"]
        process = start("python", None, *words)
        assert process.popen.wait(timeout=30) == 1
    assert f"cannot listen on 127.0.0.1 port {port}: Address already in use" in process.output
    assert "Traceback" not in process.output


def test_an_error_names_viser_where_it_is_missing(ros_domain_id: int) -> None:
    script = (
        "import sys; sys.modules['viser'] = None\n"
        "from polyreach_nodes.view_node import main; sys.exit(main())"
    )
    ended = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False
    )
    assert ended.returncode == 1
    assert "pip install 'viser>=1.1,<1.2'" in ended.stderr


DEMO = """
import sys
from polyreach_nodes.view.run_view import ViewConfig, run_view
run_view(ViewConfig(robot=sys.argv[1], port=int(sys.argv[2]), seconds=float(sys.argv[3])))
"""


def test_the_demo_serves_the_page_and_ends_in_time() -> None:
    words = [sys.executable, "-c", DEMO, "humanoid27", "0", "10"]
    demo = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert demo.stdout is not None
    line = demo.stdout.readline()
    assert line.startswith("polyreach view: http://127.0.0.1:")
    address = line.split()[-1]
    with urlopen(address, timeout=20) as page:
        assert b"<html" in page.read()
    _, complaints = demo.communicate(timeout=90)
    assert (demo.returncode, complaints) == (0, "")
    assert listening_on(int(address.rsplit(":", 1)[1])) == set()


def test_the_demo_reports_why_the_page_failed() -> None:
    with socket.create_server(("127.0.0.1", 0)) as busy:
        port = busy.getsockname()[1]
        words = [sys.executable, "-c", DEMO, "planar8", str(port), "30"]
        ended = subprocess.run(words, capture_output=True, text=True, timeout=90, check=False)
    assert ended.returncode == 1 and "DemoError" in ended.stderr
    assert f"cannot listen on 127.0.0.1 port {port}" in ended.stderr


class Person:
    """Uses the page of planar8 in a tab in its initial state."""

    def __init__(self, tab: Tab, probe: Probe) -> None:
        self.tab = tab
        self._probe = probe
        samples = shapes.effector_samples(probe.robot)
        self._camera = shapes.first_camera(probe.robot, samples)
        distance = np.linalg.norm(self._camera.position - self._camera.look_at)
        height = 2 * distance * np.tan(self._camera.field_of_view / 2)
        self._arrow = 0.7 * HANDLE_SHARE * height  # [m] from the goal, on the arrow of its handle
        data = mujoco.MjData(probe.robot.model)
        mujoco.mj_kinematics(probe.robot.model, data)
        self._base = data.xpos[probe.robot.base_body]

    def drag_along_x(self, position: np.ndarray, by: float) -> None:
        """Drag the handle at a position [m, base frame] by its arrow."""
        script = "(() => { const r = document.querySelector('canvas').getBoundingClientRect();"
        _, _, width, height = self.tab.evaluate(script + "return [r.x, r.y, r.width, r.height]})()")
        axis = np.array([1.0, 0.0, 0.0])
        grip = self._base + position + self._arrow * axis
        self.tab.drag(
            [
                pixel(self._camera, grip + share * by * axis, width, height)
                for share in (0.0, 0.1, 0.55, 1.0)
            ]
        )

    def close_notices(self) -> None:
        """Click away what covers the picture, such as the note that there is no GPU."""
        while (place := self.tab.find(".mantine-Notification-closeButton")) is not None:
            self.tab.click(*place)
            sleep(0.5)

    def press(self, label: str, then: str) -> None:
        """Click on a button that brings the controller into the state `then`."""
        self._click(lambda: self._probe.value("state") == then, "button", label)

    def switch(self, effector: str, on: bool) -> None:
        """Click on the check box of an effector's goal, until the controller has it, or not."""
        number = self._probe.robot.effector_names.index(effector)
        boxes = "[...document.querySelectorAll('input[type=checkbox]')].filter(e => e.offsetWidth)"
        checked = f"{boxes}[{number}].checked"
        self._click(
            lambda: bool(self._probe.value(f"goal/{effector}")) == on,
            "input[type=checkbox]",
            number=number,
            lost=lambda: self.tab.evaluate(checked) != on,
        )

    def slide(self, done: Callable[[], bool]) -> None:
        """Drag the slider of the speed scale to its middle."""
        track, thumb = ".mantine-Slider-track", ".mantine-Slider-thumb"

        def drag() -> None:
            # held for some frames of a browser without a GPU: the slider moves in the next one
            self.tab.drag([self.tab.centre(thumb), self.tab.centre(track)], hold_s=1.0)

        self._until(done, drag, "dragging the slider")

    def _click(
        self,
        done: Callable[[], bool],
        *what: str,
        number: int = 0,
        lost: Callable[[], bool] = lambda: True,
    ) -> None:
        def click() -> None:
            if lost():
                self.tab.click(*self.tab.centre(*what, number=number))

        self._until(done, click, f"clicks on {what} {number}")

    def _until(self, done: Callable[[], bool], act: Callable[[], None], what: str) -> None:
        """Act until it is done, again if that was lost: things may move under the mouse."""
        for _ in range(3):
            act()
            end_s = monotonic() + 20.0
            while monotonic() < end_s:
                if done():
                    return
                sleep(0.02)
        raise AssertionError(f"nothing came of {what}")


def wait_goal(probe: Probe, effector: str, there: bool, timeout_s: float = 10.0) -> bool:
    """Wait until an effector has a goal, or has none; returns whether this happened."""
    end_s = monotonic() + timeout_s
    while bool(probe.value(f"goal/{effector}")) != there:
        if monotonic() > end_s:
            return False
        sleep(0.02)
    return True


def goal_of(probe: Probe, effector: str) -> Point | None:
    """An effector's goal [m] in the last status."""
    values = {pair.key: pair.value for pair in probe.statuses[-1].values}
    return decode(values).effector(effector).goal


def speed_scale(probe: Probe) -> float:
    """The controller's parameter."""
    client = probe.node.create_client(GetParameters, "polyreach_controller/get_parameters")
    assert client.wait_for_service(10.0)
    future = client.call_async(GetParameters.Request(names=["speed_scale"]))
    probe.wait(future.done, "answer of get_parameters")
    return future.result().values[0].double_value


@pytest.mark.skipif(find_browser() is None, reason="no Chromium or Chrome is installed")
def test_a_person_drags_a_goal_halts_and_resumes(
    start: Launcher, view: View, probe: Probe, tmp_path: Path
) -> None:
    robot, home = probe.robot, probe.robot.forward_kinematics(probe.robot.home)
    start("sim_node", {"robot": "planar8"}, "-r", "commands:=polyreach_controller/commands")
    policy = str(find_policy("planar8"))
    slow = {"speed_scale": 0.2, "joint_state_timeout": 2.0}  # for a browser without a GPU
    start("controller_node", {"policy": policy, "autostart": True, **slow})
    page, port = view(shadows="false")
    probe.wait_state("IDLE")
    with browser(tmp_path) as tab:
        person = Person(tab, probe)
        tab.open(f"http://127.0.0.1:{port}", WIDTH, HEIGHT)
        tab.wait_text("IDLE")

        for _ in range(4):
            person.close_notices()
            person.drag_along_x(home[0], by=-0.25)
            if wait_goal(probe, "left", there=True, timeout_s=3.0):
                break

        def dragged() -> float:
            goal = goal_of(probe, "left")
            return 0.0 if goal is None else float(goal[0] - home[0, 0])

        probe.wait(lambda: dragged() == pytest.approx(-0.25, abs=0.05), "the goal as dragged")
        goal = goal_of(probe, "left")
        assert goal is not None
        assert goal[1:] == pytest.approx(home[0, 1:], abs=1e-3)
        assert probe.value("goal/middle") == probe.value("goal/right") == ""

        def error() -> float:
            assert probe.joint_pos is not None
            return float(np.linalg.norm(robot.forward_kinematics(probe.joint_pos)[0] - goal))

        probe.wait(lambda: error() < 0.02, "the effector at the goal")
        tab.wait_text("ACTIVE")

        only_right = robot.action_sets[2] & ~robot.action_sets[:2].any(axis=0)
        turned = probe.joint_pos - np.where(only_right, np.copysign(0.9, probe.joint_pos), 0.0)
        far = robot.forward_kinematics(turned)
        assert set_parameter(probe, "speed_scale", 0.02) == (True, "")  # time for the mouse
        probe.send_goal("right", far[2])
        probe.wait_moving()
        begin_s = monotonic()
        person.press("Halt", then="HALTED")
        probe.wait_state("HALTED")
        zero_delay(probe, begin_s, hold_s=0.3)
        tab.wait_text("HALTED")
        rest = probe.joint_pos
        sleep(0.7)
        assert probe.joint_pos == pytest.approx(rest, abs=2e-3)
        assert probe.value("reached") == "false", "it halted only after the motion"

        assert set_parameter(probe, "speed_scale", 0.2) == (True, "")
        person.press("Resume", then="ACTIVE")
        probe.wait_state("ACTIVE")
        probe.wait_moving()
        probe.wait(lambda: probe.value("reached") == "true", "both goals reached")

        person.switch("left", on=False)
        assert probe.value("goal/right") != ""
        person.switch("left", on=True)
        assert goal_of(probe, "left") == pytest.approx(goal, abs=1e-5)

        probe.call("clear_goal/left")
        probe.call("hold")
        tab.wait_text("left\n(held)")
        assert "right\n(held)" not in tab.text()

        person.slide(lambda: abs(speed_scale(probe) - 0.5) < 0.1)

        probe.send_goal("middle", far[1], frame="<b>moon</b>")
        tab.wait_text("frame is '<b>moon</b>'")
        with tab.another(f"http://127.0.0.1:{port}") as second:
            second.wait_text("ACTIVE")
            probe.call("halt")
            second.wait_text("HALTED")
            tab.wait_text("HALTED")
        assert tab.complaints == []
        served = (f"http://127.0.0.1:{port}", f"ws://127.0.0.1:{port}", "data:", "blob:")
        assert [url[:80] for url in tab.requests if not url.startswith(served)] == []
        page.popen.send_signal(signal.SIGTERM)
        probe.wait(lambda: listening_on(port) == set(), "the port free", timeout_s=5.0)
        assert page.popen.wait(timeout=30.0) == 0  # a second signal would end it at once


def test_the_page_sets_random_goals_until_the_robot_is_halted(
    start: Launcher, view: View, probe: Probe
) -> None:
    start("sim_node", {"robot": "planar8"}, "-r", "commands:=polyreach_controller/commands")
    start("controller_node", {"robot": "planar8", "autostart": True, "joint_state_timeout": 0.5})
    view(goals="'random goals'")
    seen: set[Point] = set()

    def reached_three() -> bool:
        goal = goal_of(probe, "left") if probe.value("reached") == "true" else None
        seen.update([goal] if goal is not None else [])
        return len(seen) == 3

    probe.wait(reached_three, "three goal sets")
    probe.call("halt")
    probe.wait_state("HALTED")
    sleep(1.0)
    counts = [probe.value(f"received/{effector}") for effector in probe.robot.effector_names]
    sleep(1.5)
    assert counts == [probe.value(f"received/{name}") for name in probe.robot.effector_names]


def test_an_unknown_program_of_goals_is_one_clear_error_line(start: Launcher) -> None:
    process = start("python", None, "-m", "polyreach_nodes.view_node", *GOALS, "goals:=dance")
    assert process.popen.wait(timeout=30) == 1
    assert "'dance', but must be one of: by hand, random goals, moving goals" in process.output
    assert "Traceback" not in process.output


def test_the_speed_can_be_set_after_an_answer_that_never_came(
    start: Launcher, probe: Probe
) -> None:
    controller = start("controller_node", {"robot": "planar8", "autostart": True})
    probe.wait_state("WAITING")
    robot = probe.robot
    link = PageLink(probe.node, robot.effector_names, robot.base_frame, "polyreach_controller")

    def updated() -> str:
        link.update()
        return link.failure

    probe.wait(lambda: updated() == "" and link.speed_scale == 1.0, "the speed scale")
    controller.popen.send_signal(signal.SIGSTOP)
    try:
        link.set_speed(0.4)
        probe.wait(lambda: "speed_scale NOT DONE: no answer" in updated(), "a missing answer")
    finally:
        controller.popen.send_signal(signal.SIGCONT)
    link.set_speed(0.3)
    probe.wait(lambda: updated() == "" and speed_scale(probe) == 0.3, "the speed as set last")


def test_another_policy_is_used_at_rest_and_a_wrong_one_is_reported(
    start: Launcher, probe: Probe, tmp_path: Path
) -> None:
    def method() -> str:
        return json.loads(probe.metadata[-1])["method"] if probe.metadata else ""

    start("sim_node", {"robot": "planar8"}, "-r", "commands:=polyreach_controller/commands")
    start("controller_node", {"robot": "planar8", "autostart": True, "joint_state_timeout": 0.5})
    probe.wait_state("IDLE")
    robot = probe.robot
    link = PageLink(probe.node, robot.effector_names, robot.base_frame, "polyreach_controller")

    def knows_policy() -> bool:
        link.update()
        return link.policy == "" and method() == "apg"

    probe.wait(knows_policy, "the parameter 'policy'")
    ddpg = str(find_policy("planar8", "ddpg"))
    link.use_policy(ddpg)
    probe.wait(lambda: method() == "ddpg" and link.policy == ddpg, "the policy of ddpg")
    probe.wait_state("IDLE")  # active again
    wrong = tmp_path / "wrong.onnx"
    wrong.write_bytes(b"no policy")
    link.use_policy(str(wrong))
    link.use_policy(ddpg)
    assert link.failure == "policy NOT SET: the last one is still being loaded"
    probe.wait(lambda: "wrong.onnx" in link.failure, "the reason for which the file is refused")
    probe.wait_state("IDLE")
    assert method() == "ddpg" and link.policy == ddpg
