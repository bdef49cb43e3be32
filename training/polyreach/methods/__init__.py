"""The methods, by name: what `polyreach train METHOD` can run."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from polyreach.envs.env_spec import EnvConfig, FamilyName
from polyreach.envs.reach.reach import ReachConfig
from polyreach.errors import UserError
from polyreach.methods import (
    a2c,
    ddpg,
    dgrad_a,
    dgrad_o,
    digrad,
    distillation,
    fine_tuning,
    independent_sac,
    ktm,
    mtmhsac,
    mtsac,
    picor,
    ppo,
    soft_modularization,
    specialization,
)
from polyreach.methods.learner import Learner
from polyreach.methods.off_policy import OffPolicyConfig
from polyreach.methods.task_heads import HeadsConfig
from polyreach.methods.task_presets import task_preset

PresetName = Literal["paper", "tuned"]
PRESETS: tuple[PresetName, ...] = ("paper", "tuned")
MethodConfig = OffPolicyConfig | ppo.PPOConfig | HeadsConfig
Preset = Callable[[PresetName, FamilyName], tuple[Any, EnvConfig]]


@dataclass(frozen=True)
class Method:
    """A method: its settings, its presets and what runs it."""

    config: type[MethodConfig]
    learner: Callable[..., Learner]
    paper: str
    preset: Preset
    """Settings of the method and of the environment, for a preset and a family of environments."""
    task_conditioned: bool
    """Whether it is conditioned on the task; otherwise it drives robots, with a reward per effector.
    """


def _by_name(**presets: Callable[[], tuple[Any, ReachConfig]]) -> Preset:
    return lambda name, family: presets[name]()


METHODS: dict[str, Method] = {
    "ddpg": Method(
        ddpg.DDPGConfig,
        ddpg.DDPG,
        ddpg.PAPER,
        _by_name(paper=ddpg.paper_preset, tuned=ddpg.tuned_preset),
        task_conditioned=False,
    ),
    "digrad": Method(
        digrad.DiGradConfig,
        digrad.DiGrad,
        digrad.PAPER,
        _by_name(paper=digrad.paper_preset, tuned=digrad.tuned_preset),
        task_conditioned=False,
    ),
    **{
        name: Method(config, learner, paper, task_preset(config), task_conditioned=True)
        for name, config, learner, paper in (
            ("sac", mtsac.SACConfig, independent_sac.IndependentSAC, independent_sac.PAPER),
            ("mtsac", mtsac.SACConfig, mtsac.SAC, mtsac.PAPER),
            ("mtmhsac", mtsac.SACConfig, mtmhsac.MTMHSAC, mtmhsac.PAPER),
            ("dgrad-o", dgrad_o.DGradOConfig, dgrad_o.DGradO, dgrad_o.PAPER),
            ("dgrad-a", dgrad_a.DGradAConfig, dgrad_a.DGradA, dgrad_a.PAPER),
            (
                "soft-modularization",
                soft_modularization.SoftModularizationConfig,
                soft_modularization.SoftModularization,
                soft_modularization.PAPER,
            ),
            ("ktm", ktm.KTMConfig, ktm.KTM, ktm.PAPER),
            ("picor", picor.PiCorConfig, picor.PiCor, picor.PAPER),
            ("ppo", ppo.PPOConfig, ppo.PPO, ppo.PAPER),
            (
                "specialization",
                specialization.SpecializationConfig,
                specialization.Specialization,
                specialization.PAPER,
            ),
            ("a2c", a2c.A2CConfig, a2c.A2C, a2c.PAPER),
            (
                "distillation",
                distillation.DistillationConfig,
                distillation.Distillation,
                distillation.PAPER,
            ),
            (
                "fine-tuning",
                fine_tuning.FineTuningConfig,
                fine_tuning.FineTuning,
                fine_tuning.PAPER,
            ),
        )
    },
}


def get_method(name: str) -> Method:
    """The method called `name`; UserError with the legal names otherwise."""
    if name not in METHODS:
        raise UserError(f"unknown method '{name}' (legal: {', '.join(METHODS)})")
    return METHODS[name]
