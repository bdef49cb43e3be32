"""Hoppers and a biped: the tasks of gradient-guided-specialization-2017, section V.

Reward of a step: the mean velocity of the centre of mass along x [m/s], with the sign of the task's
direction, plus a bonus while the robot stands, minus the cost of the action and of every knee that
is at an end of its range. The text has velocity and no more; the rest is from its authors' public
code (dart-env).

An episode terminates where the robot has fallen: where its torso is lower than 0.56 of its standing
height, leans by more than 0.4 rad (hoppers) or 1.0 rad (biped), or where a position but x or a
velocity is beyond 100 [m, rad, m/s, rad/s]. The last step then has no bonus. Otherwise it is
truncated after 1000 steps, of 4 simulation steps of 0.002 s each.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import mujoco
import numpy as np
import torch
from mujoco.rollout import Rollout
from numpy.typing import NDArray
from torch import Tensor

from polyreach.envs.batched_sim import Rows, SimulatedTasks
from polyreach.envs.env_spec import EnvConfig
from polyreach.envs.legged.models import biped_spec, hopper_spec, lever_arms
from polyreach.envs.task_env import TaskStep, envs_per_task
from polyreach.errors import UserError, check_range

LARGEST = 100.0  # of a state in which a robot is not lost
FASTEST = 10.0  # velocity that is observed [m/s, rad/s]
ENVS_PER_THREAD = 16  # with fewer, waking a thread takes longer than what it saves
KNEE_MARGIN = 0.05  # from an end of a knee's range [rad]
Z, PITCH = 1, 2  # in qpos


@dataclass(frozen=True)
class LeggedTask:
    """A robot, and the direction in which it is to go."""

    spec: Callable[[], mujoco.MjSpec]
    max_angle: float
    """Lean of the torso at which it has fallen [rad]."""
    direction: float = 1.0
    """1 for forward, -1 for backward."""


def _hopper(**build: Any) -> LeggedTask:
    return LeggedTask(partial(hopper_spec, **build), max_angle=0.4)


LEGGED_GROUPS: dict[str, dict[str, LeggedTask]] = {
    "hoppers3": {
        "capsule": _hopper(shape="capsule"),
        "box": _hopper(shape="box", scale=1.1),
        "ellipsoid": _hopper(shape="ellipsoid", scale=1.2),
    },
    "biped2": {
        "forward": LeggedTask(biped_spec, max_angle=1.0),
        "backward": LeggedTask(biped_spec, max_angle=1.0, direction=-1.0),
    },
    **{
        f"hoppers-{mass}kg": {
            "15kg": _hopper(torso_mass=15.0),
            f"{mass}kg": _hopper(torso_mass=float(mass)),
        }
        for mass in (3, 8, 14)
    },
}
"""Group -> its tasks. A scale multiplies lengths and masses; a mass is that of the torso."""


@dataclass(frozen=True)
class LeggedConfig(EnvConfig):
    """Settings of hoppers and biped that the paper leaves open."""

    horizon: int = 1000
    """Steps of an episode; its end truncates."""
    frame_skip: int = 4
    """Simulation steps of 0.002 s for which one action is held."""
    velocity_weight: float = 1.0
    """Reward for a speed of 1 m/s in the direction of the task."""
    alive_bonus: float = 1.0
    """Reward of each step after which the robot has not fallen."""
    ctrl_cost_weight: float = 1e-3
    """Cost of the squared norm of the action."""
    knee_cost: float = 0.75
    """Cost of a knee that is within 0.05 rad of an end of its range, straight or bent."""
    min_height: float = 0.56
    """Height of the torso's centre below which the robot has fallen, as a share of the height when
    it stands.
    """
    reset_noise_scale: float = 5e-3
    """At a start, positions and velocities are drawn uniformly within this of standing still [m,
    rad, m/s, rad/s].
    """

    def __post_init__(self) -> None:
        """Raise UserError for a value that no environment can have."""
        check_range("horizon", self.horizon, 1)
        check_range("frame_skip", self.frame_skip, 1)
        check_range("velocity_weight", self.velocity_weight, 0.0)
        check_range("alive_bonus", self.alive_bonus, 0.0)
        check_range("ctrl_cost_weight", self.ctrl_cost_weight, 0.0)
        check_range("knee_cost", self.knee_cost, 0.0)
        check_range("min_height", self.min_height, 0.0, 1.0)
        check_range("reset_noise_scale", self.reset_noise_scale, 0.0)


class LeggedEnv(SimulatedTasks):
    """T planar robots with legs, n environments of each, all in one call of MuJoCo's rollout.

    Observations (T, n, 2 nv - 1): positions but x [m, rad], then velocities, clipped to -10 and 10
    [m/s, rad/s]. The height is that of the torso's centre above the floor, as in the authors' code,
    so that robots of several sizes can be distinguished while they stand. Actions (T, n, nu): motor
    torques in units of the largest. There is no success: it is always False.

    The contact solver starts every step anew (its warm start is zero), so that a step depends on
    positions, velocities and action alone, however environments are shared among threads.
    """

    success_at_end = True

    def __init__(
        self,
        group: str,
        num_envs: int,
        config: LeggedConfig,
        device: str = "cpu",
        threads: int = 1,
        seed: int = 0,
    ) -> None:
        """num_envs: over all tasks. Raises UserError for an unknown group or a bad number."""
        if group not in LEGGED_GROUPS:
            raise UserError(
                f"unknown robots with legs '{group}' (there are: {', '.join(LEGGED_GROUPS)})"
            )
        check_range("threads", threads, 1)
        tasks = LEGGED_GROUPS[group]
        self.task_names = tuple(tasks)
        self.envs_per_task = envs_per_task(num_envs, self.task_names, group)
        self.config, self.horizon, self.device = config, config.horizon, torch.device(device)
        self.models = tuple(task.spec().compile() for task in tasks.values())
        """(T,)."""
        self._nv = self.models[0].nv
        self.obs_size, self.action_size = 2 * self._nv - 1, self.models[0].nu
        self._period = self.models[0].opt.timestep * config.frame_skip  # [s]

        each = self.envs_per_task
        self._direction = np.repeat([task.direction for task in tasks.values()], each)
        self._max_angle = np.repeat([task.max_angle for task in tasks.values()], each)
        self._standing = np.repeat([model.body("torso").pos[2] for model in self.models], each)
        self._lowest = (config.min_height - 1.0) * self._standing  # (T n,), of qpos [m]
        knees = [joint for joint in range(self._nv) if "knee" in self.models[0].joint(joint).name]
        self._knees, ends = np.array(knees), self.models[0].jnt_range[knees]  # (K,), (K, 2)
        self._low_knee, self._high_knee = ends[:, 0] + KNEE_MARGIN, ends[:, 1] - KNEE_MARGIN  # (K,)
        turns, arms = zip(*map(lever_arms, self.models), strict=True)
        self._turns, self._arms = turns[0], np.repeat(arms, each, axis=0)  # (B, nv), (T n, B, 2)

        size = mujoco.mj_stateSize(self.models[0], mujoco.mjtState.mjSTATE_FULLPHYSICS)
        super().__init__(num_envs, size)  # time, qpos, qvel
        self._reached = np.zeros((num_envs, config.frame_skip, size))
        self._control = np.zeros((num_envs, config.frame_skip, self.action_size))
        self._warmstart = np.zeros((num_envs, self._nv))
        used = max(1, min(threads, num_envs // ENVS_PER_THREAD))
        # the models differ in numbers, not in sizes, so that the data of one serve for all
        self._data = [mujoco.MjData(self.models[0]) for _ in range(used)]
        self._pool = Rollout(nthread=used if used > 1 else 0)
        self.reset(seed)

    @property
    def states(self) -> Tensor:
        """(T, n, S) float64: time [s], qpos, qvel; a copy."""
        return torch.tensor(self._state).reshape(self.tasks, self.envs_per_task, -1)

    def step(self, action: Tensor, tasks: Sequence[int] | None = None) -> TaskStep:
        """action: (T', n, A) for the tasks listed, all if None; the others do not change.

        Where the simulation runs away, to a state beyond mjMAXVAL or to none, the environment stays
        in the one before and terminates.
        """
        listed, clipped = self.checked(action, tasks)
        shape = (len(listed), self.envs_per_task)
        control = clipped.cpu().numpy().astype(np.float64).reshape(-1, self.action_size)
        rows = self._rows(listed)
        before = self._state[rows].copy()
        after, sound = self._simulate(listed, before, control)
        self._state[rows] = after
        fallen = ~sound | self._fallen(after, rows)
        # r = w d (x' - x) / dt + b [stands] - c |a|^2 - k K', with x that of the centre of mass and
        # K' the number of knees at an end of their range
        start, end = self._centres(np.stack((before, after)), rows)
        speed = self._direction[rows] * (end - start) / self._period  # [m/s]
        reward = (
            self.config.velocity_weight * speed
            + self.config.alive_bonus * ~fallen
            - self.config.ctrl_cost_weight * np.square(control).sum(axis=-1)
            - self.config.knee_cost * self._knees_at_ends(after)
        )
        final_obs = self._observe(rows)
        self._elapsed[rows] += 1
        truncated = ~fallen & (self._elapsed[rows] >= self.horizon)
        ended = fallen | truncated
        if ended.any():
            self._restart(self._numbers[listed].ravel()[ended])
            obs = self._observe(rows)
        else:
            obs = final_obs.clone()
        return TaskStep(
            obs=obs,
            reward=self._tensor(reward.astype(np.float32), shape),
            terminated=self._tensor(fallen, shape),
            truncated=self._tensor(truncated, shape),
            success=self._tensor(np.zeros(shape, dtype=np.bool_), shape),
            final_obs=final_obs,
        )

    def _simulate(
        self, listed: list[int], before: NDArray[np.float64], control: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """Hold control (R, A) for one step in the environments of the tasks listed, in states
        `before` (R, S). Returns the states reached (R, S), and (R,) False where the simulation ran
        away: there the state is the one before.
        """
        count = len(before)
        reached, held = self._reached[:count], self._control[:count]
        held[:] = control[:, None]
        self._pool.rollout(
            [self.models[task] for task in listed for _ in range(self.envs_per_task)],
            self._data,
            before,
            held,
            nstep=self.config.frame_skip,
            chunk_size=-(-count // len(self._data)),
            initial_warmstart=self._warmstart[:count],
            state=reached,
            skip_checks=True,
        )
        after = reached[:, -1]
        sound: NDArray[np.bool_] = np.all(np.abs(after) <= mujoco.mjMAXVAL, axis=1)
        return np.where(sound[:, None], after, before), sound

    def _positions(self, states: NDArray[np.float64]) -> NDArray[np.float64]:
        return states[..., 1 : 1 + self._nv]

    def _centres(self, states: NDArray[np.float64], rows: Rows) -> NDArray[np.float64]:
        """Where the centres of mass are along x [m], (2, R), in states (2, R, S)."""
        qpos = self._positions(states)
        # no product of matrices, whose rounding may change with the number of rows
        angle = (qpos[..., None, :] * self._turns).sum(axis=-1)  # (2, R, B)
        arms = self._arms[rows]
        shift = (np.cos(angle) * arms[..., 0] + np.sin(angle) * arms[..., 1]).sum(axis=-1)
        centres: NDArray[np.float64] = qpos[..., 0] + shift
        return centres

    def _knees_at_ends(self, states: NDArray[np.float64]) -> NDArray[np.int64]:
        """(R,), how many there are in states (R, S)."""
        knees = self._positions(states)[:, self._knees]
        at_end = (knees < self._low_knee) | (knees > self._high_knee)  # (R, K)
        count: NDArray[np.int64] = at_end.sum(axis=1)
        return count

    def _fallen(self, states: NDArray[np.float64], rows: Rows) -> NDArray[np.bool_]:
        """(R,), by the states (R, S) alone."""
        qpos = self._positions(states)
        low: NDArray[np.bool_] = qpos[:, Z] < self._lowest[rows]
        leaning: NDArray[np.bool_] = np.abs(qpos[:, PITCH]) > self._max_angle[rows]
        lost: NDArray[np.bool_] = np.any(np.abs(states[:, 2:]) > LARGEST, axis=1)
        return low | leaning | lost

    def _restart(self, rows: NDArray[np.int64]) -> None:
        """Start new episodes in the environments `rows` (R,)."""
        self._state[rows, 0] = 0.0
        self._state[rows, 1:] = self.config.reset_noise_scale * self._uniform(rows, 2 * self._nv)
        self._elapsed[rows] = 0

    def _observe(self, rows: Rows) -> Tensor:
        """(T', n, O), of the environments `rows` (R,)."""
        observed = self._state[rows, 2:].astype(np.float32)
        observed[:, 0] = self._state[rows, 1 + Z] + self._standing[rows]
        velocity = observed[:, self._nv - 1 :]
        np.clip(velocity, -FASTEST, FASTEST, out=velocity)
        return self._tensor(observed, (-1, self.envs_per_task, self.obs_size))

    def close(self) -> None:
        """Stop the threads."""
        self._pool.close()
