"""Policy files and parameters that are wrong, given to a running controller."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
from domains import reserved_domain
from onnx import TensorProto, helper
from rig import FakeHardware, launching, move, set_parameter, with_metadata
from scenarios import Probe

from polyreach_description import Robot, load_robot
from polyreach_description.contract import robot_metadata
from polyreach_description.policy_search import find_policy

pytestmark = pytest.mark.fault
SHIPPED = find_policy("planar8")
WITHOUT_SEARCH = find_policy("planar8", "digrad")  # loads fast; inputs that all files have
Make = Callable[[Path], object]


PLANAR8 = robot_metadata(load_robot("planar8"))


def metadata(**changes: object) -> Make:
    return lambda path: with_metadata(WITHOUT_SEARCH, path, **{**PLANAR8, **changes})


def raw_metadata(key: str, text: str) -> Make:
    """Metadata that are not JSON, or that no JSON writer produces."""

    def make(path: Path) -> None:
        model = onnx.load(WITHOUT_SEARCH)
        texts = {pair.key: pair.value for pair in model.metadata_props}
        texts |= {name: json.dumps(value) for name, value in PLANAR8.items()} | {key: text}
        del model.metadata_props[:]
        onnx.helper.set_model_props(model, texts)
        onnx.save(model, path)

    return make


def sparse(size: int) -> Make:
    def make(path: Path) -> None:
        with path.open("wb") as file:
            file.truncate(size)

    return make


def constant_output(value: float, outputs: int = 8) -> Make:
    """A policy of the right names whose velocities are always `value`."""

    def make(path: Path) -> None:
        def tensor(name: str, shape: list[object]) -> onnx.ValueInfoProto:
            return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)

        velocity = helper.make_tensor("v", TensorProto.FLOAT, [1, outputs], [value] * outputs)
        home = load_robot("planar8")
        positions = home.forward_kinematics(home.home).ravel().tolist()
        effectors = helper.make_tensor("e", TensorProto.FLOAT, [1, 3, 3], positions)
        graph = helper.make_graph(
            [
                helper.make_node("Identity", ["v"], ["joint_vel"]),
                helper.make_node("Identity", ["e"], ["effector_pos"]),
            ],
            "constant",
            [
                tensor("joint_pos", ["b", 8]),
                tensor("goals", ["b", 3, 3]),
                tensor("active", ["b", 3]),
            ],
            [tensor("joint_vel", [1, outputs]), tensor("effector_pos", [1, 3, 3])],
            [velocity, effectors],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
        texts = {pair.key: pair.value for pair in onnx.load(WITHOUT_SEARCH).metadata_props}
        onnx.helper.set_model_props(model, texts)
        onnx.save(model, path)

    return make


def rename(graph: onnx.GraphProto, old: str, new: str) -> None:
    """Rename a value of a graph, in its branches too; the graph's outputs keep their names."""
    for node in graph.node:
        for names in (node.input, node.output):
            names[:] = [new if name == old else name for name in names]
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH:
                rename(attribute.g, old, new)


def moved_kinematics(path: Path) -> None:
    """The graph of a shipped policy with its effectors' places moved by 2 mm."""
    model = onnx.load(WITHOUT_SEARCH)
    rename(model.graph, "effector_pos", "true_effector_pos")
    shift = helper.make_tensor("shift", TensorProto.FLOAT, [3], [0.0, 0.002, 0.0])
    model.graph.initializer.append(shift)
    add = helper.make_node("Add", ["true_effector_pos", "shift"], ["effector_pos"])
    model.graph.node.append(add)
    onnx.save(model, path)


