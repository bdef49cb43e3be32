"""Reach with every effector of a branched robot: a batched Gymnasium environment in torch.

Kinematic mode integrates velocities: the commands themselves, as in digrad-2018, or what servos
make of them after a delay, within the controller's limits. Dynamic mode steps MuJoCo with velocity
servos. Both step all environments as one batch.
"""

from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium.spaces import Box
from gymnasium.vector import AutoresetMode, VectorEnv
from numpy.typing import NDArray
from torch import Tensor

from polyreach.envs.reach.config import ReachConfig
from polyreach.envs.reach.goals import Goals, MovingGoals, sample_clear_configurations
from polyreach.envs.reach.motion import make_motion
from polyreach.envs.reach.nearness import Nearness
from polyreach.envs.reach.reward import REWARDS, reward_size
from polyreach.envs.task_env import check_finite
from polyreach.errors import check_range
from polyreach.robot.capsule_fit import fit_capsules
from polyreach.robot.features import Observation, ObservationLayout, largest_action
from polyreach.robot.goals import GoalErrors, quaternions
from polyreach.robot.kinematics import ForwardKinematics
from polyreach.robot.self_clearance import SelfClearance
from polyreach_description import Robot
from polyreach_description.policy_tensors import ORIENTED_INPUTS

STATE = ("joint_pos", "goals", "active", "elapsed")


