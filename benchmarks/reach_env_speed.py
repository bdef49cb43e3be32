"""Reach environment steps per second: batched, in a plain loop, and in Gymnasium's vector envs."""

import os
from dataclasses import replace
from typing import Any

import gymnasium
import mujoco
import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.timing import seconds_per_call, speed_row
from polyreach.envs.reach.config import ReachConfig
from polyreach.envs.reach.reach import ReachEnv
from polyreach.envs.reach.reward import REWARDS
from polyreach.envs.reach.spec import REALISTIC
from polyreach_description import load_robot

ENVS = 256
CONFIG = ReachConfig(mode="dynamic", action_repeat=1, all_active=1.0, configurations=500)


class SingleReach(gymnasium.Env[NDArray[np.float32], NDArray[np.float32]]):
    """The same task as a single Gymnasium environment, stepped by mj_step."""

    def __init__(self, robot: str) -> None:
        torch.set_num_threads(1)
        self.robot = load_robot(robot)
        self.model = self.robot.simulation_model()
        self.period = 1.0 / self.robot.control_rate
        self.substeps = round(self.period / self.model.opt.timestep)
        self.data = mujoco.MjData(self.model)
        nu, effectors = len(self.robot.joint_names), len(self.robot.effector_names)
        self.observation_space = gymnasium.spaces.Box(
            -np.inf, np.inf, (nu + 4 * effectors,), np.float32
        )
        self.action_space = gymnasium.spaces.Box(-1.0, 1.0, (nu,), np.float32)
        self.bank = self.robot.sample_configuration(np.random.default_rng(0), 100)
        self.horizon = round(CONFIG.horizon_s / self.period)
        self.elapsed = 0

    def reset(self, **options: Any) -> tuple[NDArray[np.float32], dict[str, Any]]:
        """Start at a random configuration, with the goals of another one."""
        super().reset(seed=options.get("seed"))
        start, goal = self.np_random.integers(len(self.bank), size=2)
        mujoco.mj_resetData(self.model, self.data)
        self.data.qpos[:] = self.robot.qpos(self.bank[start])
        self.goals = self.robot.forward_kinematics(self.bank[goal])
        self.elapsed = 0
        return self._observe(), {}

    def step(
        self, action: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], float, bool, bool, dict[str, Any]]:
        """Step one control period."""
        self.data.ctrl[:] = self.robot.simulation_ctrl(action * self.robot.action_speeds)
        for _ in range(self.substeps):
            mujoco.mj_step(self.model, self.data)
        self.elapsed += 1
        mujoco.mj_kinematics(self.model, self.data)
        error = np.linalg.norm(self.data.site_xpos[self.robot.site_ids] - self.goals, axis=-1)
        row = torch.from_numpy(error)[None]
        reward = float(REWARDS[CONFIG.reward](row, torch.ones_like(row), CONFIG.tolerance).sum())
        return self._observe(), reward, False, self.elapsed >= self.horizon, {"error": error}

    def _observe(self) -> NDArray[np.float32]:
        active = np.ones(len(self.goals))
        joint_pos = self.data.qpos[self.robot.qpos_adr]
        return np.concatenate([joint_pos, self.goals.ravel(), active]).astype(np.float32)


def measure(robot: str) -> list[tuple[str, str]]:
    """Rows (comparison, ratio) for one robot."""
    cores = os.cpu_count() or 1
    batched = ReachEnv(load_robot(robot), ENVS, CONFIG, threads=cores)
    kinematic = ReachEnv(load_robot(robot), ENVS, ReachConfig(action_repeat=1, configurations=500))
    limited = ReachEnv(load_robot(robot), ENVS, replace(kinematic.config, **REALISTIC))
    batched.reset(seed=0)
    kinematic.reset(seed=0)
    limited.reset(seed=0)
    action = torch.zeros(ENVS, batched.joints)
    plain_model = batched.robot.simulation_model()
    plain = [mujoco.MjData(plain_model) for _ in range(ENVS)]
    substeps = round(batched.period / plain_model.opt.timestep)
    for data, joint_pos in zip(plain, batched.joint_pos.numpy(), strict=True):
        data.qpos[:] = batched.robot.qpos(joint_pos)
    control = batched.robot.simulation_ctrl(np.zeros(batched.joints))

    def plain_loop() -> None:
        for data in plain:
            data.ctrl[:] = control
            for _ in range(substeps):
                mujoco.mj_step(plain_model, data)

    makers = [lambda: SingleReach(robot)] * ENVS
    sync = gymnasium.vector.SyncVectorEnv(makers)
    parallel = gymnasium.vector.AsyncVectorEnv(makers[:: max(1, ENVS // (4 * cores))])
    sync.reset(seed=0)
    parallel.reset(seed=0)
    sync_action = np.zeros((ENVS, batched.joints), np.float32)
    parallel_action = sync_action[: parallel.num_envs]
    seconds = seconds_per_call(
        {
            "batched": lambda: batched.step(action),
            "kinematic": lambda: kinematic.step(action),
            "limited": lambda: limited.step(action),
            "plain": plain_loop,
            "sync": lambda: sync.step(sync_action),
            "parallel": lambda: parallel.step(parallel_action),
        }
    )
    parallel.close()
    sync.close()
    batched.close()
    ours = ENVS / seconds["batched"]
    peers = {
        "a plain loop of mj_step (no observation, no reward)": ENVS / seconds["plain"],
        f"Gymnasium SyncVectorEnv of {ENVS}": ENVS / seconds["sync"],
        f"Gymnasium AsyncVectorEnv of {parallel.num_envs}": (
            parallel.num_envs / seconds["parallel"]
        ),
    }
    return [
        *(
            speed_row(f"{robot}, dynamic, {cores} threads, vs {name}", ours, peer)
            for name, peer in peers.items()
        ),
        speed_row(f"{robot}, kinematic vs dynamic", ENVS / seconds["kinematic"], ours),
        speed_row(
            f"{robot}, kinematic, with the controller's limits, delay and servo lag vs without",
            ENVS / seconds["limited"],
            ENVS / seconds["kinematic"],
        ),
    ]
