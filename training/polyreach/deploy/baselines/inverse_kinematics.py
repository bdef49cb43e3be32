"""Damped least squares from many starts at once."""

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from polyreach.deploy.goal_sets import Goals
from polyreach.robot.goals import GoalErrors
from polyreach.robot.goals import Goals as TensorGoals
from polyreach.robot.kinematics import ForwardKinematics
from polyreach.robot.least_squares import damped_least_squares
from polyreach_description import Robot
from polyreach_description.limits import POSITION_MARGIN
from polyreach_description.policy_tensors import PolicyInputs

Array = NDArray[np.float64]

DAMPING = 0.05  # [m]
MAX_STEP = 0.3  # share of a joint's range in one iteration


class Solutions(NamedTuple):
    """Configurations (N, S, nu) [rad or m] and their largest errors (N, S) [m]; an error combines
    those of the position and of the orientation, see GoalErrors.size in polyreach.robot.goals.
    """

    joint_pos: Array
    error: Array


class InverseKinematics:
    """Solves for joint positions at which all active effectors are at their goals."""

    def __init__(self, robot: Robot, iterations: int, tolerance: float) -> None:
        """tolerance: error [m] at which a start needs no further iterations."""
        low, high = torch.tensor(robot.joint_pos_limits).T
        margin = 2.0 * POSITION_MARGIN * (high - low)  # the controller stops joints at half of it
        self._low, self._high, self._range = low + margin, high - margin, high - low
        # a step of 1 in these units is a joint's whole range
        self._kinematics = ForwardKinematics(robot.tree, torch.float64, self._range.numpy())
        self._errors = GoalErrors(robot, self._kinematics)
        self._iterations, self._tolerance = iterations, tolerance

    @torch.no_grad()
    def solve(self, starts: Array, goals: Goals) -> Solutions:
        """From starts (N, S, nu) [rad or m] within the joint limits, for the goals of N robots."""
        count, each, joints = starts.shape
        q = torch.from_numpy(starts.reshape(-1, joints).copy())
        arrays = (goals.positions, goals.active, goals.orientations)
        position, active, orientation = map(torch.tensor, arrays)
        inputs = PolicyInputs(
            q, position, active, goal_orientations=orientation, oriented=torch.ones_like(active)
        )
        wanted = self._errors.goals_of(inputs).repeat(each)
        largest = torch.full((count * each,), torch.inf, dtype=torch.float64)
        rows = torch.arange(count * each)  # that need further iterations
        for iteration in range(self._iterations + 1):
            frames = self._kinematics.frames_at(q[rows])
            error = self._errors(frames, wanted)
            largest[rows] = self._errors.size(error).amax(dim=1)
            on = largest[rows] > self._tolerance
            if iteration == self._iterations or not on.any():
                break
            if not on.all():
                rows, frames, error = rows[on], frames[on], error[on]
                wanted = wanted.map(lambda part, on=on: part[on])  # type: ignore[misc]
            q[rows] = self._next(q[rows], frames, error, wanted)
        return Solutions(
            q.reshape(count, each, joints).numpy(), largest.reshape(count, each).numpy()
        )

    def _next(self, q: Tensor, frames: Tensor, error: Tensor, goals: TensorGoals) -> Tensor:
        jacobian = self._errors.jacobian(self._kinematics.pose(frames), goals)
        place = 2.0 * (q - self._low) / (self._high - self._low) - 1.0
        step = damped_least_squares(jacobian, error, goals.mask, DAMPING, place)
        step = step * (MAX_STEP / step.abs().amax(dim=1, keepdim=True)).clamp(max=1.0)
        return torch.minimum(torch.maximum(q + step * self._range, self._low), self._high)
