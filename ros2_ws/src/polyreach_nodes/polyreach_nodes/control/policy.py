"""A policy file in ONNX Runtime: physical units in, physical units out."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from polyreach_description import Robot
from polyreach_description.contract import Contract, check_contract, check_tensors, parse_contract
from polyreach_description.orientation import rotation_error
from polyreach_description.policy_file import ContractError, PolicyData, read_policy_file
from polyreach_description.policy_tensors import (
    INPUTS,
    OUTPUTS,
    PolicyInputs,
    PolicyOutputs,
    tensors_of_file,
)

MAX_PERIOD_SHARE = 0.5  # of a control period, for the policy; the rest is for everything else
KINEMATICS_TOLERANCE = 1e-3  # [m], [rad] between the policy's and the robot's effectors at home
MAX_LISTED = 8  # numbers in an error

Vector = NDArray[np.float64]
Array32 = NDArray[np.float32]


class Policy:
    """One ONNX Runtime session with one thread and its input buffers.

    worst_compute_s: [s] of CPU time, the largest of random inputs when the file was loaded.
    takes_obstacles: whether it has the input `obstacles`, and goes around them by itself.
    computed: number of calls of `compute`.
    """

    def __init__(
        self, session: ort.InferenceSession, contract: Contract, worst_compute_s: float
    ) -> None:
        self.contract = contract
        self.worst_compute_s = worst_compute_s
        self.takes_obstacles = "obstacles" in contract.inputs
        self.computed = 0
        self._session = session
        outputs = tensors_of_file(OUTPUTS, [tensor.name for tensor in session.get_outputs()])
        self._inputs = _buffers(contract, contract.inputs)
        self._outputs = _buffers(contract, outputs)

    @classmethod
    def load(cls, path: str | Path, robot: Robot) -> "Policy":
        """Load a policy file for a robot.

        Raises ContractError, naming metadata key or tensor, if it does not fit the robot, is not
        fit to be run (see read_policy_file), or takes more than MAX_PERIOD_SHARE of a control
        period.
        """
        file = read_policy_file(Path(path))
        session = file.session()
        contract = parse_contract(session.get_modelmeta().custom_metadata_map)
        check_contract(contract, robot)
        check_tensors(contract, session)
        _check_time(file, contract)
        policy = cls(session, contract, file.worst_compute_s)
        policy._check_at_home(robot)
        policy._bind()
        return policy

    def compute(self, inputs: PolicyInputs[Vector]) -> PolicyOutputs[Array32]:
        """The outputs for one robot. Shapes are those of the contract without the batch; inputs of
        the file that are None have their `fill`.
        """
        self._set_inputs(inputs)
        self._session.run_with_iobinding(self._binding)
        self.computed += 1
        return PolicyOutputs(**{name: buffer[0].copy() for name, buffer in self._outputs.items()})

    @property
    def tensors(self) -> dict[str, Array32]:
        """The inputs of the file and `joint_vel`, by name: buffers of the last `compute`, without
        the batch.
        """
        buffers = {**self._inputs, "joint_vel": self._outputs["joint_vel"]}
        return {name: buffer[0] for name, buffer in buffers.items()}

    def _set_inputs(self, inputs: PolicyInputs[Vector]) -> None:
        for name, buffer in self._inputs.items():
            value = getattr(inputs, name)
            buffer[0] = INPUTS[name].fill if value is None else value

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
        expected, orientations = robot.effector_poses(robot.home)
        self._set_inputs(
            PolicyInputs(
                joint_pos=robot.home,
                goals=expected,
                active=np.ones(len(expected)),
                previous_joint_vel=np.zeros(len(robot.home)),
                goal_orientations=orientations,
                oriented=robot.oriented.astype(np.float64),
            )
        )
        results = self._session.run(tuple(self._outputs), self._inputs)
        outputs = dict(zip(self._outputs, (values[0] for values in results), strict=True))
        shapes = [values.shape for values in outputs.values()]
        expected_shapes = [self.contract.shape(name) for name in outputs]
        if shapes != expected_shapes:
            raise ContractError(
                f"policy outputs: found {_listed(shapes)}, expected {_listed(expected_shapes)}"
            )
        effector_pos = outputs["effector_pos"]
        for name in ("joint_vel", "next_memory"):
            values = outputs.get(name, np.zeros(0))
            if not np.isfinite(values).all():
                first = ", ".join(f"{value:g}" for value in values.tolist()[:MAX_LISTED])
                raise ContractError(
                    f"policy output '{name}' at home: found [{first}], expected finite"
                )
        distance = np.linalg.norm(effector_pos - expected, axis=-1).max()
        if not distance <= KINEMATICS_TOLERANCE:
            raise ContractError(
                f"policy output 'effector_pos' at home: found {effector_pos.tolist()}, "
                f"expected {expected.tolist()} [m] within {KINEMATICS_TOLERANCE:g}"
            )
        if "effector_orientation" in outputs:
            turned = outputs["effector_orientation"]
            angle = rotation_error(turned, orientations)[robot.oriented].max(initial=0.0)
            if not angle <= KINEMATICS_TOLERANCE:
                raise ContractError(
                    f"policy output 'effector_orientation' at home: found {turned.tolist()}, "
                    f"expected {orientations.tolist()} within {KINEMATICS_TOLERANCE:g} [rad]"
                )


def _check_time(file: PolicyData, contract: Contract) -> None:
    limit_s = MAX_PERIOD_SHARE / contract.update_rate
    if file.worst_compute_s > limit_s:
        raise ContractError(
            f"policy file '{file.path}' takes {1e3 * file.worst_compute_s:.1f} ms of CPU time for "
            f"one of {file.runs} random inputs, expected at most {1e3 * limit_s:g} ms, "
            f"{MAX_PERIOD_SHARE:g} of a control period; a lower control_rate in the robot.yaml "
            "leaves more"
        )


def _buffers(contract: Contract, names: Iterable[str]) -> dict[str, Array32]:
    return {name: np.zeros((1, *contract.shape(name)), np.float32) for name in names}


def _listed(shapes: Iterable[tuple[int, ...]]) -> str:
    return " and ".join(map(str, shapes))
