"""The controller's limits on a command, for N robots at once."""

import torch
from torch import Tensor

from polyreach_description import Robot
from polyreach_description.limits import POSITION_MARGIN, REACTION_PERIODS


class JointLimits:
    """Acceleration and position limits as of polyreach_nodes.control.limits.JointLimits, which says
    why they are in this order.
    """

    def __init__(
        self, robot: Robot, device: torch.device, dtype: torch.dtype = torch.float32
    ) -> None:
        period = 1.0 / robot.control_rate  # [s]
        reaction = REACTION_PERIODS * period  # [s]
        low, high = torch.tensor(robot.joint_pos_limits, dtype=torch.float64).T
        acceleration = torch.tensor(robot.joint_acc_limits, dtype=torch.float64)
        spread = POSITION_MARGIN * (high - low)
        self._change = (acceleration * period).to(device, dtype)
        # v h + v^2 / (2 a) = d  =>  v = sqrt((a h)^2 + 2 a d) - a h
        self._base = (acceleration * reaction).to(device, dtype)
        self._square = ((acceleration * reaction) ** 2).to(device, dtype)
        self._twice = (2.0 * acceleration).to(device, dtype)
        self._middle = ((low + high) / 2).to(device, dtype)
        self._half = ((high - low) / 2 - spread).to(device, dtype)

    def apply(self, wanted: Tensor, previous: Tensor, joint_pos: Tensor) -> Tensor:
        """The command (N, nu) for `wanted` (N, nu), which is within the velocity limits, one
        control period after `previous` (N, nu), at joint_pos (N, nu).
        """
        command = torch.clamp(wanted, previous - self._change, previous + self._change)
        # room in the direction of motion: half the range less what is used of it
        room = torch.addcmul(self._half, joint_pos - self._middle, command.sign(), value=-1.0)
        bound = torch.addcmul(self._square, self._twice, room.clamp_(min=0.0)).sqrt_()
        bound.sub_(self._base)
        return torch.clamp(command, -bound, bound)
