"""polyreach train: train a policy; the options and their defaults depend on METHOD and ENV."""

import dataclasses
import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import tyro

from polyreach.commands.options import parse_options
from polyreach.commands.terminal import console
from polyreach.envs.env_spec import EnvConfig, PresetName, preset_name
from polyreach.envs.registry import find_env_spec, is_env
from polyreach.errors import UserError, check_range
from polyreach.methods import get_method, is_method
from polyreach.methods.method import MethodConfig
from polyreach.runs.config import RunConfig, check_robot_exists
from polyreach.runs.folder import RunFolder
from polyreach.runs.training import TrainResult, train
from polyreach_description.closed_output import outlast_output

POSITIONALS = ("method", "env")


@dataclass(frozen=True)
class TrainOptions:
    """Train a policy. Checkpoints, metrics and a TensorBoard log are written to the run folder.

    Every setting of the method and of the environment has an option. Give METHOD and ENV before
    --help to see their settings and the defaults that apply to them.

    Training continues when its output is closed; a closed terminal (SIGHUP) ends it with a
    checkpoint, as Ctrl-C and SIGTERM do.
    """

    method: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="METHOD")]
    """Method to train with; `polyreach list` shows all."""
    env: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="ENV")]
    """Name of a robot, path of a robot.yaml, or name of a set of tasks; `polyreach list` shows all.
    """
    preset: PresetName = "tuned"
    """paper: the settings of the method's paper. tuned: the settings of the shipped policies."""
    steps: int = 0
    """Environment steps, in total over all environments."""
    seed: int = 0
    """Seed of all random numbers."""
    num_envs: int = 0
    """Number of environments that are stepped together, in total over all tasks; updates follow
    each step of all of them.
    """
    threads: int = 1
    """CPU threads."""
    device: str = "cpu"
    """Device to train on: cpu or cuda."""
    out: Path | None = None
    """Run folder; by default runs/METHOD-ENV-PRESET-sSEED."""
    resume: Path | None = None
    """Continue the run in this folder from its last checkpoint, bit for bit."""
    eval_every: int = 0
    """Environment steps between two evaluations."""
    eval_goals: int = 0
    """Number of goals of an evaluation: episodes, of each task where there are tasks. On
    Meta-World, every goal is played once instead.
    """
    checkpoint_minutes: float = 3.0
    """Minutes between two checkpoints, more if a checkpoint is large. A checkpoint is also written
    on Ctrl-C, SIGTERM and SIGHUP.
    """


def run(words: Sequence[str]) -> int:
    """polyreach train METHOD ENV."""
    options, config = train_config(words)
    name = f"{options.method}-{config.env_spec.title}-{options.preset}-s{options.seed}"
    folder = options.resume or options.out or Path("runs") / name
    check_range("checkpoint_minutes", options.checkpoint_minutes, 0.0)
    resume = options.resume is not None
    with outlast_output():
        result = train(config, folder, resume, options.checkpoint_minutes, console)
        return _show_result(options, config, folder, result)


def _show_result(
    options: TrainOptions, config: RunConfig, folder: Path, result: TrainResult
) -> int:
    """Show how the training ended; returns the exit status."""
    if result.signal is not None:
        name = signal.Signals(result.signal).name
        console.print(f"stopped by {name} at step {result.env_steps:,}; a checkpoint is written.")
        again = f"  polyreach train {options.method} {options.env} --resume {folder}"
        console.print(f"To continue:\n{again}", soft_wrap=True)
        return 128 + result.signal
    console.print(f"trained {result.env_steps:,} steps.")
    if config.env_spec.robot is not None:
        console.print(f"To get the policy:\n  polyreach export {folder}", soft_wrap=True)
    return 0


