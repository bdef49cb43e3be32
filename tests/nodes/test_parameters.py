"""Parameters are written once: their classes, and what is made from these."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import rclpy
from domains import reserved_domain
from rclpy.node import Node
from rclpy.parameter import Parameter

from polyreach_nodes.parameter_docs import main, parameter_file, table, written
from polyreach_nodes.parameter_spec import Settable, parameter, specs
from polyreach_nodes.parameters import (
    ControllerParameters,
    DemoParameters,
    ReachParameters,
    SimParameters,
    ViewParameters,
    WatchdogParameters,
)
from polyreach_nodes.ros.declare_parameters import declare_parameters, read_parameters

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "ros2_ws" / "src" / "polyreach_nodes" / "polyreach_nodes"
CLASSES = [
    *(ControllerParameters, WatchdogParameters, SimParameters),
    *(DemoParameters, ReachParameters, ViewParameters),
]
GENERATED = [*sorted((ROOT / "config").glob("*.yaml")), ROOT / "docs" / "controller.md"]
# names that code has to spell: what setting them does, even to the same value, and the robot's
# files; metadata of policies have a key 'robot', too
SPELLED = {
    "command_interface": {f"{name}.launch.py" for name in ("bringup", "controller", "demo", "sim")},
    "robot": {"controller_node.py", "contract.py"}
    | {path.name for path in (ROOT / "launch").glob("*.py")},
    "policy": {"controller_node.py"},
    "record": {"controller_node.py"},
}


@dataclass(frozen=True)
class MoreParameters(ControllerParameters):
    """One more than the controller has, in the lines that a parameter takes."""

    gain: float = parameter(1.5, "Gain of the feedback.", unit="1/s", range=(0.0, 9.0))


@pytest.fixture
def node() -> Iterator[Node]:
    context = rclpy.Context()
    with reserved_domain() as domain:
        rclpy.init(context=context, domain_id=domain)
        node = Node("parameters", context=context, start_parameter_services=False)
        yield node
        node.destroy_node()
        rclpy.shutdown(context=context)


def spelling(name: str) -> set[str]:
    """Files of controller and launch that hold a text equal to a parameter's name."""
    paths = [
        PACKAGE / "controller_node.py",
        PACKAGE / "launch_arguments.py",
        *(path for folder in ("control", "ros") for path in (PACKAGE / folder).glob("*.py")),
        *(ROOT / "launch").glob("*.py"),
    ]
    texts = {
        path.name: [
            n.value for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.Constant)
        ]
        for path in paths
    }
    return {file for file, values in texts.items() if name in values}


@pytest.mark.parametrize("name", [spec.name for spec in specs(ControllerParameters)])
def test_a_controller_parameter_is_spelled_in_its_class_alone(name: str) -> None:
    assert spelling(name) <= SPELLED.get(name, set())


@pytest.mark.parametrize("path", GENERATED, ids=lambda path: path.name)
def test_parameter_files_and_tables_are_as_generated(path: Path) -> None:
    assert path.read_text() == written(path), (
        "python -m polyreach_nodes.parameter_docs config/*.yaml docs/controller.md"
    )


def test_a_new_parameter_takes_one_field(node: Node) -> None:
    assert declare_parameters(node, MoreParameters) == MoreParameters()
    descriptor = node.describe_parameter("gain")
    assert descriptor.description == "[1/s] Gain of the feedback."
    (limits,) = descriptor.floating_point_range
    assert (limits.from_value, limits.to_value) == (0.0, 9.0)
    assert not node.set_parameters([Parameter("gain", value=9.5)])[0].successful
    assert node.set_parameters([Parameter("gain", value=2.5)])[0].successful
    assert read_parameters(node, MoreParameters).gain == 2.5
    assert read_parameters(node, MoreParameters, gain=3.5).gain == 3.5
    row = "| `gain` | `1.5` | 0 to 9 | 1/s | always | Gain of the feedback. |"
    assert table(MoreParameters).splitlines()[-1] == row


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
def test_declared_values_are_the_defaults_and_read_only_is_kept(node: Node, kind: type) -> None:
    assert declare_parameters(node, kind) == kind()
    for spec in specs(kind):
        descriptor = node.describe_parameter(spec.name)
        assert descriptor.read_only == (spec.settable is Settable.START)
        assert descriptor.description == spec.description
        assert spec.text.endswith("."), spec.text


