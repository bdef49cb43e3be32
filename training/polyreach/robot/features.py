"""Observations of a reach policy, and the features that the policy computes from them.

An observation is one flat vector of the inputs of a policy (see
polyreach_description.policy_tensors.PolicyInputs), in the order of an ObservationLayout.
"""

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from polyreach.errors import UserError
from polyreach.robot.fast_least_squares import FastLeastSquares
from polyreach.robot.fk_constants import moving_axes
from polyreach.robot.goals import GoalErrors, Goals
from polyreach.robot.kinematics import ForwardKinematics, Pose, forget
from polyreach_description import Robot
from polyreach_description.policy_tensors import (
    INPUTS,
    ORIENTED_INPUTS,
    REQUIRED_INPUTS,
    PolicyInputs,
    tensors_of_file,
)

DAMPING = 0.05  # [m], of the least-squares direction among the features
NEAR = 0.05  # [m], scale of the fine error feature
BLEND_DISTANCE = 0.2  # [m], error below which a policy blends into least squares
CONTROLLER_GAIN = 4.0  # [1/s], scale of the least-squares direction

FeatureSet = Literal["paper", "kinematic", "goals"]


Observation = PolicyInputs[Tensor]
"""The inputs of a policy for a batch of B robots; those that are not in the layout are None."""


@dataclass(frozen=True)
class ObservationLayout:
    """Which inputs of a policy are in a flat observation, and where; O numbers in all.

    inputs: names of PolicyInputs, in its order: joint_pos, goals, active and optional ones. Their
    shapes and units are those of polyreach_description.policy_tensors.INPUTS.
    """

    joints: int
    effectors: int
    inputs: tuple[str, ...]

    @staticmethod
    def of(robot: Robot, inputs: Collection[str] = REQUIRED_INPUTS) -> "ObservationLayout":
        """The layout with the required inputs, those of `inputs` and, for oriented effectors, the
        orientations, without the memory, which the policy keeps itself.
        """
        needed = {*inputs, *(ORIENTED_INPUTS if robot.oriented.any() else ())}
        names = [name for name in tensors_of_file(INPUTS, needed) if name != "memory"]
        return ObservationLayout(len(robot.joint_names), len(robot.effector_names), tuple(names))

    @property
    def shapes(self) -> list[tuple[int, ...]]:
        """The dimensions of each input after the batch."""
        return [INPUTS[name].shape(self.joints, self.effectors) for name in self.inputs]

    @property
    def size(self) -> int:
        """O."""
        return sum(map(math.prod, self.shapes))

    def flat(self, parts: Observation) -> Tensor:
        """The observation (B, O) of its parts; parts that are not in the layout are left out."""
        return torch.cat([getattr(parts, name).flatten(1) for name in self.inputs], dim=-1)

    def split(self, obs: Tensor) -> Observation:
        """The parts of observations (B, O)."""
        values = obs.split([math.prod(shape) for shape in self.shapes], dim=-1)
        rows = zip(self.inputs, values, self.shapes, strict=True)
        return Observation(**{name: value.unflatten(-1, shape) for name, value, shape in rows})


def largest_action(robot: Robot, inputs: Collection[str]) -> NDArray[np.float64]:
    """Speeds (nu,) [rad/s or m/s] of an action of 1, of a policy with these inputs.

    They are the velocity limits where the policy observes the command before, and otherwise the
    robot's lower action speeds.
    """
    return robot.joint_vel_limits if "previous_joint_vel" in inputs else robot.action_speeds


TOGETHER = "together"  # the task of every mask with more than one goal


def task_names(effectors: Sequence[str]) -> tuple[str, ...]:
    """The T tasks of a robot with E effectors: each alone, and several together; T = 1 for E = 1.

    Raises UserError if an effector has the name of the last task.
    """
    if TOGETHER in effectors:
        raise UserError(
            f"an effector is called '{TOGETHER}', but that is the task of several effectors: "
            "give it another name"
        )
    return tuple(effectors) if len(effectors) == 1 else (*effectors, TOGETHER)


def task_of(active: Tensor) -> Tensor:
    """The task of each mask, one-hot (B, T) over task_names; a mask without goals is "together".

    active: (B, E) in {0, 1}.
    """
    if active.shape[1] == 1:
        return torch.ones_like(active)
    alone = (active.sum(dim=1, keepdim=True) == 1).to(active.dtype)  # (B, 1)
    return torch.cat([active * alone, 1 - alone], dim=1)


def served_joints(active: Tensor, action_sets: Tensor) -> Tensor:
    """1 for each joint that serves an active effector, else 0: (B, nu).

    active: (B, E) in {0, 1}, action_sets: (E, nu) in {0, 1}.
    """
    return ((active @ action_sets) > 0).to(active.dtype)


