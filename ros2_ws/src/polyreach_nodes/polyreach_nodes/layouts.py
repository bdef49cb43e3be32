"""Write layouts of PlotJuggler and Foxglove that plot what a robot's controller publishes.

    python -m polyreach_nodes.layouts planar8 planar8.xml planar8.json

Both programs address numbers by names that contain those of effectors and joints, so a layout is
of one robot. PlotJuggler (.xml, version 3 with the plugin "ROS2 Topic Subscriber") names the values
of /diagnostics by their keys, and plots no numbers in texts of other topics. Foxglove (.json) finds
them by message paths: https://docs.foxglove.dev/docs/visualization/message-path-syntax
"""

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree
from xml.etree.ElementTree import Element, SubElement

from polyreach_description import Robot, RobotError, load_robot
from polyreach_nodes.client.status import ANGLE, ERROR
from polyreach_nodes.client.topics import COMMANDS, MARKERS, STATUS

CONTROLLER = "/polyreach_controller"
DIAGNOSTICS, JOINT_STATES = "/diagnostics", "/joint_states"
STREAMER = "ROS2 Topic Subscriber"
WINDOW_S = 20  # [s] that are shown
COLOURS = ("#1f77b4", "#d62728", "#2ca02c", "#ff7f0e", "#9467bd", "#8c564b", "#e377c2", "#17becf")


@dataclass(frozen=True)
class Curve:
    """A number that changes with time, as both programs name it."""

    label: str
    plotjuggler: str
    foxglove: str


@dataclass(frozen=True)
class Chart:
    """Curves with one unit."""

    title: str
    curves: tuple[Curve, ...]


def charts(robot: Robot) -> tuple[Chart, ...]:
    """What is plotted of a robot: errors, velocities and times."""

    def timing(name: str) -> Chart:
        return Chart(
            f"{name} [ms]",
            tuple(_value(robot, f"{name} {label} [ms]", label) for label in ("p50", "p99", "max")),
        )

    oriented = [n for n, turns in zip(robot.effector_names, robot.oriented, strict=True) if turns]
    angles = tuple(_value(robot, f"{ANGLE}{name}", name) for name in oriented)
    return (
        Chart(
            "distance to goal [m]",
            tuple(_value(robot, f"{ERROR}{name}", name) for name in robot.effector_names),
        ),
        *([Chart("angle to goal [degrees]", angles)] if angles else []),
        Chart(
            "commanded velocity [rad/s or m/s]",
            tuple(_command(index, name) for index, name in enumerate(robot.joint_names)),
        ),
        Chart(
            "measured velocity [rad/s or m/s]",
            tuple(_measured(robot, name) for name in robot.joint_names),
        ),
        timing("loop period"),
        timing("compute"),
        timing("state age"),
    )


def _value(robot: Robot, key: str, label: str) -> Curve:
    """A value of the controller's status; its times are in the diagnostics alone."""
    found = f'.values[:]{{key=="{key}"}}.value'
    path = f"{CONTROLLER}/{STATUS}{found}"
    if key.endswith("[ms]"):
        path = f'{DIAGNOSTICS}.status[:]{{name=="{CONTROLLER}"}}{found}'
    return Curve(label, f"{DIAGNOSTICS}/{robot.name}/{CONTROLLER}/{key}", path)


def _command(index: int, joint: str) -> Curve:
    topic = f"{CONTROLLER}/{COMMANDS}"
    return Curve(joint, f"{topic}/data[{index}]", f"{topic}.data[{index}]")


def _measured(robot: Robot, joint: str) -> Curve:
    """By the order of the simulator's joint states; PlotJuggler goes by names."""
    index = robot.model.joint(joint).id
    return Curve(joint, f"{JOINT_STATES}/{joint}/velocity", f"{JOINT_STATES}.velocity[{index}]")


