"""EnvPool's Meta-World beside the package metaworld, from the same starts, with the same actions.

EnvPool has no way to set a goal or a state. Its goals are made from a seed, so that the package can
be started with them here; the 50 goals of a benchmark cannot be given to EnvPool.
"""

import importlib
from typing import Any

import numpy as np
import pytest

from polyreach.envs.metaworld.metaworld import TASK_SETS
from polyreach.envs.metaworld.task import make_task

pytest.importorskip("metaworld", reason="needs pip install metaworld==3.1.1 packaging")
envpool = pytest.importorskip("envpool", reason="needs pip install envpool==1.2.5")
registration = importlib.import_module("envpool.mujoco.metaworld.registration")
pytestmark = pytest.mark.filterwarnings("ignore:Constant:UserWarning")  # of scripted policies
POLICIES = importlib.import_module("metaworld.policies").ENV_POLICY_MAP
STEPS, SEEDS = 100, (7, 11)
OBS_TOLERANCE, REWARD_TOLERANCE = 1e-5, 1e-4  # [m], of 10
# of the others, 11 agree with random actions alone
AGREE = ("coffee-button-v3", "coffee-pull-v3", "faucet-close-v3", "hammer-v3")


def make_pool(name: str, seed: int) -> Any:
    return envpool.make(
        registration.metaworld_task_id(name),
        env_type="gymnasium",
        num_envs=1,
        seed=seed,
        partially_observable=False,
    )


class Goals:
    """The numbers that EnvPool draws at the first start of an environment with this seed: those of
    std::mt19937 in std::uniform_real_distribution<double>, which takes two for each.
    """

    def __init__(self, seed: int) -> None:
        self.bits: Any = np.random.MT19937()
        self.bits._legacy_seeding(seed)

    def draw(self, low: Any, high: Any) -> Any:
        raw = self.bits.random_raw(2 * len(low)).astype(float).reshape(-1, 2)
        return low + (high - low) * (raw @ (1.0, 2.0**32)) / 2.0**64


def start_package(name: str, seed: int) -> tuple[Any, Any]:
    """The package's environment and first observation, with the goal that EnvPool draws."""
    env = make_task(name, "v2")
    space, place_objects = env._random_reset_space, env.reset_model
    goals = Goals(seed)

    def reset_model() -> Any:
        # the package places objects twice
        nonlocal goals
        goals = Goals(seed)
        return place_objects()

    def rand_vec() -> Any:
        env._last_rand_vec = goals.draw(space.low.astype(float), space.high.astype(float))
        return env._last_rand_vec

    env.reset_model, env._get_state_rand_vec = reset_model, rand_vec
    return env, env.reset()[0]


def differences(name: str, seed: int, scripted: bool) -> dict[str, float]:
    """Largest differences at the start and in STEPS steps of random actions, or of the package's
    scripted policy with noise; steps that are a success, and those that are one in only one.
    """
    pool = make_pool(name, seed)
    there = pool.reset()[0][0]
    env, here = start_package(name, seed)
    rng, policy = np.random.default_rng(0), POLICIES[name]()
    found = {"start": float(np.abs(here - there).max()), "obs": 0.0, "reward": 0.0}
    found |= {"successes": 0, "unlike": 0}
    for _ in range(STEPS):
        noise = rng.standard_normal(4)
        action = policy.get_action(here) + 0.2 * noise if scripted else noise
        action = np.clip(action, -1, 1).astype(np.float32)
        here, reward, success = env.step(action)
        observations, rewards, _, _, info = pool.step(action[None])
        found["obs"] = max(found["obs"], float(np.abs(here - observations[0]).max()))
        found["reward"] = max(found["reward"], abs(reward - float(rewards[0])))
        found["successes"] += success
        found["unlike"] += success != bool(info["success"][0])
    pool.close()
    return found


@pytest.mark.exhaustive
@pytest.mark.parametrize("name", TASK_SETS["mt50"])
def test_which_tasks_agree_with_the_package(name: str) -> None:
    agree = True
    for seed in SEEDS:
        for scripted in (False, True):
            found = differences(name, seed, scripted)
            text = " ".join(f"{key} {value:.1e}" for key, value in found.items())
            print(name, "scripted" if scripted else "random", seed, text)
            agree &= max(found["start"], found["obs"]) < OBS_TOLERANCE
            agree &= found["reward"] < REWARD_TOLERANCE and not found["unlike"]
    assert agree == (name in AGREE)


def test_a_goal_or_a_state_cannot_be_given() -> None:
    pool = make_pool("reach-v3", 7)
    known = set(pool.spec.config._fields)
    assert not {word for word in known if any(part in word for part in ("goal", "rand", "state"))}
    assert not any(
        "state" in name or "goal" in name
        for name in dir(pool)
        if not name.startswith("_") and callable(getattr(pool, name))
    )
    pool.close()


def test_the_goal_of_a_start_follows_from_the_seed() -> None:
    pool = make_pool("reach-v3", 7)
    _, here = start_package("reach-v3", 7)
    assert np.allclose(pool.reset()[0][0, 36:], here[36:], rtol=0, atol=1e-12)
    # and the next start has another
    assert not np.allclose(pool.reset()[0][0, 36:], here[36:], rtol=0, atol=1e-3)
    pool.close()
