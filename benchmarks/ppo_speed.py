"""Samples per second of PPO on hoppers, from the environment's step to the last update, against
stable-baselines3's PPO.

Both have tanh networks of 3 x 64 (as many parameters, which is checked), batches of 3,840 steps,
which minibatches divide, and ten epochs. For one hopper minibatches are of 64 steps; for three,
ours are 64 of each, and the peer's 192 of all, so that both make as many updates. Ours normalises
observations; the peer does not, but clips gradients. The peer has our environments, all in one
call, so that the ratio is that of the methods; and, for one hopper, Gymnasium's Hopper-v5 with the
same model in its own vector environment.

All is CPU time on one thread: other work on the machine hardly matters. Without stable-baselines3
(`pip install stable-baselines3==2.9.2`) there is no comparison.
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

from benchmarks.sac_updates import PEER, Cost, parameters
from polyreach.envs.legged.legged import LEGGED_GROUPS, LeggedConfig, LeggedEnv
from polyreach.methods.ppo import PPO, PPOConfig

ROUNDS = 5
ENVS_PER_TASK = 4
CONFIG = PPOConfig(batch_steps=3840)


def costs(functions: dict[str, Callable[[], object]]) -> dict[str, Cost]:
    """CPU time of each function over that of the first; all take turns, after a call of each that
    does not count.
    """
    for function in functions.values():
        function()
    seconds: dict[str, list[float]] = {name: [] for name in functions}
    for _ in range(ROUNDS):
        for name, function in functions.items():
            start = process_time()
            function()
            seconds[name].append(process_time() - start)
    first = np.array(next(iter(seconds.values())))
    found = {}
    for name, own in seconds.items():
        ratio = np.array(own) / first
        rate = 1.0 / float(np.median(own))
        found[name] = Cost(float(np.median(ratio)), float(ratio.min()), float(ratio.max()), rate)
    return found


def gymnasium_hopper(path: Path) -> gymnasium.Env[Any, Any]:
    """Hopper-v5 with the model in `path`, whose height is 0 where it stands."""
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
    """The name of a group with nothing but the capsule hopper."""
    with patch.dict(LEGGED_GROUPS, {"hopper": {"capsule": LEGGED_GROUPS["hoppers3"]["capsule"]}}):
        yield "hopper"


def vector_env(env: LeggedEnv) -> Any:
    """`env` as a vector environment of stable-baselines3."""
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
    """A rollout and the epochs over it."""
    peer.learn(peer.n_steps * peer.n_envs, log_interval=None, reset_num_timesteps=False)


def check_sizes(ours: PPO, peer: Any) -> None:
    """Raise RuntimeError unless both networks have as many weights."""
    sizes = sum(len(net.shared) for net in ours.nets), parameters(peer.policy)
    if sizes[0] != sizes[1]:
        raise RuntimeError(f"{sizes[0]} parameters against {sizes[1]}: no comparison")


def measure(group: str) -> list[tuple[str, str]]:
    """Rows of (what, ratio) for the hoppers of `group`, or for the capsule hopper alone if it is
    'hopper'.
    """
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
            theirs = DummyVecEnv([partial(gymnasium_hopper, path)] * count)
            functions["gymnasium"] = partial(iterate, make_peer(theirs, CONFIG.minibatch))
        whole = costs(functions)

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
        }
        action = rollout.action[0]
        stepping: dict[str, Callable[[], object]] = {
            "ours": lambda: [env.step(action) for _ in range(steps)]
        }
        if path is not None:
            flat = action.flatten(0, 1).clamp(-1.0, 1.0).numpy()
            stepping["gymnasium"] = lambda: [theirs.step(flat) for _ in range(steps)]
        parts = {"collecting": costs(collect), "updating": costs(update)}
        alone = costs(stepping)

    name, samples = f"{group}, {count} environments", steps * count
    peers = {
        "peer": f"{PEER} on the same environments",
        "gymnasium": f"{PEER} on Gymnasium's Hopper-v5",
    }
    rows = [
        (f"{name}: samples/s over {peers[key]}", _ratio(cost, whole["ours"], samples))
        for key, cost in whole.items()
        if key != "ours"
    ]
    rows += [
        (f"{name}, {part} alone, over {peers['peer']}", _ratio(cost["peer"], cost["ours"], samples))
        for part, cost in parts.items()
    ]
    if "gymnasium" in alone:
        what = f"{name}, steps/s of the environment alone, over Gymnasium's in a loop"
        return [*rows, (what, _ratio(alone["gymnasium"], alone["ours"], samples))]
    return [*rows, (f"{name}, the environment alone", f"{samples * alone['ours'].rate:,.0f}/s")]


def _ratio(peer: Cost, ours: Cost, samples: int) -> str:
    return f"{peer} ({samples * ours.rate:,.0f} against {samples * peer.rate:,.0f}/s)"
