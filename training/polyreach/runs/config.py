"""The configuration of a run: its command line, its JSON form, its robot."""

import dataclasses
import json
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from polyreach.envs.env_spec import AnyEnvSpec, EnvConfig, PresetName
from polyreach.envs.registry import find_env_spec
from polyreach.errors import UserError, check_range
from polyreach.methods import get_method
from polyreach.methods.method import MethodConfig
from polyreach_description import Robot, is_robot_file


class RunError(UserError):
    """A run folder cannot be used as asked; the message says why and what to do."""


@dataclass(frozen=True)
class RunConfig:
    """Everything that determines a run bit for bit on one machine."""

    method: str
    env: str
    preset: PresetName
    steps: int
    """Environment steps, the total over all environments."""
    seed: int
    num_envs: int
    threads: int
    """CPU threads of torch; another number rounds differently."""
    device: str
    eval_goals: int
    """Goals of an evaluation during training: episodes, of each task where there are tasks. An
    evaluation on Meta-World always plays every goal once.
    """
    eval_every: int
    """Environment steps between two evaluations."""
    robot_sha256: str
    """Of the robot; empty where the environment is none."""
    method_config: MethodConfig
    env_config: EnvConfig
    env_version: str = ""
    """Package and version that the environment is from; empty for this package."""

    def __post_init__(self) -> None:
        """Raise UserError for a value that no run can have."""
        for name in ("steps", "num_envs", "threads", "eval_goals", "eval_every"):
            check_range(name, getattr(self, name), 1)
        check_range("seed", self.seed, 0, 2**31)

    @property
    def env_spec(self) -> AnyEnvSpec:
        """The specification of `env` for `method`."""
        return find_env_spec(self.env, get_method(self.method).task_conditioned)

    @property
    def command(self) -> str:
        """The command line that starts this run; exact for the presets of this version."""
        return shlex.join(("polyreach", *self.arguments))

    @property
    def arguments(self) -> list[str]:
        """The words of that command line after `polyreach`."""
        env_spec = self.env_spec
        defaults = get_method(self.method).defaults(self.preset, env_spec)
        words = ["train", self.method, self.env, "--preset", self.preset]
        words += ["--steps", str(self.steps), "--num-envs", str(self.num_envs)]
        words += ["--seed", str(self.seed)]
        for name, default in (
            ("threads", 1),
            ("device", "cpu"),
            ("eval_every", defaults.eval_every),
            ("eval_goals", defaults.eval_goals),
        ):
            if getattr(self, name) != default:
                words += _option(name, getattr(self, name))
        presets = get_method(self.method).preset(self.preset, env_spec)
        parts = ("method-config.", self.method_config), ("env-config.", self.env_config)
        for (part, config), preset in zip(parts, presets, strict=True):
            for field in dataclasses.fields(config):
                value = getattr(config, field.name)
                if value != getattr(preset, field.name):
                    words += _option(field.name, value, part)
        return words

    def to_json(self) -> dict[str, Any]:
        """As plain JSON values."""
        values: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(self)))
        return values

    @staticmethod
    def from_json(values: Mapping[str, Any]) -> "RunConfig":
        """Inverse of to_json. Raises RunError for a configuration of another version."""
        try:
            method = get_method(values["method"])
            env_spec = find_env_spec(values["env"], method.task_conditioned)
            named = {
                "method": method.name,
                "method_config": method.config(
                    **{**method.old_settings, **_tuples(values["method_config"])}
                ),
                "env_config": env_spec.config(**_tuples(values["env_config"])),
            }
            return RunConfig(**{**values, **named})
        except (TypeError, KeyError, ValueError) as error:
            raise RunError(
                f"the run's configuration is of another version of polyreach: {error}"
            ) from None


def _option(name: str, value: object, part: str = "") -> list[str]:
    """A setting as words of a command line; `part` comes before its name."""
    name = name.replace("_", "-")
    if isinstance(value, bool):
        return [f"--{part}{'' if value else 'no-'}{name}"]
    return [f"--{part}{name}", *map(str, value if isinstance(value, tuple) else (value,))]


def _tuples(values: Mapping[str, Any]) -> dict[str, Any]:
    return {
        key: tuple(value) if isinstance(value, list) else value for key, value in values.items()
    }


def describe_difference(stored: RunConfig, wanted: RunConfig) -> str:
    """Every key in which two configurations differ, with both values; empty if they agree."""
    left, right = _flatten(stored.to_json()), _flatten(wanted.to_json())
    keys = [key for key in {**left, **right} if left.get(key) != right.get(key)]
    return ", ".join(f"{key} is {left.get(key)!r} there, {right.get(key)!r} here" for key in keys)


def _flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat |= (
            _flatten(value, f"{prefix}{key}.")
            if isinstance(value, Mapping)
            else {prefix + key: value}
        )
    return flat


def load_run_robot(config: RunConfig) -> Robot:
    """The robot of a run. Raises RunError if it has changed since, or if the run has none."""
    robot = load_run_env_spec(config).robot
    if robot is None:
        raise RunError(
            f"the run is of environment '{config.env}', which is not a robot: only policies of "
            "robots can be exported"
        )
    return robot


def load_run_env_spec(config: RunConfig) -> AnyEnvSpec:
    """The environments of a run. Raises RunError if the robot has changed since."""
    check_robot_exists(config)
    env_spec = config.env_spec
    if env_spec.robot_sha256 != config.robot_sha256:
        raise RunError(
            f"robot '{config.env}' has changed since the run was started (robot_sha256 "
            f"{config.robot_sha256[:12]}... there, {env_spec.robot_sha256[:12]}... now)"
        )
    return env_spec


def check_robot_exists(config: RunConfig) -> None:
    """Raise RunError if the run's robot is a file that does not exist."""
    if is_robot_file(config.env) and not Path(config.env).is_file():
        raise RunError(
            f"the run's robot '{config.env}' is not found from here: the path is relative to the "
            "folder in which the run was started"
        )
