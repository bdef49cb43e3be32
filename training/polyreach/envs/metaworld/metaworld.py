"""Meta-World's task sets MT10 and MT50 (Yu et al., Meta-World: A Benchmark and Evaluation for
Multi-Task and Meta Reinforcement Learning, 2019), stepped with the package metaworld 3.1.1.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from polyreach.envs.env_spec import EnvConfig
from polyreach.envs.metaworld.pool import ACTION_SIZE, GO_ON, LocalPool, Pool, WorkerPool
from polyreach.envs.metaworld.scripted import scripted_policies
from polyreach.envs.metaworld.simulation import GOALS
from polyreach.envs.metaworld.task import OBS_SIZE, import_metaworld
from polyreach.envs.task_env import Scripted, TaskEnv, TaskStep, envs_per_task
from polyreach.errors import UserError, check_choice, check_range

TASK_SETS: dict[str, tuple[str, ...]] = {
    "mt3": ("reach-v3", "window-open-v3", "drawer-close-v3"),
    "mt10": (
        "reach-v3",
        "push-v3",
        "pick-place-v3",
        "door-open-v3",
        "drawer-open-v3",
        "drawer-close-v3",
        "button-press-topdown-v3",
        "peg-insert-side-v3",
        "window-open-v3",
        "window-close-v3",
    ),
    "mt50": (
        "assembly-v3",
        "basketball-v3",
        "bin-picking-v3",
        "box-close-v3",
        "button-press-topdown-v3",
        "button-press-topdown-wall-v3",
        "button-press-v3",
        "button-press-wall-v3",
        "coffee-button-v3",
        "coffee-pull-v3",
        "coffee-push-v3",
        "dial-turn-v3",
        "disassemble-v3",
        "door-close-v3",
        "door-lock-v3",
        "door-open-v3",
        "door-unlock-v3",
        "hand-insert-v3",
        "drawer-close-v3",
        "drawer-open-v3",
        "faucet-open-v3",
        "faucet-close-v3",
        "hammer-v3",
        "handle-press-side-v3",
        "handle-press-v3",
        "handle-pull-side-v3",
        "handle-pull-v3",
        "lever-pull-v3",
        "pick-place-wall-v3",
        "pick-out-of-hole-v3",
        "pick-place-v3",
        "plate-slide-v3",
        "plate-slide-side-v3",
        "plate-slide-back-v3",
        "plate-slide-back-side-v3",
        "peg-insert-side-v3",
        "peg-unplug-side-v3",
        "soccer-v3",
        "stick-push-v3",
        "stick-pull-v3",
        "push-v3",
        "push-wall-v3",
        "push-back-v3",
        "reach-v3",
        "reach-wall-v3",
        "shelf-place-v3",
        "sweep-into-v3",
        "sweep-v3",
        "window-open-v3",
        "window-close-v3",
    ),
}
"""Tasks by name and in order, as the package has them; mt3 is the cheap set of three."""


@dataclass(frozen=True)
class MetaWorldConfig(EnvConfig):
    """A Meta-World environment."""

    goals: Literal["fixed", "random", "shuffled"] = "fixed"
    """fixed: always the first of the task's 50 goals. random: one of the 50 at each start.
    shuffled: the environments of a task take turns at its 50, in an order that is drawn anew after
    each round.
    """
    reward: Literal["v1", "v2"] = "v2"
    """Version of the package's reward functions. v1: unbounded, thousands near the goal. v2: from 0
    to 10.
    """
    horizon: int = 500
    """Steps of an episode; its end truncates, and never terminates."""
    workers: int = 0
    """Number of processes that step the environments; 0: the main process does."""

    def __post_init__(self) -> None:
        """Raise UserError for a value that no environment can have."""
        check_choice(self, goals=("fixed", "random", "shuffled"), reward=("v1", "v2"))
        check_range("horizon", self.horizon, 1)
        check_range("workers", self.workers, 0)


class MetaWorldEnv(TaskEnv):
    """The tasks of a Meta-World set, `num_envs` environments in all.

    Observations are the package's 39 numbers with the goal in them: hand [m], gripper opening and
    two objects (position [m], quaternion), now and one step before, and the goal [m], but
    not the task. Actions are the hand's displacement (3) in units of 1 cm and the gripper's effort.
    Success is the package's flag in the state that was reached.

    Every task has 50 goals, those of metaworld.MT1(name, seed=0), whatever `seed` and the set are.
    every_goal: one environment for each goal that the config uses (1 if fixed, 50 otherwise)
    instead of `num_envs`; environment (t, i) always has goal i, so that one episode each covers
    every goal once.

    Raises UserError for an unknown set, if `num_envs` is not a multiple of the number of tasks, or
    if the package is not installed. Call `reset` or `load_state_dict` before `step`.
    """

    def __init__(
        self,
        task_set: str,
        num_envs: int,
        config: MetaWorldConfig,
        device: str | torch.device = "cpu",
        seed: int = 0,
        every_goal: bool = False,
    ) -> None:
        if task_set not in TASK_SETS:
            raise UserError(f"unknown task set '{task_set}' (there are: {', '.join(TASK_SETS)})")
        import_metaworld()
        self.config, self.every_goal = config, every_goal
        self.device = torch.device(device)
        self.task_names = TASK_SETS[task_set]
        self.goals = 1 if config.goals == "fixed" else GOALS
        if every_goal:
            num_envs = self.tasks * self.goals
        self.envs_per_task = envs_per_task(num_envs, self.task_names, task_set)
        self.obs_size, self.action_size = OBS_SIZE, ACTION_SIZE
        self.horizon, self.success_at_end = config.horizon, False
        self._pool: Pool
        if config.workers:
            workers = min(config.workers, num_envs)
            self._pool = WorkerPool(self.task_names, self.envs_per_task, config.reward, workers)
        else:
            self._pool = LocalPool(self.task_names, self.envs_per_task, config.reward)
        self._generators = [torch.Generator() for _ in self.task_names]
        self._ahead = [torch.arange(0)] * self.tasks  # of shuffled goals, those of the next starts
        self._elapsed = [0] * self.tasks  # steps since the start of each task's episodes
        self._started = False
        self._seed(seed)

    def reset(self, seed: int) -> Tensor:
        """Start all episodes anew, everything random drawn from `seed`; observations (T, n, 39)."""
        self._seed(seed)
        for task in range(self.tasks):
            self._pool.buffers.next_goal[task] = self._draw_goals(task)
        self._pool.start(self._pairs(range(self.tasks)))
        self._elapsed = [0] * self.tasks
        self._started = True
        return self._read(self._pool.buffers.obs, range(self.tasks))

    def step(self, action: Tensor, tasks: Sequence[int] | None = None) -> TaskStep:
        """action: (T', n, 4) for the tasks listed, all if None; the others do not change."""
        if not self._started:
            raise RuntimeError("reset or load_state_dict must come before step")
        which, clipped = self.checked(action, tasks)
        buffers = self._pool.buffers
        buffers.action[which] = clipped.to("cpu", torch.float32).numpy()
        over = torch.zeros(len(which), self.envs_per_task, dtype=torch.bool, device=self.device)
        for row, task in enumerate(which):
            self._elapsed[task] += 1
            buffers.next_goal[task] = GO_ON
            if self._elapsed[task] >= self.horizon:
                buffers.next_goal[task] = self._draw_goals(task)
                self._elapsed[task] = 0
                over[row] = True
        self._pool.step(self._pairs(which))
        return TaskStep(
            obs=self._read(buffers.obs, which),
            reward=self._read(buffers.reward, which).float(),
            terminated=torch.zeros_like(over),
            truncated=over,
            success=self._read(buffers.success, which),
            final_obs=self._read(buffers.final_obs, which),
        )

    def state_dict(self) -> dict[str, Any]:
        """Everything that the next steps depend on, in tensors, numbers, lists and dicts."""
        pairs = self._pairs(range(self.tasks)) if self._started else []
        return {
            "environments": self._environments(),
            "elapsed": list(self._elapsed),
            "generators": [generator.get_state() for generator in self._generators],
            "ahead": [goals.clone() for goals in self._ahead],
            "episodes": [_to_tensors(state) for state in self._pool.state(pairs)],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what state_dict returned; the steps that follow are the same to the last bit.

        Raises UserError if it is the state of other environments.
        """
        if state["environments"] != self._environments():
            raise UserError(
                f"this is the state of {state['environments']}, but here are {self._environments()}"
            )
        episodes = state["episodes"]
        self._elapsed = list(state["elapsed"])
        for generator, saved in zip(self._generators, state["generators"], strict=True):
            generator.set_state(saved.cpu())
        # checkpoints of older versions have none
        self._ahead = [goals.cpu().clone() for goals in state.get("ahead", self._ahead)]
        self._started = bool(episodes)
        if episodes:
            pairs = self._pairs(range(self.tasks))
            self._pool.load_state(pairs, [_to_arrays(episode) for episode in episodes])

    def scripted(self) -> Scripted:
        """Those of the package."""
        return scripted_policies(self.task_names)

    def close(self) -> None:
        """Stop the processes."""
        self._pool.close()

    def _environments(self) -> str:
        return (
            f"{self.envs_per_task} each of {', '.join(self.task_names)} with {self.config.reward} "
            "rewards"
        )

    def _seed(self, seed: int) -> None:
        for task, generator in enumerate(self._generators):
            # each task draws from a stream of its own, so that which tasks are stepped is no matter
            mixed = np.random.SeedSequence([seed, task]).generate_state(1, np.uint64)[0]
            generator.manual_seed(int(mixed) >> 1)
            self._ahead[task] = torch.arange(0)

    def _draw_goals(self, task: int) -> Any:
        if self.every_goal:
            return np.arange(self.goals)
        generator, number = self._generators[task], self.envs_per_task
        if self.config.goals != "shuffled":
            return torch.randint(self.goals, (number,), generator=generator).numpy()
        ahead = self._ahead[task]
        while len(ahead) < number:
            ahead = torch.cat([ahead, torch.randperm(self.goals, generator=generator)])
        self._ahead[task] = ahead[number:]
        return ahead[:number].numpy()

    def _pairs(self, tasks: Sequence[int]) -> list[tuple[int, int]]:
        return [(task, i) for task in tasks for i in range(self.envs_per_task)]

    def _read(self, array: Any, tasks: Sequence[int]) -> Tensor:
        return torch.from_numpy(array[list(tasks)]).to(self.device)


def _to_tensors(value: Any) -> Any:
    """Arrays and NumPy's numbers as tensors, the latter without dimensions."""
    if isinstance(value, dict):
        return {name: _to_tensors(item) for name, item in value.items()}
    return (
        torch.from_numpy(np.array(value)) if isinstance(value, np.ndarray | np.generic) else value
    )


def _to_arrays(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _to_arrays(item) for name, item in value.items()}
    # a copy: arrays that look into other memory are taken for views into the simulation
    return value.cpu().numpy().copy()[()] if isinstance(value, Tensor) else value
