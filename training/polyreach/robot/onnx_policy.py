"""An exported policy, run by ONNX Runtime."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from polyreach.errors import UserError
from polyreach.robot.features import split_observation
from polyreach_description import Robot
from polyreach_description.config_file import is_robot_name
from polyreach_description.policy_file import (
    ContractError,
    check_metadata_size,
    parse_value,
    read_policy_file,
)

MAX_BATCH_VALUES = 2**28  # elements that a policy file computes at once, over all robots

# observation (N, nu + 4 E) -> action (N, nu), in units of the velocity limits
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
            self.contract: dict[str, Any] = {
                key: parse_value(properties, key) for key in properties
            }
        except ContractError as error:
            raise UserError(str(error)) from None
        name = self.contract.get("robot")
        if not isinstance(name, str) or not is_robot_name(name):
            raise UserError(f"'{path}' is not a policy of polyreach: its metadata names no robot")
        self.robot_name = name
        self._rows = max(1, MAX_BATCH_VALUES // max(1, file.values))

    def __call__(self, joint_pos: Tensor, goals: Tensor, active: Tensor) -> tuple[Tensor, Tensor]:
        """(N, nu), (N, E, 3), (N, E) -> joint_vel (N, nu), effector_pos (N, E, 3)."""
        parts = joint_pos.numpy(), goals.numpy(), active.numpy()
        starts = range(0, max(1, len(joint_pos)), self._rows)
        runs = [
            self._run(*(part[start : start + self._rows] for part in parts)) for start in starts
        ]
        joint_vel, effector_pos = (np.concatenate(outputs) for outputs in zip(*runs, strict=True))
        return torch.from_numpy(joint_vel), torch.from_numpy(effector_pos)

    def _run(self, *parts: NDArray[np.float32]) -> list[NDArray[np.float32]]:
        feed = dict(zip(("joint_pos", "goals", "active"), parts, strict=True))
        try:
            return list(self.session.run(["joint_vel", "effector_pos"], feed))
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
        """The policy as a function of the environment's observation."""
        limit = torch.tensor(robot.joint_vel_limits, dtype=torch.float32)

        def act(obs: Tensor) -> Tensor:
            joint_vel, _ = self(
                *(part.contiguous() for part in split_observation(obs, len(robot.effector_names)))
            )
            return joint_vel / limit

        return act
