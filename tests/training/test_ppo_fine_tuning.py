"""PPO from a student: what it takes over, the value function that learns first, learning on, and
exact resume.
"""

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from task_fakes import PointMasses, assert_goes_on, assert_same

from polyreach.envs.env_spec import EnvConfig
from polyreach.envs.task_env import TaskEnv, play_episodes
from polyreach.errors import UserError
from polyreach.methods.a2c import A2C, A2CConfig
from polyreach.methods.distillation import Distillation, DistillationConfig
from polyreach.methods.multi_head import HeadsLearner
from polyreach.methods.ppo import PPO, PPOConfig
from polyreach.methods.ppo_fine_tuning import PPOFineTuning, PPOFineTuningConfig
from polyreach.methods.trained_policy import FilePolicy, RunPolicy, TrainedPolicy
from polyreach.robot.onnx_policy import PolicyFile

MODELS = Path(__file__).parents[2] / "models"
HIDDEN = (16, 16)


def student(tasks: int = 3, steps: int = 40, **changes: Any) -> A2C:
    """A policy with a head per task, whose heads and statistics differ from new ones."""
    config = A2CConfig(**{"hidden": HIDDEN, "lr": 5e-3, **changes})
    learner = A2C(config, PointMasses(tasks), 10_000, seed=5)
    for _ in range(steps):
        learner.step()
    return learner


def run_of(learner: HeadsLearner, config: Any, method: str = "a2c") -> RunPolicy:
    env = learner.env
    return RunPolicy(
        path="runs/start",
        sha256="c" * 64,
        robot_sha256="",
        method=method,
        config=config,
        env="targets",
        env_config=EnvConfig(),
        tasks=env.task_names,
        obs_size=env.obs_size,
        action_size=env.action_size,
        actor=copy.deepcopy(learner.actor),
        critic={},
    )


def student_run(**changes: Any) -> RunPolicy:
    learner = student(**changes)
    return run_of(learner, learner.config)


def continued(
    run: TrainedPolicy,
    env: TaskEnv | None = None,
    seed: int = 0,
    total_steps: int = 4000,
    **changes: Any,
) -> PPOFineTuning:
    """Prepared for a run that starts from `run`."""
    small: dict[str, Any] = {"hidden": HIDDEN, "start": "runs/start", "batch_steps": 400}
    settings = PPOFineTuningConfig(**{**small, **changes})
    learner = PPOFineTuning(settings, env or PointMasses(3), total_steps, seed)
    learner.prepare(lambda path: run)
    return learner


def test_it_starts_as_the_student_in_every_task() -> None:
    run = student_run()
    obs = 2 * torch.rand(3, 9, 2) - 1
    expected = run.actor.mean_action(obs)
    assert not torch.allclose(expected[0], run.actor.mean_action(obs[[1, 1, 1]])[0], atol=1e-3)
    learner = continued(run, initial_std=0.3)
    assert torch.allclose(learner.actor.mean_action(obs), expected, atol=1e-6)
    assert torch.allclose(learner.actor.distribution(obs)[1].exp(), torch.tensor(0.3), atol=1e-6)
    # some of its tasks, in another order
    env = PointMasses(2)
    env.task_names = ("target_2", "target_0")
    found = continued(run, env).actor.mean_action(obs[[2, 0]])
    assert torch.allclose(found, expected[[2, 0]], atol=1e-6)


def test_hidden_layers_stay_shared_and_heads_part() -> None:
    learner = continued(student_run(), value_share=0.0)
    net = learner.actor.net
    assert torch.equal(net.split, net.last_layers(1))
    before = net.weights().clone()
    for _ in range(3):
        learner.step()
    moved = net.weights() - before
    assert torch.equal(moved[0, ~net.split], moved[1, ~net.split])
    assert moved[0, ~net.split].any()
    assert not torch.equal(moved[0, net.split], moved[1, net.split])


