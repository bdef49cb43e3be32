"""The dynamic mode of the reach environment: MuJoCo with velocity servos."""

from typing import Any

import mujoco
import numpy as np
import torch
from mujoco import rollout
from torch import Tensor

from polyreach.envs.reach.config import ReachConfig
from polyreach.envs.reach.joint_limits import JointLimits
from polyreach_description import Robot


class BatchDynamics:
    """N copies of the simulated robot, one array of states stepped by MuJoCo's threaded rollout.

    Commands are in double precision, and act after a delay of whole simulation steps.
    """

    def __init__(
        self, robot: Robot, num_envs: int, config: ReachConfig, device: torch.device, threads: int
    ) -> None:
        self.robot, self.model, self.device = robot, robot.simulation_model(), device
        self.repeat = config.action_repeat
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
        self.states = np.zeros((num_envs, self.substeps, size))
        limits = JointLimits(robot, torch.device("cpu"), torch.float64)
        self._limit = limits.apply if config.acceleration_limits else None
        self.max_delay = round(config.max_delay_s / self.model.opt.timestep)  # simulation steps
        self.delay = torch.zeros(num_envs, dtype=torch.int64)  # simulation steps
        # commands that may still act, newest first
        count = 1 + -(-self.max_delay // self.substeps)
        self.commands = torch.zeros(num_envs, count, len(robot.joint_names), dtype=torch.float64)

    @property
    def command(self) -> Tensor:
        """The last command after limits (N, nu) [rad/s or m/s]."""
        return self.commands[:, 0].float().to(self.device)

    def start(self, which: Tensor, joint_pos: Tensor, generator: torch.Generator | None) -> None:
        """Rest, and a delay that is uniform up to its maximum; see Motion.start."""
        rows = which.cpu()
        chosen = rows.numpy()
        self.state[chosen] = 0.0
        self.state[chosen, self.qpos] = self.robot.qpos(joint_pos.cpu().numpy()[chosen])
        self.commands = torch.where(rows[:, None, None], 0.0, self.commands)
        if generator is not None and self.max_delay > 0:
            share = torch.rand(len(which), generator=generator, device=self.device).cpu()
            self.delay = torch.where(rows, (share * self.max_delay).round().long(), self.delay)

    def step(self, joint_pos: Tensor, joint_vel: Tensor) -> Tensor:
        """Joint positions (N, nu) after an action with joint_vel (N, nu) [rad/s or m/s]."""
        wanted = joint_vel.cpu().double()
        # the command of how many periods ago acts in each simulation step of a period
        ago = self.delay[:, None] - torch.arange(self.substeps) + self.substeps - 1
        ago = ago.div(self.substeps, rounding_mode="floor")  # (N, substeps)
        rows = torch.arange(len(ago))[:, None]
        for _ in range(self.repeat):
            command = wanted
            if self._limit is not None:
                reached = torch.from_numpy(self.state[:, 1 + self.robot.qpos_adr])
                command = self._limit(wanted, self.commands[:, 0], reached)
            self.commands = torch.cat([command[:, None], self.commands[:, :-1]], dim=1)
            acting = self.commands[rows, ago].numpy()  # (N, substeps, nu)
            self.rollout.rollout(
                self.model,
                self.data,
                self.state,
                self.robot.simulation_ctrl(acting),
                state=self.states,
            )
            self.state[:] = self.states[:, -1]
        after = self.state[:, 1 + self.robot.qpos_adr]
        return torch.tensor(after, dtype=torch.float32, device=self.device)

    def state_dict(self) -> dict[str, Any]:
        """States of the simulations, commands and delays."""
        dynamics = torch.from_numpy(self.state.copy())
        return {"dynamics": dynamics, "commands": self.commands, "delay": self.delay}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what state_dict returned; version 0.2 kept one command, and had no delay."""
        self.state[:] = state["dynamics"].cpu().numpy()
        commands = state["commands"] if "commands" in state else state["command"][:, None]
        self.commands = commands.cpu()
        self.delay = state.get("delay", self.delay).cpu()

    def close(self) -> None:
        """Stop the threads."""
        self.rollout.close()
