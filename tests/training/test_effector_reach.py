"""Reach without a task id: one row of robots, a reward for each effector."""

from dataclasses import replace

import pytest
import torch
from task_fakes import assert_same

from polyreach.envs.env_spec import EVALUATION_SEED
from polyreach.envs.reach.config import ReachConfig
from polyreach.envs.reach.effector_reach import EffectorReachEnv
from polyreach.envs.reach.reach import ReachEnv
from polyreach.envs.reach.spec import EffectorReachSpec
from polyreach.envs.task_env import TaskStep
from polyreach_description import load_robot

SMALL = ReachConfig(horizon_s=0.4, action_repeat=1, configurations=200, all_active=0.5)


def make(count: int = 6, stagger: bool = True, **changes: object) -> EffectorReachEnv:
    settings = replace(SMALL, **changes)  # type: ignore[arg-type]
    return EffectorReachEnv(load_robot("planar8"), count, settings, stagger=stagger)


def random_action(env: EffectorReachEnv, seed: int) -> torch.Tensor:
    draw = torch.Generator().manual_seed(seed)
    return 3 * torch.rand(1, env.num_envs, env.action_size, generator=draw) - 1.5


@pytest.mark.parametrize(("reward", "rewards"), [("precise", 3), ("precise_sum", 1)])
def test_it_steps_as_the_robots_do(reward: str, rewards: int) -> None:
    env = make(reward=reward)
    robots = ReachEnv(load_robot("planar8"), 6, env.robots.config)
    obs, flat = env.reset(4), robots.reset(seed=4, options={"stagger": True})[0]
    assert env.tasks == 1 and env.num_envs == 6 and env.reward_shape == (rewards,)
    assert torch.equal(obs, flat[None]) and obs.shape == (1, 6, env.obs_size)
    ends = 0
    for number in range(40):
        action = random_action(env, number)
        step = env.step(action, [0] if number % 2 else None)
        flat, _, _, truncated, infos = robots.step(action[0])
        assert torch.equal(step.obs[0], flat) and torch.equal(step.truncated[0], truncated)
        assert torch.equal(step.reward[0], infos["task_reward"])
        assert step.reward.shape == (1, 6, rewards) and not step.terminated.any()
        assert torch.equal(step.final_obs[0], infos["final_obs"])
        assert torch.equal(env.error[0], infos["error"])
        ends += int(truncated.sum())
    assert 6 <= ends <= 18


def test_a_success_is_one_of_every_active_effector() -> None:
    env = make(tolerance=10.0)
    env.reset(1)
    assert env.step(torch.zeros(1, 6, 8)).success.all()
    none = make(tolerance=0.0)
    none.reset(1)
    assert (none.robots.active == 0).any()
    assert not none.step(torch.zeros(1, 6, 8)).success.any()


def test_a_restored_environment_goes_on_the_same() -> None:
    def play(env: EffectorReachEnv, first: int, last: int) -> list[TaskStep]:
        return [env.step(random_action(env, number)) for number in range(first, last)]

    whole, resumed = make(), make()
    whole.reset(2)
    play(whole, 0, 15)
    state = whole.state_dict()
    resumed.reset(9)
    resumed.load_state_dict(state)
    assert_same(play(resumed, 15, 40), play(whole, 15, 40))


def test_an_evaluation_plays_whole_episodes_with_all_goals() -> None:
    spec = EffectorReachSpec("planar8")
    env = spec.make_evaluation(SMALL, 5, "cpu", 1)
    record = spec.evaluate(env, lambda obs: torch.full((1, 5, 8), 0.2))
    robots = ReachEnv(
        load_robot("planar8"), 5, replace(SMALL, all_active=1.0), seed=EVALUATION_SEED
    )
    robots.reset(seed=EVALUATION_SEED)
    returns = torch.zeros(5)
    for _ in range(robots.horizon):
        _, reward, _, truncated, infos = robots.step(torch.full((5, 8), 0.2))
        returns += reward
    assert truncated.all()
    assert record["return"] == float(returns.mean())
    assert record["error_median"] == float(infos["error"].median())
    assert record["score_left"] == pytest.approx(-float(infos["error"][:, 0].log().mean()))
    assert record["success_all"] == 0.0 and env.robots.active.all()


def test_another_shape_is_refused() -> None:
    env = make()
    env.reset(0)
    with pytest.raises(ValueError, match=r"actions have shape \(6, 8\), expected \(1, 6, 8\)"):
        env.step(torch.zeros(6, 8))
