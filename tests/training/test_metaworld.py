"""Meta-World: the package's own numbers, exact resume, goals, seeds, several processes."""

import importlib
import io
import os
import pickle
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from polyreach.envs.metaworld import task as metaworld_task
from polyreach.envs.metaworld.metaworld import TASK_SETS, MetaWorldConfig, MetaWorldEnv
from polyreach.envs.metaworld.simulation import GOAL_SEED, GOALS, Simulation
from polyreach.envs.task_env import TaskStep, play_episodes
from polyreach.errors import UserError

metaworld = pytest.importorskip("metaworld", reason="needs pip install metaworld==3.1.1 packaging")
env_dict = importlib.import_module("metaworld.env_dict")
pytestmark = pytest.mark.filterwarnings("ignore:Constant:UserWarning")  # of scripted policies
POLICIES = importlib.import_module("metaworld.policies").ENV_POLICY_MAP
SMALL = MetaWorldConfig(goals="random", horizon=12)


def set_goal(env: Any, name: str, goal: Any) -> None:
    package_class = env_dict.ALL_V3_ENVIRONMENTS[name]
    data = {"rand_vec": goal.copy(), "env_cls": package_class, "partially_observable": False}
    env.set_task(importlib.import_module("metaworld.types").Task("", pickle.dumps(data)))


