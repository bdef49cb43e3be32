"""Reach with every effector of a branched robot: a batched Gymnasium environment in torch.

Kinematic mode integrates the commanded velocities, as in digrad-2018; dynamic mode steps MuJoCo
with velocity servos. Both step all environments as one batch.
"""

from dataclasses import dataclass
from typing import Any, Literal

import gymnasium
import numpy as np
import torch
from gymnasium.spaces import Box
from gymnasium.vector import AutoresetMode, VectorEnv
from numpy.typing import NDArray
from torch import Tensor

from polyreach.envs.env_spec import EnvConfig
from polyreach.envs.reach.dynamics import BatchDynamics
from polyreach.envs.reach.reward import REWARDS, RewardName, reward_size
from polyreach.envs.task_env import check_finite
from polyreach.errors import UserError, check_range
from polyreach.robot.features import Observation
from polyreach.robot.kinematics import ForwardKinematics
from polyreach_description import Robot

Mode = Literal["kinematic", "dynamic"]


@dataclass(frozen=True)
class ReachConfig(EnvConfig):
    """A reach environment."""

    mode: Mode = "kinematic"
    """kinematic: velocities are integrated. dynamic: MuJoCo with velocity servos."""
    acceleration_limits: bool = False
    """Dynamic mode: the servos follow velocities that change no faster than the joints'
    acceleration limits allow, as the controller's commands do. For evaluation only: the previous
    command is not observed, so training fails (DiGrad on planar8: 3 % of the goal sets after
    300,000 steps; without the limits 50 % after 200,000).
    """
    horizon_s: float = 4.0
    """Length of an episode [s]; its end truncates, and never terminates."""
    action_repeat: int = 2
    """Control periods of the robot for which one action is held."""
    all_active: float = 0.7
    """Share of episodes in which every effector has a goal; in the others, a random non-empty
    subset has goals.
    """
    tolerance: float = 0.02
    """Error below which a goal is reached [m]."""
    reward: RewardName = "precise"
    """Reward function; see polyreach.envs.reach.reward."""
    configurations: int = 20000
    """Size of the bank of collision-free configurations from which starts and goals are drawn."""

    def __post_init__(self) -> None:
        """Raise UserError for a value that no environment can have."""
        check_range("horizon_s", self.horizon_s, 1e-3)
        check_range("action_repeat", self.action_repeat, 1)
        check_range("all_active", self.all_active, 0.0, 1.0)
        check_range("tolerance", self.tolerance, 0.0)
        check_range("configurations", self.configurations, 1)
        if self.acceleration_limits and self.mode != "dynamic":
            raise UserError(f"acceleration_limits need mode 'dynamic', not '{self.mode}'")