def plotjuggler(robot: Robot) -> str:
    """The layout as XML."""
    root = Element("root")
    window = SubElement(root, "tabbed_widget", {"parent": "main_window", "name": "Main Window"})
    tab = SubElement(window, "Tab", tab_name=robot.name, containers="1")
    shown = charts(robot)
    columns = shown[: len(shown) // 2], shown[len(shown) // 2 :]
    sides = _splitter(SubElement(tab, "Container"), "|", len(columns))
    for column in columns:
        rows = _splitter(sides, "-", len(column))
        for chart in column:
            area = SubElement(rows, "DockArea", name=chart.title)
            plot = SubElement(
                area, "plot", mode="TimeSeries", style="Lines", flip_x="false", flip_y="false"
            )
            SubElement(plot, "limitY")
            for number, curve in enumerate(chart.curves):
                colour = COLOURS[number % len(COLOURS)]
                SubElement(plot, "curve", name=curve.plotjuggler, color=colour)
    SubElement(window, "currentTabIndex", index="0")
    SubElement(root, "use_relative_time_offset", enabled="1")
    SubElement(root, "streaming_buffer_size", value=str(WINDOW_S))
    plugin = SubElement(SubElement(root, "Plugins"), "plugin", ID=STREAMER)
    topics = (DIAGNOSTICS, JOINT_STATES, f"{CONTROLLER}/{COMMANDS}")
    SubElement(plugin, "use_header_stamp", value="false")
    SubElement(plugin, "discard_large_arrays", value="false")
    SubElement(plugin, "max_array_size", value="500")
    SubElement(plugin, "selected_topics", value=";".join(topics))
    SubElement(root, "previouslyLoaded_Streamer", name=STREAMER)
    ElementTree.indent(root)
    return f'<?xml version="1.0"?>\n{ElementTree.tostring(root, encoding="unicode")}\n'


def _splitter(parent: Element, orientation: str, count: int) -> Element:
    sizes = ";".join([f"{1 / count:.6f}"] * count)
    return SubElement(
        parent, "DockSplitter", orientation=orientation, count=str(count), sizes=sizes
    )


def foxglove(robot: Robot) -> str:
    """The layout as JSON."""
    panels: dict[str, Any] = {"3D!robot": _scene(robot), "StateTransitions!state": _state()}
    panels["DiagnosticSummary!all"] = {"topicToRender": DIAGNOSTICS, "minLevel": 0, "pinnedIds": []}
    left = _stack([*panels], "column")
    plots = {f"Plot!{number}": _plot(chart) for number, chart in enumerate(charts(robot))}
    layout = {
        "configById": panels | plots,
        "globalVariables": {},
        "userNodes": {},
        "playbackConfig": {"speed": 1},
        "layout": {
            "direction": "row",
            "first": left,
            "second": _stack([*plots], "column"),
            "splitPercentage": 45,
        },
    }
    return json.dumps(layout, indent=1) + "\n"


def _scene(robot: Robot) -> dict[str, Any]:
    """Robot and markers, from the frames of robot_state_publisher."""
    urdf = {
        "layerId": "foxglove.Urdf",
        "instanceId": "robot",
        "label": robot.name,
        "visible": True,
        "frameLocked": True,
        "sourceType": "topic",
        "topic": "/robot_description",
        "framePrefix": "",
        "displayMode": "auto",
    }
    return {
        "followTf": robot.base_frame,
        "followMode": "follow-pose",
        "layers": {"robot": urdf},
        "topics": {f"{CONTROLLER}/{MARKERS}": {"visible": True}},
        "cameraState": {"distance": 3, "phi": 60, "thetaOffset": 45, "target": [0, 0, 0]},
    }


def _state() -> dict[str, Any]:
    """The controller's state as a coloured bar."""
    value = f'{CONTROLLER}/{STATUS}.values[:]{{key=="state"}}.value'
    path = {"value": value, "label": "state", "timestampMethod": "receiveTime"}
    return {"isSynced": True, "paths": [path]}


def _plot(chart: Chart) -> dict[str, Any]:
    paths = [
        {
            "value": curve.foxglove,
            "label": curve.label,
            "color": COLOURS[number % len(COLOURS)],
            "enabled": True,
            "timestampMethod": "receiveTime",
        }
        for number, curve in enumerate(chart.curves)
    ]
    return {
        "foxglovePanelTitle": chart.title,
        "paths": paths,
        "showLegend": True,
        "legendDisplay": "left",
        "showPlotValuesInLegend": True,
        "showXAxisLabels": True,
        "showYAxisLabels": True,
        "isSynced": True,
        "xAxisVal": "timestamp",
        "followingViewWidth": WINDOW_S,
        "sidebarDimension": 240,
    }


def _stack(panels: Sequence[str], direction: str) -> Any:
    """Panels of equal size in one direction."""
    first, *others = panels
    if not others:
        return first
    return {
        "direction": direction,
        "first": first,
        "second": _stack(others, direction),
        "splitPercentage": 100 / len(panels),
    }


WRITERS = {".xml": plotjuggler, ".json": foxglove}


def main(arguments: Sequence[str]) -> int:
    """Write files for the robot of the first argument; returns the exit status."""
    if len(arguments) < 2 or any(Path(path).suffix not in WRITERS for path in arguments[1:]):
        names = "ROBOT FILE.xml (PlotJuggler) or FILE.json (Foxglove) ..."
        print(f"usage: python -m polyreach_nodes.layouts {names}", file=sys.stderr)
        return 2
    try:
        robot = load_robot(arguments[0])
        for path in map(Path, arguments[1:]):
            path.write_text(WRITERS[path.suffix](robot))
    except (RobotError, OSError) as error:
        print(f"layouts: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
