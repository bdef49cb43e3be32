"""Updates per second of the SAC family: against stable-baselines3, among the methods, compiled.

All on one thread, on replays full of random transitions. The peer has the same networks (as many
parameters, which is checked), batch and replay; the one-hot vector of the task is part of its
observation. It has one temperature for all tasks and does not clip gradients.

The peer is used for nothing but this: `pip install stable-baselines3==2.9.2`. Without it its rows
are left out.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from importlib.util import find_spec
from itertools import cycle
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from benchmarks.timing import seconds_per_call
from polyreach.envs.task_env import TaskEnv, TaskStep
from polyreach.methods import METHODS
from polyreach.methods.dgrad_o import DGradO, DGradOConfig
from polyreach.methods.ktm import KTM, TD3
from polyreach.methods.mtsac import SAC, SACConfig, as_floats
from polyreach.methods.task_learner import TaskLearnerConfig
from polyreach.storage.task_replay import TaskBatch

PEER = "stable-baselines3"
REPEATS = 7
REPLAY = 10_000  # transitions of each task


class Sizes(NamedTuple):
    """Of a problem, its networks and its batches."""

    tasks: int
    obs: int
    action: int
    batch: int
    hidden: tuple[int, ...]

    def __str__(self) -> str:
        network = f"{len(self.hidden)} x {self.hidden[0]}"
        return f"T = {self.tasks}, {self.batch} of each, {network}"


CHEETAH = Sizes(tasks=1, obs=17, action=6, batch=256, hidden=(256, 256))
MT10 = Sizes(tasks=10, obs=39, action=4, batch=128, hidden=(512, 512))
SIZES = {"cheetah": CHEETAH, "mt10": MT10}


class StillEnv(TaskEnv):
    """Tasks of which only the sizes matter; nothing moves."""

    def __init__(self, sizes: Sizes) -> None:
        self.task_names = tuple(f"task_{task}" for task in range(sizes.tasks))
        self.envs_per_task, self.horizon, self.success_at_end = 1, 500, False
        self.obs_size, self.action_size = sizes.obs, sizes.action
        self.device = torch.device("cpu")

    def reset(self, seed: int) -> Tensor:
        """Zeros (T, 1, O)."""
        return torch.zeros(self.tasks, 1, self.obs_size)

    def step(self, action: Tensor, tasks: Sequence[int] | None = None) -> TaskStep:
        """Zeros."""
        obs = torch.zeros(len(action), 1, self.obs_size)
        flags = torch.zeros(len(action), 1, dtype=torch.bool)
        return TaskStep(obs, torch.zeros(len(action), 1), flags, flags, flags, obs)

    def state_dict(self) -> dict[str, Any]:
        """There is none."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """There is none."""


def random_transitions(sizes: Sizes, seed: int = 0) -> TaskBatch:
    """A replay's worth (T, REPLAY, .); one transition in 100 ends its episode."""
    generator = torch.Generator().manual_seed(seed)
    shape = (sizes.tasks, REPLAY)
    obs, next_obs = torch.randn(2, *shape, sizes.obs, generator=generator)
    action = torch.rand(*shape, sizes.action, generator=generator) * 2 - 1
    reward = torch.rand(shape, generator=generator)
    terminated = (torch.rand(shape, generator=generator) < 0.01).float()
    return TaskBatch(obs, action, reward, terminated, next_obs)


def make_learner(learner: Callable[..., Any], config: TaskLearnerConfig, sizes: Sizes) -> Any:
    """A learner whose replay is full."""
    config = replace(config, batch_size=sizes.batch, replay_size=REPLAY)
    made = learner(config, StillEnv(sizes), 1_000_000, 0)
    made.replay.add(random_transitions(sizes))
    return made


def make_peer(sizes: Sizes) -> Any:
    """SAC of stable-baselines3, its replay full of the same transitions."""
    import gymnasium
    from stable_baselines3 import SAC as PeerSAC
    from stable_baselines3.common.logger import Logger

    transitions = random_transitions(sizes)
    z = torch.eye(sizes.tasks)

    def flat(x: Tensor, with_task: bool = False) -> Any:
        if with_task:
            x = torch.cat([x, z[:, None].expand(-1, REPLAY, -1)], dim=-1)
        return x.flatten(0, 1)[:, None].numpy()

    class Still(gymnasium.Env[Any, Any]):
        observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (sizes.obs + len(z),), np.float32)
        action_space = gymnasium.spaces.Box(-1.0, 1.0, (sizes.action,), np.float32)

    peer = PeerSAC(
        "MlpPolicy",
        Still(),
        buffer_size=sizes.tasks * REPLAY,
        policy_kwargs={"net_arch": list(sizes.hidden)},
        device="cpu",
        seed=0,
    )
    peer.set_logger(Logger(folder=None, output_formats=[]))
    replay: Any = peer.replay_buffer
    replay.observations[:] = flat(transitions.obs, with_task=True)
    replay.next_observations[:] = flat(transitions.next_obs, with_task=True)
    replay.actions[:] = flat(transitions.action)
    replay.rewards[:] = flat(transitions.reward)
    replay.dones[:] = flat(transitions.terminated)
    replay.full = True
    return peer


