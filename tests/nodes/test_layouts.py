"""Every topic and field that the shipped layouts name is published, with that type."""

import json
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import yaml
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from domains import reserved_domain
from rig import launching
from scenarios import Probe
from sensor_msgs.msg import JointState
from std_msgs.msg import Float64MultiArray
from visualization_msgs.msg import MarkerArray

from polyreach_description import Robot, load_robot
from polyreach_description.robot import list_robots
from polyreach_nodes.control.watchdog import State
from polyreach_nodes.layouts import WRITERS, foxglove, main, plotjuggler

CONFIG = Path(__file__).parents[2] / "config"
TOPICS = {
    "/diagnostics": DiagnosticArray,
    "/joint_states": JointState,
    "/polyreach_controller/commands": Float64MultiArray,
    "/polyreach_controller/status": DiagnosticStatus,
    "/polyreach_controller/markers": MarkerArray,
}
TITLE = "foxglovePanelTitle"
Published = dict[str, Any]
START_S = 90.0  # [s] for the controller to test and load its policy on a busy machine
# .field, then [index] or [:], then {field=="text"}
ELEMENT = re.compile(r'\.(\w+)(?:\[(\d+|:)\])?(?:\{(\w+)=="([^"]*)"\})?')


@pytest.fixture(scope="module", params=["planar8", "dual7"])
def robot(request: pytest.FixtureRequest) -> Robot:
    return load_robot(request.param)


@pytest.fixture(scope="module")
def published(robot: Robot, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Published]:
    """The last message on every topic of a controller and a simulator, all effectors with goals."""
    folder = tmp_path_factory.mktemp("layouts")
    with reserved_domain() as domain, launching(folder, domain) as start:
        # joint states may be late on a busy machine
        late = {"joint_state_timeout": 0.3, "outage_timeout": 0.0}
        start("controller_node", {"robot": robot.name, "autostart": True, **late})
        remap = "commands:=polyreach_controller/commands"
        start("sim_node", {"robot": robot.name}, "-r", remap)
        with Probe(robot, domain) as probe:
            last: Published = {}
            for topic, kind in TOPICS.items():
                probe.node.create_subscription(
                    kind, topic, lambda message, topic=topic: last.update({topic: message}), 10
                )
            probe.wait(lambda: probe.value("state") == "IDLE", "the controller", START_S)
            probe.wait_goals_subscribed()
            for name, *pose in zip(
                robot.effector_names, *robot.effector_poses(robot.home), strict=True
            ):
                probe.send_goal(name, pose[0], orientation=pose[1])
            probe.wait(lambda: probe.value("reached") == "true", "goals at home", 30.0)
            last.pop("/diagnostics", None)  # from before the goals
            probe.wait(lambda: last.keys() == TOPICS.keys(), "all topics", 30.0)
            types = dict(probe.node.get_topic_names_and_types())
            for topic, kind in TOPICS.items():
                package = kind.__module__.split(".")[0]
                assert types[topic] == [f"{package}/msg/{kind.__name__}"]
            yield last


def values_at(published: Published, path: str) -> list[Any]:
    """What a message path of Foxglove finds."""
    topic, elements = re.fullmatch(r"([/\w]+)((?:\..*)?)", path).groups()
    assert "".join(found.group() for found in ELEMENT.finditer(elements)) == elements
    values = [published[topic]]
    for name, index, key, text in ELEMENT.findall(elements):
        assert all(name in value.get_fields_and_field_types() for value in values), path
        values = [getattr(value, name) for value in values]
        if index == ":":
            values = [item for value in values for item in value]
        elif index:
            values = [value[int(index)] for value in values]
        if key:
            values = [value for value in values if getattr(value, key) == text]
    return values


def series(published: Published) -> dict[str, float]:
    """The numbers as PlotJuggler's parser of ROS messages names them."""
    numbers: dict[str, Any] = {}
    for topic, message in published.items():
        if isinstance(message, DiagnosticArray):
            for status in message.status:
                place = f"{topic}/{status.hardware_id}/{status.name}"
                numbers |= {f"{place}/{pair.key}": pair.value for pair in status.values}
        elif isinstance(message, JointState):
            pairs = zip(message.name, message.velocity, strict=True)
            numbers |= {f"{topic}/{joint}/velocity": value for joint, value in pairs}
        elif isinstance(message, Float64MultiArray):
            numbers |= {f"{topic}/data[{i}]": value for i, value in enumerate(message.data)}
    return {name: float(value) for name, value in numbers.items() if is_number(value)}


def is_number(value: Any) -> bool:
    try:
        return math.isfinite(float(value))
    except ValueError:
        return False


