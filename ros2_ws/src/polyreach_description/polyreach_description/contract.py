"""The contract between training and the robot: the metadata of a policy file, and what is checked.

A policy file is an ONNX graph. Its tensors are those of policy_tensors.py, its metadata that of
PolicyMetadata, each value as JSON. The metadata's `inputs` lists the inputs of the file, which
alone are fed.

Schema 1 has the three inputs that are not optional, listed as `observation_names`, and no effector
whose goal has an orientation; its files still load.
"""

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Required, TypedDict

import numpy as np
from numpy.typing import NDArray

from polyreach_description.config_file import GOAL_KINDS
from polyreach_description.metadata_values import (
    array,
    choices,
    integer,
    mismatch,
    names,
    positive,
    read_value,
    text,
)
from polyreach_description.policy_file import ContractError, check_metadata_size, parse_value
from polyreach_description.policy_tensors import (
    INPUTS,
    MAX_MEMORY,
    ORIENTED_INPUTS,
    OUTPUTS,
    REQUIRED_INPUTS,
    tensors_of_file,
)
from polyreach_description.robot import Robot

if TYPE_CHECKING:
    import onnxruntime as ort

SCHEMA_VERSION = 2  # written; LEGAL_VERSIONS are read
LEGAL_VERSIONS = (1, 2)
ACTION_TYPE = "joint_velocity"
TOLERANCE = 1e-6  # between a limit in the file and the robot's [rad, rad/s, ...]


class PolicyMetadata(TypedDict, total=False):
    """The metadata of a policy file: nu joints, E effectors."""

    # what the controller compares with its robot
    schema_version: Required[int]
    robot: Required[str]
    joint_names: Required[list[str]]
    effector_names: Required[list[str]]
    base_frame: Required[str]
    update_rate: Required[float]  # [Hz]
    action_type: Required[str]
    joint_pos_limits: Required[list[list[float]]]  # (nu, 2) [rad or m]
    joint_vel_limits: Required[list[float]]  # (nu,) [rad/s or m/s]
    joint_acc_limits: Required[list[float]]  # (nu,) [rad/s^2 or m/s^2]
    inputs: Required[list[str]]  # of the file; `observation_names` in schema 1
    effector_goals: Required[list[str]]  # (E,) position, axis or pose
    robot_sha256: Required[str]
    memory_size: int  # numbers that the policy keeps from one period to the next
    # how the policy was trained
    method: str
    method_paper: str
    training: dict[str, Any]  # steps, updates, seeds, git commit, duration, configuration
    evaluation: dict[str, Any]  # as returned by evaluate_policy; empty before the evaluation
    task_names: list[str]  # of a policy conditioned on the task


def robot_metadata(
    robot: Robot, inputs: Collection[str] = REQUIRED_INPUTS, memory_size: int = 0
) -> PolicyMetadata:
    """The metadata of a policy for `robot` with these inputs, without that of its training."""
    return {
        "schema_version": SCHEMA_VERSION,
        "robot": robot.name,
        "joint_names": list(robot.joint_names),
        "effector_names": list(robot.effector_names),
        "base_frame": robot.base_frame,
        "update_rate": robot.control_rate,
        "action_type": ACTION_TYPE,
        "joint_pos_limits": robot.joint_pos_limits.tolist(),
        "joint_vel_limits": robot.joint_vel_limits.tolist(),
        "joint_acc_limits": robot.joint_acc_limits.tolist(),
        "inputs": tensors_of_file(INPUTS, inputs),
        "effector_goals": list(robot.effector_goals),
        "memory_size": memory_size,
        "robot_sha256": robot.sha256,
    }


@dataclass(frozen=True)
class Contract:
    """The checked metadata of a policy file: nu joints, E effectors; SI units, radians."""

    robot: str
    joint_names: tuple[str, ...]
    effector_names: tuple[str, ...]
    base_frame: str
    update_rate: float  # [Hz]
    joint_pos_limits: NDArray[np.float64]  # (nu, 2)
    joint_vel_limits: NDArray[np.float64]  # (nu,)
    joint_acc_limits: NDArray[np.float64]  # (nu,)
    inputs: tuple[str, ...]
    effector_goals: tuple[str, ...]  # (E,) position, axis or pose
    memory_size: int
    robot_sha256: str
    method: str
    metadata: dict[str, Any]  # every key, as parsed

    def shape(self, tensor: str) -> tuple[int, ...]:
        """Shape after the batch of an input or output."""
        sizes = len(self.joint_names), len(self.effector_names), self.memory_size
        return (INPUTS | OUTPUTS)[tensor].shape(*sizes)

    def to_json(self) -> str:
        """The whole metadata as one JSON object."""
        return json.dumps(self.metadata, sort_keys=True)


