"""HalfCheetahs of different build: the tasks of picor-2023 and multitask-continuous-control-2018.

The variants are those of gym-extensions (Henderson et al. 2017). A variant multiplies the `size` of
the geoms of one body part by 0.75 ("Small") or 1.25 ("Big"): of both, back and front, where there
are two. A leg is the two shins; the head is not part of the torso. The size of a thigh, shin or
foot is its radius and its half length, so both change; the torso is given by its two end points,
so only its radius changes. Positions, joints and motors stay. Masses and inertias follow from the
sizes and are then scaled to 14 kg in all, as the model itself asks (settotalmass).

Everything else is Gymnasium's HalfCheetah-v5, whose own model file is used.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.resources import files

import mujoco
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from polyreach.envs.batched_sim import Rows, SimulatedEnvSpec, SimulatedTasks
from polyreach.envs.env_spec import Defaults, EnvConfig, PresetName
from polyreach.envs.task_env import TaskStep, envs_per_task
from polyreach.errors import UserError, check_range

PARTS = {
    "Torso": ("torso",),
    "Thigh": ("bthigh", "fthigh"),
    "Leg": ("bshin", "fshin"),
    "Foot": ("bfoot", "ffoot"),
}
SCALES = {"Small": 0.75, "Big": 1.25}
CHEETAH_VARIANTS: dict[str, tuple[tuple[str, ...], float]] = {
    "Plain": ((), 1.0),
    **{
        f"{size}{part}": (geoms, scale)
        for size, scale in SCALES.items()
        for part, geoms in PARTS.items()
    },
}
"""Variant -> (the geoms whose size changes, the factor)."""

CHEETAH_GROUPS: dict[str, tuple[str, ...]] = {
    "cheetah": ("Plain",),
    "cheetah6": ("SmallFoot", "BigFoot", "SmallLeg", "SmallThigh", "SmallTorso", "BigTorso"),
    "cheetah8": tuple(f"{size}{part}" for size in SCALES for part in PARTS),
    **{f"cheetah-{name.lower()}": (name,) for name in CHEETAH_VARIANTS if name != "Plain"},
}
"""Group -> its tasks. cheetah8: picor-2023. cheetah6: multitask-continuous-control-2018. A variant
alone is called cheetah-bigfoot and so on.
"""

# time, qpos, qvel, and where the contact solver starts: without the last a step is not repeatable
STATE = int(mujoco.mjtState.mjSTATE_FULLPHYSICS | mujoco.mjtState.mjSTATE_WARMSTART)
JOINTS = 9
X = 1  # where a state holds the torso's position along the track [m]
OBSERVED = slice(2, 1 + 2 * JOINTS)  # qpos without x, qvel


@dataclass(frozen=True)
class CheetahConfig(EnvConfig):
    """Settings of HalfCheetah; the defaults are those of Gymnasium's HalfCheetah-v5."""

    horizon: int = 1000
    """Steps of an episode; its end truncates, and never terminates."""
    frame_skip: int = 5
    """Simulation steps of 0.01 s for which one action is held."""
    forward_reward_weight: float = 1.0
    """Reward for a forward speed of 1 m/s."""
    ctrl_cost_weight: float = 0.1
    """Cost of the squared norm of the action."""
    reset_noise_scale: float = 0.1
    """At a start, positions are drawn uniformly within this distance of the model's [m, rad], and
    velocities normally with this standard deviation [m/s, rad/s].
    """

    def __post_init__(self) -> None:
        """Raise UserError for a value that no environment can have."""
        check_range("horizon", self.horizon, 1)
        check_range("frame_skip", self.frame_skip, 1)
        check_range("forward_reward_weight", self.forward_reward_weight, 0.0)
        check_range("ctrl_cost_weight", self.ctrl_cost_weight, 0.0)
        check_range("reset_noise_scale", self.reset_noise_scale, 0.0)


def cheetah_spec(variant: str) -> mujoco.MjSpec:
    """The description of a variant, to be compiled. Raises UserError for an unknown name."""
    if variant not in CHEETAH_VARIANTS:
        raise UserError(f"unknown cheetah '{variant}' (there are: {', '.join(CHEETAH_VARIANTS)})")
    asset = files("gymnasium") / "envs" / "mujoco" / "assets" / "half_cheetah.xml"
    spec = mujoco.MjSpec.from_file(str(asset))
    geoms, scale = CHEETAH_VARIANTS[variant]
    for name in geoms:
        geom = spec.geom(name)
        geom.size = geom.size * scale
    return spec


def cheetah_model(variant: str) -> mujoco.MjModel:
    """The model of a variant. Raises UserError for an unknown name."""
    return cheetah_spec(variant).compile()


