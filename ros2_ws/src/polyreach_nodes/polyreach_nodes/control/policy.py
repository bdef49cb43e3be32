"""A policy file in ONNX Runtime: physical units in, physical units out."""

import sys
from pathlib import Path

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from polyreach_description import Robot
from polyreach_description.policy_file import PolicyData, read_policy_file
from polyreach_nodes.control.contract import Contract, ContractError, check_contract, parse_contract

MAX_PERIOD_SHARE = 0.5  # of a control period, for the policy; the rest is for all else
KINEMATICS_TOLERANCE = 1e-3  # [m] between the policy's and the robot's effectors at home

Array32 = NDArray[np.float32]


class Policy:
    """One ONNX Runtime session with one thread and its input buffers.

    worst_compute_s: [s] of CPU time, the largest of random inputs when the file was loaded.
    """

    def __init__(
        self, session: ort.InferenceSession, contract: Contract, worst_compute_s: float
    ) -> None:
        self.contract = contract
        self.worst_compute_s = worst_compute_s
        joints, effectors = len(contract.joint_names), len(contract.effector_names)
        self._session = session
        self._joint_pos: Array32 = np.zeros((1, joints), np.float32)
        self._goals: Array32 = np.zeros((1, effectors, 3), np.float32)
        self._active: Array32 = np.zeros((1, effectors), np.float32)
        self._inputs = {"joint_pos": self._joint_pos, "goals": self._goals, "active": self._active}
        self._joint_vel: Array32 = np.zeros((1, joints), np.float32)
        self._effector_pos: Array32 = np.zeros((1, effectors, 3), np.float32)
        self._outputs = {"joint_vel": self._joint_vel, "effector_pos": self._effector_pos}

    @classmethod
    def load(cls, path: str | Path, robot: Robot) -> "Policy":
        """Load a policy file for a robot.

        Raises ContractError, naming metadata key or tensor, if it does not fit the robot, is not
        fit to be run (see read_policy_file), or takes more than half a control period.
        """
        file = read_policy_file(Path(path))
        session = file.session()
        contract = parse_contract(session.get_modelmeta().custom_metadata_map)
        check_contract(contract, robot)
        _check_tensors(session, contract)
        _check_time(file, contract)
        policy = cls(session, contract, file.worst_compute_s)
        policy._check_at_home(robot)
        policy._bind()
        return policy

    def compute(
        self,
        joint_pos: NDArray[np.float64],
        goals: NDArray[np.float64],
        active: NDArray[np.float64],
    ) -> tuple[Array32, Array32]:
        """Joint velocities (nu,) [rad/s or m/s] and effector positions (E, 3) [m, base frame].

        joint_pos (nu,) [rad or m], goals (E, 3) [m, base frame], active (E,) in {0, 1}.
        """
        self._joint_pos[0] = joint_pos
        self._goals[0] = goals
        self._active[0] = active
        self._session.run_with_iobinding(self._binding)
        return self._joint_vel[0].copy(), self._effector_pos[0].copy()

    def _bind(self) -> None:
        """Let the session read and write the buffers of this object, without copies."""
        self._binding = self._session.io_binding()
        for bind, buffers in (
            (self._binding.bind_input, self._inputs),
            (self._binding.bind_output, self._outputs),
        ):
            for name, buffer in buffers.items():
                bind(name, "cpu", 0, np.float32, buffer.shape, buffer.ctypes.data)

    def _check_at_home(self, robot: Robot) -> None:
        expected = robot.forward_kinematics(robot.home)
        self._joint_pos[0], self._goals[0], self._active[0] = robot.home, expected, 1.0
        joint_vel, effector_pos = (
            values[0] for values in self._session.run(tuple(self._outputs), self._inputs)
        )
        if joint_vel.shape != robot.home.shape or effector_pos.shape != expected.shape:
            raise ContractError(
                f"policy outputs: found {joint_vel.shape} and {effector_pos.shape}, "
                f"expected {robot.home.shape} and {expected.shape}"
            )
        if not np.isfinite(joint_vel).all():
            raise ContractError(
                f"policy output 'joint_vel' at home: found {joint_vel.tolist()}, expected finite"
            )
        distance = np.linalg.norm(effector_pos - expected, axis=-1).max()
        if not distance <= KINEMATICS_TOLERANCE:
            raise ContractError(
                f"policy output 'effector_pos' at home: found {effector_pos.tolist()}, "
                f"expected {expected.tolist()} [m] within {KINEMATICS_TOLERANCE:g}"
            )


def find_policy(robot_name: str, method: str = "digrad") -> Path:
    """The shipped policy of a robot, installed with package polyreach or in models/ of a checkout.

    Raises ContractError that lists the places searched.
    """
    # a pip prefix holds lib/.../polyreach_nodes and share/polyreach
    prefixes = [*Path(__file__).resolve().parents, Path(sys.prefix)]
    folders = [
        folder for prefix in prefixes if (folder := prefix / "share/polyreach/models").is_dir()
    ]
    try:
        from ament_index_python.packages import get_package_share_directory

        folders.insert(0, Path(get_package_share_directory("polyreach")) / "models")
    except (ImportError, LookupError, OSError):
        pass
    folders += [
        parent / "models"
        for parent in Path(__file__).resolve().parents
        if (parent / "ros2_ws").is_dir()
    ]
    for folder in folders:
        if (path := folder / f"{robot_name}-{method}.onnx").is_file():
            return path
    searched = ", ".join(map(str, folders))
    raise ContractError(
        f"no policy '{robot_name}-{method}.onnx' in {searched}; give the path of a policy file"
    )


def _check_time(file: PolicyData, contract: Contract) -> None:
    limit_s = MAX_PERIOD_SHARE / contract.update_rate
    if file.worst_compute_s > limit_s:
        raise ContractError(
            f"policy file '{file.path}' takes {1e3 * file.worst_compute_s:.1f} ms of CPU time for "
            f"one of {file.runs} random inputs, expected at most {1e3 * limit_s:g} ms, half a "
            "control period"
        )


def _check_tensors(session: ort.InferenceSession, contract: Contract) -> None:
    joints, effectors = len(contract.joint_names), len(contract.effector_names)
    expected = {"joint_pos": (joints,), "goals": (effectors, 3), "active": (effectors,)}
    found = {tensor.name: tensor for tensor in session.get_inputs()}
    if set(found) != set(expected):
        raise ContractError(f"policy inputs: found {sorted(found)}, expected {sorted(expected)}")
    for name, shape in expected.items():
        if tuple(found[name].shape[1:]) != shape or found[name].type != "tensor(float)":
            raise ContractError(
                f"policy input '{name}': found {found[name].type} of shape {found[name].shape}, "
                f"expected tensor(float) of shape {['batch', *shape]}"
            )
    outputs = {tensor.name for tensor in session.get_outputs()}
    if not {"joint_vel", "effector_pos"} <= outputs:
        raise ContractError(
            f"policy outputs: found {sorted(outputs)}, expected ['effector_pos', 'joint_vel']"
        )