def orientations(kinematics: ForwardKinematics, frames: Tensor, goals: Goals) -> list[Tensor]:
    """[Which orientations count (B, E), the goals' rotations and the effectors' (B, 9 E)], or []
    without oriented effectors.
    """
    if goals.rotation is None or goals.oriented is None:
        return []
    counts = (goals.active * goals.oriented)[..., None, None]
    rotations = goals.rotation * counts, kinematics.rotations_of(frames)
    return [goals.oriented, *(rotation.flatten(1) for rotation in rotations)]


class Features(nn.Module):
    """Base of the feature sets: `size` is the width F of the features.

    dtype: the precision of the robot's constants. inputs: those of the policy, as in an
    ObservationLayout.
    """

    def __init__(
        self,
        robot: Robot,
        dtype: torch.dtype = torch.float32,
        inputs: Collection[str] = REQUIRED_INPUTS,
    ) -> None:
        super().__init__()
        self.joints, self.effectors = len(robot.joint_names), len(robot.effector_names)
        self.layout = ObservationLayout.of(robot, inputs)
        self.observes_velocity = "previous_joint_vel" in self.layout.inputs
        self.kinematics = ForwardKinematics(robot.tree, dtype, self.unit(robot))
        self.errors = GoalErrors(robot, self.kinematics)
        self.size = 0
        limits = torch.tensor(robot.joint_vel_limits, dtype=dtype)
        self.register_buffer("joint_vel_limits", limits, persistent=False)
        self.register_load_state_dict_pre_hook(forget)

    joint_vel_limits: Tensor

    def unit(self, robot: Robot) -> NDArray[np.float64] | None:
        """Unit (nu,) of the joints' motion in the pose's Jacobian; None for 1 rad or 1 m."""
        return None

    def forward(self, obs: Tensor) -> tuple[Tensor, Pose]:
        """obs: (B, O) -> features (B, F) and the pose."""
        return self.compute(self.layout.split(obs))

    def velocity(self, parts: Observation) -> list[Tensor]:
        """[The command before (B, nu), in units of the velocity limits], or [] where the policy
        does not observe it.
        """
        if not self.observes_velocity:
            return []
        assert parts.previous_joint_vel is not None
        return [parts.previous_joint_vel / self.joint_vel_limits]

    def compute(self, parts: Observation) -> tuple[Tensor, Pose]:
        """Features (B, F) and the pose."""
        raise NotImplementedError


class PaperFeatures(Features):
    """digrad-2018, section 5: joint angles, joint positions and goal positions; besides them
    effector positions and which goals are set. The command before is added where it is observed,
    and the orientations of oriented effectors.
    """

    def __init__(
        self,
        robot: Robot,
        dtype: torch.dtype = torch.float32,
        inputs: Collection[str] = REQUIRED_INPUTS,
    ) -> None:
        super().__init__(robot, dtype, inputs)
        turns = self.effectors if self.errors.turning else 0
        self.size = (4 + self.observes_velocity) * self.joints + 7 * self.effectors + 19 * turns

    def compute(self, parts: Observation) -> tuple[Tensor, Pose]:
        """Features (B, F) and the pose."""
        joint_pos, active = parts.joint_pos, parts.active
        pose = self.kinematics(joint_pos)
        goals = parts.goals * active[..., None]
        features = [
            joint_pos,
            pose.joint.flatten(1),
            pose.effector.flatten(1),
            goals.flatten(1),
            active,
            *self.velocity(parts),
            *orientations(self.kinematics, pose.frames, self.errors.goals_of(parts)),
        ]
        return torch.cat(features, dim=-1), pose


