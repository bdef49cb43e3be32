"""What a reach policy observes, and the features that are computed from it inside the policy.

An observation is one flat vector: joint_pos (nu) [rad or m], goals (E x 3) [m, base frame], active
(E) in {0, 1}.
"""

from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from polyreach.kinematics import ForwardKinematics, Pose, limited_least_squares
from polyreach_description import Robot

DAMPING = 0.05  # [m], of the least-squares direction among the features
NEAR = 0.05  # [m], scale of the fine error feature
HANDOVER = 0.2  # [m], error below which the authority of a residual actor shrinks
CONTROLLER_GAIN = 4.0  # [1/s], scale of the least-squares direction

FeatureSet = Literal["paper", "kinematic"]


class Observation(NamedTuple):
    """The parts of a batch of observations."""

    joint_pos: Tensor  # (B, nu)
    goals: Tensor  # (B, E, 3)
    active: Tensor  # (B, E)

    @property
    def flat(self) -> Tensor:
        """(B, nu + 4 E)."""
        return torch.cat([self.joint_pos, self.goals.flatten(1), self.active], dim=-1)


def split_observation(obs: Tensor, effectors: int) -> Observation:
    """obs: (B, nu + 4 E)."""
    joints = obs.shape[-1] - 4 * effectors
    goals = obs[:, joints : joints + 3 * effectors].reshape(-1, effectors, 3)
    return Observation(obs[:, :joints], goals, obs[:, joints + 3 * effectors :])


class Features(nn.Module):
    """Base of the feature sets: holds the robot's kinematics; `size` is the width F of the
    features.
    """

    def __init__(self, robot: Robot) -> None:
        super().__init__()
        self.kinematics = ForwardKinematics(robot.tree)
        self.joints, self.effectors = len(robot.joint_names), len(robot.effector_names)
        self.size = 0


class PaperFeatures(Features):
    """digrad-2018, section 5: joint angles, joint positions and goal positions; and which goals are
    set.
    """

    def __init__(self, robot: Robot) -> None:
        super().__init__(robot)
        self.size = 4 * self.joints + 7 * self.effectors

    def forward(self, obs: Tensor) -> tuple[Tensor, Pose]:
        """obs: (B, nu + 4 E) -> features (B, F) and the pose."""
        joint_pos, goals, active = split_observation(obs, self.effectors)
        pose = self.kinematics(joint_pos)
        goals = goals * active[..., None]
        parts = [
            joint_pos,
            pose.joint.flatten(1),
            pose.effector.flatten(1),
            goals.flatten(1),
            active,
        ]
        return torch.cat(parts, dim=-1), pose


class KinematicFeatures(Features):
    """The paper's features, scaled to order one, and directions computed from the Jacobians J_i.

    Added are the error vectors e_i, coarse and fine, the joint directions J_i^T e_i of every
    effector, and the damped least-squares velocity of all active effectors together, saturated at
    the velocity limits.
    """

    def __init__(self, robot: Robot) -> None:
        super().__init__(robot)
        low, high = torch.tensor(robot.joint_pos_limits, dtype=torch.float32).T
        self.centre: Tensor
        self.half_range: Tensor
        self.velocity: Tensor
        self.register_buffer("centre", (low + high) / 2)
        self.register_buffer("half_range", (high - low) / 2)
        self.register_buffer("velocity", torch.tensor(robot.joint_vel_limits, dtype=torch.float32))
        self.size = self.joints * (2 + self.effectors) + 13 * self.effectors + 1

    def forward(self, obs: Tensor) -> tuple[Tensor, Pose]:
        """obs: (B, nu + 4 E) -> features (B, F) and the pose.

        The last nu + 1 features are the least-squares action and how far, from 0 to 1, the goals
        are.
        """
        joint_pos, goals, active = split_observation(obs, self.effectors)
        pose = self.kinematics(joint_pos)
        mask = active[..., None]
        error = (goals - pose.effector) * mask  # (B, E, 3)
        fine = error / (error.norm(dim=-1, keepdim=True) + NEAR)
        # J_i^T e_i, with e_i saturated, in units of the joint velocity limits
        transpose = (fine[..., None] * pose.jacobian).sum(dim=-2) * self.velocity  # (B, E, nu)
        place = (joint_pos - self.centre) / self.half_range  # in [-1, 1]
        squares = limited_least_squares(pose, error, active, place, self.velocity, DAMPING)
        parts = [
            place,
            pose.effector.flatten(1),
            (goals * mask).flatten(1),
            error.flatten(1),
            fine.flatten(1),
            active,
            transpose.flatten(1),
            torch.tanh(CONTROLLER_GAIN * squares),
            # 0 at the goals, 1 where an error is larger than HANDOVER
            (error.norm(dim=-1).amax(dim=-1, keepdim=True) / HANDOVER).clamp(max=1.0) ** 2,
        ]
        return torch.cat(parts, dim=-1), pose

    def least_squares(self, features: Tensor) -> Tensor:
        """The least-squares action (B, nu) among the features (B, F)."""
        return features[:, -self.joints - 1 : -1]


FEATURES: dict[FeatureSet, type[PaperFeatures] | type[KinematicFeatures]] = {
    "paper": PaperFeatures,
    "kinematic": KinematicFeatures,
}
