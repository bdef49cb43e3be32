"""HalfCheetah steps per second: the task environment and Gymnasium's vector environments."""

import os
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import gymnasium
import numpy as np
import torch

from benchmarks.limits import physics_of, share_row
from benchmarks.timing import seconds_per_call, speed_row, write_models
from polyreach.envs.cheetahs import (
    CHEETAH_GROUPS,
    CheetahConfig,
    CheetahEnv,
    cheetah_model,
    cheetah_spec,
)

ENVS_PER_TASK = (1, 8)


def measure(group: str) -> list[tuple[str, str]]:
    """Rows (comparison, ratio) for one group of cheetahs; all sides step the same models."""
    with TemporaryDirectory() as folder:
        paths = write_models({name: cheetah_spec(name) for name in CHEETAH_GROUPS[group]}, folder)
        return [row for count in ENVS_PER_TASK for row in _measure(group, count, paths)]


def _measure(group: str, envs_per_task: int, paths: list[Path]) -> list[tuple[str, str]]:
    cores, count = os.cpu_count() or 1, envs_per_task * len(paths)
    makers = [
        partial(gymnasium.make, "HalfCheetah-v5", xml_file=str(path), disable_env_checker=True)
        for path in paths
        for _ in range(envs_per_task)
    ]
    single = CheetahEnv(group, count, CheetahConfig())
    threaded = CheetahEnv(group, count, CheetahConfig(), threads=cores)
    sync = gymnasium.vector.SyncVectorEnv(makers)
    parallel = gymnasium.vector.AsyncVectorEnv(makers[:: max(1, count // (4 * cores))])
    sync.reset(seed=0)
    parallel.reset(seed=0)
    generator = torch.Generator().manual_seed(0)
    action = torch.rand(len(paths), envs_per_task, 6, generator=generator) * 2.0 - 1.0
    flat = action.reshape(count, 6).numpy()
    parallel_action = flat[: parallel.num_envs]
    models = [cheetah_model(name) for name in CHEETAH_GROUPS[group] for _ in range(envs_per_task)]
    seconds = seconds_per_call(
        {
            "single": lambda: single.step(action),
            "threaded": lambda: threaded.step(action),
            "sync": lambda: sync.step(flat),
            "physics": physics_of(models, flat.astype(np.float64), single.config.frame_skip),
            "parallel": lambda: parallel.step(parallel_action),
        }
    )
    parallel.close()
    sync.close()
    threaded.close()
    return [
        speed_row(
            f"{group}, 1 thread, vs Gymnasium SyncVectorEnv of {count}",
            count / seconds["single"],
            count / seconds["sync"],
        ),
        share_row(
            f"{group} of {count}, 1 thread: mj_step alone", seconds["physics"], seconds["single"]
        ),
        speed_row(
            f"{group} of {count}, {cores} threads, vs Gymnasium AsyncVectorEnv of "
            f"{parallel.num_envs}",
            count / seconds["threaded"],
            parallel.num_envs / seconds["parallel"],
        ),
    ]