class ReachEnv(VectorEnv[Tensor, Tensor, Tensor]):
    """N robots, each with E tasks: effector i at goal i.

    Observations (N, nu + 4 E): joint_pos, goals, active (see polyreach.robot.features). Actions (N,
    nu) in [-1, 1], in units of the robot's action speeds. `step` returns as reward (N,) the sum
    over tasks; `infos` holds `task_reward` (N, T), `error` (N, E) [m], `success` (N, E) bool,
    `active` (N, E), `final_obs` (N, O), the observation before any restart, and `_final_obs` (N,),
    where there was one. All are torch tensors on `device`; actions may be NumPy arrays too.
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
        self.low, self.high = self._tensor(robot.joint_pos_limits).T
        self.velocity = self._tensor(robot.action_speeds)
        self.rewards = reward_size(config.reward, self.effectors)
        self._reward = REWARDS[config.reward]
        rng = np.random.default_rng(seed)
        self.configurations = self._tensor(robot.sample_configuration(rng, config.configurations))
        self.bank = self.kinematics(self.configurations).effector  # (bank, E, 3) [m]
        self.generator = torch.Generator(device=self.device)
        self.generator.manual_seed(seed)
        self._dynamics = (
            BatchDynamics(
                robot, num_envs, config.action_repeat, config.acceleration_limits, threads
            )
            if config.mode == "dynamic"
            else None
        )
        size = self.joints + 4 * self.effectors
        self.single_observation_space = Box(-np.inf, np.inf, (size,), np.float32)
        self.single_action_space = Box(-1.0, 1.0, (self.joints,), np.float32)
        self.observation_space = gymnasium.vector.utils.batch_space(
            self.single_observation_space, num_envs
        )
        self.action_space = gymnasium.vector.utils.batch_space(self.single_action_space, num_envs)
        self.joint_pos = torch.zeros(num_envs, self.joints, device=self.device)
        self.goals = torch.zeros(num_envs, self.effectors, 3, device=self.device)
        self.active = torch.zeros(num_envs, self.effectors, device=self.device)
        self.elapsed = torch.zeros(num_envs, dtype=torch.int64, device=self.device)

    def _tensor(self, values: NDArray[np.float64]) -> Tensor:
        return torch.tensor(values, dtype=torch.float32, device=self.device)

    @property
    def observation(self) -> Tensor:
        """(N, nu + 4 E)."""
        return Observation(self.joint_pos, self.goals, self.active).flat

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

    def reset_to(self, joint_pos: Tensor, goals: Tensor, active: Tensor) -> Tensor:
        """Start all episodes from given joint_pos (N, nu), goals (N, E, 3), active (N, E)."""
        self.joint_pos, self.goals, self.active = joint_pos.clone(), goals.clone(), active.clone()
        self.elapsed = torch.zeros_like(self.elapsed)
        if self._dynamics is not None:
            self._dynamics.reset(np.ones(self.num_envs, np.bool_), self.joint_pos.cpu().numpy())
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
        if self._dynamics is None:
            self.joint_pos = (self.joint_pos + joint_vel * self.period).clamp(self.low, self.high)
        else:
            self.joint_pos = self._tensor(self._dynamics.step(joint_vel.cpu().numpy()))
        self.elapsed = self.elapsed + 1
        error = self.error()
        task_reward = self.task_reward(error, self.active)
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
        """Distances from effectors to goals (N, E) [m], active or not."""
        return (self.kinematics(self.joint_pos).effector - self.goals).norm(dim=-1)

    def _reset(self, which: Tensor) -> None:
        # every environment draws, so that the random stream does not depend on which of them were
        # reset
        starts = self._draw_configurations()
        goals, active = self.sample_goals(self.num_envs, self.generator)
        self.joint_pos = torch.where(which[:, None], starts, self.joint_pos)
        self.goals = torch.where(which[:, None, None], goals, self.goals)
        self.active = torch.where(which[:, None], active, self.active)
        self.elapsed = torch.where(which, 0, self.elapsed)
        if self._dynamics is not None:
            self._dynamics.reset(which.cpu().numpy(), self.joint_pos.cpu().numpy())

    def sample_goals(self, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Draw jointly reachable goals (count, E, 3) [m] and active masks (count, E)."""
        index = torch.randint(len(self.bank), (count,), generator=generator, device=self.device)
        return self.bank[index], self.sample_active(count, generator)

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

    def task_reward(self, error: Tensor, active: Tensor) -> Tensor:
        """Rewards (B, T) for errors (B, E) [m] and active tasks (B, E), whatever the goals were."""
        return self._reward(error, active, self.config.tolerance)

    def state_dict(self) -> dict[str, Any]:
        """Everything the next step depends on."""
        state = {name: getattr(self, name) for name in ("joint_pos", "goals", "active", "elapsed")}
        if self._dynamics is not None:
            state["dynamics"] = torch.from_numpy(self._dynamics.state.copy())
            state["command"] = torch.from_numpy(self._dynamics.command.copy())
        return {**state, "generator": self.generator.get_state()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what state_dict returned."""
        for name in ("joint_pos", "goals", "active", "elapsed"):
            setattr(self, name, state[name].to(self.device))
        self.generator.set_state(state["generator"])
        if self._dynamics is not None:
            self._dynamics.state[:] = state["dynamics"].cpu().numpy()
            self._dynamics.command[:] = state["command"].cpu().numpy()

    def restore_rows(self, state: dict[str, Any], which: Tensor) -> None:
        """Restore what state_dict returned, of the robots in `which` (N,) alone."""
        for name in ("joint_pos", "goals", "active", "elapsed"):
            now: Tensor = getattr(self, name)
            rows = which.reshape(-1, *[1] * (now.dim() - 1))
            setattr(self, name, torch.where(rows, state[name], now))
        if self._dynamics is not None:
            chosen = which.cpu()
            self._dynamics.state[chosen.numpy()] = state["dynamics"][chosen].numpy()
            self._dynamics.command[chosen.numpy()] = state["command"][chosen].numpy()

    def close_extras(self, **kwargs: Any) -> None:
        """Stop the simulation threads."""
        if self._dynamics is not None:
            self._dynamics.close()
