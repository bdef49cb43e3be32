"""Fine-tuning: its start run, its frozen layers, learning and exact resume."""

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from task_fakes import PointMasses, assert_goes_on

from polyreach.envs.env_spec import EnvConfig
from polyreach.envs.reach.task_reach import TaskReachConfig
from polyreach.envs.registry import find_env_spec
from polyreach.envs.task_env import TaskEnv, play_episodes
from polyreach.errors import UserError
from polyreach.methods.a2c import A2C, A2CConfig
from polyreach.methods.fine_tuning import FineTuning, FineTuningConfig
from polyreach.methods.mtsac import SACConfig
from polyreach.methods.trained_policy import FilePolicy, RunPolicy, TrainedPolicy
from polyreach.robot.onnx_policy import PolicyFile

MODELS = Path(__file__).parents[2] / "models"
WIDTHS: dict[str, Any] = {"hidden": (16, 16), "critic_hidden": (16, 16)}


def trained(sharing: Any = "trunk", tasks: int = 3, steps: int = 20, **changes: Any) -> A2C:
    learner = A2C(
        A2CConfig(**WIDTHS | changes, sharing=sharing), PointMasses(tasks), 10_000, seed=5
    )
    for _ in range(steps):
        learner.step()
    return learner


def run_of(learner: A2C, env_config: EnvConfig | None = None) -> RunPolicy:
    """The policy of `learner` as that of a run of A2C."""
    env = learner.env
    return RunPolicy(
        path="runs/start",
        sha256="c" * 64,
        robot_sha256="",
        method="a2c",
        config=learner.config,
        env="targets",
        env_config=env_config or EnvConfig(),
        tasks=env.task_names,
        obs_size=env.obs_size,
        action_size=env.action_size,
        actor=copy.deepcopy(learner.actor),
        critic=learner.critic.state_dict(),
    )


def tuned_from(
    run: TrainedPolicy,
    env: TaskEnv | None = None,
    seed: int = 0,
    total_steps: int = 1000,
    **changes: Any,
) -> FineTuning:
    """Prepared for a run that starts from `run`."""
    settings = replace(
        FineTuningConfig(**WIDTHS, start="runs/start", source_task="target_1"), **changes
    )
    tuned = FineTuning(settings, env or PointMasses(1), total_steps, seed)
    tuned.prepare(lambda path: run)
    return tuned


@pytest.mark.parametrize("sharing", ["trunk", "none"])
def test_it_starts_as_the_policy_of_the_task(sharing: Any) -> None:
    start = trained(sharing)
    tuned = tuned_from(run_of(start), PointMasses(2))
    obs = 2 * torch.rand(3, 9, 2) - 1
    obs[:] = obs[1]
    mean, log_std = start.actor.distribution(obs)
    for found, expected in zip(tuned.actor.distribution(obs[:2]), (mean, log_std), strict=True):
        assert torch.allclose(found, expected[1].expand(2, -1, -1), atol=1e-6)
        assert not torch.allclose(found, expected[0].expand(2, -1, -1), atol=1e-3)
    values = [
        one.critic.run(one.critic.layers(one.critic.weights()), one.actor.normalize(rows))
        for one, rows in ((start, obs), (tuned, obs[:2]))
    ]
    assert torch.allclose(values[1], values[0][1].expand(2, -1, -1), atol=1e-6)


@pytest.mark.parametrize(("actor_layers", "critic_layers"), [(1, 1), (2, 1), (3, 2)])
def test_all_but_the_last_layers_stay_bitwise_equal(actor_layers: int, critic_layers: int) -> None:
    tuned = tuned_from(
        run_of(trained()),
        PointMasses(2),
        actor_layers=actor_layers,
        critic_layers=critic_layers,
        entropy_weight=0.1,
    )
    before = {
        name: {key: value.clone() for key, value in net.state_dict().items()}
        for name, net in (("actor", tuned.actor), ("critic", tuned.critic))
    }
    for _ in range(30):
        tuned.step()
    for name, net, count in (
        ("actor", tuned.actor.net, actor_layers),
        ("critic", tuned.critic, critic_layers),
    ):
        old = before[name]["net.own" if name == "actor" else "own"]
        moved = net.own != old
        for row in moved:
            parts = [bool(part.any()) for part in row.split(net.sizes[:-1])]
            assert parts == [False] * (6 - 2 * count) + [True] * (2 * count)
        weights = net.layers(moved)[-3]
        assert float(weights.float().mean()) > 0.9
    for key, value in before["actor"].items():
        if "own" not in key:
            assert torch.equal(tuned.actor.state_dict()[key], value), key


