"""A policy file is accepted only if its metadata match the robot."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rig import metadata_of

from polyreach_description import Robot, load_robot
from polyreach_description.contract import (
    ContractError,
    check_contract,
    parse_contract,
    robot_metadata,
)
from polyreach_description.policy_tensors import INPUTS, MAX_MEMORY

ROBOT = load_robot("planar8")
REQUIRED = (
    "schema_version robot joint_names effector_names base_frame update_rate action_type "
    "joint_pos_limits joint_vel_limits joint_acc_limits inputs effector_goals method robot_sha256"
).split()
THREE = ["joint_pos", "goals", "active"]


def texts(**changes: object) -> dict[str, str]:
    return {key: json.dumps(value) for key, value in (metadata_of(ROBOT) | changes).items()}


def test_metadata_of_the_robot_passes() -> None:
    contract = parse_contract(texts())
    check_contract(contract, ROBOT)
    assert contract.joint_names == ROBOT.joint_names
    assert np.array_equal(contract.joint_pos_limits, ROBOT.joint_pos_limits)
    assert json.loads(contract.to_json()) == metadata_of(ROBOT)


@pytest.mark.parametrize("key", REQUIRED)
def test_a_missing_key_is_named(key: str) -> None:
    metadata = texts()
    del metadata[key]
    with pytest.raises(ContractError, match=f"'{key}': missing"):
        parse_contract(metadata)


@pytest.mark.parametrize(
    ("key", "value", "found", "expected"),
    [
        ("schema_version", 3, "3", "1 or 2"),
        ("schema_version", True, "True", "an integer"),
        ("action_type", "joint_torque", "joint_torque", "joint_velocity"),
        ("inputs", ["joint_pos"], "['joint_pos']", "goals"),
        ("inputs", [*THREE, "speed"], "speed", str(THREE)),
        ("inputs", [*THREE, "memory", "oriented"], "'memory', 'oriented'", "'oriented', 'memory'"),
        ("effector_goals", ["pose"] * 2, "['pose', 'pose']", "each of 3 effectors"),
        ("effector_goals", ["position", "line", "pose"], "line", "position, axis, pose"),
        ("memory_size", 5, "5", "0 without the input 'memory'"),
        ("memory_size", 2.0, "2.0", "an integer"),
        ("joint_names", ["a", "a"], "['a', 'a']", "without duplicates"),
        ("joint_names", "shared_1", "shared_1", "a list of names"),
        ("joint_names", [], "[]", "a list of names"),
        ("effector_names", [1, 2], "[1, 2]", "a list of names"),
        ("base_frame", "", "", "a text"),
        ("update_rate", 0, "0", "a number above 0"),
        ("update_rate", "50", "50", "a number above 0"),
        ("joint_vel_limits", [1.0, 2.0], "[1.0, 2.0]", "(8,)"),
        ("joint_vel_limits", ["1"] * 8, "['1'", "(8,)"),
        ("joint_vel_limits", [True] * 8, "[True", "(8,)"),
        ("joint_pos_limits", [[0, 1], [0]], "[[0, 1], [0]]", "(8, 2)"),
        ("joint_acc_limits", [1e400] * 8, "", "JSON"),
        ("joint_acc_limits", None, "None", "(8,)"),
    ],
)
def test_a_wrong_value_is_named_with_what_was_expected(
    key: str, value: object, found: str, expected: str
) -> None:
    with pytest.raises(ContractError) as error:
        parse_contract(texts(**{key: value}))
    text = str(error.value)
    assert f"'{key}'" in text
    assert found in text
    assert expected in text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "NaN",
        "[" * 100_000,
        "9" * 5000,
        "[1e999, 1]",
        '"\\ud800"',
        "[" + "1," * 600_000 + "1]",
    ],
)
@pytest.mark.parametrize("key", ["joint_vel_limits", "update_rate", "joint_names", "robot"])
def test_hostile_text_is_one_short_error(key: str, text: str) -> None:
    if (key, text) == ("robot", '"\\ud800"'):
        with pytest.raises(ContractError, match="'robot'"):
            check_contract(parse_contract(texts() | {key: text}), ROBOT)
        return
    with pytest.raises(ContractError, match=f"'{key}'") as error:
        parse_contract(texts() | {key: text})
    assert len(str(error.value)) < 1000


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(st.sampled_from(REQUIRED), json_values | st.text(max_size=20))
def test_any_value_passes_or_is_refused_by_name(key: str, value: object) -> None:
    text = value if isinstance(value, str) else json.dumps(value)
    complaint = ""
    try:
        check_contract(parse_contract(texts() | {key: text}), ROBOT)
    except ContractError as error:
        complaint = str(error)
    if complaint:
        # fewer or more joints than there are limits: the limits are named
        assert key in complaint or (key == "joint_names" and "joint_pos_limits" in complaint)
    else:
        assert key == "method" or json.loads(text) == pytest.approx(metadata_of(ROBOT)[key])


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("robot", "humanoid27"),
        ("base_frame", "world"),
        ("joint_names", list(reversed(ROBOT.joint_names))),
        ("effector_names", ["left", "right", "middle"]),
        ("update_rate", 100.0),
        ("robot_sha256", "0" * 64),
    ],
)
def test_another_robots_value_is_refused(key: str, value: object) -> None:
    with pytest.raises(ContractError) as error:
        check_contract(parse_contract(texts(**{key: value})), ROBOT)
    expected = (
        ROBOT.name
        if key == "robot"
        else ROBOT.control_rate
        if key == "update_rate"
        else getattr(ROBOT, key.removeprefix("robot_"))
    )
    assert f"'{key}'" in str(error.value)
    assert str(value) in str(error.value)
    assert str(list(expected) if isinstance(expected, tuple) else expected) in str(error.value)


@pytest.mark.parametrize("key", ["joint_pos_limits", "joint_vel_limits", "joint_acc_limits"])
def test_a_limit_that_differs_is_refused_with_its_joint(key: str) -> None:
    limits = getattr(ROBOT, key).copy()
    limits[3] *= 1.01
    with pytest.raises(ContractError, match=f"{key} of joint 'middle_1'"):
        check_contract(parse_contract(texts(**{key: limits.tolist()})), ROBOT)


def test_a_file_of_schema_1_has_three_inputs_and_goals_of_positions() -> None:
    metadata = texts(schema_version=1, observation_names=THREE)
    for key in ("inputs", "effector_goals", "memory_size"):
        del metadata[key]
    contract = parse_contract(metadata)
    check_contract(contract, ROBOT)
    assert contract.inputs == tuple(THREE)
    assert contract.effector_goals == ("position",) * 3
    assert contract.memory_size == 0
    metadata["observation_names"] = json.dumps([*THREE, "previous_joint_vel"])
    with pytest.raises(
        ContractError, match=r"'observation_names'.*expected \['joint_pos', 'goals'"
    ):
        parse_contract(metadata)


def test_inputs_of_schema_2_have_the_shapes_that_the_metadata_say() -> None:
    contract = parse_contract(texts(**robot_metadata(ROBOT, list(reversed(INPUTS)), 7)))
    assert contract.inputs == tuple(INPUTS)
    assert contract.shape("memory") == contract.shape("next_memory") == (7,)
    assert contract.shape("previous_joint_vel") == (8,)
    assert contract.shape("goal_orientations") == (3, 4)
    assert contract.shape("oriented") == (3,)


@pytest.mark.parametrize("size", [None, 0, MAX_MEMORY + 1])
def test_a_memory_needs_its_size(size: int | None) -> None:
    metadata = texts(inputs=[*THREE, "memory"], memory_size=size)
    if size is None:
        del metadata["memory_size"]
    with pytest.raises(ContractError, match=f"'memory_size': found {size or 0}, expected 1 to"):
        parse_contract(metadata)


def test_goals_with_an_orientation_need_inputs_for_it() -> None:
    goals = ["position", "pose", "axis"]
    with pytest.raises(ContractError, match="'inputs'.*'goal_orientations', 'oriented'"):
        parse_contract(texts(effector_goals=goals))
    inputs = [*THREE, "goal_orientations", "oriented"]
    contract = parse_contract(texts(effector_goals=goals, inputs=inputs))
    with pytest.raises(ContractError, match="'effector_goals': found .'position', 'pose', 'axis'"):
        check_contract(contract, ROBOT)


def test_another_robot_is_refused_by_its_name_first() -> None:
    other: Robot = load_robot("humanoid27")
    with pytest.raises(ContractError, match="'robot': found planar8, expected humanoid27"):
        check_contract(parse_contract(texts()), other)
