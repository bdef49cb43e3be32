"""Train METHODs on ENV on the CPU and on the device of stand_in_device.py, for some steps and for
one more from the state of the CPU, and evaluate the last; print a line of JSON for each.

    python train_on_stand_in.py ENV METHOD [METHOD ...]

A difference is the largest between the weights of the two devices, as a share of the largest
weight, or between the figures of the two evaluations, as a share of the figure.
"""

import json
import sys
import tempfile
import traceback
from copy import deepcopy
from dataclasses import fields
from pathlib import Path
from typing import Any

import stand_in_device
import torch
from stand_in_device import NAME

from polyreach.commands.train import train_config
from polyreach.methods import get_method
from polyreach.methods.learner import Learner
from polyreach.runs.checkpoint import save_checkpoint
from polyreach.runs.config import RunConfig
from polyreach.runs.folder import RunFolder
from polyreach.runs.trained_policy import read_policy

SMALL = {
    "hidden": "8",
    "width": "8",
    "embedding": "8",
    "batch-size": "8",
    "replay-size": "200",
    "learning-starts": "16",
    "teacher-updates": "2",
    "transfer-updates": "2",
    "batch-steps": "64",
    "minibatch": "8",
    "epochs": "1",
    "joint-steps": "64",
    "average-iterations": "1",
}
STARTS = {"distillation": "teachers", "fine-tuning": "start", "ppo-fine-tuning": "start"}
STEPS = 6
CPU = "cpu"


def options(method: str, start: Path | None = None) -> list[str]:
    """Settings of a small run; `start` is the run from which it starts."""
    known = {field.name.replace("_", "-") for field in fields(get_method(method).config)}
    values = {name: value for name, value in SMALL.items() if name in known}
    if start is not None:
        values[STARTS[method]] = str(start)
    if method == "fine-tuning":
        values["source-task"] = "together"
    return [word for name, value in values.items() for word in (f"--method-config.{name}", value)]


def learner_of(words: list[str], device: str) -> tuple[RunConfig, Learner]:
    """A configuration and its learner."""
    _, config = train_config([*words, "--num-envs", "24", "--steps", "4000", "--seed", "1"])
    env = config.env_spec.make(config.env_config, config.num_envs, device, 1, config.seed)
    make = get_method(config.method).learner
    return config, make(config.method_config, env, config.steps, config.seed)


def start_run(folder: Path, env: str, *words: str) -> Path:
    """The folder of a run of A2C that has not learned."""
    config, learner = learner_of(["a2c", env, *options("a2c"), *words], CPU)
    RunFolder(folder).create(config)
    save_checkpoint(RunFolder(folder).checkpoints, 0, learner.state_dict())
    return folder


def difference(left: Learner, right: Learner) -> float:
    """The largest between weights of two actors, of the largest weight."""
    rows = [
        torch.cat([value.detach().cpu().flatten() for value in learner.actor.parameters()])
        for learner in (left, right)
    ]
    return float((rows[0] - rows[1]).abs().max() / rows[0].abs().max())


def train_on_both(method: str, env: str, folder: Path) -> tuple[RunConfig, Learner, dict[str, Any]]:
    """The learner of the device, and what is printed of it."""
    start = None
    if method in STARTS:
        own = ("--method-config.sharing", "none") if method == "fine-tuning" else ()
        start = start_run(folder / method, env, *own)
    words = [method, env, *options(method, start)]
    (config, reference), (_, learner) = (learner_of(words, name) for name in (CPU, NAME))
    for each in (reference, learner):
        each.prepare(read_policy)
        for _ in range(STEPS):
            each.step()
    trained = difference(reference, learner)
    learner.resume(deepcopy(reference.state_dict()), read_policy)
    for each in (reference, learner):
        each.step()
    weights = learner.actor.parameters()
    return (
        config,
        learner,
        {
            "name": method,
            "devices": sorted({value.device.type for value in weights}),
            "updates": learner.updates,
            "differences": [trained, difference(reference, learner)],
        },
    )


def evaluate_on_both(config: RunConfig, learner: Learner) -> dict[str, Any]:
    """What is printed of an evaluation; the policy of the CPU is the learner's."""
    records = []
    for device in (NAME, CPU):
        env = config.env_spec.make_evaluation(config.env_config, 1, device, 1)
        records.append(config.env_spec.evaluate(env, learner.policy))
        learner.actor.to(CPU)
    pairs = [(value, records[1][name]) for name, value in records[0].items()]
    differences = [abs(left - right) / max(1e-9, abs(right)) for left, right in pairs]
    return {"name": "evaluation", "devices": [NAME], "differences": differences}


def main(env: str, *methods: str) -> None:
    """Print what happens to all methods."""
    torch.set_num_threads(1)
    stand_in_device.install()
    with tempfile.TemporaryDirectory() as folder:
        for method in methods:
            try:
                config, learner, result = train_on_both(method, env, Path(folder))
            except Exception:
                result = {"name": method, "error": traceback.format_exc()}
            print(json.dumps(result), flush=True)
    print(json.dumps(evaluate_on_both(config, learner)))


if __name__ == "__main__":
    main(*sys.argv[1:])