def train_config(words: Sequence[str]) -> tuple[TrainOptions, RunConfig]:
    """The options and the configuration that a command line of `train` asks for. Defaults are those
    of the preset, or with --resume those of the stored run.
    """
    words = list(words)
    resume = _peek(words, "--resume")
    stored = RunFolder(Path(resume)).read_config() if resume is not None else None
    if stored is not None:
        check_robot_exists(stored)
        if words[0].startswith("-"):  # METHOD and ENV may be left out
            words = [stored.method, stored.env, *words]
    method_name, env = _positionals(words)
    method = get_method(method_name)
    if stored is not None:
        _check_resumed(f"{resume}", stored, method.name, env)
        method_config, env_config = stored.method_config, stored.env_config
        defaults = {name: value for name, value in vars(stored).items() if name not in POSITIONALS}
    else:
        env_spec = find_env_spec(env, method.task_conditioned)
        preset = preset_name(_peek(words, "--preset") or TrainOptions.preset)
        method_config, env_config = method.preset(preset, env_spec)
        defaults = dataclasses.asdict(method.defaults(preset, env_spec))
    options, method_config, env_config = _parse(words, defaults, method_config, env_config)
    env_spec = find_env_spec(options.env, method.task_conditioned)
    config = RunConfig(
        method=method.name,
        env=options.env,
        preset=options.preset,
        steps=options.steps,
        seed=options.seed,
        num_envs=options.num_envs,
        threads=options.threads,
        device=options.device,
        eval_goals=options.eval_goals,
        eval_every=options.eval_every,
        robot_sha256=stored.robot_sha256 if stored else env_spec.robot_sha256,
        method_config=method_config,
        env_config=env_config,
        env_version=env_spec.version,
    )
    return dataclasses.replace(options, method=method.name), config


def _check_resumed(resume: str, stored: RunConfig, method: str, env: str) -> None:
    """Raise UserError unless the stored run is of `method` and `env`."""
    another = f"'{resume}' is a run of another configuration"
    if stored.method != method:
        raise UserError(f"{another}: method is {stored.method!r} there, {method!r} here")
    if stored.env != env:
        raise UserError(f"{another}: env is {stored.env!r} there, {env!r} here")


def _parse(
    words: Sequence[str],
    defaults: Mapping[str, object],
    method_config: MethodConfig,
    env_config: EnvConfig,
) -> tuple[TrainOptions, MethodConfig, EnvConfig]:
    """Parse the command line into the options and the settings of the method and the environment,
    with these defaults.
    """
    fields: list[Any] = [
        (option.name, option.type, field(default=defaults[option.name]))
        for option in dataclasses.fields(TrainOptions)
        if option.name in defaults
    ]
    fields += [
        ("method_config", type(method_config), field(default=method_config)),
        ("env_config", type(env_config), field(default=env_config)),
    ]
    full = dataclasses.make_dataclass("TrainOptions", fields, bases=(TrainOptions,), frozen=True)
    full.__doc__ = TrainOptions.__doc__
    parsed: Any = parse_options(full, words, prog="polyreach train")
    names = [option.name for option in dataclasses.fields(TrainOptions)]
    options = TrainOptions(**{name: getattr(parsed, name) for name in names})
    return options, parsed.method_config, parsed.env_config


def _positionals(words: list[str]) -> tuple[str, str]:
    """METHOD and ENV, on which other options depend; exits with the help where one is missing."""
    method = next((word for word in words if is_method(word)), None)
    if method is None and words and not words[0].startswith("-"):
        get_method(words[0])
    if method is not None:
        rest = words[words.index(method) + 1 :]
        env = next((word for word in rest if is_env(word)), rest[0] if rest else "-")
        if not env.startswith("-"):
            return method, env
    parsed = parse_options(TrainOptions, words, prog="polyreach train")
    return parsed.method, parsed.env


def _peek(words: Sequence[str], option: str) -> str | None:
    """Value of an option on which the defaults of the others depend; None if it is not given."""
    for index, word in enumerate(words):
        if word == option and index + 1 < len(words):
            return words[index + 1]
        if word.startswith(option + "="):
            return word.removeprefix(option + "=")
    return None