def test_a_list_that_is_unset_can_be_set_at_start(node: Node) -> None:
    assert declare_parameters(node, WatchdogParameters).velocity_limits == ()
    assert read_parameters(node, WatchdogParameters, velocity_limits=[0.5]).velocity_limits == (
        0.5,
    )


def test_times_of_zero_are_control_periods() -> None:
    parameters = replace(ControllerParameters(), reaction_time=0.3).in_seconds(0.02)
    assert parameters.joint_state_timeout == pytest.approx(0.03)
    assert parameters.reaction_time == 0.3
    with pytest.raises(ValueError, match=r"reaction_time is 0.009, but must be 0 or at least 0.01"):
        replace(ControllerParameters(), reaction_time=0.009).in_seconds(0.02)


def test_distances_of_zero_are_those_of_the_robot() -> None:
    parameters = replace(ControllerParameters(), collision_slow_distance=0.3)
    resolved = parameters.with_distances(0.025, 0.01)
    assert resolved.collision_slow_distance == 0.3
    assert resolved.collision_stop_distance == 0.01
    with pytest.raises(ValueError, match=r"distance is 0.3 and .*, but they must be 0 < stop"):
        parameters.with_distances(0.9, 0.3)


@pytest.mark.parametrize(
    ("values", "complaint"),
    [
        (
            {"collision_stop_distance": 0.03, "collision_slow_distance": 0.02},
            "collision_stop_distance is 0.03 and",
        ),
        ({"workspace": (0.0, 1.0)}, r"workspace is \[0.0, 1.0\], but must be six numbers"),
        ({"workspace": (0.0, 0.0, 0.0, 1.0, float("inf"), 1.0)}, "workspace is"),
        ({"workspace": (0.0, 0.0, 0.0, 1.0, 0.0, 1.0)}, "each lowest < highest"),
    ],
)
def test_values_that_contradict_each_other_are_named(
    values: dict[str, object], complaint: str
) -> None:
    with pytest.raises(ValueError, match=complaint):
        replace(ControllerParameters(), **values).check()


def test_a_parameter_file_keeps_its_values(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("/**:\n  ros__parameters:\n    robot: mine\n    tolerance: 0.5\n")
    assert main([str(path)]) == 0
    lines = path.read_text().splitlines()
    assert "    tolerance: 0.5" in lines
    assert "    # speed_scale: 1.0" in lines
    assert lines[lines.index("    tolerance: 0.5") - 1].strip().startswith("# [m] Error below")
    assert written(path) == path.read_text()


def test_an_unknown_parameter_in_a_file_is_named() -> None:
    with pytest.raises(ValueError, match=r"unknown parameter \['speed'\] \(known: robot, policy"):
        parameter_file("/**:\n  ros__parameters:\n    robot: mine\n    speed: 1.0\n")
    with pytest.raises(ValueError, match=r"unknown node '/controller' \(known: /\*\*, "):
        parameter_file("/**:\n  ros__parameters: {robot: a}\n/controller: {}\n")


def test_launch_files_can_read_the_parameters_without_other_packages() -> None:
    """The interpreter of `ros2 launch` may have neither NumPy nor MuJoCo."""
    program = "import sys, polyreach_nodes.parameters; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    modules = done.stdout.split()
    assert "polyreach_nodes.parameter_spec" in modules
    assert not {"numpy", "mujoco", "yaml", "onnxruntime"} & set(modules)
