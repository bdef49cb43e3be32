"""Samples per second of PPO on hoppers, simulation and updates, vs PPO of stable-baselines3.

Both sides use tanh networks of 3 x 64 (the equal number of parameters is checked), batches of 3,840
steps, a multiple of the minibatch, and ten epochs. For one hopper, a minibatch has 64 steps; for
three, ours has 64 of each and the peer's 192 in total, so that both make equally many updates. Ours
normalises observations; the peer does not, but clips gradients. The peer runs on our environments
in one batched call, so the ratio compares the methods; for one hopper it also runs on Gymnasium's
Hopper-v5 with the same model and its own vector environment.

Times are CPU times on one thread, so other load on the machine has little effect. Without
stable-baselines3 (`pip install stable-baselines3==2.9.2`), the rows are skipped.
"""

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from time import process_time
from typing import Any
from unittest.mock import patch

import gymnasium
import mujoco
import numpy as np
import torch

from benchmarks.limits import products_of, share_row
from benchmarks.sac_update_speed import PEER, Cost, count_parameters
from polyreach.envs.legged.legged import LEGGED_GROUPS, LeggedConfig, LeggedEnv
from polyreach.methods.ppo import PPO, PPOConfig

ROUNDS = 5
ENVS_PER_TASK = 4
CONFIG = PPOConfig(batch_steps=3840)


def costs(functions: dict[str, Callable[[], object]]) -> dict[str, Cost]:
    """CPU time of each function relative to the first; they alternate after one warm-up call."""
    for function in functions.values():
        function()
    seconds: dict[str, list[float]] = {name: [] for name in functions}
    for _ in range(ROUNDS):
        for name, function in functions.items():
            start = process_time()
            function()
            seconds[name].append(process_time() - start)
    first = np.array(next(iter(seconds.values())))
    result = {}
    for name, times in seconds.items():
        ratio = np.array(times) / first
        rate = 1.0 / float(np.median(times))
        result[name] = Cost(float(np.median(ratio)), float(ratio.min()), float(ratio.max()), rate)
    return result


def gymnasium_hopper(path: Path) -> gymnasium.Env[Any, Any]:
    """Hopper-v5 with the model in `path`, whose height is 0 when standing."""
    standing = mujoco.MjModel.from_xml_path(str(path)).body("torso").pos[2]  # [m]
    return gymnasium.make(
        "Hopper-v5",
        xml_file=str(path),
        healthy_z_range=((LeggedConfig().min_height - 1.0) * standing, np.inf),
        healthy_angle_range=(-0.4, 0.4),
        disable_env_checker=True,
    )


@contextmanager
def one_hopper() -> Iterator[str]:
    """Register a group that contains only the capsule hopper; yields its name."""
    with patch.dict(LEGGED_GROUPS, {"hopper": {"capsule": LEGGED_GROUPS["hoppers3"]["capsule"]}}):
        yield "hopper"


def vector_env(env: LeggedEnv) -> Any:
    """Wrap `env` as a vector environment of stable-baselines3."""
    from stable_baselines3.common.vec_env import VecEnv

    class Wrapped(VecEnv):
        def __init__(self) -> None:
            obs = gymnasium.spaces.Box(-np.inf, np.inf, (env.obs_size,), np.float32)
            action = gymnasium.spaces.Box(-1.0, 1.0, (env.action_size,), np.float32)
            super().__init__(env.num_envs, obs, action)

        def reset(self) -> Any:
            return env.reset(0).flatten(0, 1).numpy()

        def step_async(self, actions: Any) -> None:
            shape = (env.tasks, env.envs_per_task, env.action_size)
            self.step_result = env.step(torch.from_numpy(actions).view(shape))

        def step_wait(self) -> Any:
            step = self.step_result
            obs, reward, terminated, truncated, _, final_obs = (
                x.flatten(0, 1).numpy() for x in step
            )
            infos: list[dict[str, Any]] = [{} for _ in range(self.num_envs)]
            ended = terminated | truncated
            for index in np.flatnonzero(ended):
                infos[index] = {
                    "terminal_observation": final_obs[index],
                    "TimeLimit.truncated": bool(truncated[index]),
                }
            return obs, reward, ended, infos

        def close(self) -> None:
            env.close()

        def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:
            return [None] * self.num_envs

        def set_attr(self, attr_name: str, value: Any, indices: Any = None) -> None:
            raise NotImplementedError

        def env_method(self, method_name: str, *args: Any, **kwargs: Any) -> list[Any]:
            raise NotImplementedError

        def env_is_wrapped(self, wrapper_class: Any, indices: Any = None) -> list[bool]:
            return [False] * self.num_envs

    return Wrapped()


