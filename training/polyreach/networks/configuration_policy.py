"""A network that names configurations for goals."""

from collections.abc import Collection

import torch
from torch import Tensor

from polyreach.networks.actor_critic import EnsembleMLP
from polyreach.networks.policy import Policy, RobotPolicy
from polyreach.robot.configuration_search import CANDIDATES
from polyreach.robot.features import GoalFeatures, served_joints
from polyreach.robot.goals import Goals, repeat
from polyreach.robot.refinement import Refinement
from polyreach.robot.straight_motion import StraightMotion
from polyreach_description import Robot

REFINED = 2  # steps of a configuration, where a policy acts without a search
MISSED = 10.0  # [s/m], how much more an error counts there than the time of the motion


class ConfigurationPolicy(RobotPolicy, Policy):
    """Names K configurations. Exported, it drives a ConfigurationSearch; as a policy without
    memory, it goes straight to the one that is nearest in time, of those that reach the goals.
    """

    features: GoalFeatures

    def __init__(self, robot: Robot, inputs: Collection[str], hidden: tuple[int, ...]) -> None:
        super().__init__()
        self.joints = len(robot.joint_names)
        self.features = GoalFeatures(robot, inputs=inputs)
        outputs = CANDIDATES * self.joints
        self.net = EnsembleMLP(1, self.features.size, hidden, outputs, "silu")
        with torch.no_grad():
            self.net.head.weight.mul_(0.1)
            self.net.head.bias.uniform_(-0.8, 0.8)
        self.refinement, self.motion = Refinement(robot), StraightMotion(robot)
        action_sets = torch.tensor(robot.action_sets).float()
        self.register_buffer("action_sets", action_sets, persistent=False)

    action_sets: Tensor

    @property
    def names_configurations(self) -> bool:
        """Always."""
        return True

    def configurations(self, features: Tensor, active: Tensor) -> Tensor:
        """(B, K, nu) in [-1, 1]."""
        return torch.tanh(self.net.first(features)).reshape(-1, CANDIDATES, self.joints)

    def targets(self, joint_pos: Tensor, goals: Goals) -> Tensor:
        """K configurations (B, K, nu) [rad or m] at joint_pos (B, nu); joints that serve no active
        effector stay where they are.
        """
        features, _ = self.features.compute_for(joint_pos, goals)
        named = self.refinement.joint_pos(self.configurations(features, goals.active))
        serves = served_joints(goals.active, self.action_sets)
        return torch.lerp(joint_pos[:, None].expand_as(named), named, serves[:, None])

    def forward(self, obs: Tensor) -> Tensor:
        """obs: (B, O) -> action (B, nu)."""
        parts = self.features.layout.split(obs)
        goals = self.features.errors.goals_of(parts)
        joint_pos, refinement = parts.joint_pos, self.refinement
        targets = self.targets(joint_pos, goals).flatten(0, 1)
        many = goals.repeat(CANDIDATES)
        targets = refinement(targets, many, REFINED)
        missing = refinement.errors(refinement.kinematics.frames_at(targets), many)
        start = repeat(joint_pos, CANDIDATES)
        cost = self.motion.travel_time(targets - start)
        cost = cost + MISSED * refinement.errors.size(missing).sum(dim=1)
        best = cost.unflatten(0, (-1, CANDIDATES)).argmin(dim=1)
        rows = torch.arange(len(best), device=best.device)
        target = targets.unflatten(0, (-1, CANDIDATES))[rows, best]
        before = parts.previous_joint_vel
        before = torch.zeros_like(joint_pos) if before is None else before
        still, _, reaction = self.motion.first_response(len(joint_pos))
        velocity = self.motion(joint_pos + reaction * before, before, target, still, reaction)
        return velocity / self.motion.speed

    def act(self, features: Tensor, active: Tensor) -> Tensor:
        """Not for this policy: it acts on observations."""
        raise NotImplementedError("a configuration policy acts on observations")

    def mean_action(self, obs: Tensor, tasks: Tensor | None = None) -> Tensor:
        """obs: (1, B, O) -> (1, B, nu)."""
        action: Tensor = self(obs[0])
        return action[None]
