"""Environment steps per second of Meta-World: ours, in this process and in two, and the package's
own environments.
"""

import pickle
from typing import Any

import numpy as np
import torch
from metaworld.env_dict import ALL_V3_ENVIRONMENTS
from metaworld.types import Task

from benchmarks.timing import seconds_per_call
from polyreach.envs.metaworld.metaworld import TASK_SETS, MetaWorldConfig, MetaWorldEnv
from polyreach.envs.metaworld.simulation import Simulation

HORIZON = 500


def package_env(name: str, goal: Any) -> Any:
    """The package's environment of task `name`, untouched, with `goal` in its own encoding."""
    env = ALL_V3_ENVIRONMENTS[name](reward_function_version="v2")
    data = {"rand_vec": goal, "env_cls": type(env), "partially_observable": False}
    env.set_task(Task(env_name=name, data=pickle.dumps(data)))
    env.reset()
    return env


def measure(task_set: str) -> list[tuple[str, str]]:
    """Rows of (what, ratio) for one set of tasks, one environment each, resets included."""
    tasks = len(TASK_SETS[task_set])
    ours = MetaWorldEnv(task_set, tasks, MetaWorldConfig(horizon=HORIZON))
    shared = MetaWorldEnv(task_set, tasks, MetaWorldConfig(horizon=HORIZON, workers=2))
    ours.reset(0)
    shared.reset(0)
    plain = [package_env(name, Simulation(name, "v2").goals[0]) for name in ours.task_names]
    rng = np.random.default_rng(0)
    actions = rng.uniform(-1.0, 1.0, (HORIZON, tasks, 1, 4)).astype(np.float32)
    turn = {"ours": 0, "shared": 0, "plain": 0}

    def next_action(name: str) -> Any:
        turn[name] += 1
        return actions[turn[name] % HORIZON]

    def step_plain() -> None:
        for env, action in zip(plain, next_action("plain")[:, 0], strict=True):
            if env.step(action)[3]:
                env.reset()

    seconds = seconds_per_call(
        {
            "ours": lambda: ours.step(torch.from_numpy(next_action("ours"))),
            "shared": lambda: shared.step(torch.from_numpy(next_action("shared"))),
            "plain": step_plain,
        }
    )
    shared.close()
    peer = tasks / seconds["plain"]
    rows = []
    for what, name in (("this process", "ours"), ("two processes", "shared")):
        rate = tasks / seconds[name]
        rows.append(
            (
                f"{task_set}, {what}, over the package metaworld",
                f"{rate / peer:.1f} x ({rate:,.0f} against {peer:,.0f} steps/s)",
            )
        )
    return rows
