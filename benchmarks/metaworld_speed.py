"""Environment steps per second of Meta-World: ours in this process and in two worker processes, the
environments of the package metaworld, and those of EnvPool where it is installed.

EnvPool draws its goals from a seed and has no way to set a goal or a state, so it cannot play the
50 goals of a benchmark or go on from a checkpoint.
"""

import importlib
import importlib.util
import pickle
from typing import Any

import numpy as np
import torch
from metaworld.env_dict import ALL_V3_ENVIRONMENTS
from metaworld.types import Task

from benchmarks.limits import physics_of, share_row
from benchmarks.timing import seconds_per_call, speed_row
from polyreach.envs.metaworld.metaworld import TASK_SETS, MetaWorldConfig, MetaWorldEnv
from polyreach.envs.metaworld.simulation import Simulation

HORIZON = 500
LABELS = {"package": "the package metaworld", "envpool": "EnvPool, a thread per task"}


def package_env(name: str, goal: Any) -> Any:
    """The unmodified package environment of task `name`; `goal` is in the package's encoding."""
    env = ALL_V3_ENVIRONMENTS[name](reward_function_version="v2")
    data = {"rand_vec": goal, "env_cls": type(env), "partially_observable": False}
    env.set_task(Task(env_name=name, data=pickle.dumps(data)))
    env.reset()
    return env


def envpool_env(name: str) -> Any:
    """EnvPool's environment of task `name`, on a thread of its own."""
    registration = importlib.import_module("envpool.mujoco.metaworld.registration")
    env = importlib.import_module("envpool").make(
        registration.metaworld_task_id(name), env_type="gymnasium", num_envs=1, num_threads=1
    )
    env.reset()
    return env


def measure(task_set: str) -> list[tuple[str, str]]:
    """Rows (comparison, ratio) for one task set, one environment per task, including resets."""
    tasks = len(TASK_SETS[task_set])
    ours = MetaWorldEnv(task_set, tasks, MetaWorldConfig(horizon=HORIZON))
    parallel = MetaWorldEnv(task_set, tasks, MetaWorldConfig(horizon=HORIZON, workers=2))
    ours.reset(0)
    parallel.reset(0)
    package = [package_env(name, Simulation(name, "v2").goals[0]) for name in ours.task_names]
    peers = ["package"]
    pools = []
    if importlib.util.find_spec("envpool") is not None:
        peers.append("envpool")
        pools = [envpool_env(name) for name in ours.task_names]
    rng = np.random.default_rng(0)
    actions = rng.uniform(-1.0, 1.0, (HORIZON, tasks, 1, 4)).astype(np.float32)
    steps = {"ours": 0, "parallel": 0, "package": 0, "envpool": 0}

    def next_action(name: str) -> Any:
        steps[name] += 1
        return actions[steps[name] % HORIZON]

    def step_package() -> None:
        for env, action in zip(package, next_action("package")[:, 0], strict=True):
            if env.step(action)[3]:
                env.reset()

    def step_envpool() -> None:
        # an environment that is over is reset by its next step
        for pool, action in zip(pools, next_action("envpool"), strict=True):
            pool.send(action)
        for pool in pools:
            pool.recv()

    functions = {
        "ours": lambda: ours.step(torch.from_numpy(next_action("ours"))),
        "parallel": lambda: parallel.step(torch.from_numpy(next_action("parallel"))),
        "package": step_package,
        "envpool": step_envpool,
    }
    models = [env.unwrapped.model for env in package]
    ctrl = np.repeat(actions[0, :, 0, 3:].astype(np.float64), 2, axis=1) * (1.0, -1.0)
    functions["physics"] = physics_of(models, ctrl, package[0].unwrapped.frame_skip)
    names = ["ours", "parallel", *peers, "physics"]
    seconds = seconds_per_call({name: functions[name] for name in names})
    parallel.close()
    rows = [
        speed_row(
            f"{task_set}, {processes}, vs {LABELS[peer]}",
            tasks / seconds[name],
            tasks / seconds[peer],
        )
        for peer in peers
        for processes, name in (("one process", "ours"), ("two processes", "parallel"))
    ]
    rows.append(
        share_row(f"{task_set}, one process: mj_step alone", seconds["physics"], seconds["ours"])
    )
    if not pools:
        rows.append(
            (f"{task_set}, vs {LABELS['envpool']}", "not installed: pip install envpool==1.2.5")
        )
    return rows
