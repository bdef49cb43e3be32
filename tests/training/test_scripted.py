"""Scripted policies as teachers: their actions, a student of them, and environments without any."""

import importlib
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from task_fakes import PointMasses

from polyreach.envs.metaworld.metaworld import TASK_SETS, MetaWorldConfig, MetaWorldEnv
from polyreach.envs.metaworld.simulation import GOALS, Simulation
from polyreach.envs.task_env import play_episodes
from polyreach.errors import UserError
from polyreach.methods.distillation import Distillation, DistillationConfig
from polyreach.runs.trained_policy import read_policy

pytest.importorskip("metaworld", reason="needs pip install metaworld==3.1.1 packaging")
POLICIES = importlib.import_module("metaworld.policies").ENV_POLICY_MAP
DAGGER = DistillationConfig(
    teachers=("scripted",),
    match="action",
    order="together",
    hidden=(64, 64),
    t_max=10,
    lr=2e-3,
    final_lr=0.05,
    memory=10_000,
    batch_size=64,
    updates=20,
    mixing=0.5,
)


@pytest.mark.filterwarnings("ignore:Constant:UserWarning")
def test_the_actions_are_those_of_the_package_clipped() -> None:
    env = MetaWorldEnv("mt10", 20, MetaWorldConfig(goals="random"), seed=3)
    teacher = read_policy("scripted").adapt(env)
    assert teacher.rows == tuple(range(10)) and teacher.distribution is None
    obs, clipped = env.reset(0), 0
    for _ in range(15):
        tasks = torch.tensor([7, 0, 8])
        action = teacher.action(obs[tasks], tasks)
        for row, task in enumerate(tasks.tolist()):
            for i in range(2):
                plain = POLICIES[env.task_names[task]]().get_action(obs[task, i].double().numpy())
                clipped += int(np.abs(plain).max() > 1)
                assert torch.equal(action[row, i], torch.tensor(plain).clamp(-1, 1).float())
        obs = env.step(teacher.action(obs, torch.arange(10))).obs
    assert clipped > 10, "some are to be clipped"


@pytest.mark.filterwarnings("error")
def test_clipping_does_not_warn() -> None:
    env = MetaWorldEnv("mt3", 3, MetaWorldConfig(), seed=3)
    env.scripted().action(env.reset(0), torch.arange(3))


def test_environments_without_scripted_policies_are_refused() -> None:
    policy = read_policy("scripted")
    with pytest.raises(UserError, match="target_0, .* have no scripted policies .*Meta-World"):
        policy.adapt(PointMasses())
    env = MetaWorldEnv("mt3", 3, MetaWorldConfig())
    student = Distillation(replace(DAGGER, match="distribution"), env, 100, 0)
    with pytest.raises(UserError, match="'scripted' has no distribution.*match action"):
        student.prepare(read_policy)


def test_a_student_learns_from_scripted_policies() -> None:
    config = MetaWorldConfig(goals="random", horizon=100)
    test = MetaWorldEnv("mt3", 12, config, seed=5)
    student = Distillation(DAGGER, MetaWorldEnv("mt3", 6, config), 6_000, 0)
    student.prepare(read_policy)

    def success() -> float:
        return float(play_episodes(test, student.policy, 9).success.float().mean())

    before = success()
    while student.env_steps < student.total_steps:
        student.step()
    found = success()
    print(f"success {before:.0%} -> {found:.0%}")
    assert before < 0.4 and found > 0.7
    state, other = student.state_dict(), Distillation(DAGGER, student.env, 6_000, 1)
    with pytest.raises(UserError, match="teacher 'scripted' has changed"):
        other.resume({**state, "teachers": {"scripted": "0" * 64}}, read_policy)


@pytest.mark.exhaustive
@pytest.mark.filterwarnings("ignore:Constant:UserWarning")
def test_how_often_the_teachers_succeed() -> None:
    """Every goal of every task once; prints the figures of docs/metaworld.md."""
    shares: dict[str, float] = {}
    for name in (*TASK_SETS["mt10"], *TASK_SETS["mt50"]):
        if name in shares:
            continue
        simulation, policy = Simulation(name, "v2"), POLICIES[name]()
        steps = [steps_to_success(simulation, policy, goal) for goal in range(GOALS)]
        reached = [step for step in steps if step]
        shares[name] = len(reached) / GOALS
        within = sum(step <= 200 for step in reached)
        print(f"{name}: {len(reached)} of {GOALS}, {within} within 200 steps, last {max(reached)}")
    for task_set in ("mt10", "mt50"):
        share = float(np.mean([shares[name] for name in TASK_SETS[task_set]]))
        print(f"{task_set}: {share:.1%}")
        assert share > 0.95


def steps_to_success(simulation: Simulation, policy: Any, goal: int) -> int:
    """0 if it does not succeed in 500 steps."""
    obs = simulation.start(0, goal)
    for step in range(1, 501):
        # as from an environment, and as it takes it
        action = policy.get_action(obs.astype(np.float32).astype(float))
        obs, _, success = simulation.step(0, action.clip(-1.0, 1.0).astype(np.float32))
        if success:
            return step
    return 0