class ReachEnv(VectorEnv[Tensor, Tensor, Tensor]):
    """N robots, each with E tasks: effector i at goal i.

    Observations (N, O) are those of `layout` (see polyreach.robot.features): joint_pos, goals,
    active, where the settings say so, previous_joint_vel, and of a robot with oriented effectors
    goal_orientations and oriented. Actions (N, nu) in [-1, 1], in units
    of largest_action there. `step` returns as reward (N,) the sum over tasks; `infos` holds
    `task_reward` (N, T), `error` (N, E) [m], `success` (N, E) bool, `active` (N, E), `final_obs`
    (N, O), the observation before any restart, and `_final_obs` (N,), where there was one. All are
    torch tensors on `device`; actions may be NumPy arrays too. In `error`, turns of oriented
    effectors count METRES_PER_RADIAN (see polyreach.robot.goals.GoalErrors.size).
    """

    metadata = {"autoreset_mode": AutoresetMode.SAME_STEP}  # noqa: RUF012

    def __init__(
        self,
        robot: Robot,
        num_envs: int,
        config: ReachConfig,
        device: str = "cpu",
        threads: int = 1,
        seed: int = 0,
    ) -> None:
        check_range("num_envs", num_envs, 1)
        check_range("threads", threads, 1)
        self.robot, self.num_envs, self.config, self.device = (
            robot,
            num_envs,
            config,
            torch.device(device),
        )
        self.joints, self.effectors = len(robot.joint_names), len(robot.effector_names)
        self.period = config.action_repeat / robot.control_rate  # [s]
        self.horizon = max(1, round(config.horizon_s / self.period))
        self.kinematics = ForwardKinematics(robot.tree).to(self.device)
        inputs = ["previous_joint_vel"] if config.observe_velocity else []
        self.layout = ObservationLayout.of(robot, inputs)
        self.velocity = self._tensor(largest_action(robot, inputs))
        self.rewards = reward_size(config.reward, self.effectors)
        self._reward = REWARDS[config.reward]
        rng = np.random.default_rng(seed)
        self.configurations = self._tensor(
            sample_clear_configurations(robot, rng, config.configurations)
            if config.clear_configurations
            else robot.sample_configuration(rng, config.configurations)
        )
        self.errors = GoalErrors(robot, self.kinematics).to(self.device)
        self.bank = self.goals_at(self.configurations)  # goals of `bank` robots
        self.generator = torch.Generator(device=self.device)
        self.generator.manual_seed(seed)
        self.motion = make_motion(robot, num_envs, config, self.device, threads)
        self._moving = (
            MovingGoals(
                self.kinematics,
                self.configurations,
                num_envs,
                config.moving_goals,
                config.goal_speed,
            )
            if config.moving_goals > 0
            else None
        )
        self._nearness = self._make_nearness() if config.nearness_cost > 0 else None
        self.single_observation_space = Box(-np.inf, np.inf, (self.layout.size,), np.float32)
        self.single_action_space = Box(-1.0, 1.0, (self.joints,), np.float32)
        self.observation_space = gymnasium.vector.utils.batch_space(
            self.single_observation_space, num_envs
        )
        self.action_space = gymnasium.vector.utils.batch_space(self.single_action_space, num_envs)
        self.joint_pos = torch.zeros(num_envs, self.joints, device=self.device)
        self.goals = torch.zeros(num_envs, self.effectors, 3, device=self.device)
        self.active = torch.zeros(num_envs, self.effectors, device=self.device)
        self.goal_orientations: Tensor | None = (
            None  # (N, E, 4), of a robot with oriented effectors
        )
        self.oriented: Tensor | None = None  # (N, E)
        if self.errors.turning:
            self.goal_orientations = self.active.new_tensor([0.0, 0.0, 0.0, 1.0]).repeat(
                num_envs, self.effectors, 1
            )
            self.oriented = torch.zeros_like(self.active)
        self._state = (*STATE, *ORIENTED_INPUTS) if self.errors.turning else STATE
        self.elapsed = torch.zeros(num_envs, dtype=torch.int64, device=self.device)

    def _make_nearness(self) -> Nearness:
        clearance = SelfClearance(self.robot, fit_capsules(self.robot)).to(self.device)
        return Nearness(clearance.at, self.robot, self.device)

    def _tensor(self, values: NDArray[np.float64]) -> Tensor:
        return torch.tensor(values, dtype=torch.float32, device=self.device)

    @property
    def parts(self) -> Observation:
        """What is observed, in parts; previous_joint_vel also where the layout leaves it out."""
        return Observation(
            self.joint_pos,
            self.goals,
            self.active,
            self.motion.command,
            self.goal_orientations,
            self.oriented,
        )

    @property
    def observation(self) -> Tensor:
        """(N, O)."""
        return self.layout.flat(self.parts)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Tensor, dict[str, Any]]:
        """Start all episodes anew.

        Options {"stagger": True} spreads their first ends over the horizon.
        """
        if seed is not None and not isinstance(seed, int):
            raise ValueError(f"seed is {seed!r}, but all environments draw from one integer seed")
        if seed is not None:
            self.generator.manual_seed(seed)
        self._reset(torch.ones(self.num_envs, dtype=torch.bool, device=self.device))
        if (options or {}).get("stagger"):
            self.elapsed = self._randint(self.horizon, (self.num_envs,))
        return self.observation, {}

    def reset_to(
        self,
        joint_pos: Tensor,
        goals: Tensor,
        active: Tensor,
        goal_orientations: Tensor | None = None,
    ) -> Tensor:
        """Start all episodes from given joint_pos (N, nu), goals (N, E, 3), active (N, E), with the
        delays and lags that they have; the goals stand still. goal_orientations (N, E, 4): of a
        robot with oriented effectors; None: orientations do not count.
        """
        self.joint_pos, self.goals, self.active = joint_pos.clone(), goals.clone(), active.clone()
        if self.oriented is not None:
            self.oriented = torch.zeros_like(self.active)
            if goal_orientations is not None:
                self.goal_orientations = goal_orientations.clone()
                self.oriented = self.errors.can_turn.expand_as(self.active).clone()
        self.elapsed = torch.zeros_like(self.elapsed)
        everything = torch.ones(self.num_envs, dtype=torch.bool, device=self.device)
        self.motion.start(everything, self.joint_pos, None)
        if self._moving is not None:
            self._moving.hold()
        return self.observation

    def step(self, actions: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, dict[str, Any]]:
        """actions: (N, nu) in [-1, 1]; values outside are clipped, a non-finite one is an error."""
        actions = torch.as_tensor(actions, dtype=torch.float32, device=self.device)
        if actions.shape != (self.num_envs, self.joints):
            raise ValueError(
                f"actions have shape {tuple(actions.shape)}, expected "
                f"{(self.num_envs, self.joints)}"
            )
        check_finite(actions)
        joint_vel = actions.clamp(-1.0, 1.0) * self.velocity  # [rad/s]
        self.joint_pos = self.motion.step(self.joint_pos, joint_vel)
        if self._moving is not None:
            self._move_goals(self._moving, self.period)
        self.elapsed = self.elapsed + 1
        error = self.error()
        task_reward = self.task_reward(error, self.parts)
        truncations = self.elapsed >= self.horizon
        infos = {
            "task_reward": task_reward,
            "error": error,
            "success": (error < self.config.tolerance) & (self.active > 0),
            "active": self.active,
            "final_obs": self.observation,
            "_final_obs": truncations,
        }
        if truncations.any():
            self._reset(truncations)
        terminations = torch.zeros_like(truncations)
        return self.observation, task_reward.sum(dim=-1), terminations, truncations, infos

    def error(self) -> Tensor:
        """Errors of the effectors (N, E) [m], active or not."""
        return self.error_at(self.kinematics.frames_at(self.joint_pos), self.parts)

    def error_at(self, frames: Tensor, parts: Observation) -> Tensor:
        """Errors (B, E) [m] in frames (B, ...) of the kinematics, to the goals in `parts`."""
        if not self.errors.turning:
            return (self.kinematics.effectors_of(frames) - parts.goals).norm(dim=-1)
        goals = self.errors.goals_of(parts._replace(active=torch.ones_like(parts.active)))
        return self.errors.size(self.errors(frames, goals))

    @torch.no_grad()
    def goals_at(self, joint_pos: Tensor) -> Goals:
        """Poses of the effectors at joint_pos (B, nu) [rad or m] as goals of all of them."""
        frames = self.kinematics.frames_at(joint_pos)
        position = self.kinematics.effectors_of(frames)
        active = torch.ones(position.shape[:2], device=self.device)
        if not self.errors.turning:
            return Goals(position, active)
        orientation = quaternions(self.kinematics.rotations_of(frames))
        return Goals(position, active, orientation, self.errors.can_turn.expand_as(active))

    def _move_goals(self, moving: MovingGoals, seconds: float) -> None:
        moves, joint_pos = moving.advance(seconds)
        self._set_goals(moves, self.goals_at(joint_pos)._replace(active=self.active))

    def _set_goals(self, which: Tensor, goals: Goals) -> None:
        """Let the robots in `which` (N,) have their part of `goals`."""
        parts = goals.put(self.parts, which)
        self.goals, self.active = parts.goals, parts.active
        self.goal_orientations, self.oriented = parts.goal_orientations, parts.oriented

    def _reset(self, which: Tensor) -> None:
        # every environment draws, so that the random stream does not depend on which of them were
        # reset
        starts = self._draw_configurations()
        index = self._randint(len(self.configurations), (self.num_envs,))
        active = self.sample_active(self.num_envs, self.generator)
        self.joint_pos = torch.where(which[:, None], starts, self.joint_pos)
        self._set_goals(which, self.bank.rows(index)._replace(active=active))
        self.elapsed = torch.where(which, 0, self.elapsed)
        self.motion.start(which, self.joint_pos, self.generator)
        if self._moving is not None:
            self._moving.draw(which, index, self.generator)
            self._move_goals(self._moving, 0.0)

    def sample_goals(self, count: int, generator: torch.Generator) -> Goals:
        """Draw goals of `count` robots, each set jointly reachable."""
        index = torch.randint(
            len(self.configurations), (count,), generator=generator, device=self.device
        )
        return self.bank.rows(index)._replace(active=self.sample_active(count, generator))

    def sample_active(self, count: int, generator: torch.Generator) -> Tensor:
        """Draw active masks (count, E): all effectors, or one of the 2^E - 1 non-empty subsets, all
        equally likely.
        """
        subset = torch.randint(
            1, 2**self.effectors, (count,), generator=generator, device=self.device
        )
        everything = (
            torch.rand(count, generator=generator, device=self.device) < self.config.all_active
        )
        subset = torch.where(everything, 2**self.effectors - 1, subset)
        bits = torch.arange(self.effectors, device=self.device)
        return ((subset[:, None] >> bits) & 1).float()

    def _draw_configurations(self) -> Tensor:
        return self.configurations[self._randint(len(self.configurations), (self.num_envs,))]

    def _randint(self, high: int, shape: tuple[int, ...]) -> Tensor:
        return torch.randint(high, shape, generator=self.generator, device=self.device)

    def task_reward(self, error: Tensor, parts: Observation) -> Tensor:
        """Rewards (B, T) for errors (B, E) [m] in the states `parts` (B, ...)."""
        reward = self._reward(error, parts.active, self.config.tolerance)
        if self._nearness is None:
            return reward
        cost = self.config.nearness_cost * self._nearness(parts.joint_pos) * parts.active  # (B, E)
        # one reward for all effectors bears the costs of all
        return reward - (cost if self.rewards == self.effectors else cost.sum(1, keepdim=True))

    def state_dict(self) -> dict[str, Any]:
        """Everything the next step depends on."""
        state = {name: getattr(self, name) for name in self._state} | self.motion.state_dict()
        if self._moving is not None:
            state |= self._moving.state_dict()
        return {**state, "generator": self.generator.get_state()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what state_dict returned."""
        for name in self._state:
            setattr(self, name, state[name].to(self.device))
        self.motion.load_state_dict(state)
        if self._moving is not None:
            self._moving.load_state_dict(state)
        self.generator.set_state(state["generator"])

    def restore_rows(self, state: dict[str, Any], which: Tensor) -> None:
        """Restore what state_dict returned, of the robots in `which` (N,) alone."""
        now = self.state_dict()
        for name in now.keys() - {"generator"}:
            value: Tensor = now[name]
            rows = which.to(value.device).reshape(-1, *[1] * (value.dim() - 1))
            now[name] = torch.where(rows, state[name], value)
        self.load_state_dict(now)

    def close_extras(self, **kwargs: Any) -> None:
        """Stop the simulation threads."""
        self.motion.close()