def make_peer(vector: Any, minibatch: int) -> Any:
    """PPO of stable-baselines3 on a vector environment, with batches of CONFIG.batch_steps."""
    from stable_baselines3 import PPO as PeerPPO
    from stable_baselines3.common.logger import Logger

    widths = list(CONFIG.hidden)
    peer = PeerPPO(
        "MlpPolicy",
        vector,
        n_steps=CONFIG.batch_steps // vector.num_envs,
        batch_size=minibatch,
        n_epochs=CONFIG.epochs,
        policy_kwargs={"net_arch": {"pi": widths, "vf": widths}, "activation_fn": torch.nn.Tanh},
        device="cpu",
        seed=0,
    )
    peer.set_logger(Logger(folder=None, output_formats=[]))
    return peer


def iterate(peer: Any) -> None:
    """Collect one rollout and run the epochs over it."""
    peer.learn(peer.n_steps * peer.n_envs, log_interval=None, reset_num_timesteps=False)


def check_sizes(ours: PPO, peer: Any) -> None:
    """Raise RuntimeError unless both networks have equally many weights."""
    size, peer_size = sum(len(net.shared) for net in ours.nets), count_parameters(peer.policy)
    if size != peer_size:
        raise RuntimeError(f"{size} parameters, but {peer_size} in the peer: not comparable")


def measure(group: str) -> list[tuple[str, str]]:
    """Rows (comparison, ratio) for the hoppers of `group`; 'hopper' is the capsule hopper alone."""
    if find_spec("stable_baselines3") is None:
        return [(group, f"skipped: {PEER} is not installed")]
    if group != "hopper":
        return _measure(group)
    with one_hopper() as group, TemporaryDirectory() as folder:
        path = Path(folder) / "hopper.xml"
        spec = LEGGED_GROUPS[group]["capsule"].spec()
        spec.compile()
        path.write_text(spec.to_xml(), encoding="utf-8")
        return _measure(group, path)


def _measure(group: str, path: Path | None = None) -> list[tuple[str, str]]:
    from stable_baselines3.common.vec_env import DummyVecEnv

    count = ENVS_PER_TASK * len(LEGGED_GROUPS[group])
    steps = CONFIG.batch_steps // count
    with (
        closing(LeggedEnv(group, count, LeggedConfig())) as env,
        closing(vector_env(LeggedEnv(group, count, LeggedConfig()))) as vector,
    ):
        ours, peer = PPO(CONFIG, env, 10**9, 0), make_peer(vector, CONFIG.minibatch * env.tasks)
        check_sizes(ours, peer)
        functions: dict[str, Callable[[], object]] = {
            "ours": ours.step,
            "peer": partial(iterate, peer),
        }
        if path is not None:
            gymnasium_env = DummyVecEnv([partial(gymnasium_hopper, path)] * count)
            functions["gymnasium"] = partial(iterate, make_peer(gymnasium_env, CONFIG.minibatch))
        total = costs(functions)

        rollout = ours.collect()
        batch = ours.batch_of(rollout)
        _, callback = peer._setup_learn(10**9, None, False)
        collect: dict[str, Callable[[], object]] = {
            "ours": lambda: ours.batch_of(ours.collect()),
            "peer": lambda: peer.collect_rollouts(
                peer.env, callback, peer.rollout_buffer, n_rollout_steps=steps
            ),
        }
        update: dict[str, Callable[[], object]] = {
            "ours": lambda: ours.improve(batch),
            "peer": peer.train,
            "products": products_of(lambda: ours.improve(batch)),
        }
        action = rollout.action[0]
        stepping: dict[str, Callable[[], object]] = {
            "ours": lambda: [env.step(action) for _ in range(steps)]
        }
        if path is not None:
            flat = action.flatten(0, 1).clamp(-1.0, 1.0).numpy()
            stepping["gymnasium"] = lambda: [gymnasium_env.step(flat) for _ in range(steps)]
        parts = {"collection": costs(collect), "updates": costs(update)}
        env_costs = costs(stepping)

    name, samples = f"{group}, {count} environments", steps * count
    peers = {
        "peer": f"{PEER} on the same environments",
        "gymnasium": f"{PEER} on Gymnasium's Hopper-v5",
    }
    rows = [
        (f"{name}: samples/s vs {peers[key]}", _ratio(cost, total["ours"], samples))
        for key, cost in total.items()
        if key != "ours"
    ]
    rows += [
        (f"{name}, {part} only, vs {peers['peer']}", _ratio(cost["peer"], cost["ours"], samples))
        for part, cost in parts.items()
    ]
    share = parts["updates"]["products"].median
    rows.append(share_row(f"{name}, updates: matrix products alone", share, 1.0))
    ours_cost = env_costs["ours"]
    if "gymnasium" in env_costs:
        comparison = f"{name}, steps/s of the environment only, vs Gymnasium's in a loop"
        return [*rows, (comparison, _ratio(env_costs["gymnasium"], ours_cost, samples))]
    return [*rows, (f"{name}, the environment only", f"{samples * ours_cost.rate:,.0f}/s")]


def _ratio(peer: Cost, ours: Cost, samples: int) -> str:
    return f"{peer} ({samples * ours.rate:,.0f} vs {samples * peer.rate:,.0f}/s)"