def random_actions(env: MetaWorldEnv, steps: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    shape = (steps, env.tasks, env.envs_per_task, 4)
    return torch.rand(shape, generator=generator) * 2.4 - 1.2


def play(env: MetaWorldEnv, actions: Tensor) -> list[TaskStep]:
    return [env.step(action) for action in actions]


def same(one: list[TaskStep], other: list[TaskStep]) -> bool:
    return len(one) == len(other) and all(
        torch.equal(a, b)
        for x, y in zip(one, other, strict=True)
        for a, b in zip(x, y, strict=True)
    )


def through_a_file(state: dict[str, Any]) -> dict[str, Any]:
    buffer = io.BytesIO()
    torch.save(state, buffer)
    buffer.seek(0)
    loaded: dict[str, Any] = torch.load(buffer, weights_only=True)
    return loaded


def compare_with_the_package(name: str, reward: str, steps: int) -> int:
    """Three episodes of the package's scripted policy with noise: the third with a goal already
    played. Returns how many steps were a success.
    """
    ours, package = Simulation(name, reward), metaworld_task.make_task(name, reward)
    policy, rng = POLICIES[name](), np.random.default_rng(0)
    successes = 0
    for goal in (3, 8, 3):
        set_goal(package, name, ours.goals[goal])
        obs, _ = package.reset()
        np.testing.assert_array_equal(ours.start(0, goal), obs)
        for _ in range(steps):
            wanted = policy.get_action(obs) + 0.2 * rng.standard_normal(4)
            action = np.clip(wanted, -1.0, 1.0).astype(np.float32)
            obs, reward_there, success_there = package.step(action)
            obs_here, reward_here, success_here = ours.step(0, action)
            np.testing.assert_array_equal(obs_here, obs)
            assert reward_here == reward_there
            assert success_here == success_there
            successes += success_here
    return successes


def test_the_sets_are_those_of_the_package() -> None:
    assert TASK_SETS["mt10"] == tuple(env_dict.MT10_V3)
    assert TASK_SETS["mt50"] == tuple(env_dict.MT50_V3)
    assert set(TASK_SETS["mt3"]) < set(TASK_SETS["mt10"])


@pytest.mark.parametrize("reward", ["v1", "v2"])
def test_every_number_equals_that_of_the_package_on_mt10(reward: str) -> None:
    successes = {name: compare_with_the_package(name, reward, 90) for name in TASK_SETS["mt10"]}
    assert sum(count > 0 for count in successes.values()) >= 5


def test_success_with_a_grasp_equals_that_of_the_package() -> None:
    # the only one of the 50 whose success depends on contact forces
    assert compare_with_the_package("stick-push-v3", "v2", 130) > 0


@pytest.mark.exhaustive
@pytest.mark.parametrize("reward", ["v1", "v2"])
def test_every_number_equals_that_of_the_package_on_mt50(reward: str) -> None:
    successes = {name: compare_with_the_package(name, reward, 150) for name in TASK_SETS["mt50"]}
    assert sum(count > 0 for count in successes.values()) >= 30


FEW = ("reach-v3", "push-v3", "window-close-v3")
OTHERS = [name for name in TASK_SETS["mt50"] if name not in FEW]


@pytest.mark.parametrize(
    "name", [*FEW, *(pytest.param(name, marks=pytest.mark.exhaustive) for name in OTHERS)]
)
def test_goals_are_those_of_the_package_s_single_task_benchmark(name: str) -> None:
    tasks = metaworld.MT1(name, seed=GOAL_SEED).train_tasks
    goals = np.array([pickle.loads(task.data)["rand_vec"] for task in tasks])
    np.testing.assert_array_equal(Simulation(name, "v2").goals, goals)
    assert goals.shape[0] == GOALS


def test_environments_that_share_a_simulation_are_independent() -> None:
    shared = Simulation("pick-place-v3", "v1")
    alone = [Simulation("pick-place-v3", "v1") for _ in range(3)]
    rng = np.random.default_rng(0)
    for i, simulation in enumerate(alone):
        np.testing.assert_array_equal(shared.start(i, i), simulation.start(0, i))
    for step in range(40):
        for i in rng.permutation(3):
            action = rng.uniform(-1.0, 1.0, 4).astype(np.float32)
            here, there = shared.step(i, action), alone[i].step(0, action)
            np.testing.assert_array_equal(here.obs, there.obs)
            assert here[1:] == there[1:]
            if step == 20 and i == 1:
                shared.start(1, 9), alone[1].start(0, 9)


@pytest.mark.parametrize(
    ("goals", "reward"), [("random", "v1"), ("random", "v2"), ("shuffled", "v2")]
)
def test_resume_is_exact_in_the_middle_of_an_episode(goals: str, reward: str) -> None:
    config = MetaWorldConfig(goals=goals, reward=reward, horizon=25)  # type: ignore[arg-type]
    env = MetaWorldEnv("mt10", 20, config)
    env.reset(seed=1)
    actions = random_actions(env, 60)
    play(env, actions[:35])
    state = through_a_file(env.state_dict())
    resumed = MetaWorldEnv("mt10", 20, config, seed=5)
    resumed.load_state_dict(state)
    rest = play(env, actions[35:])
    assert any(step.truncated.all() for step in rest)
    assert same(play(resumed, actions[35:]), rest)


def equal(one: Any, other: Any) -> bool:
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(equal(one[key], other[key]) for key in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(equal, one, other))
    return torch.equal(one, other) if isinstance(one, Tensor) else bool(one == other)


@pytest.mark.parametrize("steps", [0, 1, 20])
def test_a_loaded_checkpoint_can_be_saved_again(steps: int) -> None:
    env = MetaWorldEnv("mt10", 20, SMALL)
    env.reset(seed=1)
    play(env, random_actions(env, 7))
    resumed = MetaWorldEnv("mt10", 20, SMALL, seed=5)
    resumed.load_state_dict(through_a_file(env.state_dict()))
    for one in (env, resumed):
        play(one, random_actions(one, steps, seed=1))
    states = [through_a_file(one.state_dict()) for one in (env, resumed)]
    assert equal(*states)


@pytest.mark.exhaustive
@pytest.mark.parametrize("reward", ["v1", "v2"])
@pytest.mark.parametrize("name", TASK_SETS["mt50"])
def test_resume_is_exact_for_every_task_while_it_is_being_solved(name: str, reward: str) -> None:
    one, other = Simulation(name, reward), Simulation(name, reward)
    policy, obs = POLICIES[name](), one.start(0, 4)
    for step in range(120):
        if step == 60:
            other.load_state(0, one.state(0))
            assert other.state(0).keys() == one.state(0).keys()
        action = np.clip(policy.get_action(obs), -1.0, 1.0).astype(np.float32)
        transition = one.step(0, action)
        obs = transition.obs
        if step >= 60:
            resumed = other.step(0, action)
            np.testing.assert_array_equal(resumed.obs, obs)
            assert resumed[1:] == transition[1:]


def test_a_saved_state_stays_as_it_was() -> None:
    env = MetaWorldEnv("mt3", 3, SMALL)
    env.reset(seed=1)
    actions = random_actions(env, 30)
    play(env, actions[:5])
    state = env.state_dict()
    first = play(env, actions[5:])
    for _ in range(2):
        env.load_state_dict(state)
        assert same(play(env, actions[5:]), first)


def test_episodes_are_truncated_at_the_horizon_and_restart() -> None:
    env = MetaWorldEnv("mt3", 3, replace(SMALL, goals="fixed"))
    start = env.reset(seed=0)
    assert start.shape == (3, 1, 39) and start.dtype == torch.float32
    steps = play(env, random_actions(env, 24))
    for k, step in enumerate(steps):
        over = k % 12 == 11
        assert step.truncated.all() if over else not step.truncated.any()
        assert not step.terminated.any()
        assert torch.equal(step.obs, start if over else step.final_obs)
        assert not torch.equal(step.final_obs, start)
    # the second frame of an observation is the first frame of the one before
    assert torch.equal(steps[1].obs[..., 18:36], steps[0].obs[..., :18])
    assert torch.equal(steps[0].obs[..., 36:], start[..., 36:])


def test_only_the_listed_tasks_are_stepped() -> None:
    env, other = MetaWorldEnv("mt3", 6, SMALL), MetaWorldEnv("mt3", 6, SMALL)
    env.reset(seed=2), other.reset(seed=2)
    actions = random_actions(env, 15)
    for action in actions:
        step = env.step(action[[2, 0]], tasks=[2, 0])
        assert step.obs.shape == (2, 2, 39) and step.reward.shape == (2, 2)
    reference = play(other, actions)
    assert torch.equal(step.obs, reference[-1].obs[[2, 0]])
    assert torch.equal(step.reward, reference[-1].reward[[2, 0]])
    middle = [env.step(action[[1]], tasks=[1]) for action in actions]
    for mine, whole in zip(middle, reference, strict=True):
        assert torch.equal(mine.final_obs, whole.final_obs[[1]])
        assert torch.equal(mine.obs, whole.obs[[1]])


def test_seeds_are_honoured() -> None:
    env, other = MetaWorldEnv("mt3", 12, SMALL), MetaWorldEnv("mt3", 12, SMALL)
    np.random.seed(1)  # noqa: NPY002
    before = np.random.get_state()[1].copy()  # type: ignore[index]  # noqa: NPY002
    first = env.reset(seed=7)
    actions = random_actions(env, 30)
    steps = play(env, actions)
    # NumPy's global generator, from which the package draws, is left alone
    np.testing.assert_array_equal(np.random.get_state()[1], before)  # type: ignore[index]  # noqa: NPY002
    np.random.seed(2)  # noqa: NPY002
    assert torch.equal(other.reset(seed=7), first)
    assert same(play(other, actions), steps)
    assert not torch.equal(other.reset(seed=8), first)
    # the new episodes have other goals than those before
    assert not torch.equal(steps[11].obs[..., 36:], first[..., 36:])


def test_training_and_evaluation_use_the_same_goals() -> None:
    training = MetaWorldEnv("mt3", 30, replace(SMALL, horizon=1))
    evaluation = MetaWorldEnv("mt3", 1, SMALL, seed=99, every_goal=True)
    assert evaluation.envs_per_task == GOALS
    goals = evaluation.reset(seed=3)[..., 36:]
    assert torch.equal(evaluation.reset(seed=4)[..., 36:], goals)
    assert torch.equal(
        goals[0], torch.tensor(Simulation("reach-v3", "v2").goals[:, 3:], dtype=torch.float32)
    )
    drawn = [training.reset(seed=5)]
    drawn += [step.obs for step in play(training, random_actions(training, 20))]
    for task in range(3):
        every = set(map(tuple, goals[task].tolist()))
        seen = {tuple(goal) for obs in drawn for goal in obs[task, :, 36:].tolist()}
        assert len(every) == GOALS and seen <= every and len(seen) > 0.9 * GOALS
    fixed = MetaWorldEnv("mt3", 3, replace(SMALL, goals="fixed"), every_goal=True)
    assert fixed.envs_per_task == 1
    assert torch.equal(fixed.reset(seed=6)[:, 0, 36:], goals[:, 0])


def test_shuffled_goals_are_all_played_before_one_is_played_again() -> None:
    env = MetaWorldEnv("mt3", 36, replace(SMALL, goals="shuffled", horizon=1))
    played = [env.reset(seed=5)]  # 12 goals of each task at a time
    played += [step.obs for step in play(env, random_actions(env, 24))]
    for task in range(3):
        goals = [tuple(goal) for obs in played for goal in obs[task, :, 36:].tolist()]
        rounds = [goals[i : i + GOALS] for i in range(0, len(goals), GOALS)]
        assert len(rounds) == 6
        assert all(len(set(one)) == GOALS for one in rounds)
        assert rounds[0] != rounds[1]
    assert torch.equal(env.reset(seed=5), played[0])


def test_the_package_s_scripted_policies_reach_every_goal_of_mt3() -> None:
    env = MetaWorldEnv("mt3", 3, replace(SMALL, horizon=110), every_goal=True)
    policies = [POLICIES[name]() for name in env.task_names]

    def act(obs: Tensor) -> Tensor:
        rows = obs.double().numpy()
        actions = [
            [own.get_action(o) for o in row] for own, row in zip(policies, rows, strict=True)
        ]
        return torch.tensor(np.array(actions), dtype=torch.float32)

    episodes = play_episodes(env, act, seed=0)
    assert episodes.success.float().mean() > 0.98
    assert (episodes.returns > 0.0).all()


def test_actions_beyond_one_are_clipped_and_one_that_is_no_number_is_refused() -> None:
    env, other = MetaWorldEnv("mt3", 3, SMALL), MetaWorldEnv("mt3", 3, SMALL)
    env.reset(seed=0), other.reset(seed=0)
    action = torch.tensor([7.0, -7.0, 7.0, -7.0]).expand(3, 1, 4)
    assert same(play(env, action.expand(5, 3, 1, 4)), play(other, action.sign().expand(5, 3, 1, 4)))
    with pytest.raises(ValueError, match="not finite"):
        env.step(torch.full((3, 1, 4), torch.nan))


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: MetaWorldEnv("mt11", 11, SMALL), "mt11.*mt3, mt10, mt50"),
        (lambda: MetaWorldEnv("mt10", 15, SMALL), "15.*10 tasks"),
        (lambda: MetaWorldEnv("mt10", 0, SMALL), "num_envs is 0"),
        (lambda: Simulation("reach-v2", "v2"), "reach-v2.*assembly-v3"),
        (lambda: MetaWorldConfig(goals="some"), "some.*fixed, random, shuffled"),  # type: ignore[arg-type]
        (lambda: MetaWorldConfig(reward="v3"), "v3.*v1, v2"),  # type: ignore[arg-type]
        (lambda: MetaWorldConfig(horizon=0), "horizon is 0"),
        (lambda: MetaWorldConfig(workers=-1), "workers is -1"),
    ],
)
def test_illegal_arguments_are_refused(call: Callable[[], Any], words: str) -> None:
    with pytest.raises(UserError, match=words):
        call()


