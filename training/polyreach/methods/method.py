"""The registration of a method: its name, paper, learner, and settings by preset."""

from collections.abc import Callable, Mapping
from dataclasses import Field, dataclass, field, replace
from typing import Any, ClassVar, Protocol

from polyreach.envs.env_spec import AnyEnvSpec, Defaults, EnvConfig, PresetName
from polyreach.errors import UserError
from polyreach.methods.learner import Learner

BENCHMARKS: tuple[str, ...] = ("metaworld", "cheetahs", "legged")
"""Kinds of the papers' environments, for which preset `tuned` is the same as `paper`."""


class MethodConfig(Protocol):
    """Settings of a method: a frozen dataclass whose defaults are those of its paper."""

    __dataclass_fields__: ClassVar[dict[str, Field[Any]]]


def unchanged(settings: EnvConfig, preset: PresetName) -> EnvConfig:
    """The environment's settings as they are."""
    return settings


@dataclass(frozen=True)
class Method:
    """A method that `polyreach train METHOD` runs; the module of a method ends with its record."""

    name: str
    """METHOD in `polyreach train METHOD ENV`."""
    paper: str
    """Citation; it is written into exported policy files."""
    learner: Callable[..., Learner]
    """Called with settings, environment, steps of the run and seed."""
    settings: MethodConfig
    """The paper's: preset `paper` in any environment."""
    tuned: Mapping[str, MethodConfig] = field(default_factory=dict)
    """Preset `tuned`, by the kind of the environment (EnvSpec.name)."""
    task_conditioned: bool = True
    """Whether the policy is conditioned on a task id; otherwise it acts on robots with all
    effectors at once.
    """
    env_settings: Callable[[EnvConfig, PresetName], EnvConfig] = unchanged
    """Changes of the environment's settings that the method needs."""
    numbers: Mapping[str, int] = field(default_factory=dict)
    """Numbers of a run by default that differ from those of the environment: see Defaults."""
    old_names: tuple[str, ...] = ()
    """Names of earlier versions, which are still accepted."""
    old_settings: Mapping[str, Any] = field(default_factory=dict)
    """What runs did that were made before a setting existed, where it is not its default."""

    @property
    def config(self) -> type[MethodConfig]:
        """Type of the settings."""
        return type(self.settings)

    def defaults(self, preset: PresetName, env: AnyEnvSpec) -> Defaults:
        """Numbers of a run by default."""
        return replace(env.defaults(preset), **self.numbers)

    def preset(self, preset: PresetName, env: AnyEnvSpec) -> tuple[MethodConfig, EnvConfig]:
        """Settings of the method and of the environment.

        Raises UserError if the method has no tuned settings for environments of this kind.
        """
        env_settings = self.env_settings(env.settings(preset), preset)
        if preset == "paper":
            return self.settings, env_settings
        if env.name not in self.tuned:
            raise UserError(
                f"method '{self.name}' has no settings of preset '{preset}' for environment "
                f"'{env.env}' of kind '{env.name}' (legal: preset paper; preset {preset} for kinds "
                f"{', '.join(self.tuned) or 'none'})"
            )
        return self.tuned[env.name], env_settings