class CheetahEnv(SimulatedTasks):
    """T cheetahs of different build that run forward, n environments of each.

    Observations (T, n, 17): positions but x [m, rad], velocities [m/s, rad/s]. Actions (T, n, 6):
    motor torques in units of the largest. There is no success: it is always False.

    Every environment keeps simulation data of its own, because the contact solver starts from the
    accelerations of the step before. A shared batch (mujoco.rollout) drops them, and its
    trajectories part from Gymnasium's within some fifty steps.
    """

    success_at_end = True
    obs_size = 2 * JOINTS - 1
    action_size = 6

    def __init__(
        self,
        group: str,
        num_envs: int,
        config: CheetahConfig,
        device: str = "cpu",
        threads: int = 1,
        seed: int = 0,
    ) -> None:
        """num_envs: over all tasks. Raises UserError for an unknown group or a bad number."""
        if group not in CHEETAH_GROUPS:
            raise UserError(
                f"unknown group of cheetahs '{group}' (there are: {', '.join(CHEETAH_GROUPS)})"
            )
        check_range("threads", threads, 1)
        self.task_names = CHEETAH_GROUPS[group]
        self.envs_per_task = envs_per_task(num_envs, self.task_names, group)
        self.config, self.horizon, self.device = config, config.horizon, torch.device(device)
        models = [cheetah_model(name) for name in self.task_names]
        self._simulations = [
            (model, mujoco.MjData(model)) for model in models for _ in range(self.envs_per_task)
        ]
        super().__init__(num_envs, mujoco.mj_stateSize(models[0], STATE))
        self._period = models[0].opt.timestep * config.frame_skip  # [s]
        self._home = models[0].qpos0.copy()
        self._threads = threads
        self._pool = ThreadPoolExecutor(threads - 1) if threads > 1 else None
        self.reset(seed)

    def step(self, action: Tensor, tasks: Sequence[int] | None = None) -> TaskStep:
        """action: (T', n, 6) for the tasks listed, all if None; the others do not change."""
        listed, clipped = self.checked(action, tasks)
        shape = (len(listed), self.envs_per_task)
        control = clipped.cpu().numpy().astype(np.float64).reshape(-1, self.action_size)
        rows = self._numbers[listed].ravel()
        before = self._state[rows, X]
        self._simulate(rows, control)
        # r = w (x' - x) / dt - c |a|^2
        speed = (self._state[rows, X] - before) / self._period  # [m/s]
        cost = self.config.ctrl_cost_weight * np.square(control).sum(axis=-1)
        reward = self.config.forward_reward_weight * speed - cost
        final_obs = self._observe(rows)
        self._elapsed[rows] += 1
        truncated = self._elapsed[rows] >= self.horizon
        if truncated.any():
            self._restart(rows[truncated])
        return TaskStep(
            obs=self._observe(rows),
            reward=self._tensor(reward.astype(np.float32), shape),
            terminated=self._tensor(np.zeros(shape, dtype=np.bool_), shape),
            truncated=self._tensor(truncated, shape),
            success=self._tensor(np.zeros(shape, dtype=np.bool_), shape),
            final_obs=final_obs,
        )

    def _simulate(self, rows: NDArray[np.int64], control: NDArray[np.float64]) -> None:
        """Hold control (R, 6) in the environments `rows` (R,) for one step."""
        if self._pool is None:
            self._simulate_share(rows, control)
            return
        first, *shares = zip(
            np.array_split(rows, self._threads),
            np.array_split(control, self._threads),
            strict=True,
        )
        pending = [self._pool.submit(self._simulate_share, *share) for share in shares]
        self._simulate_share(*first)
        for future in pending:
            future.result()

    def _simulate_share(self, rows: NDArray[np.int64], control: NDArray[np.float64]) -> None:
        for row, motors in zip(rows, control, strict=True):
            model, data = self._simulations[row]
            data.ctrl = motors
            mujoco.mj_step(model, data, self.config.frame_skip)
            mujoco.mj_getState(model, data, self._state[row], STATE)

    def _restart(self, rows: NDArray[np.int64]) -> None:
        """Start new episodes in the environments `rows` (R,)."""
        size, scale = (len(rows), JOINTS), self.config.reset_noise_scale
        uniform = self._uniform(rows, JOINTS)
        normal = torch.randn(size, generator=self._generator, dtype=torch.float64)
        self._state[rows] = 0.0
        self._state[rows, 1 : 1 + JOINTS] = self._home + scale * uniform
        self._state[rows, 1 + JOINTS : 1 + 2 * JOINTS] = scale * normal.numpy()
        self._elapsed[rows] = 0
        self._put(rows)
        for row in rows:
            # as Gymnasium does: the first step's contact solver starts from the accelerations here
            model, data = self._simulations[row]
            mujoco.mj_forward(model, data)
            mujoco.mj_getState(model, data, self._state[row], STATE)

    def _put(self, rows: NDArray[np.int64]) -> None:
        """Bring the simulations of `rows` (R,) into their states."""
        for row in rows:
            model, data = self._simulations[row]
            mujoco.mj_resetData(model, data)
            mujoco.mj_setState(model, data, self._state[row], STATE)

    def _observe(self, rows: Rows) -> Tensor:
        """(T', n, 17), of the environments `rows` (R,)."""
        observed = self._state[rows, OBSERVED].astype(np.float32)
        return self._tensor(observed, (-1, self.envs_per_task, self.obs_size))

    def close(self) -> None:
        """Stop the threads."""
        if self._pool is not None:
            self._pool.shutdown()


class CheetahSpec(SimulatedEnvSpec[CheetahConfig, CheetahEnv]):
    """A group of HalfCheetahs of different build."""

    name = "cheetahs"
    envs = tuple(CHEETAH_GROUPS)
    config = CheetahConfig

    @property
    def tasks(self) -> tuple[str, ...]:
        """Names of the variants."""
        return CHEETAH_GROUPS[self.env]

    def settings(self, preset: PresetName) -> CheetahConfig:
        """The same for both presets."""
        return CheetahConfig()

    def defaults(self, preset: str) -> Defaults:
        """The budget of picor-2023 for eight tasks, as much for each of any other number."""
        tasks = len(self.tasks)
        return Defaults(300_000 * tasks, tasks, eval_every=10_000 * tasks, eval_goals=4)

    def make(
        self, config: CheetahConfig, num_envs: int, device: str, threads: int, seed: int
    ) -> CheetahEnv:
        """num_envs is over all tasks."""
        return CheetahEnv(self.env, num_envs, config, device, threads, seed)


SPEC = CheetahSpec