def test_an_impossible_step_is_refused() -> None:
    env = MetaWorldEnv("mt3", 3, SMALL)
    with pytest.raises(RuntimeError, match="reset"):
        env.step(torch.zeros(3, 1, 4))
    env.reset(seed=0)
    with pytest.raises(ValueError, match=r"\(2, 1, 4\).*\(3, 1, 4\)"):
        env.step(torch.zeros(2, 1, 4))
    with pytest.raises(ValueError, match=r"\[0, 0\].*0 to 2"):
        env.step(torch.zeros(2, 1, 4), tasks=[0, 0])
    with pytest.raises(ValueError, match=r"\[3\].*0 to 2"):
        env.step(torch.zeros(1, 1, 4), tasks=[3])
    with pytest.raises(UserError, match="1 each of reach-v3.*2 each of reach-v3"):
        MetaWorldEnv("mt3", 6, SMALL).load_state_dict(env.state_dict())


def test_the_package_is_needed_only_to_make_an_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    without = (
        "import sys; sys.modules['metaworld'] = None; import polyreach.envs.metaworld.metaworld"
    )
    subprocess.run([sys.executable, "-c", without], check=True)
    monkeypatch.setitem(sys.modules, "metaworld", None)
    with pytest.raises(UserError, match=r"pip install metaworld==3\.1\.1 packaging"):
        MetaWorldEnv("mt3", 3, SMALL)


