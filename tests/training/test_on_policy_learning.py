"""PPO and specialisation: they learn, and resume exactly."""

import random
import signal
import subprocess
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from command_line import polyreach, run, run_process
from task_fakes import PointMasses, assert_same
from test_train import last_state, wait_for_step

from polyreach.envs.task_env import play_episodes
from polyreach.methods import METHODS
from polyreach.methods.ppo import PPO
from polyreach.methods.specialization import Specialization
from polyreach.runs.checkpoint import read_newest, save_checkpoint
from polyreach.runs.folder import RunFolder

VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "ppo": ("ppo", {}),
    "ppo, one-hot": ("ppo", {"one_hot": True}),
    "ppo, PopArt": ("ppo", {"popart": True, "layer_norm": True}),
    "specialization": ("specialization", {}),
    "specialization, random": ("specialization", {"selection": "random"}),
    "specialization, value function": ("specialization", {"value_gradients": True}),
    "specialization, PopArt": ("specialization", {"value_gradients": True, "popart": True}),
    "specialization, separate": ("specialization", {"joint_steps": 0, "specialized": 1.0}),
}
# 60 steps are one iteration, and the split comes after the third
TINY: dict[str, Any] = {
    "hidden": (8, 6),
    "batch_steps": 60,
    "minibatch": 4,
    "epochs": 2,
    "lr": 1e-2,
    "final_lr": 0.2,
    "joint_steps": 180,
    "average_iterations": 2,
}


def learner_of(
    variant: str, env: PointMasses, total_steps: int, seed: int = 0, **settings: Any
) -> PPO:
    """`settings` that the method does not have are left out."""
    name, own = VARIANTS[variant]
    method = METHODS[name]
    known = {field.name for field in fields(method.config)}
    usable = {key: value for key, value in settings.items() if key in known}
    learner = method.learner(method.config(**usable | own), env, total_steps, seed)
    assert isinstance(learner, PPO)
    return learner


def score(learner: PPO) -> float:
    """Mean return of the policy without noise, on episodes it has not seen."""
    env = PointMasses(3, 40, horizon=10)
    return float(play_episodes(env, learner.actor.mean_action, seed=99).returns.mean())


@pytest.mark.parametrize("variant", VARIANTS)
def test_it_learns(variant: str) -> None:
    """A policy that is not conditioned on the task goes to the centre, equally far from targets;
    the others, and one that is split in joint training's second half, to the targets.
    """
    learner = learner_of(
        variant,
        PointMasses(3, 4, horizon=10),
        6_000,
        hidden=(16, 16),
        batch_steps=600,
        minibatch=50,
        lr=1e-2,
        gamma=0.8,
        joint_steps=2_400,
        average_iterations=3,
    )
    scores = [score(learner)]
    for steps in (2_400, 6_000):
        while learner.env_steps < steps:
            learner.step()
        scores.append(score(learner))
    env = PointMasses(3, 40, horizon=10)
    middle = float(play_episodes(env, lambda obs: -4 * obs, seed=99).returns.mean())
    start, joint, found = scores
    print(f"{variant}: {start:.2f} -> {joint:.2f} -> {found:.2f} (middle {middle:.2f})")
    assert joint > start + 0.5
    if variant in ("ppo", "ppo, PopArt"):
        assert abs(found - middle) < 0.5
    else:
        assert found > middle + 2.0
    if variant in ("specialization", "specialization, random"):
        # as blind as PPO until the split, and by a quarter of the weights after it
        assert joint < middle + 0.5
        share = float(learner.actor.net.split.float().mean())
        assert share == pytest.approx(0.25, abs=0.01)


@pytest.mark.parametrize("stop", [1, 2, 3, 5])
@pytest.mark.parametrize("variant", VARIANTS)
def test_a_stopped_run_resumes_bit_for_bit(variant: str, stop: int, tmp_path: Path) -> None:
    """Before and among the iterations that are measured, right after the split, and later."""

    def fresh(seed: int = 0) -> PPO:
        return learner_of(variant, PointMasses(3, 2, horizon=5, stop=0.15), 600, seed, **TINY)

    whole = fresh()
    for _ in range(stop):
        whole.step()
    joint = stop < 3 and "separate" not in variant
    if isinstance(whole, Specialization):
        assert whole.joint == joint == (not whole.actor.net.split.any())
    save_checkpoint(tmp_path, whole.env_steps, whole.state_dict())
    after = [whole.step() for _ in range(5)]
    # another seed, so that what is not restored shows; it has split where `whole` had not
    resumed = fresh(seed=7)
    for _ in range(4 if stop < 3 else 1):
        resumed.step()
    state, warnings = read_newest(tmp_path)
    assert state is not None and not warnings
    resumed.load_state_dict(state)
    if isinstance(resumed, Specialization):
        assert resumed.joint == joint == (not resumed.actor.net.split.any())
    assert_same([resumed.step() for _ in range(5)], after)
    assert_same(resumed.state_dict(), whole.state_dict())
    for part in ("env", "actor", "critic", "optimizer", "generator", "obs"):
        assert part in state


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_same_seed_is_the_same_run(variant: str) -> None:
    runs = [learner_of(variant, PointMasses(), 600, seed, **TINY) for seed in (3, 3, 4)]
    metrics = [[run.step() for _ in range(5)] for run in runs]
    assert metrics[0] == metrics[1] != metrics[2]
    assert_same(runs[0].state_dict(), runs[1].state_dict())


def test_a_run_killed_before_the_split_resumes_across_it(tmp_path: Path) -> None:
    words = """train specialization biped2 --steps 4800 --num-envs 8 --seed 3 --eval-every 1200
        --eval-goals 2 --checkpoint-minutes 0.005 --env-config.horizon 50
        --method-config.hidden 16 16 --method-config.batch-steps 160 --method-config.minibatch 16
        --method-config.joint-steps 3200""".split()
    done = run(*words, "--out", tmp_path / "whole")
    assert done.returncode == 0, done.stderr
    with subprocess.Popen(
        polyreach(*words, "--out", tmp_path / "killed"), stdout=subprocess.DEVNULL
    ) as process:
        wait_for_step(tmp_path / "killed", random.SystemRandom().randrange(200, 1000), process)
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    assert last_state(tmp_path / "killed")["joint"]
    resumed = run_process("train", "--resume", tmp_path / "killed")
    assert resumed.returncode == 0, resumed.stderr
    state = last_state(tmp_path / "whole")
    assert_same(last_state(tmp_path / "killed"), state)
    assert not state["joint"] and 0.2 < float(state["actor"]["net.split"].float().mean()) < 0.3
    expected, found = (RunFolder(tmp_path / name).read_metrics() for name in ("whole", "killed"))
    for record in (*expected, *found):
        del record["wall_s"]
    assert found == expected and len(found) == 4
