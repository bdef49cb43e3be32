"""Many copies of the simulated robot, stepped as one batch."""

import copy
from dataclasses import dataclass

import mujoco
import numpy as np
from mujoco import rollout
from numpy.typing import NDArray

from polyreach.errors import check_range
from polyreach.robot.self_distance import SelfDistance
from polyreach_description import Robot

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]

FULL = mujoco.mjtState.mjSTATE_FULLPHYSICS
LONG_STEP_S = 0.004  # of the simulation without contacts, at most; the servos need 0.02 s
TOUCH = 0.3  # share of the stop distance below which bodies are about to touch


@dataclass(frozen=True)
class Drives:
    """What lies between a command and the velocity servos of the simulated robot."""

    delay_s: float = 0.0
    """Largest delay of the commands [s]; each episode has its own, drawn uniformly from zero."""
    lag_s: float = 0.0
    """Time constant of a first-order lag of the servos, besides their own [s]."""

    def __post_init__(self) -> None:
        """Raise UserError for a value that no drive can have."""
        check_range("delay_s", self.delay_s, 0.0, 1.0)
        check_range("lag_s", self.lag_s, 0.0, 1.0)


class SimulatedRobots:
    """N robots with velocity servos, at rest at joint_pos (N, nu) [rad or m] at first.

    joint_pos, joint_vel: (N, nu) measured now. near: (N,) two bodies are closer than their stop
    distance. A period is simulated without contacts, which are most of the work for links with
    meshes, and in steps of twice the model's up to LONG_STEP_S, unless bodies are about to touch at
    its start or its end.
    """

    def __init__(
        self,
        robot: Robot,
        joint_pos: Array,
        drives: Drives,
        seed: int,
        threads: int = 1,
        model: mujoco.MjModel | None = None,
        distance: SelfDistance | None = None,
    ) -> None:
        """model: robot.simulation_model(), where there is one already. distance: what counts as
        near; by default, bodies of the robot that are closer than their stop distance.
        """
        self.robot = robot
        self._model = copy.copy(model or robot.simulation_model())
        period = 1.0 / robot.control_rate  # [s]
        self._substeps = max(1, round(period / self._model.opt.timestep))
        timestep = self._model.opt.timestep = period / self._substeps
        self._free = copy.copy(self._model)
        self._free.opt.disableflags |= mujoco.mjtDisableBit.mjDSBL_CONTACT
        if 2.0 * timestep <= LONG_STEP_S and self._substeps % 2 == 0:
            self._free.opt.timestep = 2.0 * timestep
        self._data = [mujoco.MjData(self._model) for _ in range(threads)]
        self._rollout = rollout.Rollout(nthread=threads if threads > 1 else 0)
        self._distance = distance or SelfDistance(robot, robot.stop_distance)
        count, size = len(joint_pos), mujoco.mj_stateSize(self._model, FULL)
        # a full physics state is time, qpos, qvel, act
        self._qpos_adr = 1 + robot.qpos_adr
        self._qvel_adr = 1 + self._model.nq + robot.dof_adr
        self._state = np.zeros((count, size))
        self._state[:, 1 : 1 + self._model.nq] = robot.qpos(joint_pos)
        self._states = np.zeros((count, self._substeps, size))
        self.joint_pos, self.joint_vel = joint_pos.astype(np.float64), np.zeros(joint_pos.shape)
        shares = self._shares(self.joint_pos)
        self._touching: Mask = shares < TOUCH
        self.near: Mask = shares < 1.0
        # commands, the newest first, and for every substep the one that has arrived
        delay = np.random.default_rng(seed).uniform(0.0, drives.delay_s, count) / timestep
        late = delay.round()[:, None] - np.arange(self._substeps)  # (N, substeps)
        self._age = np.maximum(0, np.ceil(late / self._substeps)).astype(np.int64)
        self._commands = np.zeros((int(self._age.max()) + 1, *joint_pos.shape))
        self._follow = 1.0 - np.exp(-timestep / drives.lag_s) if drives.lag_s else 1.0
        self._servo = np.zeros(joint_pos.shape)

    def step(self, command: Array, rows: NDArray[np.int64]) -> None:
        """Simulate a control period of the robots `rows` (R,), at least one, with command (N, nu)
        [rad/s or m/s]; the others stay as they are.
        """
        self._commands = np.roll(self._commands, 1, axis=0)
        self._commands[0] = command
        joint_vel = self._commands[self._age[rows], rows[:, None]]  # (R, substeps, nu)
        servo = self._servo[rows]
        for k in range(self._substeps):
            servo = servo + self._follow * (joint_vel[:, k] - servo)
            joint_vel[:, k] = servo
        self._servo[rows] = servo
        ctrl = self.robot.simulation_ctrl(joint_vel)
        states, shares = self._state[rows], np.zeros(len(rows))  # zero: simulated with contacts
        free = ~self._touching[rows]
        for model in (self._free, self._model):
            chosen = free if model is self._free else shares < TOUCH
            if chosen.any():
                states[chosen] = self._simulate(model, rows[chosen], ctrl[chosen])
                shares[chosen] = self._shares(states[chosen][:, self._qpos_adr])
        self._state[rows] = states
        self.joint_pos[rows], self.joint_vel[rows] = (
            states[:, self._qpos_adr],
            states[:, self._qvel_adr],
        )
        self._touching[rows], self.near[rows] = shares < TOUCH, shares < 1.0

    def _simulate(self, model: mujoco.MjModel, rows: NDArray[np.int64], ctrl: Array) -> Array:
        """States (R, size) of the robots `rows` after a control period."""
        every = round(model.opt.timestep / self._model.opt.timestep)
        states = self._states[: len(rows), ::every].copy()
        self._rollout.rollout(model, self._data, self._state[rows], ctrl[:, ::every], state=states)
        return states[:, -1]

    def _shares(self, joint_pos: Array) -> Array:
        return np.array([self._distance.least_share(row) for row in joint_pos])

    def close(self) -> None:
        """Stop the threads."""
        self._rollout.close()
