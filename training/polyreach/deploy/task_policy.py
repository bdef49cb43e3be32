"""A task-conditioned actor as the policy of a robot: the active mask says which task it does."""

from typing import Protocol

import torch
from torch import Tensor, nn

from polyreach.envs.reach.task_reach import ACTIONS, TaskReachConfig
from polyreach.robot.features import FEATURES, served_joints, split_observation, task_names, task_of
from polyreach_description import Robot


class TaskActor(Protocol):
    """What a task-conditioned learner has as its actor, a module."""

    def mean_action(self, obs: Tensor) -> Tensor:
        """obs: (T, B, F) -> actions without noise (T, B, nu) in [-1, 1], row t as task t."""


class TaskPolicy(nn.Module):
    """Features and actor together: observation (B, nu + 4 E) -> action (B, nu) in [-1, 1], in units
    of the robot's action speeds.
    """

    def __init__(self, actor: TaskActor, robot: Robot, config: TaskReachConfig) -> None:
        super().__init__()
        self.features = FEATURES[config.features](robot)
        self.actor = actor
        self.task_names = task_names(robot.effector_names)
        self._to_velocity = ACTIONS[config.action]
        self.action_sets: Tensor
        self.register_buffer("action_sets", torch.tensor(robot.action_sets).float())

    def forward(self, obs: Tensor) -> Tensor:
        """obs: (B, nu + 4 E)."""
        features, _ = self.features(obs)
        return self.act(features, split_observation(obs, self.features.effectors).active)

    def act(self, features: Tensor, active: Tensor) -> Tensor:
        """Action (B, nu) for features (B, F), as the task that each row of `active` (B, E) is;
        joints that serve no active effector stand still.
        """
        rows = features.expand(len(self.task_names), *features.shape)  # (T, B, F)
        own = self.actor.mean_action(rows)  # (T, B, nu)
        # the row of each one's task
        own = (task_of(active).mT[..., None] * own).sum(dim=0)  # (B, nu)
        return self._to_velocity(features, own) * served_joints(active, self.action_sets)
