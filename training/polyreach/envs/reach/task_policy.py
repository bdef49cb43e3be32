"""A task-conditioned policy as the policy of a robot: the active mask selects the task."""

import torch
from torch import Tensor

from polyreach.envs.reach.actions import ACTIONS, ActionName
from polyreach.networks.policy import Policy, RobotPolicy
from polyreach.robot.features import Features, served_joints, task_names, task_of
from polyreach_description import Robot


class TaskPolicy(RobotPolicy):
    """Features and a task-conditioned policy together."""

    def __init__(self, actor: Policy, robot: Robot, features: Features, action: ActionName) -> None:
        super().__init__()
        self.features, self.actor = features, actor
        self.task_names = task_names(robot.effector_names)
        self._to_velocity = ACTIONS[action]
        self._names_configurations = action == "configuration"
        self.action_sets: Tensor
        self.register_buffer("action_sets", torch.tensor(robot.action_sets).float())

    def act(self, features: Tensor, active: Tensor) -> Tensor:
        """Action (B, nu) for features (B, F), as the task that each row of `active` (B, E) is;
        joints that serve no active effector do not move.
        """
        action = self._task_action(features, active)
        return self._to_velocity(features, action) * served_joints(active, self.action_sets)

    @property
    def names_configurations(self) -> bool:
        """Where actions are configurations."""
        return self._names_configurations

    def configurations(self, features: Tensor, active: Tensor) -> Tensor:
        """One configuration (B, 1, nu)."""
        return self._task_action(features, active).clamp(-1.0, 1.0)[:, None]

    def _task_action(self, features: Tensor, active: Tensor) -> Tensor:
        """The action (B, nu) of the network in the task that each row of `active` is."""
        rows = features.expand(len(self.task_names), -1, -1)  # (T, B, F)
        task_action = self.actor.mean_action(rows)  # (T, B, nu)
        # the row of each one's task
        return (task_of(active).transpose(-1, -2)[..., None] * task_action).sum(dim=0)
