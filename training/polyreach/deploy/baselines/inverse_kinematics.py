"""Damped least squares from many starts at once."""

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from polyreach.deploy.goal_sets import Goals
from polyreach.robot.kinematics import ForwardKinematics
from polyreach.robot.least_squares import damped_least_squares
from polyreach_description import Robot
from polyreach_description.limits import POSITION_MARGIN

Array = NDArray[np.float64]

DAMPING = 0.05  # [m]
MAX_STEP = 0.3  # share of a joint's range in one iteration


class Solutions(NamedTuple):
    """Configurations (N, S, nu) [rad or m] and their largest errors (N, S) [m]."""

    joint_pos: Array
    error: Array


class InverseKinematics:
    """Solves for joint positions at which all active effectors are at their goals.

    Goals of the kinds axis and pose are solved for their positions alone.
    """

    def __init__(self, robot: Robot, iterations: int, tolerance: float) -> None:
        """tolerance: error [m] at which a start needs no further iterations."""
        low, high = torch.tensor(robot.joint_pos_limits).T
        margin = 2.0 * POSITION_MARGIN * (high - low)  # the controller stops joints at half of it
        self._low, self._high, self._range = low + margin, high - margin, high - low
        # a step of 1 in these units is a joint's whole range
        self._kinematics = ForwardKinematics(robot.tree, torch.float64, self._range.numpy())
        self._iterations, self._tolerance = iterations, tolerance

    @torch.no_grad()
    def solve(self, starts: Array, goals: Goals) -> Solutions:
        """From starts (N, S, nu) [rad or m] within the joint limits, for the goals of N robots."""
        count, each, joints = starts.shape
        q = torch.from_numpy(starts.reshape(-1, joints).copy())
        goal = torch.from_numpy(goals.positions).repeat_interleave(each, dim=0)
        active = torch.from_numpy(goals.active).repeat_interleave(each, dim=0)
        largest = torch.full((count * each,), torch.inf, dtype=torch.float64)
        rows = torch.arange(count * each)  # that need further iterations
        for iteration in range(self._iterations + 1):
            pose = self._kinematics(q[rows])
            error = (goal[rows] - pose.effector) * active[rows, :, None]
            largest[rows] = error.norm(dim=-1).amax(dim=1)
            on = largest[rows] > self._tolerance
            if iteration == self._iterations or not on.any():
                break
            if not on.all():
                rows, error = rows[on], error[on]
                pose = type(pose)(*(part[on] for part in pose))
            q[rows] = self._next(q[rows], pose, error, active[rows])
        return Solutions(
            q.reshape(count, each, joints).numpy(), largest.reshape(count, each).numpy()
        )

    def _next(self, q: Tensor, pose: tuple[Tensor, ...], error: Tensor, active: Tensor) -> Tensor:
        place = 2.0 * (q - self._low) / (self._high - self._low) - 1.0
        step = damped_least_squares(pose, error, active, DAMPING, place)  # type: ignore[arg-type]
        step = step * (MAX_STEP / step.abs().amax(dim=1, keepdim=True)).clamp(max=1.0)
        return torch.minimum(torch.maximum(q + step * self._range, self._low), self._high)
