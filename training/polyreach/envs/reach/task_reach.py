"""Reach as separate tasks with one reward each: every effector alone, and several together.

For task-conditioned methods: d-grad-2019, picor-2023. The tasks share one batch of
robots (see polyreach.envs.reach.reach), rows t n to (t + 1) n being those of task t.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import torch
from torch import Tensor

from polyreach.envs.reach.actions import ACTIONS, ActionName
from polyreach.envs.reach.config import ReachConfig
from polyreach.envs.reach.reach import ReachEnv
from polyreach.envs.reach.reward import REWARDS, RewardName, reward_size
from polyreach.envs.reach.task_policy import TaskPolicy
from polyreach.envs.task_env import TaskEnv, TaskStep, envs_per_task
from polyreach.errors import UserError, check_choice
from polyreach.networks.policy import Policy, RobotPolicy
from polyreach.robot.features import FEATURES, FeatureSet, served_joints, task_names
from polyreach_description import Robot

SCALAR_REWARDS = tuple(name for name in REWARDS if reward_size(name, 2) == 1)


@dataclass(frozen=True)
class TaskReachConfig(ReachConfig):
    """A reach environment of separate tasks. `all_active` applies to the task "together"; in its
    other episodes at least two effectors have goals.
    """

    reward: RewardName = "precise_sum"
    """Reward function with one reward for all effectors; see polyreach.envs.reach.reward."""
    features: FeatureSet = "kinematic"
    """Features of the state that are observed; see polyreach.robot.features."""
    action: ActionName = "configuration"
    """velocity: in units of the largest action. configuration: joint positions, as a part of
    their range in [-1, 1], that the robot approaches; near the goals the motion blends into least
    squares (see polyreach.networks.actor_critic.blend_into_least_squares).
    """

    def __post_init__(self) -> None:
        """Raise UserError for a value that no environment can have."""
        super().__post_init__()
        check_choice(self, reward=SCALAR_REWARDS, features=FEATURES, action=ACTIONS)
        if self.action == "configuration" and self.features != "kinematic":
            raise UserError(
                f"action 'configuration' needs features 'kinematic', not '{self.features}'"
            )


class TaskReachEnv(TaskEnv):
    """T tasks of a robot with E effectors: T = E + 1, or 1 where E = 1 (see
    polyreach.robot.features.task_names).

    Observations are the features of the state. Joints that serve no active effector do not move.
    An episode is cut off by its time limit and never ends before; the first ones last up to twice
    as long, so that later on they do not all start at once. Success is an error below the tolerance
    for every active effector.
    """

    success_at_end = True

    def __init__(
        self,
        robot: Robot,
        num_envs: int,
        config: TaskReachConfig,
        device: str = "cpu",
        threads: int = 1,
        seed: int = 0,
    ) -> None:
        self.task_names = task_names(robot.effector_names)
        self.envs_per_task = envs_per_task(num_envs, self.task_names, robot.name)
        self.robots = _TaskRobots(robot, num_envs, config, device, threads, seed)
        self.device, self.horizon = self.robots.device, self.robots.horizon
        inputs = self.robots.layout.inputs
        self.features = FEATURES[config.features](robot, inputs=inputs).to(self.device)
        self.obs_size, self.action_size = self.features.size, self.robots.joints
        self.action_sets = torch.tensor(robot.action_sets, device=self.device).float()
        self._to_velocity = ACTIONS[config.action]
        self._obs = torch.zeros(num_envs, self.obs_size, device=self.device)
        self.error = torch.zeros(self.tasks, self.envs_per_task, device=self.device)
        """Largest error of an active effector (T, n) [m] in the state that was reached last, before
        any restart.
        """

    @torch.no_grad()
    def reset(self, seed: int) -> Tensor:
        """Start all episodes anew, everything random drawn from `seed`; observations (T, n, F)."""
        obs, _ = self.robots.reset(seed=seed, options={"stagger": True})
        self.robots.elapsed = -self.robots.elapsed
        self._obs, _ = self.features(obs)
        self.error = self._rows((self.robots.error() * self.robots.active).amax(dim=1))
        return self._rows(self._obs)

    @torch.no_grad()
    def step(self, action: Tensor, tasks: Sequence[int] | None = None) -> TaskStep:
        """action: (T', n, nu) for the tasks listed, all if None; the others do not change."""
        chosen, clipped = self.checked(action, tasks)
        moving = torch.zeros(self.tasks, self.envs_per_task, dtype=torch.bool, device=self.device)
        moving[chosen] = True
        moving = moving.flatten()  # (T n,)
        active, before = self.robots.active, self.robots.state_dict()
        actions = torch.zeros(self.tasks, self.envs_per_task, self.action_size, device=self.device)
        actions[chosen] = clipped
        velocity = self._to_velocity(self._obs, actions.flatten(0, 1))
        velocity = velocity * served_joints(active, self.action_sets)
        after, reward, _, truncated, infos = self.robots.step(velocity)
        if len(chosen) < self.tasks:
            self.robots.restore_rows(before, ~moving)
        # the features of the states that were reached and of those that started there, in one batch
        ended = truncated & moving
        both, _ = self.features(torch.cat([infos["final_obs"], after[ended]]))
        final_obs, started = both[: len(moving)], both[len(moving) :]
        self._obs = torch.where(moving[:, None], final_obs, self._obs)
        self._obs[ended] = started
        error = (infos["error"] * active).amax(dim=1)
        self.error = torch.where(self._rows(moving), self._rows(error), self.error)
        return TaskStep(
            obs=self._rows(self._obs)[chosen],
            reward=self._rows(reward)[chosen],
            terminated=torch.zeros_like(self._rows(truncated)[chosen]),
            truncated=self._rows(truncated)[chosen],
            success=self._rows(error < self.robots.config.tolerance)[chosen],
            final_obs=self._rows(final_obs)[chosen],
        )

    def _rows(self, values: Tensor) -> Tensor:
        """(T n, ...) -> (T, n, ...)."""
        return values.unflatten(0, (self.tasks, self.envs_per_task))

    def robot_policy(self, actor: Policy) -> RobotPolicy:
        """`actor` as the policy of the robot: the active mask selects the task."""
        config = self.robots.config
        assert isinstance(config, TaskReachConfig)
        features = FEATURES[config.features](self.robots.robot, inputs=self.robots.layout.inputs)
        return TaskPolicy(actor, self.robots.robot, features, config.action)

    def state_dict(self) -> dict[str, Any]:
        """Everything that the next steps depend on."""
        return {"robots": self.robots.state_dict(), "obs": self._obs, "error": self.error}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what state_dict returned; the steps that follow are the same to the last bit."""
        self.robots.load_state_dict(state["robots"])
        self._obs, self.error = state["obs"].to(self.device), state["error"].to(self.device)

    def close(self) -> None:
        """Stop the threads of the simulation."""
        self.robots.close()


class _TaskRobots(ReachEnv):
    """T n robots; the row of a robot says which masks it draws."""

    def __init__(
        self,
        robot: Robot,
        num_envs: int,
        config: TaskReachConfig,
        device: str,
        threads: int,
        seed: int,
    ) -> None:
        super().__init__(robot, num_envs, config, device, threads, seed)
        count = len(task_names(robot.effector_names))
        task = torch.arange(count, device=self.device).repeat_interleave(num_envs // count)
        masks = torch.eye(self.effectors)
        if count > self.effectors:
            masks = torch.cat([masks, torch.ones(1, self.effectors)])
        self.masks = masks.to(self.device)[task]  # (N, E)
        self.together = task == self.effectors  # (N,)
        several = [mask for mask in product((0.0, 1.0), repeat=self.effectors) if sum(mask) >= 2]
        self.several = torch.tensor(several or [[1.0]], device=self.device)

    def sample_active(self, count: int, generator: torch.Generator) -> Tensor:
        """Draw active masks (N, E): of a row of "together" all effectors, or a subset of at least
        two, all equally likely; of the others always the same.
        """
        assert count == self.num_envs
        subset = self.several[
            torch.randint(len(self.several), (count,), generator=generator, device=self.device)
        ]
        drawn = torch.rand(count, generator=generator, device=self.device) >= self.config.all_active
        return torch.where((self.together & drawn)[:, None], subset, self.masks)
