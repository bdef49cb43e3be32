"""What evaluate measures: a policy file, or a controller without learning, that drives N robots."""

import time
from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from polyreach.envs.reach.joint_limits import JointLimits
from polyreach.robot.features import CONTROLLER_GAIN, DAMPING
from polyreach.robot.goals import GoalErrors
from polyreach.robot.kinematics import ForwardKinematics
from polyreach.robot.least_squares import damped_least_squares
from polyreach.robot.onnx_policy import PolicyBatch, PolicyFile
from polyreach_description import Robot
from polyreach_description.policy_tensors import PolicyInputs

Array = NDArray[np.float64]


class Controller(Protocol):
    """Drives N robots at once; it is called in every control period."""

    def reset(self, rows: int) -> None:
        """Start with `rows` robots at rest."""

    def command(self, inputs: PolicyInputs[Array]) -> Array:
        """Joint velocities (N, nu) [rad/s or m/s]; `inputs` has no memory."""


class PolicyController:
    """A policy file."""

    def __init__(self, file: PolicyFile) -> None:
        self._file = file

    def reset(self, rows: int) -> None:
        """Start with `rows` robots at rest."""
        self._policy = PolicyBatch(self._file, rows)

    def command(self, inputs: PolicyInputs[Array]) -> Array:
        """Joint velocities (N, nu) [rad/s or m/s]."""
        return self._policy(_tensors(inputs)).joint_vel.double().numpy()


class LeastSquaresController:
    """Damped least squares on all goals together, with joints at their limits left out."""

    def __init__(self, robot: Robot) -> None:
        self._kinematics = ForwardKinematics(robot.tree, scale=robot.action_speeds)
        self._errors = GoalErrors(robot, self._kinematics)
        self._speeds = robot.action_speeds
        self._low, self._high = torch.tensor(robot.joint_pos_limits).float().T

    def reset(self, rows: int) -> None:
        """Nothing is kept between two calls."""

    @torch.no_grad()
    def command(self, inputs: PolicyInputs[Array]) -> Array:
        """Joint velocities (N, nu) [rad/s or m/s]."""
        parts = _tensors(inputs)
        goals, pose = self._errors.goals_of(parts), self._kinematics(parts.joint_pos)
        jacobian, error = self._errors.jacobian(pose, goals), self._errors(pose.frames, goals)
        place = (2.0 * parts.joint_pos - self._low - self._high) / (self._high - self._low)
        action = damped_least_squares(
            jacobian, error, goals.mask, DAMPING, place, gain=CONTROLLER_GAIN
        )
        return torch.tanh(action).double().numpy() * self._speeds


def _tensors(inputs: PolicyInputs[Array]) -> PolicyInputs[Tensor]:
    parts = inputs._asdict().items()
    return PolicyInputs(**{name: _tensor(part) for name, part in parts if part is not None})


def _tensor(values: Array) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(values, dtype=np.float32))


def command_times(controller: Controller, states: Sequence[PolicyInputs[Array]]) -> Array:
    """CPU time [s] of the command in each of these states of one robot, on one thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    times: list[float] = []
    for warm in (False, True):
        controller.reset(1)
        times = []
        for inputs in states[: None if warm else 10]:
            begin = time.process_time()
            controller.command(inputs)
            times.append(time.process_time() - begin)
    torch.set_num_threads(threads)
    return np.array(times)


Conditioner = Callable[[Array, PolicyInputs[Array]], Array]


def within_limits(robot: Robot) -> Conditioner:
    """The command (N, nu) for wanted velocities (N, nu) [rad/s or m/s]: scaled to the velocity
    limits, direction kept, and within the controller's acceleration and position limits.
    """
    limits = JointLimits(robot, torch.device("cpu"), torch.float64)

    def condition(wanted: Array, inputs: PolicyInputs[Array]) -> Array:
        excess = np.abs(wanted / robot.joint_vel_limits).max(axis=1, keepdims=True)
        before = inputs.previous_joint_vel
        assert before is not None
        parts = (wanted / np.maximum(excess, 1.0), before, inputs.joint_pos)
        return limits.apply(*(torch.from_numpy(part) for part in parts)).numpy()

    return condition
