"""Pendulums of different length that are to be balanced upright."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from polyreach.envs.batched_sim import Rows, SimulatedEnvSpec, SimulatedTasks
from polyreach.envs.env_spec import Defaults, EnvConfig, PresetName
from polyreach.envs.task_env import TaskEnv, TaskStep, envs_per_task
from polyreach.errors import check_range

GRAVITY, PERIOD_S, TORQUE = 9.81, 0.05, 2.0  # [m/s^2], [s], of unit mass [N m]
LENGTHS = {"short": 0.5, "long": 1.0}  # [m]


@dataclass(frozen=True)
class PendulumConfig(EnvConfig):
    """Settings of the pendulums."""

    horizon: int = 50
    """Steps of an episode; its end truncates."""

    def __post_init__(self) -> None:
        """Raise UserError for a value that no environment can have."""
        check_range("horizon", self.horizon, 1)


class PendulumEnv(SimulatedTasks):
    """T pendulums, n environments of each. Observations (T, n, 2): angle from upright [rad] and
    velocity [rad/s]; actions (T, n, 1): torque in units of the largest.
    """

    task_names = tuple(LENGTHS)
    obs_size, action_size, success_at_end = 2, 1, True

    def __init__(self, num_envs: int, config: PendulumConfig, seed: int) -> None:
        self.envs_per_task = envs_per_task(num_envs, self.task_names, "pendulums")
        self.horizon, self.device = config.horizon, torch.device("cpu")
        self._length = np.repeat(list(LENGTHS.values()), self.envs_per_task)  # (T n,)
        super().__init__(num_envs, 2)
        self.reset(seed)

    def step(self, action: Tensor, tasks: Sequence[int] | None = None) -> TaskStep:
        """action: (T', n, 1) for the tasks listed, all if None; the others stand still."""
        listed, clipped = self.checked(action, tasks)
        shape, rows = (len(listed), self.envs_per_task), self._numbers[listed].ravel()
        (angle, velocity), length = self._state[rows].T, self._length[rows]
        torque = TORQUE * clipped.double().numpy().ravel()
        velocity = velocity + PERIOD_S * (GRAVITY * np.sin(angle) / length + torque / length**2)
        self._state[rows] = np.stack([angle + PERIOD_S * velocity, velocity], axis=1)
        final_obs = self._observe(rows)
        reward = np.cos(self._state[rows, 0])
        self._elapsed[rows] += 1
        truncated = self._elapsed[rows] >= self.horizon
        self._restart(rows[truncated])
        return TaskStep(
            obs=self._observe(rows),
            reward=self._tensor(reward.astype(np.float32), shape),
            terminated=torch.zeros(shape, dtype=torch.bool),
            truncated=self._tensor(truncated, shape),
            success=self._tensor(reward > 0.9, shape),
            final_obs=final_obs,
        )

    def _restart(self, rows: NDArray[np.int64]) -> None:
        self._state[rows] = 0.2 * self._uniform(rows, 2)
        self._elapsed[rows] = 0

    def _observe(self, rows: Rows) -> Tensor:
        observed = self._state[rows].astype(np.float32)
        return self._tensor(observed, (-1, self.envs_per_task, self.obs_size))


class PendulumSpec(SimulatedEnvSpec[PendulumConfig, TaskEnv]):
    """The pendulums as environments of a run."""

    name = "pendulums"
    envs = ("pendulums",)
    config = PendulumConfig
    tasks = tuple(LENGTHS)

    def settings(self, preset: PresetName) -> PendulumConfig:
        """The same with every preset."""
        return PendulumConfig()

    def defaults(self, preset: str) -> Defaults:
        """A short run."""
        return Defaults(steps=20_000, num_envs=8, eval_every=5_000, eval_goals=8)

    def make(
        self, config: PendulumConfig, num_envs: int, device: str, threads: int, seed: int
    ) -> TaskEnv:
        """num_envs is over all tasks."""
        return PendulumEnv(num_envs, config, seed)


SPEC = PendulumSpec
