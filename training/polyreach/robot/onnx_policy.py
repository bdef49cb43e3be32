"""An exported policy, run by ONNX Runtime."""

from collections.abc import Callable
from pathlib import Path
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from polyreach.errors import UserError
from polyreach.robot.features import ObservationLayout
from polyreach_description import Robot
from polyreach_description.config_file import is_robot_name
from polyreach_description.contract import PolicyMetadata
from polyreach_description.policy_file import (
    ContractError,
    check_metadata_size,
    parse_value,
    read_policy_file,
)
from polyreach_description.policy_tensors import (
    INPUTS,
    OUTPUTS,
    PolicyInputs,
    PolicyOutputs,
    tensors_of_file,
)

OBSERVED = ("previous_joint_vel",)  # besides the required inputs, where policy files are played
MAX_BATCH_VALUES = 2**28  # elements that a policy file computes at once, over all robots

# observation (N, O) -> action (N, nu), in units of the velocity limits
Act = Callable[[Tensor], Tensor]


class PolicyFile:
    """A policy file of a robot; call it with a batch of states and goals."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            file = read_policy_file(path)
            self.session = file.session()
            properties = self.session.get_modelmeta().custom_metadata_map
            check_metadata_size(properties)
            self.contract = cast(
                PolicyMetadata, {key: parse_value(properties, key) for key in properties}
            )
        except ContractError as error:
            raise UserError(str(error)) from None
        name = self.contract.get("robot")
        if not isinstance(name, str) or not is_robot_name(name):
            raise UserError(f"'{path}' is not a policy of polyreach: its metadata names no robot")
        self.robot_name = name
        names = [tensor.name for tensor in self.session.get_inputs()]
        self.inputs = tensors_of_file(INPUTS, names)
        names = [tensor.name for tensor in self.session.get_outputs()]
        self.outputs = tensors_of_file(OUTPUTS, names)
        shapes = {tensor.name: tensor.shape for tensor in self.session.get_inputs()}
        self.memory_size = int(shapes["memory"][1]) if "memory" in shapes else 0
        # a search is computed for all rows of a batch or for none, and one row seldom needs it
        self._rows = 1 if self.memory_size else max(1, MAX_BATCH_VALUES // max(1, file.values))

    def __call__(self, inputs: PolicyInputs[Tensor]) -> PolicyOutputs[Tensor]:
        """inputs: of N robots, each (N, ...). Those that the file does not declare are left out;
        those of the file that are None have their `fill`.
        """
        parts = {name: self._array(inputs, name) for name in self.inputs}
        starts = range(0, max(1, len(inputs.joint_pos)), self._rows)
        runs = [
            self._run({name: part[start : start + self._rows] for name, part in parts.items()})
            for start in starts
        ]
        outputs = zip(self.outputs, zip(*runs, strict=True), strict=True)
        return PolicyOutputs(
            **{name: torch.from_numpy(np.concatenate(values)) for name, values in outputs}
        )

    def _array(self, inputs: PolicyInputs[Tensor], name: str) -> NDArray[np.float32]:
        value: Tensor | None = getattr(inputs, name)
        if value is None:
            spec = INPUTS[name]
            shape = spec.shape(inputs.joint_pos.shape[1], inputs.goals.shape[1], self.memory_size)
            value = torch.tensor(spec.fill).expand(len(inputs.joint_pos), *shape)
        return value.contiguous().numpy()

    def _run(self, feed: dict[str, NDArray[np.float32]]) -> list[NDArray[np.float32]]:
        try:
            return list(self.session.run(self.outputs, feed))
        except Exception as error:  # onnxruntime's errors have no common base class
            reason = " ".join(str(error).split())[:300]
            raise UserError(f"policy file '{self.path}' does not run: {reason}") from None

    def check(self, robot: Robot) -> None:
        """Raise UserError if this policy is not for `robot`."""
        if self.contract.get("robot_sha256") != robot.sha256:
            raise UserError(
                f"the policy is for robot '{self.robot_name}' with robot_sha256 "
                f"{self.contract.get('robot_sha256')!r}, but robot '{robot.name}' has "
                f"{robot.sha256!r}"
            )

    def actions(self, robot: Robot) -> Act:
        """The policy as a function of observations with the command before, without memory."""
        limit = torch.tensor(robot.joint_vel_limits, dtype=torch.float32)
        layout = ObservationLayout.of(robot, OBSERVED)

        def act(obs: Tensor) -> Tensor:
            return self(layout.split(obs)).joint_vel / limit

        return act


class PolicyBatch:
    """A policy file that drives N robots, with the memory (N, M) of each between its calls."""

    def __init__(self, file: PolicyFile, count: int) -> None:
        self.file = file
        self.memory = torch.zeros(count, file.memory_size)

    def reset(self, rows: Tensor | slice = slice(None)) -> None:
        """Forget what the policy keeps of these robots, by default of all; rows: indices or mask
        (N,).
        """
        self.memory[rows] = 0.0

    def __call__(self, inputs: PolicyInputs[Tensor]) -> PolicyOutputs[Tensor]:
        """inputs: of the N robots, each (N, ...), without `memory`."""
        outputs = self.file(inputs._replace(memory=self.memory))
        if outputs.next_memory is not None:
            self.memory = outputs.next_memory
        return outputs
