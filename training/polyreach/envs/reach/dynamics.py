"""The dynamic mode of the reach environment: MuJoCo with velocity servos."""

from typing import cast

import mujoco
import numpy as np
from mujoco import rollout
from numpy.typing import NDArray

from polyreach_description import Robot


class BatchDynamics:
    """N copies of the simulated robot, one array of states stepped by MuJoCo's threaded rollout."""

    def __init__(
        self, robot: Robot, num_envs: int, periods: int, acceleration_limits: bool, threads: int
    ) -> None:
        """periods: control periods of the robot for which an action is held. acceleration_limits:
        the servos follow velocities that change no faster than these limits allow.
        """
        self.robot, self.model = robot, robot.simulation_model()
        period = 1.0 / robot.control_rate  # [s]
        self.substeps = max(1, round(period / self.model.opt.timestep))  # of a control period
        self.model.opt.timestep = period / self.substeps
        self.data = [mujoco.MjData(self.model) for _ in range(threads)]
        self.rollout = rollout.Rollout(nthread=threads if threads > 1 else 0)
        size = mujoco.mj_stateSize(self.model, mujoco.mjtState.mjSTATE_FULLPHYSICS)
        # a full physics state is time, qpos, qvel, act
        self.qpos = slice(1, 1 + self.model.nq)
        self.state = np.zeros((num_envs, size))
        self.state[:, self.qpos] = robot.qpos(robot.home)
        self.states = np.zeros((num_envs, periods * self.substeps, size))
        self.command = np.zeros((num_envs, len(robot.joint_names)))
        # by how much it may have changed in each control period of an action (periods, nu)
        self.change = np.full((periods, len(robot.joint_names)), np.inf)
        if acceleration_limits:
            self.change = robot.joint_acc_limits * period * np.arange(1, periods + 1)[:, None]

    def reset(self, which: NDArray[np.bool_], joint_pos: NDArray[np.float32]) -> None:
        """Put the robots in `which` (N,) at rest at their row of joint_pos (N, nu)."""
        self.state[which] = 0.0
        self.state[which, self.qpos] = self.robot.qpos(joint_pos[which])
        self.command[which] = 0.0

    def step(self, joint_vel: NDArray[np.float32]) -> NDArray[np.float64]:
        """Go over to joint_vel (N, nu) and hold it; joint positions (N, nu) after the action."""
        before = self.command[:, None]
        commands = np.clip(joint_vel[:, None], before - self.change, before + self.change)
        self.command[:] = commands[:, -1]
        self.rollout.rollout(
            self.model,
            self.data,
            self.state,
            np.repeat(self.robot.simulation_ctrl(commands), self.substeps, axis=1),
            state=self.states,
        )
        self.state[:] = self.states[:, -1]
        return cast(NDArray[np.float64], self.state[:, 1 + self.robot.qpos_adr])

    def close(self) -> None:
        """Stop the threads."""
        self.rollout.close()