def test_frozen_layers_do_not_count_in_gradient_clipping() -> None:
    tuned = tuned_from(run_of(trained()), grad_clip=1e-3)
    tuned.step()
    rows = [per_task[0].grad for per_task in tuned.per_task]
    whole = torch.cat([row for row in rows if row is not None])
    assert float(whole.norm()) == pytest.approx(1e-3, rel=1e-2)
    for row, chosen in zip(rows, tuned.trained, strict=True):
        assert row is not None
        assert not row[~chosen].any() and row[chosen].any()


def test_it_learns_another_task() -> None:
    """From a policy that goes to the second of three targets to one that goes to the first."""
    long: dict[str, Any] = {"lr": 5e-3, "final_lr": 0.1, "gamma": 0.8}
    source = A2C(
        A2CConfig(**WIDTHS, **long, sharing="none"), PointMasses(3, 16, horizon=10), 60_000, seed=5
    )
    while source.env_steps < 60_000:
        source.step()
    env = PointMasses(1, 16, horizon=10)
    tuned = tuned_from(run_of(source), env, total_steps=20_000, **long)

    def score() -> float:
        played = play_episodes(PointMasses(1, 40, horizon=10), tuned.actor.mean_action, seed=99)
        return float(played.returns.mean())

    start = score()
    while tuned.env_steps < 20_000:
        tuned.step()
    print(f"{start:.2f} -> {score():.2f}")
    assert score() > 0.5 * start


def test_a_stopped_run_resumes_without_its_start_run(tmp_path: Path) -> None:
    def fresh(seed: int = 0) -> FineTuning:
        env = PointMasses(2, 2, horizon=7, stop=0.15)
        return tuned_from(run_of(trained()), env, seed, final_lr=0.2)

    assert_goes_on(fresh, tmp_path, before=4, after=6)
    assert fresh().state_dict()["start_sha256"] == "c" * 64


def test_illegal_start_runs_are_refused() -> None:
    run = run_of(trained(steps=0))

    def prepare(run: TrainedPolicy = run, **changes: Any) -> None:
        tuned_from(run, **changes)

    with pytest.raises(UserError, match="start is empty"):
        prepare(start="")
    for task in ("target_9", ""):
        with pytest.raises(UserError, match=f"'{task}', but 'runs/start' has: target_0, target_1"):
            prepare(source_task=task)
    prepare(run_of(trained(tasks=1, steps=0)), source_task="")
    for name, other in (("hidden", (8, 8)), ("critic_hidden", (8, 8)), ("reward_scale", 0.5)):
        with pytest.raises(
            UserError, match=f"{name} is .* in 'runs/start' and .* must be the same"
        ):
            prepare(**{name: other})
    robots = [
        find_env_spec("planar8", True).make(TaskReachConfig(action=action), 4, "cpu", 1, 0)
        for action in ("velocity", "configuration")
    ]
    reaching = run_of(A2C(A2CConfig(**WIDTHS), robots[0], 1000, seed=5), robots[0].robots.config)
    tuned_from(reaching, robots[0], source_task="left")
    with pytest.raises(UserError, match="action is velocity in 'runs/start' and configuration"):
        tuned_from(reaching, robots[1], source_task="left")
    with pytest.raises(UserError, match="run of mtsac, but fine-tuning starts from a run of a2c"):
        prepare(replace(run, config=SACConfig(), method="mtsac"))
    path = MODELS / "planar8-mtsac.onnx"
    with pytest.raises(UserError, match="is a policy file, but fine-tuning starts from a run of"):
        prepare(FilePolicy(str(path), "", "", PolicyFile(path)))
    for changes in ({"sharing": "trunk"}, {"actor_layers": 0}, {"critic_layers": 4}):
        with pytest.raises(UserError, match=next(iter(changes))):
            FineTuningConfig(**changes)
