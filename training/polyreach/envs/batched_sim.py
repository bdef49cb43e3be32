"""Tasks whose environments are simulations side by side, all with states of one size."""

from abc import abstractmethod
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from polyreach.envs.env_spec import EVALUATION_SEED, C, E, EnvSpec, Record
from polyreach.envs.task_env import TaskEnv

Rows = NDArray[np.int64] | slice  # of environments


class SimulatedTasks(TaskEnv):
    """Keeps the states (T n, S) of all environments, task by task, and the steps since they
    started.
    """

    def __init__(self, num_envs: int, state_size: int) -> None:
        self._numbers = np.arange(num_envs).reshape(self.tasks, -1)
        self._state = np.zeros((num_envs, state_size))
        self._elapsed = np.zeros(num_envs, dtype=np.int64)
        self._generator = torch.Generator()

    @abstractmethod
    def _restart(self, rows: NDArray[np.int64]) -> None:
        """Start new episodes in the environments `rows` (R,)."""

    def _rows(self, listed: list[int]) -> Rows:
        """The environments of the tasks listed, R = T' n; a slice, which is faster, if all are."""
        if listed == list(range(self.tasks)):
            return slice(None)
        return self._numbers[listed].ravel()

    @abstractmethod
    def _observe(self, rows: Rows) -> Tensor:
        """(T', n, O), of the environments `rows` (R,), which are all of T' tasks."""

    def _put(self, rows: NDArray[np.int64]) -> None:
        """Bring what else there is of the simulations `rows` (R,) into their states."""

    def reset(self, seed: int) -> Tensor:
        """Start all episodes anew, everything random drawn from `seed`; observations (T, n, O)."""
        self._generator.manual_seed(seed)
        self._restart(self._numbers.ravel())
        return self._observe(slice(None))

    def _uniform(self, rows: NDArray[np.int64], count: int) -> NDArray[np.float64]:
        """Numbers from -1 to 1 (R, count)."""
        size = (len(rows), count)
        uniform = torch.rand(size, generator=self._generator, dtype=torch.float64) * 2.0 - 1.0
        numbers: NDArray[np.float64] = uniform.numpy()
        return numbers

    def _tensor(
        self, values: NDArray[np.float32] | NDArray[np.bool_], shape: tuple[int, ...]
    ) -> Tensor:
        return torch.from_numpy(values.reshape(shape)).to(self.device)

    def state_dict(self) -> dict[str, Any]:
        """Everything that the next steps depend on."""
        return {
            "state": torch.tensor(self._state),
            "elapsed": torch.tensor(self._elapsed),
            "generator": self._generator.get_state(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what state_dict returned; the steps that follow are the same to the last bit."""
        self._state[:] = state["state"].cpu().numpy()
        self._elapsed[:] = state["elapsed"].cpu().numpy()
        self._generator.set_state(state["generator"].cpu())
        self._put(self._numbers.ravel())


class SimulatedEnvSpec(EnvSpec[C, E]):
    """A group of simulated tasks, measured by their returns."""

    measured = ("return",)

    def make_evaluation(self, config: C, goals: int, device: str, threads: int) -> E:
        """`goals` episodes of each task."""
        return self.make(config, goals * len(self.tasks), device, threads, EVALUATION_SEED)

    def note(self, record: Record) -> str:
        """The mean return."""
        return f"return {record['return']:,.0f}"
