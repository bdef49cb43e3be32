"""What an experiment is: variants of methods, each trained on every environment with every seed."""

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, ParamSpec

from polyreach.envs.env_spec import EnvConfig, PresetName
from polyreach.envs.registry import find_env_spec
from polyreach.errors import UserError
from polyreach.methods import get_method
from polyreach.methods.distillation import DistillationConfig
from polyreach.methods.fine_tuning import FineTuningConfig
from polyreach.methods.method import MethodConfig
from polyreach.methods.ppo_fine_tuning import PPOFineTuningConfig
from polyreach.runs.config import RunConfig

Measure = Literal["score", "success", "return"]
Verdict = Literal["holds", "opposite", "open"]
Settings = ParamSpec("Settings")


@dataclass(frozen=True)
class Override:
    """Settings of a method or of an environment that replace those of the preset."""

    config: type[MethodConfig | EnvConfig]
    """Whose settings they are; they apply to its subclasses too."""
    settings: Mapping[str, Any]


def override(
    config: Callable[Settings, MethodConfig | EnvConfig],
    *args: Settings.args,
    **settings: Settings.kwargs,
) -> Override:
    """`override(PiCorConfig, correction=False)`; types are checked statically, as those of
    `PiCorConfig(correction=False)`.

    Raises UserError for a setting that `config` does not have.
    """
    assert isinstance(config, type) and not args
    legal = [field.name for field in dataclasses.fields(config)]
    for name in settings:
        if name not in legal:
            raise UserError(
                f"{config.__name__} has no setting '{name}' (legal: {', '.join(legal)})"
            )
    return Override(config, settings)


@dataclass(frozen=True)
class Variant:
    """One line of a figure."""

    label: str
    method: str
    overrides: tuple[Override, ...] = ()
    """Settings that make this variant."""
    after: "Variant | None" = None
    """A variant of the same experiment. Its run with the same seed is where a run of fine-tuning
    starts, or the teacher of a run of distillation.
    """
    after_env: Mapping[str, str] = field(default_factory=dict)
    """Environment of that run, by the environment of this one; by default the same."""
    steps: int = 0
    """Environment steps of its runs, in total over all tasks; 0: the experiment's number."""
    control_of: str = ""
    """Label of a variant that has fewer updates than others; this one has as many as those, and
    the order of the variants is compared with the paper's once more with it in that one's place.
    """
    published: Mapping[str, float] = field(default_factory=dict)
    """The paper's figure for it on each environment, in units of the experiment's measure."""
    published_returns: Mapping[tuple[str, str], str] = field(default_factory=dict)
    """The paper's mean and standard deviation over episodes, after training on an environment, of a
    task.
    """


@dataclass(frozen=True)
class Claim:
    """The paper's claim that one variant is better than another."""

    better: str
    worse: str
    """Labels of the variants."""
    envs: tuple[str, ...] = ()
    """Environments on which the paper claims it; by default all of the experiment."""
    why: Mapping[tuple[str, Verdict], str] = field(default_factory=dict)
    """Why we think the runs on an environment come out as they do, by environment and by the
    verdict that the sentence explains.
    """


@dataclass(frozen=True)
class Column:
    """A further number of the table: the mean, or the median, over the last evaluations."""

    title: str
    key: str
    """In the records of a run's evaluations."""
    form: str
    """How it is written, as for str.format."""
    factor: float = 1.0
    median: bool = False


