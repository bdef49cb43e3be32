"""Presets of the task-conditioned methods: one set of numbers for all of them, so that methods
differ by what their papers say and by nothing else.

paper: as written in the method's paper, on robots with the rewards and features of digrad-2018.
tuned: on robots what makes the shipped policies; elsewhere the same as paper.
"""

from collections.abc import Callable
from dataclasses import fields
from typing import Any, Literal

from polyreach.envs.cheetahs import CheetahConfig
from polyreach.envs.env_spec import EnvConfig, FamilyName
from polyreach.envs.legged.legged import LeggedConfig
from polyreach.envs.metaworld.metaworld import MetaWorldConfig
from polyreach.envs.reach.task_reach import TaskReachConfig
from polyreach.methods.a2c import A2CConfig
from polyreach.methods.dgrad_a import DGradAConfig
from polyreach.methods.distillation import DistillationConfig
from polyreach.methods.fine_tuning import FineTuningConfig
from polyreach.methods.off_policy import TaskConditionedConfig
from polyreach.methods.ppo import PPOConfig
from polyreach.methods.soft_modularization import SoftModularizationConfig
from polyreach.methods.specialization import SpecializationConfig
from polyreach.methods.task_heads import HeadsConfig

Config = TaskConditionedConfig | PPOConfig | HeadsConfig

ROBOT_PAPER = TaskReachConfig(
    reward="paper_sum", all_active=1.0, features="paper", action="velocity"
)
ROBOT_TUNED = TaskReachConfig(
    reward="precise_sum", all_active=0.7, action_repeat=4, features="kinematic"
)
# smaller networks and batches, faster rates that fall, temperatures that start low (and PiCor's tau
# with them), the discount of 12.5 decisions a second; and smoothness, without which the hands swing
# about their goals when the loop has 40 ms of delay and the joints' acceleration limits: MTSAC on
# planar8 then reaches 95 % of goal sets with it and 57 % without (100 sets, one seed, 1 and 4 M
# steps)
TUNED: dict[str, Any] = {
    "hidden": (256, 256),
    "actor_lr": 1e-3,
    "critic_lr": 1e-3,
    "alpha_lr": 3e-3,
    "initial_alpha": 0.1,
    "final_lr": 0.05,
    "gamma": 0.95,
    "reward_scale": 0.1,
    "tau": 0.01,
    "batch_size": 64,
    "smoothness": 0.3,
    "temperature": 0.01,
}
TUNED_PPO: dict[str, Any] = {
    "batch_steps": 8192,
    "minibatch": 256,
    "epochs": 5,
    "lr": 1e-3,
    "initial_std": 0.5,
    "joint_steps": 300_000,
}
# updates of all tasks at once; of distillation as many as the SAC family makes, and of the actions
# themselves: a student of SAC's policies for planar8 then succeeds in 98.0 % of 256 episodes, 64 of
# each task, and by their distributions in 95.3 % (one seed, 600,000 steps; its teachers 98.4 %)
TUNED_HEADS: dict[str, Any] = {"order": "together", "lr": 1e-3}
TUNED_A2C: dict[str, Any] = {**TUNED_HEADS, "critic_hidden": (256, 256)}
TUNED_OF: dict[type[Config], dict[str, Any]] = {
    DGradAConfig: {"hidden": (160, 160, 160)},
    SoftModularizationConfig: {
        "hidden": (128,),
        "embedding": 128,
        "layers": 2,
        "modules": 2,
        "width": 128,
    },
    PPOConfig: TUNED_PPO,
    SpecializationConfig: TUNED_PPO,
    A2CConfig: TUNED_A2C,
    FineTuningConfig: TUNED_A2C,
    DistillationConfig: {**TUNED_HEADS, "t_max": 1, "match": "action"},
}
"""Where a method's network is of another kind."""


def task_preset(
    config: type[Config],
) -> Callable[[Literal["paper", "tuned"], FamilyName], tuple[Config, EnvConfig]]:
    """The presets of a method whose defaults are those of its paper."""

    def preset(name: Literal["paper", "tuned"], family: FamilyName) -> tuple[Config, EnvConfig]:
        if family == "metaworld":
            return config(), MetaWorldConfig()
        if family == "cheetahs":
            return config(), CheetahConfig()
        if family == "legged":
            return config(), LeggedConfig()
        if name == "paper":
            return config(), ROBOT_PAPER
        known = {field.name for field in fields(config)}
        tuned = TUNED | TUNED_OF.get(config, {})
        return config(**{key: tuned[key] for key in tuned if key in known}), ROBOT_TUNED

    return preset
