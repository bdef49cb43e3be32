"""The trained policy of a run: its newest checkpoint, in the learner that made it."""

import hashlib
import json
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import torch

from polyreach.errors import UserError
from polyreach.methods import get_method
from polyreach.methods.learner import Learner
from polyreach.methods.trained_policy import (
    SCRIPTED,
    FilePolicy,
    RunPolicy,
    ScriptedPolicy,
    TrainedPolicy,
)
from polyreach.robot.onnx_policy import PolicyFile
from polyreach.runs.checkpoint import read_newest
from polyreach.runs.config import RunConfig, load_run_env_spec
from polyreach.runs.folder import RunFolder


def newest_state(run: RunFolder, config: RunConfig) -> dict[str, Any]:
    """The newest checkpoint of `run`, whose configuration is `config`.

    Raises UserError if there is none yet, and CheckpointError if none can be read.
    """
    state, _ = read_newest(run.checkpoints)
    if state is None:
        raise UserError(
            f"'{run.path}' has no checkpoint yet: train it first "
            f"(polyreach train {config.method} {config.env} --resume {run.path})"
        )
    return state


def restore_learner(config: RunConfig, state: Mapping[str, Any]) -> Learner:
    """The learner of a run, with the smallest environment, which is closed; of `state` it has the
    actor.
    """
    env_spec, make = config.env_spec, get_method(config.method).learner
    num_envs = max(1, len(env_spec.tasks))
    # a learner draws its first weights from torch's own generator
    with (
        torch.random.fork_rng(devices=[]),
        closing(env_spec.make(config.env_config, num_envs, "cpu", 1, 0)) as env,
    ):
        learner = make(config.method_config, env, config.steps, config.seed)
    learner.actor.load_state_dict(state["actor"])
    return learner


def read_run(path: str) -> RunPolicy:
    """The newest policy of the run in the folder `path`, of a task-conditioned method.

    Raises RunError if there is none, UserError if it has no checkpoint or no tasks, and
    CheckpointError if none can be read.
    """
    folder = RunFolder(Path(path))
    config = folder.read_config()
    tasks = load_run_env_spec(config).tasks
    if not tasks:
        raise UserError(
            f"'{path}' is a run of {config.method}, which is not conditioned on the task: export "
            "it, and name the .onnx file instead"
        )
    state = newest_state(folder, config)
    # as it was written, for later versions may know more settings
    digest = hashlib.sha256(json.dumps(folder.stored_config(), sort_keys=True).encode())
    for part in ("actor", "critic"):
        for name, value in sorted(state.get(part, {}).items()):
            digest.update(f"{part}.{name}".encode() + value.contiguous().numpy().tobytes())
    learner = restore_learner(config, state)
    return RunPolicy(
        path,
        digest.hexdigest(),
        config.robot_sha256,
        config.method,
        config.method_config,
        config.env,
        config.env_config,
        tasks,
        learner.env.obs_size,
        learner.env.action_size,
        learner.actor.requires_grad_(False),
        state.get("critic", {}),
    )


def read_policy(path: str) -> TrainedPolicy:
    """The newest policy of the run folder `path`, the exported policy in an .onnx file, or for
    SCRIPTED the scripted policies of the environment.

    Raises UserError for what cannot be read.
    """
    if path == SCRIPTED:
        return ScriptedPolicy()
    if not path.endswith(".onnx"):
        return read_run(path)
    file = PolicyFile(Path(path))
    sha256 = hashlib.sha256(Path(path).read_bytes()).hexdigest()
    return FilePolicy(path, sha256, str(file.contract.get("robot_sha256", "")), file)
