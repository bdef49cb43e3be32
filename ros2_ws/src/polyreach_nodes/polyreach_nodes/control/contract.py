"""What a policy file says about itself, checked against the robot that it shall drive."""

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from polyreach_description import Robot
from polyreach_description.policy_file import ContractError, check_metadata_size, parse_value
from polyreach_description.printable import MAX_SHOWN, printable

__all__ = ["Contract", "ContractError", "check_contract", "parse_contract"]

SCHEMA_VERSION = 1
ACTION_TYPE = "joint_velocity"
OBSERVATION_NAMES = ("joint_pos", "goals", "active")
TOLERANCE = 1e-6  # between a limit in the file and the robot's [rad, rad/s, ...]


@dataclass(frozen=True)
class Contract:
    """A policy file's metadata: nu joints, E effectors; SI units, radians."""

    robot: str
    joint_names: tuple[str, ...]
    effector_names: tuple[str, ...]
    base_frame: str
    update_rate: float  # [Hz]
    joint_pos_limits: NDArray[np.float64]  # (nu, 2)
    joint_vel_limits: NDArray[np.float64]  # (nu,)
    joint_acc_limits: NDArray[np.float64]  # (nu,)
    robot_sha256: str
    method: str
    metadata: dict[str, Any]  # every key, as parsed

    def to_json(self) -> str:
        """The whole metadata as one JSON object."""
        return json.dumps(self.metadata, sort_keys=True)


def parse_contract(metadata: Mapping[str, str]) -> Contract:
    """Read a policy's metadata (each value is JSON text).

    Raises ContractError if a key is missing, is no JSON, or holds another type or shape, and for
    more metadata than any policy has.
    """
    check_metadata_size(metadata)
    version = _read(metadata, "schema_version", _integer)
    if version != SCHEMA_VERSION:
        raise ContractError(_mismatch("schema_version", version, SCHEMA_VERSION))
    joint_names = _read(metadata, "joint_names", _names)
    action_type = _read(metadata, "action_type", _text)
    if action_type != ACTION_TYPE:
        raise ContractError(_mismatch("action_type", action_type, ACTION_TYPE))
    observations = _read(metadata, "observation_names", _names)
    if observations != OBSERVATION_NAMES:
        raise ContractError(
            _mismatch("observation_names", list(observations), list(OBSERVATION_NAMES))
        )
    nu = len(joint_names)
    return Contract(
        robot=_read(metadata, "robot", _text),
        joint_names=joint_names,
        effector_names=_read(metadata, "effector_names", _names),
        base_frame=_read(metadata, "base_frame", _text),
        update_rate=_read(metadata, "update_rate", _positive),
        joint_pos_limits=_read(metadata, "joint_pos_limits", _array((nu, 2))),
        joint_vel_limits=_read(metadata, "joint_vel_limits", _array((nu,))),
        joint_acc_limits=_read(metadata, "joint_acc_limits", _array((nu,))),
        robot_sha256=_read(metadata, "robot_sha256", _text),
        method=_read(metadata, "method", _text),
        metadata={key: parse_value(metadata, key) for key in metadata},
    )


def check_contract(contract: Contract, robot: Robot) -> None:
    """Raise ContractError naming the first key in which the policy does not fit the robot."""
    for key in ("robot", "base_frame", "joint_names", "effector_names"):
        expected = robot.name if key == "robot" else getattr(robot, key)
        found = getattr(contract, key)
        if found != expected:
            raise ContractError(_mismatch(key, _plain(found), _plain(expected)))
    if abs(contract.update_rate - robot.control_rate) > TOLERANCE * robot.control_rate:
        raise ContractError(_mismatch("update_rate", contract.update_rate, robot.control_rate))
    for key in ("joint_pos_limits", "joint_vel_limits", "joint_acc_limits"):
        found_array, expected_array = getattr(contract, key), getattr(robot, key)
        wrong = (
            np.abs(found_array - expected_array).reshape(len(robot.joint_names), -1).max(axis=1)
            > TOLERANCE
        )
        if wrong.any():
            joint = int(np.flatnonzero(wrong)[0])
            name = f"{key} of joint '{robot.joint_names[joint]}'"
            raise ContractError(
                _mismatch(name, found_array[joint].tolist(), expected_array[joint].tolist())
            )
    if contract.robot_sha256 != robot.sha256:
        raise ContractError(_mismatch("robot_sha256", contract.robot_sha256, robot.sha256))


def _read(metadata: Mapping[str, str], key: str, convert: Callable[[Any], Any]) -> Any:
    value = parse_value(metadata, key)
    try:
        return convert(value)
    except (ValueError, TypeError, OverflowError) as error:
        raise ContractError(_mismatch(key, value, error)) from None


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise TypeError("a text that is not empty")
    return value


def _integer(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError("an integer")
    return value


def _positive(value: Any) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 < value < math.inf:
        raise TypeError("a number above 0")
    return float(value)


def _names(value: Any) -> tuple[str, ...]:
    if (
        not isinstance(value, list)
        or not value
        or not all(isinstance(name, str) and name for name in value)
    ):
        raise TypeError("a list of names")
    if len(set(value)) != len(value):
        raise ValueError("a list of names without duplicates")
    return tuple(value)


def _array(shape: tuple[int, ...]) -> Callable[[Any], NDArray[np.float64]]:
    def convert(value: Any) -> NDArray[np.float64]:
        expected = f"finite numbers of shape {shape}"
        try:
            array = np.asarray(value)
        except ValueError:
            raise ValueError(expected) from None
        if array.shape != shape or array.dtype.kind not in "if" or not np.isfinite(array).all():
            raise ValueError(expected)
        return array.astype(np.float64)

    return convert


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _mismatch(key: str, found: Any, expected: Any) -> str:
    return f"policy metadata '{key}': found {_short(found)}, expected {_short(expected)}"


def _short(value: Any) -> str:
    return printable(value if isinstance(value, str) else str(value), MAX_SHOWN)