def test_the_value_function_learns_before_the_policy() -> None:
    learner = continued(student_run(), total_steps=4000, value_share=0.5)
    actor = {name: value.clone() for name, value in learner.actor.state_dict().items()}
    critic = learner.critic.weights().clone()
    for _ in range(2000 // 396):
        learner.step()
    assert learner.env_steps == 1980
    assert not torch.equal(learner.critic.weights(), critic)
    assert_same(dict(learner.actor.state_dict()), actor)
    learner.step()
    changed = learner.actor.state_dict()
    assert not torch.equal(changed["net.shared"], actor["net.shared"])
    for name in ("count", "mean", "var"):  # the statistics of the start
        assert torch.equal(changed[f"normalizer.{name}"], actor[f"normalizer.{name}"])
    # its first step is as long as that of any new optimiser
    first = (changed["net.shared"] - actor["net.shared"]).abs().max()
    assert 0.0 < first < 1.2 * learner.config.lr * 5 * (400 // 3 // 64)


def test_it_goes_on_where_the_student_stands() -> None:
    """A student of half-trained policies: better after the run, and never worse than half way."""
    gentle: dict[str, Any] = {"gamma": 0.8, "lr": 3e-3, "final_lr": 0.1, "t_max": 5}
    learner = A2C(
        A2CConfig(hidden=HIDDEN, **gentle), PointMasses(3, 16, horizon=10), 24_000, seed=5
    )
    while learner.env_steps < 24_000:
        learner.step()
    run = run_of(learner, learner.config)

    def score(policy: Any) -> float:
        played = play_episodes(PointMasses(3, 40, horizon=10), policy, seed=99)
        return float(played.returns.mean())

    start = score(run.actor.mean_action)
    settings = {"batch_steps": 960, "lr": 1e-3, "gamma": 0.8, "initial_std": 0.2}
    tuned = continued(run, PointMasses(3, 16, horizon=10), total_steps=24_000, **settings)
    scores = []
    while tuned.env_steps < 24_000:
        tuned.step()
        scores.append(score(tuned.actor.mean_action))
    print(f"{start:.2f} -> {scores[-1]:.2f}, least {min(scores):.2f}")
    assert scores[-1] > 0.8 * start and min(scores) > 1.2 * start  # returns are negative


def test_a_stopped_run_resumes_without_its_start(tmp_path: Path) -> None:
    run = student_run()

    def fresh(seed: int = 0) -> PPOFineTuning:
        return continued(run, PointMasses(3, 2, horizon=7, stop=0.15), seed, value_share=0.2)

    assert_goes_on(fresh, tmp_path, before=1, after=4)  # at first the policy has no moments
    assert fresh().state_dict()["start_sha256"] == "c" * 64


def test_illegal_starts_are_refused() -> None:
    run = student_run(steps=0)
    with pytest.raises(UserError, match="start is empty: name a run folder of distillation"):
        continued(run, start="")
    with pytest.raises(UserError, match=r"hidden is \(16, 16\) in 'runs/start' and \(8, 8\) here"):
        continued(run, hidden=(8, 8))
    with pytest.raises(UserError, match="no task 'target_3' .it has: target_0, target_1, target_2"):
        continued(run, PointMasses(4))
    with pytest.raises(UserError, match="sharing is 'none' in 'runs/start', but must be trunk"):
        continued(student_run(steps=0, sharing="none"))
    squashing = Distillation(DistillationConfig(hidden=HIDDEN), PointMasses(3), 1000, 0)
    squashing.actor.squash.fill_(True)
    with pytest.raises(UserError, match="squashed by tanh, .*--method-config.match action"):
        continued(run_of(squashing, squashing.config, "distillation"))
    other = PPO(PPOConfig(hidden=HIDDEN), PointMasses(3), 1000, 0)
    with pytest.raises(UserError, match="is a run of ppo, but must be a run of distillation or"):
        continued(replace(run, method="ppo", actor=other.actor))
    path = MODELS / "planar8-mtsac.onnx"
    with pytest.raises(UserError, match="is a policy file, but must be a run of distillation"):
        continued(FilePolicy(str(path), "", "", PolicyFile(path)))
    for changes in ({"one_hot": True}, {"own_statistics": True}, {"value_share": 2.0}):
        with pytest.raises(UserError, match=next(iter(changes))):
            PPOFineTuningConfig(**changes)