@dataclass(frozen=True)
class Experiment:
    """Variants, each trained on every environment with every seed."""

    name: str
    title: str
    paper: str
    envs: tuple[str, ...]
    variants: tuple[Variant, ...]
    steps: int
    """Environment steps of a run, in total over all tasks."""
    seeds: int
    measure: Measure
    """What is compared: `<measure>_<task>` in the records of a run's evaluations."""
    preset: PresetName = "tuned"
    overrides: tuple[Override, ...] = ()
    """Settings of all runs."""
    env_overrides: Mapping[str, tuple[Override, ...]] = field(default_factory=dict)
    """Settings of all runs on an environment."""
    num_envs: int = 0
    """Environments that are stepped together; 0: the environment's default, as in those below."""
    eval_every: int = 0
    """Environment steps between two evaluations."""
    eval_goals: int = 0
    """Goals of an evaluation: episodes, of each task where there are tasks."""
    device: str = "cpu"
    """Device of the runs, by default."""
    curves_by_task: bool = False
    """Draw a panel for each task, against the steps of that task."""
    columns: tuple[Column, ...] = ()
    rollouts: int = 0
    """Episodes of every task, of all environments, that the last policy of every run plays for the
    report.
    """
    published: str = ""
    """Where the published figures are from, and how they were made."""
    note: str = ""
    """What its variants are, for the page."""
    claims: tuple[Claim, ...] = ()
    """What its paper says of their order."""

    def __post_init__(self) -> None:
        """Raise UserError for settings that a run cannot have, and for a variant `after`, of a
        claim or of `control_of` which is none of the experiment.
        """
        labels = [variant.label for variant in self.variants]
        named = [label for claim in self.claims for label in (claim.better, claim.worse)]
        named += [variant.control_of for variant in self.variants if variant.control_of]
        for label in named:
            if label not in labels:
                raise UserError(
                    f"'{self.name}' has no variant '{label}' (legal: {', '.join(labels)})"
                )
        for variant in self.variants:
            if variant.after not in (None, *self.variants):
                raise UserError(f"'{variant.label}' follows a variant that is not in '{self.name}'")
            for env in self.envs:
                self._configs(variant, env)

    def run_folder(self, variant: Variant, env: str, seed: int, runs: Path) -> Path:
        """The folder of a run; `runs` is the folder of all experiments. Where there is one that
        an earlier version has named, by another name of the method, it is that one.
        """
        names = (variant.method, *get_method(variant.method).old_names)
        index = self.variants.index(variant)
        folders = [runs / self.name / f"{env}-{index}-{name}-s{seed}" for name in names]
        return next((folder for folder in folders if folder.is_dir()), folders[0])

    def start_folder(self, variant: Variant, env: str, seed: int, runs: Path) -> Path | None:
        """The folder of the run that comes before a run of `variant`, if there is one."""
        if variant.after is None:
            return None
        return self.run_folder(variant.after, variant.after_env.get(env, env), seed, runs)

    def run_config(self, variant: Variant, env: str, seed: int, runs: Path) -> RunConfig:
        """The configuration of a run. Raises RobotError if the robot `env` cannot be read."""
        env_spec = find_env_spec(env, get_method(variant.method).task_conditioned)
        defaults = get_method(variant.method).defaults(self.preset, env_spec)
        method_config, env_config = self._configs(variant, env)
        start = self.start_folder(variant, env, seed, runs)
        return RunConfig(
            method=variant.method,
            env=env,
            preset=self.preset,
            steps=variant.steps or self.steps,
            seed=seed,
            num_envs=self.num_envs or defaults.num_envs,
            threads=1,
            device=self.device,
            eval_goals=self.eval_goals or defaults.eval_goals,
            eval_every=self.eval_every or defaults.eval_every,
            robot_sha256=env_spec.robot_sha256,
            method_config=_start_from(start, method_config) if start else method_config,
            env_config=env_config,
            env_version=env_spec.version,
        )

    def _configs(self, variant: Variant, env: str) -> tuple[MethodConfig, EnvConfig]:
        """The settings of the method and of the environment: the preset's, with all overrides."""
        method = get_method(variant.method)
        env_spec = find_env_spec(env, method.task_conditioned)
        method_config, env_config = method.preset(self.preset, env_spec)
        for change in (*self.overrides, *self.env_overrides.get(env, ()), *variant.overrides):
            if isinstance(method_config, change.config):
                method_config = dataclasses.replace(method_config, **change.settings)
            elif isinstance(env_config, change.config):
                env_config = dataclasses.replace(env_config, **change.settings)
            else:
                raise UserError(
                    f"settings of {change.config.__name__} do not apply to '{variant.label}' on "
                    f"'{env}' (legal: those of {type(method_config).__name__} and "
                    f"{type(env_config).__name__})"
                )
        return method_config, env_config


def _start_from(folder: Path, config: MethodConfig) -> MethodConfig:
    """The settings of a method with the run in `folder` as its start, or as its teacher.

    Raises UserError for a method that has neither.
    """
    if isinstance(config, FineTuningConfig | PPOFineTuningConfig):
        return dataclasses.replace(config, start=str(folder))
    if isinstance(config, DistillationConfig):
        return dataclasses.replace(config, teachers=(str(folder),))
    raise UserError(
        f"{type(config).__name__} does not start from another run (legal: FineTuningConfig, "
        "PPOFineTuningConfig, DistillationConfig)"
    )
