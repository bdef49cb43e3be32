"""What a run has learned: its newest checkpoint, in the learner that made it."""

from collections.abc import Mapping
from contextlib import closing
from typing import Any

import torch

from polyreach.runs.checkpoint import read_newest
from polyreach.errors import UserError
from polyreach.methods import get_method
from polyreach.methods.learner import Learner
from polyreach.runs.run import RunConfig, RunFolder


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


def restored_learner(config: RunConfig, state: Mapping[str, Any]) -> Learner:
    """The learner of a run, with the smallest environment; of `state` it has the actor."""
    env_spec, make = config.env_spec, get_method(config.method).learner
    tasks = env_spec.tasks
    # a learner draws its first weights from torch's own generator
    with (
        torch.random.fork_rng(devices=[]),
        closing(env_spec.make(config.env_config, max(1, len(tasks)), "cpu", 1, 0)) as env,
    ):
        learner = make(config.method_config, env, config.steps, config.seed)
    learner.actor.load_state_dict(state["actor"])
    return learner
