"""A run's policy played in its own and in another environment."""

from pathlib import Path
from typing import Any

import pytest
import torch
from test_trained_policy import GANTRY, SMALL, make_run

from polyreach.deploy.export import load_run_policy
from polyreach.envs.cheetahs import CheetahConfig, CheetahEnv
from polyreach.envs.env_spec import EVALUATION_SEED
from polyreach.envs.task_env import play_episodes
from polyreach.errors import UserError
from polyreach.runs.transfer import play_run

SHORT = ("--env-config.horizon", "20", *SMALL)


def returns_of(learner: Any, group: str, row: int) -> torch.Tensor:
    """Of the policy of task `row`, which does all tasks of `group`; (T, 5)."""
    tasks = len(learner.env.task_names)
    env = CheetahEnv(group, 5, CheetahConfig(horizon=20), seed=EVALUATION_SEED)

    def act(obs: torch.Tensor) -> torch.Tensor:
        action: torch.Tensor = learner.actor.mean_action(obs.expand(tasks, -1, -1))[[row]]
        return action

    return play_episodes(env, act, EVALUATION_SEED).returns.double()


def test_returns_of_a_run(tmp_path: Path) -> None:
    learner = make_run(tmp_path, "a2c", "cheetah6", "--num-envs", "6", *SHORT)
    found = play_run(tmp_path, episodes=5)
    assert list(found) == list(learner.env.task_names)
    for name, row in (("SmallFoot", 0), ("BigTorso", 5)):
        expected = returns_of(learner, f"cheetah-{name.lower()}", row)
        alone = play_run(tmp_path, f"cheetah-{name.lower()}", episodes=5)
        assert alone[name].mean == pytest.approx(float(expected.mean()), abs=1e-4)
        assert alone[name].std == pytest.approx(float(expected.std(correction=0)), abs=1e-4)
    assert found["SmallFoot"].mean != found["BigTorso"].mean
    with pytest.raises(UserError, match="does not know the task 'Plain'"):
        play_run(tmp_path, "cheetah")


def test_a_single_task_policy_is_played_on_any_task(tmp_path: Path) -> None:
    learner = make_run(tmp_path, "fine-tuning", "cheetah-smallleg", "--num-envs", "1", *SHORT)
    expected = returns_of(learner, "cheetah-bigfoot", 0)
    found = play_run(tmp_path, "cheetah-bigfoot", episodes=5)
    assert found["BigFoot"].mean == pytest.approx(float(expected.mean()), abs=1e-4)
    assert found["BigFoot"].std > 0.01


@pytest.mark.parametrize("method", ["a2c", "mtsac"])
def test_with_noise_actions_are_drawn_as_in_training(tmp_path: Path, method: str) -> None:
    small = ("--num-envs", "1", *SHORT) if method == "a2c" else ("--num-envs", "1", *SHORT[:2])
    learner = make_run(tmp_path, method, "cheetah-bigfoot", *small)
    generator = torch.Generator().manual_seed(EVALUATION_SEED)

    def act(obs: torch.Tensor) -> torch.Tensor:
        mean, log_std = learner.actor.distribution(obs)
        drawn = mean + log_std.exp() * torch.randn(mean.shape, generator=generator)
        return torch.tanh(drawn) if method == "mtsac" else drawn

    env = CheetahEnv("cheetah-bigfoot", 5, CheetahConfig(horizon=20), seed=EVALUATION_SEED)
    expected = play_episodes(env, act, EVALUATION_SEED).returns.double()
    found = play_run(tmp_path, episodes=5, noise=True)["BigFoot"]
    assert found.mean == pytest.approx(float(expected.mean()), abs=1e-4)
    assert found != play_run(tmp_path, episodes=5)["BigFoot"]


def test_a_policy_that_draws_no_actions_has_no_returns_with_noise(tmp_path: Path) -> None:
    make_run(tmp_path, "ktm", "cheetah-bigfoot", "--num-envs", "1", *SHORT[:2])
    with pytest.raises(UserError, match="draws no actions"):
        play_run(tmp_path, episodes=1, noise=True)


def test_a_student_is_read_without_its_teachers(tmp_path: Path) -> None:
    """As for its export: only training needs them."""
    words = ("--num-envs", "8", *SMALL, "--method-config.teachers", "runs/not-there-any-more")
    learner = make_run(tmp_path, "distillation", GANTRY, *words)
    policy: Any = load_run_policy(tmp_path)[0]
    obs = torch.randn(4, 6, learner.env.obs_size)
    with torch.no_grad():
        assert torch.equal(policy.actor.mean_action(obs), learner.actor.mean_action(obs))
