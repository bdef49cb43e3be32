"""Updates per second of the SAC family: vs stable-baselines3, between methods, and compiled.

All measurements use one thread and a replay full of random transitions. The peer has the same
networks (the equal number of parameters is checked), batch and replay; its observation contains the
one-hot task vector. It has one temperature for all tasks and does not clip gradients.

Only this benchmark uses the peer: `pip install stable-baselines3==2.9.2`. Without it, its rows are
skipped.
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

from benchmarks.limits import products_of, share_row
from benchmarks.timing import seconds_per_call
from polyreach.envs.registry import find_env_spec
from polyreach.envs.task_env import TaskEnv, TaskStep
from polyreach.methods import METHODS
from polyreach.methods.dgrad_o import DGradO, DGradOConfig
from polyreach.methods.ktm import KTM, TD3
from polyreach.methods.mtsac import MTSAC, SACConfig, as_floats
from polyreach.methods.off_policy import TaskConditionedConfig
from polyreach.storage.replay import Batch

PEER = "stable-baselines3"
REPEATS = 7
REPLAY = 10_000  # transitions per task


class Sizes(NamedTuple):
    """Sizes of a problem, its networks and its batches."""

    tasks: int
    obs: int
    action: int
    batch: int
    hidden: tuple[int, ...]

    def __str__(self) -> str:
        network = f"{len(self.hidden)} x {self.hidden[0]}"
        return f"T = {self.tasks}, {self.batch} per task, {network}"


CHEETAH = Sizes(tasks=1, obs=17, action=6, batch=256, hidden=(256, 256))
MT10 = Sizes(tasks=10, obs=39, action=4, batch=128, hidden=(512, 512))
SIZES = {"cheetah": CHEETAH, "mt10": MT10}


class ZeroEnv(TaskEnv):
    """Tasks of the given sizes with zero observations and rewards."""

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
        """Empty: there is no state."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Do nothing: there is no state."""


def random_transitions(sizes: Sizes, seed: int = 0) -> Batch:
    """Transitions (T, REPLAY, .) that fill a replay; one in 100 ends its episode."""
    generator = torch.Generator().manual_seed(seed)
    shape = (sizes.tasks, REPLAY)
    obs, next_obs = torch.randn(2, *shape, sizes.obs, generator=generator)
    action = torch.rand(*shape, sizes.action, generator=generator) * 2 - 1
    reward = torch.rand(shape, generator=generator)
    terminated = (torch.rand(shape, generator=generator) < 0.01).float()
    return Batch(obs, action, reward, terminated, next_obs)


def make_learner(learner: Callable[..., Any], config: TaskConditionedConfig, sizes: Sizes) -> Any:
    """A learner with a full replay."""
    config = replace(config, batch_size=sizes.batch, replay_size=REPLAY)
    instance = learner(config, ZeroEnv(sizes), 1_000_000, 0)
    instance.replay.add(random_transitions(sizes))
    return instance