class KinematicFeatures(Features):
    """The paper's features, scaled to order one, and directions computed from the Jacobians J_i.

    Added are the error vectors e_i, coarse and fine, the joint directions J_i^T e_i of every
    effector, and the damped least-squares velocity of all active effectors together, saturated at
    the largest action. The pose's Jacobian is in units of it. The errors and directions of oriented
    effectors include their turns, in METRES_PER_RADIAN, as R = 2 E rows instead of E.
    """

    def __init__(
        self,
        robot: Robot,
        dtype: torch.dtype = torch.float32,
        inputs: Collection[str] = REQUIRED_INPUTS,
    ) -> None:
        super().__init__(robot, dtype, inputs)
        axes = moving_axes(robot.tree)
        turning = self.errors.turning
        self.controller = FastLeastSquares(self.effectors, DAMPING, axes, CONTROLLER_GAIN, turning)
        rows = 2 * self.effectors if turning else self.effectors  # errors, turns behind positions
        low, high = torch.tensor(robot.joint_pos_limits).T
        constants = {
            "per_half_range": torch.diag(2 / (high - low)),
            "middle": -(high + low) / (high - low),
            "repeat": torch.eye(3).repeat(1, rows),  # (3, 3 R)
            "coordinates": torch.eye(rows).repeat_interleave(3, dim=1),  # (R, 3 R)
        }
        for name, value in constants.items():
            self.register_buffer(name, value.to(dtype), persistent=False)
        per_joint = 2 + rows + self.observes_velocity
        turns = 19 * self.effectors if turning else 0
        self.size = self.joints * per_joint + 7 * self.effectors + 6 * rows + turns + 1

    per_half_range: Tensor
    middle: Tensor
    repeat: Tensor
    coordinates: Tensor

    def unit(self, robot: Robot) -> NDArray[np.float64]:
        """The largest action."""
        return largest_action(robot, self.layout.inputs)

    def compute(self, parts: Observation) -> tuple[Tensor, Pose]:
        """Features (B, F) and the pose.

        The last nu + 1 features are the least-squares action and how far, from 0 to 1, the goals
        are.
        """
        joint_pos, goals, active = parts.joint_pos, parts.goals, parts.active
        pose = self.kinematics(joint_pos)
        mask = active[..., None]
        wanted = self.errors.goals_of(parts)
        jacobian = self.errors.jacobian(pose, wanted)
        error = self.errors(pose.frames, wanted)  # (B, R, 3)
        distance = error.norm(dim=-1, keepdim=True)  # (B, R, 1)
        fine = error / (distance + NEAR)
        # J_i^T e_i, with e_i saturated, in units of the action speeds
        transpose = (fine @ self.repeat * self.coordinates) @ jacobian.transpose(
            -1, -2
        )  # (B, R, nu)
        place = functional.linear(joint_pos, self.per_half_range, self.middle)  # in [-1, 1]
        velocity = self.controller(jacobian, error, wanted.mask, place)
        # 0 at the goals, 1 where an error is larger than BLEND_DISTANCE
        far = distance.amax(dim=1).clamp(max=BLEND_DISTANCE) / BLEND_DISTANCE  # (B, 1)
        features = [
            place,
            torch.cat([pose.effector, goals * mask, error, fine], dim=1).flatten(1),
            active,
            *self.velocity(parts),
            *orientations(self.kinematics, pose.frames, wanted),
            transpose.flatten(1),
            torch.tanh(velocity),
            far * far,
        ]
        return torch.cat(features, dim=-1), pose

    def least_squares(self, features: Tensor) -> Tensor:
        """The least-squares action (B, nu) among the features (B, F)."""
        return features[:, -self.joints - 1 : -1]


class GoalFeatures(Features):
    """Joint positions, goals, effectors and what is missing between them, for policies that name
    configurations: speeds do not matter to these.
    """

    def __init__(
        self,
        robot: Robot,
        dtype: torch.dtype = torch.float32,
        inputs: Collection[str] = REQUIRED_INPUTS,
    ) -> None:
        super().__init__(robot, dtype, inputs)
        low, high = torch.tensor(robot.joint_pos_limits, dtype=dtype).T
        self.register_buffer("middle", (high + low) / 2, persistent=False)
        self.register_buffer("half_range", (high - low) / 2, persistent=False)
        turns = self.effectors if self.errors.turning else 0
        self.size = self.joints + 10 * self.effectors + 22 * turns

    middle: Tensor
    half_range: Tensor

    def compute(self, parts: Observation) -> tuple[Tensor, Pose]:
        """Features (B, F) and the pose."""
        return self.compute_for(parts.joint_pos, self.errors.goals_of(parts))

    def compute_for(self, joint_pos: Tensor, goals: Goals) -> tuple[Tensor, Pose]:
        """The same for goals whose rotations are known."""
        pose = self.kinematics(joint_pos)
        mask = goals.active[..., None]
        features = [
            (joint_pos - self.middle) / self.half_range,
            (goals.position * mask).flatten(1),
            pose.effector.flatten(1),
            goals.active,
            self.errors(pose.frames, goals).flatten(1),
        ]
        features += orientations(self.kinematics, pose.frames, goals)
        return torch.cat(features, dim=-1), pose


FEATURES: dict[FeatureSet, type[PaperFeatures | KinematicFeatures | GoalFeatures]] = {
    "paper": PaperFeatures,
    "kinematic": KinematicFeatures,
    "goals": GoalFeatures,
}