def parse_contract(metadata: Mapping[str, str]) -> Contract:
    """Read a policy's metadata (each value is JSON text).

    Raises ContractError if a key is missing, is no JSON, or holds another type or shape, and for
    more metadata than any policy has.
    """
    check_metadata_size(metadata)
    version = read_value(metadata, "schema_version", integer)
    if version not in LEGAL_VERSIONS:
        legal = " or ".join(map(str, LEGAL_VERSIONS))
        raise ContractError(mismatch("schema_version", version, legal))
    joint_names = read_value(metadata, "joint_names", names)
    action_type = read_value(metadata, "action_type", text)
    if action_type != ACTION_TYPE:
        raise ContractError(mismatch("action_type", action_type, ACTION_TYPE))
    effector_names = read_value(metadata, "effector_names", names)
    inputs, effector_goals, memory_size = _read_inputs(metadata, version, len(effector_names))
    nu = len(joint_names)
    return Contract(
        robot=read_value(metadata, "robot", text),
        joint_names=joint_names,
        effector_names=effector_names,
        base_frame=read_value(metadata, "base_frame", text),
        update_rate=read_value(metadata, "update_rate", positive),
        joint_pos_limits=read_value(metadata, "joint_pos_limits", array((nu, 2))),
        joint_vel_limits=read_value(metadata, "joint_vel_limits", array((nu,))),
        joint_acc_limits=read_value(metadata, "joint_acc_limits", array((nu,))),
        inputs=inputs,
        effector_goals=effector_goals,
        memory_size=memory_size,
        robot_sha256=read_value(metadata, "robot_sha256", text),
        method=read_value(metadata, "method", text),
        metadata={key: parse_value(metadata, key) for key in metadata},
    )


def _read_inputs(
    metadata: Mapping[str, str], version: int, effectors: int
) -> tuple[tuple[str, ...], tuple[str, ...], int]:
    """The inputs of the file, the kind of goal of each effector, and the size of the memory."""
    key = "observation_names" if version == 1 else "inputs"
    inputs: tuple[str, ...] = read_value(metadata, key, names)
    expected = list(REQUIRED_INPUTS) if version == 1 else tensors_of_file(INPUTS, inputs)
    if list(inputs) != expected:
        raise ContractError(mismatch(key, list(inputs), expected))
    if version == 1:
        return inputs, ("position",) * effectors, 0
    goals = read_value(metadata, "effector_goals", choices(GOAL_KINDS, effectors, "effectors"))
    if any(goal != "position" for goal in goals) and not {*ORIENTED_INPUTS} <= {*inputs}:
        needed = tensors_of_file(INPUTS, {*inputs, *ORIENTED_INPUTS})
        raise ContractError(mismatch("inputs", list(inputs), f"{needed} for {list(goals)}"))
    memory_size = read_value(metadata, "memory_size", integer) if "memory_size" in metadata else 0
    low, high = (1, MAX_MEMORY) if "memory" in inputs else (0, 0)
    if not low <= memory_size <= high:
        legal = f"{low} to {high}" if high else "0 without the input 'memory'"
        raise ContractError(mismatch("memory_size", memory_size, legal))
    return inputs, goals, memory_size


def check_contract(contract: Contract, robot: Robot) -> None:
    """Raise ContractError naming the first key in which the policy does not fit the robot."""
    for key in ("robot", "base_frame", "joint_names", "effector_names", "effector_goals"):
        expected = robot.name if key == "robot" else getattr(robot, key)
        value = getattr(contract, key)
        if value != expected:
            raise ContractError(mismatch(key, _plain(value), _plain(expected)))
    if abs(contract.update_rate - robot.control_rate) > TOLERANCE * robot.control_rate:
        raise ContractError(mismatch("update_rate", contract.update_rate, robot.control_rate))
    for key in ("joint_pos_limits", "joint_vel_limits", "joint_acc_limits"):
        limits, robot_limits = getattr(contract, key), getattr(robot, key)
        difference = np.abs(limits - robot_limits).reshape(len(robot.joint_names), -1)
        wrong = np.flatnonzero(difference.max(axis=1) > TOLERANCE)
        if len(wrong):
            joint = int(wrong[0])
            name = f"{key} of joint '{robot.joint_names[joint]}'"
            raise ContractError(
                mismatch(name, limits[joint].tolist(), robot_limits[joint].tolist())
            )
    if contract.robot_sha256 != robot.sha256:
        raise ContractError(mismatch("robot_sha256", contract.robot_sha256, robot.sha256))


def check_tensors(contract: Contract, session: "ort.InferenceSession") -> None:
    """Raise ContractError naming the first tensor in which the graph differs from the contract."""
    inputs = {tensor.name: tensor for tensor in session.get_inputs()}
    if set(inputs) != set(contract.inputs):
        raise ContractError(
            f"policy inputs: found {sorted(inputs)}, expected {sorted(contract.inputs)}"
        )
    for name in contract.inputs:
        shape, tensor = contract.shape(name), inputs[name]
        if tuple(tensor.shape[1:]) != shape or tensor.type != "tensor(float)":
            raise ContractError(
                f"policy input '{name}': found {tensor.type} of shape {tensor.shape}, "
                f"expected tensor(float) of shape {['batch', *shape]}"
            )
    outputs = {tensor.name for tensor in session.get_outputs()}
    expected = tensors_of_file(OUTPUTS, ("next_memory",) if contract.memory_size else ())
    if not outputs.issuperset(expected):
        raise ContractError(f"policy outputs: found {sorted(outputs)}, expected {sorted(expected)}")


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
