"""Damped least squares on configurations: one near the goals becomes one at the goals."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from polyreach.robot.fast_least_squares import FastLeastSquares
from polyreach.robot.fk_constants import moving_axes
from polyreach.robot.goals import GoalErrors, Goals
from polyreach.robot.kinematics import ForwardKinematics, forget
from polyreach_description import Robot
from polyreach_description.limits import POSITION_MARGIN

DAMPING = 0.05  # [m]
LONGEST_STEP = 0.25  # [m], error of an effector beyond which a step does not grow


class Refinement(nn.Module):
    """Moves configurations towards goals, within the limits that a controller keeps.

    Steps are of least norm in units of what each joint moves in a second at its velocity limit.
    """

    def __init__(self, robot: Robot) -> None:
        super().__init__()
        self.kinematics = ForwardKinematics(robot.tree, scale=robot.joint_vel_limits)
        self.errors = GoalErrors(robot, self.kinematics)
        self.solver = FastLeastSquares(
            len(robot.effector_names),
            DAMPING,
            moving_axes(robot.tree),
            turning=self.errors.turning,
        )
        low, high = torch.tensor(robot.joint_pos_limits).T
        margin = POSITION_MARGIN * (high - low)  # where the controller stops joints
        low, high = low + margin, high - margin
        constants = {
            "low": low,
            "high": high,
            "per_half_range": torch.diag(2 / (high - low)),
            "middle": -(high + low) / (high - low),
            "speeds": torch.tensor(robot.joint_vel_limits),
        }
        for name, value in constants.items():
            self.register_buffer(name, value.float(), persistent=False)
        self.register_load_state_dict_pre_hook(forget)

    low: Tensor
    high: Tensor
    per_half_range: Tensor
    middle: Tensor
    speeds: Tensor

    def place(self, joint_pos: Tensor) -> Tensor:
        """Joint positions (B, nu) as shares of half their range from its middle: [-1, 1] is what a
        controller keeps.
        """
        return functional.linear(joint_pos, self.per_half_range, self.middle)

    def joint_pos(self, place: Tensor) -> Tensor:
        """Joint positions (..., nu) [rad or m] of places (..., nu) in [-1, 1]."""
        return (self.high + self.low) / 2 + place * ((self.high - self.low) / 2)

    def forward(self, joint_pos: Tensor, goals: Goals, steps: int) -> Tensor:
        """Configurations (B, nu) after `steps` steps from joint_pos (B, nu) [rad or m]."""
        for _ in range(steps):
            joint_pos, _ = self.step(joint_pos, goals)
        return joint_pos

    def step(self, joint_pos: Tensor, goals: Goals) -> tuple[Tensor, Tensor]:
        """Configurations (B, nu) after a step from joint_pos (B, nu) [rad or m], and the errors
        (B, E or 2 E, 3) before it.
        """
        pose = self.kinematics(joint_pos)
        jacobian = self.errors.jacobian(pose, goals)
        error = self.errors(pose.frames, goals)
        length = error.norm(dim=-1, keepdim=True).clamp(min=LONGEST_STEP)
        limited = error * (LONGEST_STEP / length)
        step = self.solver(jacobian, limited, goals.mask, self.place(joint_pos))
        moved = joint_pos + step * self.speeds
        return torch.minimum(torch.maximum(moved, self.low), self.high), error
