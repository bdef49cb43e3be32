"""Steps per second of legged robots: one call of MuJoCo's rollout for the whole batch, one call of
mj_step per robot, and Gymnasium's vector environments with the same models.
"""

import os
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import gymnasium
import mujoco
import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.limits import physics_of, share_row
from benchmarks.timing import seconds_per_call, speed_row, write_models
from polyreach.envs.legged.legged import LEGGED_GROUPS, LeggedConfig, LeggedEnv

ENVS_PER_TASK = (1, 4, 16)
PEERS = {3: "Hopper-v5", 6: "Walker2d-v5"}  # by number of actuators
PHYSICS = mujoco.mjtState.mjSTATE_FULLPHYSICS


class LoopedLeggedEnv(LeggedEnv):
    """The same environments with one MjData each, stepped in a loop of mj_step."""

    def __init__(self, group: str, num_envs: int, threads: int) -> None:
        super().__init__(group, num_envs, LeggedConfig(), threads=threads)
        models = np.repeat(np.array(self.models), self.envs_per_task)
        self._simulations = [(model, mujoco.MjData(model)) for model in models]
        self._chunks = threads
        self._threads = ThreadPoolExecutor(threads)

    def _simulate(
        self, listed: list[int], before: NDArray[np.float64], control: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        after, rows = before.copy(), self._numbers[listed].ravel()
        if self._chunks == 1:
            self._loop(rows, after, control)
        else:
            chunks = (np.array_split(values, self._chunks) for values in (rows, after, control))
            list(self._threads.map(self._loop, *chunks))
        return after, np.all(np.abs(after) <= mujoco.mjMAXVAL, axis=1)

    def _loop(
        self, rows: NDArray[np.int64], states: NDArray[np.float64], control: NDArray[np.float64]
    ) -> None:
        for row, state, ctrl in zip(rows, states, control, strict=True):
            model, data = self._simulations[row]
            mujoco.mj_setState(model, data, state, PHYSICS)
            data.qacc_warmstart[:] = 0.0
            data.ctrl[:] = ctrl
            mujoco.mj_step(model, data, self.config.frame_skip)
            mujoco.mj_getState(model, data, state, PHYSICS)

    def close(self) -> None:
        """Stop the threads."""
        super().close()
        self._threads.shutdown()


def measure(group: str) -> list[tuple[str, str]]:
    """Rows (comparison, ratio) for one group; all sides step the same models."""
    with TemporaryDirectory() as folder:
        specs = {name: task.spec() for name, task in LEGGED_GROUPS[group].items()}
        paths = write_models(specs, folder)
        return [row for count in ENVS_PER_TASK for row in _measure(group, count, paths)]


def _measure(group: str, envs_per_task: int, paths: list[Path]) -> list[tuple[str, str]]:
    cores, count = os.cpu_count() or 1, envs_per_task * len(paths)
    config = LeggedConfig()
    single = LeggedEnv(group, count, config)
    threaded = LeggedEnv(group, count, config, threads=cores)
    loop, threaded_loop = LoopedLeggedEnv(group, count, 1), LoopedLeggedEnv(group, count, cores)
    makers = [
        partial(
            gymnasium.make,
            PEERS[single.action_size],
            xml_file=str(path),
            healthy_z_range=((config.min_height - 1.0) * model.body("torso").pos[2], np.inf),
            healthy_angle_range=(-0.4, 0.4),
            disable_env_checker=True,
        )
        for path, model in zip(paths, single.models, strict=True)
        for _ in range(envs_per_task)
    ]
    sync = gymnasium.vector.SyncVectorEnv(makers)
    parallel = gymnasium.vector.AsyncVectorEnv(makers[:: max(1, count // (4 * cores))])
    sync.reset(seed=0)
    parallel.reset(seed=0)
    generator = torch.Generator().manual_seed(0)
    shape = (single.tasks, envs_per_task, single.action_size)
    action = torch.rand(shape, generator=generator) * 2.0 - 1.0
    flat = action.reshape(count, -1).numpy()
    parallel_action = flat[: parallel.num_envs]
    models = [model for model in single.models for _ in range(envs_per_task)]
    seconds = seconds_per_call(
        {
            "single": lambda: single.step(action),
            "loop": lambda: loop.step(action),
            "sync": lambda: sync.step(flat),
            "physics": physics_of(models, flat.astype(np.float64), config.frame_skip),
            "threaded": lambda: threaded.step(action),
            "threaded_loop": lambda: threaded_loop.step(action),
            "parallel": lambda: parallel.step(parallel_action),
        }
    )
    for env in (parallel, sync, single, threaded, loop, threaded_loop):
        env.close()
    speed = {name: count / call_s for name, call_s in seconds.items()}
    speed["parallel"] = parallel.num_envs / seconds["parallel"]
    name = f"{group} of {count}"
    return [
        speed_row(f"{name}, 1 thread, vs a loop of mj_step", speed["single"], speed["loop"]),
        speed_row(f"{name}, 1 thread, vs Gymnasium SyncVectorEnv", speed["single"], speed["sync"]),
        share_row(f"{name}, 1 thread: mj_step alone", seconds["physics"], seconds["single"]),
        speed_row(
            f"{name}, {cores} threads, vs {cores} threads with loops of mj_step",
            speed["threaded"],
            speed["threaded_loop"],
        ),
        speed_row(
            f"{name}, {cores} threads, vs Gymnasium AsyncVectorEnv of {parallel.num_envs}",
            speed["threaded"],
            speed["parallel"],
        ),
    ]
