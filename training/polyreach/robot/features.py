"""Observations of a reach policy, and the features that the policy computes from them.

An observation is one flat vector: joint_pos (nu) [rad or m], goals (E x 3) [m, base frame], active
(E) in {0, 1}.
"""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from polyreach.errors import UserError
from polyreach.robot.fast_least_squares import FastLeastSquares
from polyreach.robot.fk_constants import moving_axes
from polyreach.robot.kinematics import ForwardKinematics, Pose, forget
from polyreach_description import Robot
from polyreach_description.contract import PolicyInputs

DAMPING = 0.05  # [m], of the least-squares direction among the features
NEAR = 0.05  # [m], scale of the fine error feature
BLEND_DISTANCE = 0.2  # [m], error below which a policy blends into least squares
CONTROLLER_GAIN = 4.0  # [1/s], scale of the least-squares direction

FeatureSet = Literal["paper", "kinematic"]


class Observation(PolicyInputs[Tensor]):
    """The inputs of a policy for a batch of B robots, as one flat vector or in parts."""

    @property
    def flat(self) -> Tensor:
        """(B, nu + 4 E)."""
        return torch.cat([self.joint_pos, self.goals.flatten(1), self.active], dim=-1)


def split_observation(obs: Tensor, effectors: int) -> Observation:
    """obs: (B, nu + 4 E)."""
    joints = obs.shape[-1] - 4 * effectors
    goals = obs[:, joints : joints + 3 * effectors].reshape(-1, effectors, 3)
    return Observation(obs[:, :joints], goals, obs[:, joints + 3 * effectors :])


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


class Features(nn.Module):
    """Base of the feature sets: `size` is the width F of the features; `dtype` is the precision
    of the constants of the robot.
    """

    def __init__(self, robot: Robot, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.joints, self.effectors = len(robot.joint_names), len(robot.effector_names)
        self.size = 0

    def forward(self, obs: Tensor) -> tuple[Tensor, Pose]:
        """obs: (B, nu + 4 E) -> features (B, F) and the pose."""
        return self.compute(split_observation(obs, self.effectors))

    def compute(self, parts: Observation) -> tuple[Tensor, Pose]:
        """Features (B, F) and the pose."""
        raise NotImplementedError


class PaperFeatures(Features):
    """digrad-2018, section 5: joint angles, joint positions and goal positions; besides them
    effector positions and which goals are set.
    """

    def __init__(self, robot: Robot, dtype: torch.dtype = torch.float32) -> None:
        super().__init__(robot, dtype)
        self.kinematics = ForwardKinematics(robot.tree, dtype)
        self.size = 4 * self.joints + 7 * self.effectors

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
        ]
        return torch.cat(features, dim=-1), pose


class KinematicFeatures(Features):
    """The paper's features, scaled to order one, and directions computed from the Jacobians J_i.

    Added are the error vectors e_i, coarse and fine, the joint directions J_i^T e_i of every
    effector, and the damped least-squares velocity of all active effectors together, saturated at
    the robot's action speeds. The pose's Jacobian is in units of these.
    """

    def __init__(self, robot: Robot, dtype: torch.dtype = torch.float32) -> None:
        super().__init__(robot, dtype)
        self.kinematics = ForwardKinematics(robot.tree, dtype, robot.action_speeds)
        axes = moving_axes(robot.tree)
        self.controller = FastLeastSquares(self.effectors, DAMPING, axes, CONTROLLER_GAIN)
        low, high = torch.tensor(robot.joint_pos_limits).T
        constants = {
            "per_half_range": torch.diag(2 / (high - low)),
            "middle": -(high + low) / (high - low),
            "repeat": torch.eye(3).repeat(1, self.effectors),  # (3, 3 E)
            "coordinates": torch.eye(self.effectors).repeat_interleave(3, dim=1),  # (E, 3 E)
        }
        for name, value in constants.items():
            self.register_buffer(name, value.to(dtype), persistent=False)
        self.size = self.joints * (2 + self.effectors) + 13 * self.effectors + 1
        self.register_load_state_dict_pre_hook(forget)

    per_half_range: Tensor
    middle: Tensor
    repeat: Tensor
    coordinates: Tensor

    def compute(self, parts: Observation) -> tuple[Tensor, Pose]:
        """Features (B, F) and the pose.

        The last nu + 1 features are the least-squares action and how far, from 0 to 1, the goals
        are.
        """
        joint_pos, goals, active = parts.joint_pos, parts.goals, parts.active
        pose = self.kinematics(joint_pos)
        mask = active[..., None]
        error = (goals - pose.effector) * mask  # (B, E, 3)
        distance = error.norm(dim=-1, keepdim=True)  # (B, E, 1)
        fine = error / (distance + NEAR)
        # J_i^T e_i, with e_i saturated, in units of the action speeds
        transpose = (fine @ self.repeat * self.coordinates) @ pose.jacobian.mT  # (B, E, nu)
        place = functional.linear(joint_pos, self.per_half_range, self.middle)  # in [-1, 1]
        velocity = self.controller(pose.jacobian, error, active, place)
        # 0 at the goals, 1 where an error is larger than BLEND_DISTANCE
        far = distance.amax(dim=1).clamp(max=BLEND_DISTANCE) / BLEND_DISTANCE  # (B, 1)
        features = [
            place,
            torch.cat([pose.effector, goals * mask, error, fine], dim=1).flatten(1),
            active,
            transpose.flatten(1),
            torch.tanh(velocity),
            far * far,
        ]
        return torch.cat(features, dim=-1), pose

    def least_squares(self, features: Tensor) -> Tensor:
        """The least-squares action (B, nu) among the features (B, F)."""
        return features[:, -self.joints - 1 : -1]


FEATURES: dict[FeatureSet, type[PaperFeatures] | type[KinematicFeatures]] = {
    "paper": PaperFeatures,
    "kinematic": KinematicFeatures,
}