def test_another_version_of_the_package_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metaworld_task, "version", lambda _: "3.2.0")
    with pytest.raises(UserError, match=r"metaworld 3\.2\.0 is installed.*3\.1\.1"):
        metaworld_task.import_metaworld()


def test_two_processes_give_the_same_numbers_and_their_state_moves() -> None:
    here, there = (
        MetaWorldEnv("mt3", 6, replace(SMALL, workers=workers), seed=1) for workers in (0, 2)
    )
    try:
        assert torch.equal(here.reset(seed=4), there.reset(seed=4))
        actions = random_actions(here, 40)
        assert same(play(there, actions[:20]), play(here, actions[:20]))
        state, there_state = through_a_file(here.state_dict()), through_a_file(there.state_dict())
        first = play(here, actions[20:])
        there.load_state_dict(state)
        assert same(play(there, actions[20:]), first)
        here.load_state_dict(there_state)
        assert same(play(here, actions[20:]), first)
        subset = there.step(actions[0][[1]], tasks=[1])
        assert torch.equal(subset.obs, here.step(actions[0][[1]], tasks=[1]).obs)
    finally:
        there.close()
    with pytest.raises(RuntimeError, match="close"):
        there.step(actions[0])


@pytest.mark.fault
def test_a_process_that_dies_is_a_clear_error_and_leaves_no_other_process() -> None:
    env = MetaWorldEnv("mt3", 3, replace(SMALL, workers=2))
    processes = list(env._pool._processes)  # type: ignore[attr-defined]
    try:
        env.reset(seed=0)
        os.kill(processes[1].pid, signal.SIGKILL)
        with pytest.raises(RuntimeError, match="process 1 of 2 .* has died with exit code -9"):
            play(env, torch.zeros(5, 3, 1, 4))
    finally:
        env.close()
    assert not any(process.is_alive() for process in processes)


def test_an_error_in_a_process_is_reported_in_full() -> None:
    env = MetaWorldEnv("mt3", 3, replace(SMALL, workers=1))
    try:
        env.reset(seed=0)
        state = env.state_dict()
        del state["episodes"][0]["physics"]
        with pytest.raises(RuntimeError, match="process 0 failed(.|\n)*physics"):
            env.load_state_dict(state)
        assert env.step(torch.zeros(3, 1, 4)).obs.isfinite().all()
    finally:
        env.close()