WRONG_TYPES: dict[str, object] = {
    "robot": 5,
    "joint_names": "shared_1",
    "effector_names": [1, 2, 3],
    "base_frame": None,
    "update_rate": "fast",
    "joint_pos_limits": [[0, 1]],
    "joint_vel_limits": {"shared_1": 2.0},
    "joint_acc_limits": [[20.0] * 8],
    "inputs": [],
    "effector_goals": "pose",
    "memory_size": "none",
    "action_type": "joint_torque",
    "robot_sha256": 12,
    "method": [],
}
POLICIES: dict[str, tuple[Make, str]] = {
    "no file": (lambda path: None, "does not exist"),
    "a folder": (lambda path: path.mkdir(), "does not exist"),
    "an empty file": (lambda path: path.write_bytes(b""), "is not an ONNX model"),
    "a text": (lambda path: path.write_text("policy"), "is not an ONNX model"),
    "noise": (
        lambda path: path.write_bytes(np.random.default_rng(0).bytes(100_000)),
        "is not an ONNX model",
    ),
    "cut off at half": (
        lambda path: path.write_bytes(SHIPPED.read_bytes()[: SHIPPED.stat().st_size // 2]),
        "is not an ONNX model",
    ),
    "cut off by one byte": (
        lambda path: path.write_bytes(SHIPPED.read_bytes()[:-1]),
        "is not an ONNX model",
    ),
    "4 GiB": (sparse(4 * 2**30), "has 4294967296 bytes, expected at most 67108864"),
    "another robot's": (
        lambda path: path.write_bytes(find_policy("humanoid27").read_bytes()),
        "'robot': found humanoid27, expected planar8",
    ),
    "a newer schema": (metadata(schema_version=3), "'schema_version': found 3, expected 1 or 2"),
    "a schema that is text": (metadata(schema_version="1"), "'schema_version': found 1, expected"),
    "a schema that is true": (metadata(schema_version=True), "'schema_version': found True"),
    "no schema": (metadata(schema_version=None), "'schema_version': missing"),
    **{
        f"wrong type of {key}": (metadata(**{key: value}), f"'{key}': found")
        if value is not None
        else (raw_metadata(key, "null"), f"'{key}': found None")
        for key, value in WRONG_TYPES.items()
    },
    "metadata that is no JSON": (raw_metadata("robot", "{planar8"), "'robot': found {planar8"),
    "NaN in the limits": (
        raw_metadata("joint_vel_limits", "[NaN, 1, 1, 1, 1, 1, 1, 1]"),
        "NaN is no number",
    ),
    "a rate of 1e999": (raw_metadata("update_rate", "1e999"), "'update_rate': found inf"),
    "a megabyte of metadata": (
        metadata(robot="x" * 2_000_000),
        "bytes, expected at most 1048576 (the largest value: 2000002 bytes of 'robot')",
    ),
    "100,000 nested lists": (
        raw_metadata("joint_names", "[" * 100_000 + "]" * 100_000),
        "'joint_names': found [[[",
    ),
    "a number of 100,000 digits": (
        raw_metadata("update_rate", "9" * 100_000),
        "'update_rate': found 999",
    ),
    "control characters": (
        metadata(robot="planar8\x1b[2J"),
        "'robot': found planar8\\x1b[2J, expected planar8",
    ),
    "joints in another order": (
        metadata(joint_names=list(reversed(load_robot("planar8").joint_names))),
        "'joint_names': found ['right_3'",
    ),
    "a joint twice": (metadata(joint_names=["shared_1"] * 8), "without duplicates"),
    "a larger velocity limit": (
        metadata(joint_vel_limits=[4.0, 2.0, *[2.5] * 6]),
        "'joint_vel_limits of joint 'shared_1'': found 4.0, expected 2.0",
    ),
    "another rate": (metadata(update_rate=100.0), "'update_rate': found 100.0, expected 50.0"),
    "another model of the robot": (metadata(robot_sha256="0" * 64), "'robot_sha256': found 0000"),
    "another action": (
        metadata(action_type="joint_position"),
        "'action_type': found joint_position, expected joint_velocity",
    ),
    "kinematics that are 2 mm off": (moved_kinematics, "'effector_pos' at home"),
    "velocities that are NaN": (constant_output(np.nan), "'joint_vel' at home: found [nan"),
    "velocities of seven joints": (constant_output(0.0, 7), "policy outputs: found (7,)"),
}


@pytest.fixture(scope="module")
def idle(planar8: Robot, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Probe]:
    """A controller that is not configured."""
    folder = tmp_path_factory.mktemp("files")
    with reserved_domain() as domain, launching(folder, domain) as start:
        start("controller_node", {"robot": "planar8"})
        with Probe(planar8, domain) as probe:
            yield probe


@pytest.mark.parametrize("case", POLICIES)
def test_wrong_policy_files_are_refused_with_the_reason(
    idle: Probe, case: str, tmp_path: Path
) -> None:
    make, reason = POLICIES[case]
    path = tmp_path / "policy.onnx"
    make(path)
    assert set_parameter(idle, "policy", str(path)) == (True, "")
    assert not idle.transition("configure")
    assert idle.lifecycle_state() == "unconfigured"
    idle.wait(lambda: reason in idle.message, f"status says: {reason}")
    assert len(idle.message) < 2000
    assert not idle.commands


def test_a_good_policy_is_accepted_after_all_bad_ones(idle: Probe) -> None:
    assert set_parameter(idle, "policy", str(SHIPPED)) == (True, "")
    assert idle.transition("configure")
    assert idle.transition("cleanup")


NAN = float("nan")
PARAMETERS: list[tuple[str, object, str]] = [
    ("speed_scale", 1.01, "range"),
    ("speed_scale", -0.01, "range"),
    ("speed_scale", NAN, "range"),
    ("speed_scale", "fast", "type"),
    ("tolerance", 0.0, "range"),
    ("tolerance", 2.0, "range"),
    ("joint_state_timeout", -1.0, "range"),
    ("joint_state_timeout", 6.0, "range"),
    ("reaction_time", 0.001, "reaction_time is 0.001, but must be 0 or at least 0.01"),
    ("reaction_time", -1.0, "range"),
    ("goal_timeout", -1.0, "range"),
    ("goal_timeout", float("inf"), "range"),
    ("collision_slow_distance", 0.01, "must be 0 < stop < slow"),
    ("collision_slow_distance", NAN, "range"),
    ("collision_stop_distance", 0.5, "must be 0 < stop < slow"),
    ("collision_stop_distance", -0.1, "range"),
    ("workspace", [0.0, 0.0, 0.0, 1.0, 1.0], "workspace is [0.0, 0.0, 0.0, 1.0, 1.0], but must"),
    ("workspace", [0.0, 0.0, 0.0, 1.0, -1.0, 1.0], "must be six numbers"),
    ("workspace", [0.0, 0.0, 0.0, 1.0, NAN, 1.0], "must be six numbers"),
    ("workspace", "everywhere", "type"),
    ("record", "nowhere/at/all.mcap", "cannot be written"),
    ("record", "/nowhere/at/all.mcap", "outside of record_folder"),
    ("record", "data.txt", "ends in .mcap"),
    ("policy", str(SHIPPED), "policy cannot change while active"),
    ("robot", "humanoid27", "robot cannot change while configured"),
    ("autostart", False, "read-only"),
]


@pytest.fixture(scope="module")
def active(planar8: Robot, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Probe]:
    """A controller that holds its robot still."""
    folder = tmp_path_factory.mktemp("parameters")
    with reserved_domain() as domain, launching(folder, domain) as start:
        start(
            "controller_node",
            {"robot": "planar8", "autostart": True, "record_folder": str(folder)},
        )
        with Probe(planar8, domain) as probe:
            FakeHardware(probe)
            probe.wait_state("IDLE")
            yield probe


@pytest.mark.parametrize(
    ("name", "value", "reason"), PARAMETERS, ids=[f"{n}={v}" for n, v, _ in PARAMETERS]
)
def test_parameters_out_of_range_are_refused_and_change_nothing(
    active: Probe, name: str, value: object, reason: str
) -> None:
    taken, text = set_parameter(active, name, value)
    assert not taken
    assert reason in text.lower() if reason in ("type", "range") else reason in text
    active.wait_state("IDLE", "ACTIVE")


def test_the_controller_works_after_all_faults(active: Probe) -> None:
    move(active, 0.3)
    active.wait(lambda: active.value("reached") == "true", "the goals")
    assert json.loads(active.metadata[-1])["robot"] == "planar8"
