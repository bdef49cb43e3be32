"""Runs of version 0.1: their checkpoints are read, go on and are exported."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from task_fakes import assert_same

from polyreach.commands.train import train_config
from polyreach.deploy.export import load_run_policy
from polyreach.runs.checkpoint import list_checkpoints, read_checkpoint, save_checkpoint
from polyreach.runs.config import RunConfig
from polyreach.runs.training import train

TINY = """--method-config.final-lr 1.0 --num-envs 8 --seed 3 --eval-every 1000 --eval-goals 2
 --env-config.configurations 50
 --method-config.hidden 8 --method-config.batch-size 8 --method-config.replay-size 100
 --method-config.learning-starts 16""".split()
QUIET = Console(quiet=True)


def config_of(method: str, steps: int) -> RunConfig:
    return train_config([method, "planar8", *TINY, "--steps", str(steps)])[1]


def as_version_0_1(state: Mapping[str, Any], joints: int = 8) -> dict[str, Any]:
    """What version 0.1 stored: `policy` with its network `actor`, and no axis of tasks."""
    policy = {
        "actor." + name.removeprefix("mu.") if name.startswith("mu.") else name: value
        for name, value in state["actor"].items()
    }
    (ring,), (size,), (following,) = (state["replay"][name] for name in ("store", "size", "next"))
    obs = state["obs"].shape[-1]
    rewards = ring.shape[1] - 2 * obs - joints - 1
    obs, action, reward, terminated, next_obs = ring.split([obs, joints, rewards, 1, obs], dim=1)
    assert not terminated.any()
    store = [part.clone() for part in (obs, action, reward, next_obs)]
    return {
        **{name: value for name, value in state.items() if name != "actor"},
        "policy": policy,
        "obs": state["obs"][0],
        "replay": {"next": following, "size": size, "store": store},
    }


@pytest.mark.parametrize("method", ["digrad", "ddpg"])
def test_a_run_of_version_0_1_goes_on_and_exports(method: str, tmp_path: Path) -> None:
    config = config_of(method, 200)
    old, whole = tmp_path / "old", tmp_path / "whole"
    # half of the run, its checkpoint in the layout of version 0.1
    train(config_of(method, 96), tmp_path / "half", False, 10.0, QUIET)
    train(config, whole, False, 10.0, QUIET)
    (newest,) = list_checkpoints(tmp_path / "half" / "checkpoints")
    state = read_checkpoint(newest)
    old.mkdir()
    (old / "config.json").write_text((whole / "config.json").read_text())
    saved = as_version_0_1(state)
    assert "actor" not in saved and saved["obs"].dim() == 2
    path = save_checkpoint(old / "checkpoints", 96, saved)
    state["actor"] = dict(state["actor"])
    assert_same(read_checkpoint(path), state)
    policy, _, _, progress = load_run_policy(old)
    assert progress["steps"] == 96
    assert_same(dict(policy.state_dict()), state["actor"])
    # rates do not depend on the length of the run: final_lr is 1
    train(config, old, True, 10.0, QUIET)
    states = [
        read_checkpoint(list_checkpoints(folder / "checkpoints")[0]) for folder in (old, whole)
    ]
    for final in states:
        del final["wall_s"]
    assert_same(*states)


def test_states_of_other_learners_are_read_as_they_are(tmp_path: Path) -> None:
    state = {"actor": {"weight": torch.zeros(2)}, "env_steps": 7}
    assert_same(read_checkpoint(save_checkpoint(tmp_path, 7, state)), state)