def make_peer(sizes: Sizes) -> Any:
    """SAC of stable-baselines3, with a replay full of the same transitions."""
    import gymnasium
    from stable_baselines3 import SAC as PeerSAC
    from stable_baselines3.common.logger import Logger

    transitions = random_transitions(sizes)
    z = torch.eye(sizes.tasks)

    def flat(x: Tensor, with_task: bool = False) -> Any:
        if with_task:
            x = torch.cat([x, z[:, None].expand(-1, REPLAY, -1)], dim=-1)
        return x.flatten(0, 1)[:, None].numpy()

    class Spaces(gymnasium.Env[Any, Any]):
        observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (sizes.obs + len(z),), np.float32)
        action_space = gymnasium.spaces.Box(-1.0, 1.0, (sizes.action,), np.float32)

    peer = PeerSAC(
        "MlpPolicy",
        Spaces(),
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


def count_parameters(*networks: torch.nn.Module) -> int:
    """Number of parameters of all networks."""
    return sum(p.numel() for network in networks for p in network.parameters())


class Cost(NamedTuple):
    """Time of a call relative to another call: median, least and greatest of REPEATS measurements.

    rate: calls per second.
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
    """Cost of each function relative to the first; they alternate.

    budget_s: time for each function in one measurement.
    """
    measured = [seconds_per_call(functions, budget_s) for _ in range(REPEATS)]
    first = next(iter(functions))
    result = {}
    for name in functions:
        cost = [seconds[name] / seconds[first] for seconds in measured]
        rate = 1.0 / float(np.median([seconds[name] for seconds in measured]))
        result[name] = Cost(float(np.median(cost)), min(cost), max(cost), rate)
    return result


def measure_peer(name: str) -> list[tuple[str, str]]:
    """Rows (comparison, ratio) for SIZES[name]: SAC.update vs SAC.train of stable-baselines3."""
    sizes = SIZES[name]
    if find_spec("stable_baselines3") is None:
        return [(str(sizes), f"skipped: {PEER} is not installed")]
    ours = make_learner(MTSAC, SACConfig(hidden=sizes.hidden), sizes)
    peer = make_peer(sizes)
    size, peer_size = (count_parameters(sac.actor, sac.critic) for sac in (ours, peer))
    if size != peer_size:
        raise RuntimeError(f"{size} parameters, but {peer_size} in the peer: not comparable")
    batch = sizes.tasks * sizes.batch
    cost = relative_cost(
        {
            "ours": ours.update,
            "peer": lambda: peer.train(gradient_steps=1, batch_size=batch),
            "products": products_of(ours.update),
        }
    )
    rates = f"{cost['ours'].rate:.1f} vs {cost['peer'].rate:.1f} updates/s"
    return [
        (f"{sizes}, vs {PEER}", f"{cost['peer']} ({rates})"),
        share_row(f"{sizes}: matrix products alone", cost["products"].median, 1.0),
    ]


def measure_methods(name: str) -> list[tuple[str, str]]:
    """Rows (comparison, ratio) for SIZES[name]: the cost of an update relative to MTSAC's, each
    method with the network of its paper; also D-Grad (O) and MTSAC with the same network.
    """
    sizes = SIZES[name]
    updates = {"mtsac": make_learner(MTSAC, SACConfig(hidden=sizes.hidden), sizes).update}
    for method_name, method in METHODS.items():
        if method.task_conditioned and method_name not in updates:
            config, _ = method.preset("paper", find_env_spec("mt10", task_conditioned=True))
            if not isinstance(config, TaskConditionedConfig):
                continue
            learner = make_learner(method.learner, config, sizes)
            is_ktm = isinstance(learner, KTM)
            updates |= ktm_phases(learner) if is_ktm else {method_name: learner.update}
    rows = [
        (f"{sizes}: {method_name} vs mtsac", f"{cost} ({cost.rate:.1f} updates/s)")
        for method_name, cost in relative_cost(updates).items()
        if method_name != "mtsac"
    ]
    surgery = DGradOConfig()
    plain = make_learner(MTSAC, SACConfig(hidden=surgery.hidden), sizes).update
    same_network = {"mtsac": plain, "dgrad-o": make_learner(DGradO, surgery, sizes).update}
    cost = relative_cost(same_network)["dgrad-o"]
    sizes = sizes._replace(hidden=surgery.hidden)
    return [*rows, (f"{sizes}: dgrad-o vs mtsac", f"{cost} ({cost.rate:.1f} updates/s)")]


def ktm_phases(learner: KTM) -> dict[str, Callable[[], object]]:
    """Updates of KTM's three phases; every `actor_every`-th one updates the actor."""
    update = cycle(range(learner.config.actor_every))

    def td3(agent: TD3) -> None:
        batch = learner.sample()
        as_floats(agent.update(batch, learner.normal(*batch.action.shape), next(update) == 0))

    return {
        "ktm, teachers": partial(td3, learner.teachers),
        "ktm, transfer": lambda: as_floats(learner.transfer(learner.sample())),
        "ktm, student": partial(td3, learner.student),
    }


def measure_compiled(name: str) -> list[tuple[str, str]]:
    """Rows (comparison, ratio) for SIZES[name]: cost of a compiled vs an eager update."""
    sizes = SIZES[name]
    eager = make_learner(MTSAC, SACConfig(hidden=sizes.hidden), sizes)
    compiled = make_learner(MTSAC, SACConfig(hidden=sizes.hidden, compile=True), sizes)
    cost = relative_cost({"eager": eager.update, "compiled": compiled.update})["compiled"]
    return [(f"{sizes}: compile=True vs eager", f"{cost} ({cost.rate:.1f} updates/s)")]
