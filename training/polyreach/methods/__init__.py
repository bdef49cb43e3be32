"""The methods, by name: what `polyreach train METHOD` can run."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from polyreach.envs.reach import ReachConfig
from polyreach.errors import UserError
from polyreach.methods import ddpg, digrad
from polyreach.methods.off_policy import OffPolicyConfig, OffPolicyLearner

PresetName = Literal["paper", "tuned"]
Preset = Callable[[], tuple[Any, ReachConfig]]


@dataclass(frozen=True)
class Method:
    """A method: its settings, its presets and what runs it."""

    config: type[OffPolicyConfig]
    learner: Callable[..., OffPolicyLearner]
    paper: str
    presets: dict[PresetName, Preset]


METHODS: dict[str, Method] = {
    name: Method(
        config, learner, module.PAPER, {"paper": module.paper_preset, "tuned": module.tuned_preset}
    )
    for name, config, learner, module in (
        ("ddpg", ddpg.DDPGConfig, ddpg.DDPG, ddpg),
        ("digrad", digrad.DiGradConfig, digrad.DiGrad, digrad),
    )
}


def get_method(name: str) -> Method:
    """The method called `name`; UserError with the legal names otherwise."""
    if name not in METHODS:
        raise UserError(f"unknown method '{name}' (legal: {', '.join(METHODS)})")
    return METHODS[name]