def panels(robot: str, kind: str) -> list[dict[str, Any]]:
    layout = json.loads((CONFIG / "layouts" / f"{robot}.json").read_text())
    found = layout["configById"].items()
    return [panel for name, panel in found if name.startswith(f"{kind}!")]


def test_plotjuggler_layout_names_what_is_published(robot: Robot, published: Published) -> None:
    root = ElementTree.parse(CONFIG / "layouts" / f"{robot.name}.xml").getroot()
    names = [curve.get("name") for curve in root.iter("curve")]
    known = series(published)
    assert len(names) >= len(robot.effector_names) + 2 * len(robot.joint_names) + 9
    assert [name for name in names if name not in known] == []
    topics = root.find("Plugins/plugin/selected_topics").get("value").split(";")
    assert set(topics) <= TOPICS.keys()
    assert all(any(name.startswith(topic) for topic in topics) for name in names)


def test_foxglove_layout_names_what_is_published(robot: Robot, published: Published) -> None:
    paths = [path["value"] for panel in panels(robot.name, "Plot") for path in panel["paths"]]
    assert len(paths) >= len(robot.effector_names) + 2 * len(robot.joint_names) + 9
    for path in paths:
        values = values_at(published, path)
        assert len(values) == 1 and is_number(values[0]), (path, values)
    (state,) = panels(robot.name, "StateTransitions")
    assert values_at(published, state["paths"][0]["value"])[0] in tuple(State)
    (scene,) = panels(robot.name, "3D")
    assert scene["followTf"] == robot.base_frame
    assert [TOPICS[topic] for topic in scene["topics"]] == [MarkerArray]
    frames = {m.header.frame_id for m in published["/polyreach_controller/markers"].markers}
    assert frames == {robot.base_frame}
    (diagnostics,) = panels(robot.name, "DiagnosticSummary")
    assert TOPICS[diagnostics["topicToRender"]] is DiagnosticArray


def test_measured_velocities_are_those_of_their_joints(robot: Robot, published: Published) -> None:
    """Foxglove finds them by their place in the message."""
    names = published["/joint_states"].name
    shown = [panel for panel in panels(robot.name, "Plot") if "measured" in panel[TITLE]]
    paths = {path["label"]: path["value"] for path in shown[0]["paths"]}
    assert list(paths) == list(robot.joint_names)
    for joint, path in paths.items():
        assert path == f"/joint_states.velocity[{names.index(joint)}]"


@pytest.mark.parametrize("name", list_robots())
def test_shipped_layouts_are_those_of_the_robots(name: str) -> None:
    robot = load_robot(name)
    for suffix, write in WRITERS.items():
        text = (CONFIG / "layouts" / f"{name}{suffix}").read_text()
        assert text == write(robot), f"python -m polyreach_nodes.layouts {name} config/layouts/..."


def test_every_area_of_a_layout_is_used(robot: Robot) -> None:
    root = ElementTree.fromstring(plotjuggler(robot))
    for splitter in root.iter("DockSplitter"):
        sizes = [float(size) for size in splitter.get("sizes").split(";")]
        assert len(splitter) == int(splitter.get("count")) == len(sizes)
        assert sum(sizes) == pytest.approx(1.0, abs=1e-4)
    assert all(len(area.findall("plot/curve")) > 1 for area in root.iter("DockArea"))
    layout = json.loads(foxglove(robot))

    def leaves(node: Any) -> list[str]:
        return [node] if isinstance(node, str) else leaves(node["first"]) + leaves(node["second"])

    assert sorted(leaves(layout["layout"])) == sorted(layout["configById"])


def test_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    xml = tmp_path / "mine.xml"
    assert main(["planar8", str(xml)]) == 0
    assert xml.read_text() == (CONFIG / "layouts" / "planar8.xml").read_text()
    assert main(["planar8", str(tmp_path / "mine.txt")]) == 2
    assert "FILE.xml (PlotJuggler) or FILE.json (Foxglove)" in capsys.readouterr().err
    assert main(["octopus", str(xml)]) == 1
    assert "octopus" in capsys.readouterr().err


def test_rviz_shows_robot_and_markers(robot: Robot, published: Published) -> None:
    config = yaml.safe_load((CONFIG / "rviz" / "polyreach.rviz").read_text())
    displays = {d["Class"].split("/")[1]: d for d in config["Visualization Manager"]["Displays"]}
    assert displays["RobotModel"]["Description Topic"]["Value"] == "robot_description"
    assert displays["RobotModel"]["Description Topic"]["Durability Policy"] == "Transient Local"
    topic = displays["MarkerArray"]["Topic"]
    assert isinstance(published[f"/{topic['Value']}"], MarkerArray)
    assert topic["Durability Policy"] == "Volatile"