def parameters(*networks: torch.nn.Module) -> int:
    """How many they have together."""
    return sum(p.numel() for network in networks for p in network.parameters())


class Cost(NamedTuple):
    """Of a call over that of another: median, least and greatest of REPEATS measurements, and calls
    per second.
    """

    median: float
    least: float
    greatest: float
    rate: float

    def __str__(self) -> str:
        return f"{self.median:.2f} x [{self.least:.2f}, {self.greatest:.2f}]"


def relative_cost(
    functions: dict[str, Callable[[], object]], budget_s: float = 0.5
) -> dict[str, Cost]:
    """Cost of each function over that of the first; all take turns.

    budget_s: time for each function in one measurement.
    """
    measured = [seconds_per_call(functions, budget_s) for _ in range(REPEATS)]
    first = next(iter(functions))
    found = {}
    for name in functions:
        cost = [seconds[name] / seconds[first] for seconds in measured]
        rate = 1.0 / float(np.median([seconds[name] for seconds in measured]))
        found[name] = Cost(float(np.median(cost)), min(cost), max(cost), rate)
    return found


def measure_peer(name: str) -> list[tuple[str, str]]:
    """Rows of (what, ratio) for SIZES[name]: SAC.update against SAC.train of stable-baselines3."""
    sizes = SIZES[name]
    if find_spec("stable_baselines3") is None:
        return [(str(sizes), f"skipped: {PEER} is not installed")]
    ours = make_learner(SAC, SACConfig(hidden=sizes.hidden), sizes)
    peer = make_peer(sizes)
    ours_size = parameters(ours.actor, ours.critic)
    peer_size = parameters(peer.actor, peer.critic)
    if ours_size != peer_size:
        raise RuntimeError(f"{ours_size} parameters against {peer_size}: no comparison")
    batch = sizes.tasks * sizes.batch
    cost = relative_cost(
        {"ours": ours.update, "peer": lambda: peer.train(gradient_steps=1, batch_size=batch)}
    )
    rates = f"{cost['ours'].rate:.1f} against {cost['peer'].rate:.1f} updates/s"
    return [(f"{sizes}, over {PEER}", f"{cost['peer']} ({rates})")]


def measure_methods(name: str) -> list[tuple[str, str]]:
    """Rows of (what, ratio) for SIZES[name]: the cost of an update over MTSAC's, each method with
    the network of its paper; D-Grad (O) and MTSAC with the same network besides.
    """
    sizes = SIZES[name]
    updates = {"mtsac": make_learner(SAC, SACConfig(hidden=sizes.hidden), sizes).update}
    for method_name, method in METHODS.items():
        if method.task_conditioned and method_name not in updates:
            config, _ = method.preset("paper", "metaworld")
            if not isinstance(config, TaskLearnerConfig):
                continue
            made = make_learner(method.learner, config, sizes)
            updates |= phases(made) if isinstance(made, KTM) else {method_name: made.update}
    rows = [
        (f"{sizes}: {what} over mtsac", f"{cost} ({cost.rate:.1f} updates/s)")
        for what, cost in relative_cost(updates).items()
        if what != "mtsac"
    ]
    surgery = DGradOConfig()
    plain = make_learner(SAC, SACConfig(hidden=surgery.hidden), sizes).update
    same = {"mtsac": plain, "dgrad-o": make_learner(DGradO, surgery, sizes).update}
    cost = relative_cost(same)["dgrad-o"]
    sizes = sizes._replace(hidden=surgery.hidden)
    return [*rows, (f"{sizes}: dgrad-o over mtsac", f"{cost} ({cost.rate:.1f} updates/s)")]


def phases(learner: KTM) -> dict[str, Callable[[], object]]:
    """Updates of KTM's three phases; the actor moves in every `actor_every`-th."""
    turn = cycle(range(learner.config.actor_every))

    def td3(agent: TD3) -> None:
        batch = learner.sample()
        as_floats(agent.update(batch, learner.normal(*batch.action.shape), next(turn) == 0))

    return {
        "ktm, teachers": partial(td3, learner.teachers),
        "ktm, transfer": lambda: as_floats(learner.transfer(learner.sample())),
        "ktm, student": partial(td3, learner.student),
    }


def measure_compiled(name: str) -> list[tuple[str, str]]:
    """Rows of (what, ratio) for SIZES[name]: the cost of a compiled update over an eager one."""
    sizes = SIZES[name]
    eager = make_learner(SAC, SACConfig(hidden=sizes.hidden), sizes)
    compiled = make_learner(SAC, SACConfig(hidden=sizes.hidden, compile=True), sizes)
    cost = relative_cost({"eager": eager.update, "compiled": compiled.update})["compiled"]
    return [(f"{sizes}: compile=True over eager", f"{cost} ({cost.rate:.1f} updates/s)")]
