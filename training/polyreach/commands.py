"""The commands about methods and policies: parse options, call the package, print the outcome."""

import dataclasses
import json
import signal
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import tyro

from polyreach.envs.reach import ReachConfig
from polyreach.errors import UserError, check_range
from polyreach.methods import METHODS, PresetName, get_method
from polyreach.methods.off_policy import OffPolicyConfig
from polyreach.models import list_policies
from polyreach.run import RunConfig, RunFolder, load_run_robot
from polyreach.terminal import console, print_table
from polyreach_description import RobotError, list_robots, load_robot

USER_ERRORS = (UserError, RobotError)

DEFAULT_STEPS: dict[str, int] = {"paper": 2_000_000, "tuned": 6_000_000}
DEFAULT_ENVS: dict[str, int] = {"paper": 64, "tuned": 256}


@dataclass(frozen=True)
class TrainOptions:
    """Train a policy; checkpoints, metrics and a TensorBoard log go to the run folder.

    Settings of the method and of the environment can be changed one by one, below.
    """

    method: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="METHOD")]
    """Method to train with, see `polyreach list`."""
    env: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="ROBOT")]
    """A shipped robot's name, or the path of a robot.yaml."""
    preset: PresetName = "tuned"
    """paper: as written in the method's paper. tuned: what makes the shipped policies."""
    steps: int = 0
    """Environment steps, the total over all environments."""
    seed: int = 0
    """Of everything random."""
    num_envs: int = 0
    """Environments stepped together; one update follows each step of all."""
    threads: int = 1
    """CPU threads."""
    device: str = "cpu"
    """cpu or cuda."""
    out: Path | None = None
    """Run folder; by default runs/METHOD-ROBOT-PRESET-sSEED."""
    resume: Path | None = None
    """Go on with the run in this folder, exactly where its last checkpoint is."""
    eval_every: int = 100_000
    """Environment steps between two evaluations."""
    eval_goals: int = 256
    """Goals of such an evaluation."""
    checkpoint_minutes: float = 3.0
    """Minutes between two checkpoints; there is one on Ctrl-C and SIGTERM too."""


def train(words: Sequence[str]) -> int:
    """polyreach train METHOD ENV."""
    from polyreach.train import train as run_training

    options, config = train_config(words)
    name = f"{options.method}-{load_robot(options.env).name}-{options.preset}-s{options.seed}"
    folder = options.resume or options.out or Path("runs") / name
    check_range("checkpoint_minutes", options.checkpoint_minutes, 0.0)
    resume = options.resume is not None
    result = run_training(config, folder, resume, options.checkpoint_minutes, console)
    if result.signal is not None:
        name = signal.Signals(result.signal).name
        console.print(f"stopped by {name} at step {result.env_steps:,}; a checkpoint is written.")
        again = f"  polyreach train {options.method} {options.env} --resume {folder}"
        console.print(f"To go on:\n{again}", soft_wrap=True)
        return 128 + result.signal
    console.print(f"trained {result.env_steps:,} steps. To get the policy:")
    console.print(f"  polyreach export {folder}", soft_wrap=True)
    return 0


def train_config(words: Sequence[str]) -> tuple[TrainOptions, RunConfig]:
    """The options and the configuration that a command line of `train` asks for."""
    options, method_config, env_config, stored = _train_options(list(words))
    config = RunConfig(
        method=options.method,
        env=options.env,
        preset=options.preset,
        steps=options.steps,
        seed=options.seed,
        num_envs=options.num_envs,
        threads=options.threads,
        device=options.device,
        eval_goals=options.eval_goals,
        eval_every=options.eval_every,
        robot_sha256=stored.robot_sha256 if stored else load_robot(options.env).sha256,
        method_config=method_config,
        env_config=env_config,
    )
    return options, config


def _train_options(words: list[str]) -> tuple[TrainOptions, OffPolicyConfig, ReachConfig, Any]:
    """Parse the command line of `train`: its defaults are the preset's, or with --resume the stored
    run's.
    """
    stored = None
    resume = _peek(words, "--resume")
    if resume is not None:
        stored = RunFolder(Path(resume)).read_config()
        if words[0].startswith("-"):  # method and robot may be left out: the run knows them
            words = [stored.method, stored.env, *words]
    method_name = next((word for word in words if word in METHODS), None)
    if method_name is None:
        plain = bool(words) and not words[0].startswith("-")
        parsed = words[0] if plain else tyro.cli(TrainOptions, args=words, prog="polyreach train")
        method_name = parsed if isinstance(parsed, str) else parsed.method
    method = get_method(method_name)
    if stored is not None:
        if stored.method != method_name:
            raise UserError(
                f"'{resume}' is a run of another configuration: method is {stored.method!r} there"
            )
        method_config, env_config = stored.method_config, stored.env_config
        known = {
            f.name: getattr(stored, f.name)
            for f in dataclasses.fields(TrainOptions)
            if hasattr(stored, f.name)
        }
    else:
        preset = _peek(words, "--preset") or "tuned"
        if preset not in method.presets:
            raise UserError(f"unknown preset '{preset}' (legal: {', '.join(method.presets)})")
        method_config, env_config = method.presets[preset]()  # type: ignore[index]
        known = {"steps": DEFAULT_STEPS[preset], "num_envs": DEFAULT_ENVS[preset]}
    known = {name: value for name, value in known.items() if name not in ("method", "env")}
    # the options with the defaults that apply, and the settings of this method and environment
    # beside them
    fields: list[Any] = [
        (f.name, f.type, field(default=known[f.name]))
        for f in dataclasses.fields(TrainOptions)
        if f.name in known
    ]
    fields += [
        ("method_config", method.config, field(default=method_config)),
        ("env_config", ReachConfig, field(default=env_config)),
    ]
    full = dataclasses.make_dataclass("TrainOptions", fields, bases=(TrainOptions,), frozen=True)
    full.__doc__ = TrainOptions.__doc__
    parsed = tyro.cli(full, args=words, prog="polyreach train")
    values = {f.name: getattr(parsed, f.name) for f in dataclasses.fields(TrainOptions)}
    options = TrainOptions(**values)
    return options, parsed.method_config, parsed.env_config, stored


def _peek(words: Sequence[str], option: str) -> str | None:
    """Value of an option that decides how the others are read."""
    for index, word in enumerate(words):
        if word == option and index + 1 < len(words):
            return words[index + 1]
        if word.startswith(option + "="):
            return word.removeprefix(option + "=")
    return None


@dataclass(frozen=True)
class EvaluateOptions:
    """Measure a policy file in the dynamic simulation, all goals at once, beside a controller
    without learning.
    """

    policy: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="POLICY")]
    """An exported policy."""
    robot: str | None = None
    """Robot, if it is not a shipped one: the path of its robot.yaml."""
    goals: int = 1000
    """Sets of goals, each from its own random start."""
    seconds: float = 5.0
    """Time given to reach them [s]."""
    seed: int = 20_000
    """Of starts and goals."""
    threads: int = 1
    """Threads of the simulation."""
    json: bool = False
    """Print the figures as JSON."""


def evaluate(words: Sequence[str]) -> int:
    """polyreach evaluate POLICY."""
    from polyreach import evaluate as measure

    options = tyro.cli(EvaluateOptions, args=words, prog="polyreach evaluate")
    policy = measure.PolicyFile(options.policy)
    robot = load_robot(options.robot or policy.robot_name)
    policy.check(robot)
    config = measure.EvaluationConfig(options.goals, options.seconds, options.seed, options.threads)
    result = measure.evaluate_actions(policy.actions(robot), robot, config)
    baseline = measure.evaluate_actions(measure.least_squares_actions(robot), robot, config)
    if options.json:
        print(json.dumps({"policy": result, "least_squares": baseline}, indent=2))
        return 0
    title = (
        f"{options.policy.name}: {config.goals} goals for all effectors at once, "
        f"error after {config.seconds:g} s"
    )
    print_table(title, *measure.evaluation_rows(result))
    print_table("least squares, no learning, same goals", *measure.evaluation_rows(baseline))
    return 0


@dataclass(frozen=True)
class ExportOptions:
    """Write the policy of a run to one ONNX file, measure it, write its model card beside it."""

    run: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """Run folder."""
    out: Path | None = None
    """File to write; by default RUN/policy.onnx."""
    goals: int = 1000
    """Sets of goals of the evaluation that is written into the file; 0 leaves it out."""
    threads: int = 1
    """Threads of that evaluation."""


def export(words: Sequence[str]) -> int:
    """polyreach export RUN."""
    from polyreach.evaluate import EvaluationConfig
    from polyreach.export import export_run
    from polyreach.model_card import measure_and_describe

    options = tyro.cli(ExportOptions, args=words, prog="polyreach export")
    path = options.out or options.run / "policy.onnx"
    if path.suffix != ".onnx":
        raise UserError(f"a policy file ends in .onnx, but --out is '{path}'")
    export_run(options.run, path)
    written = [path]
    if options.goals > 0:
        robot = load_run_robot(RunFolder(options.run).read_config())
        written.append(
            measure_and_describe(
                path, robot, EvaluationConfig(options.goals, threads=options.threads)
            )
        )
    console.print("wrote " + " and ".join(str(file) for file in written), soft_wrap=True)
    return 0


@dataclass(frozen=True)
class ListOptions:
    """Methods, robots and shipped policies."""

    json: bool = False
    """Print them as JSON."""


def list_all(words: Sequence[str]) -> int:
    """polyreach list."""
    options = tyro.cli(ListOptions, args=words, prog="polyreach list")
    methods = {name: method.paper for name, method in METHODS.items()}
    robots = {}
    for name in list_robots():
        found = load_robot(name)
        robots[name] = {"joints": list(found.joint_names), "effectors": list(found.effector_names)}
    policies = [str(path) for path in list_policies()]
    if options.json:
        print(json.dumps({"methods": methods, "robots": robots, "policies": policies}, indent=2))
        return 0
    print_table("methods", ["name", "paper"], [[name, paper] for name, paper in methods.items()])
    rows = [
        [name, str(len(own["joints"])), ", ".join(own["effectors"])] for name, own in robots.items()
    ]
    print_table("robots", ["name", "controlled joints", "effectors"], rows)
    print_table("policies", ["file"], [[path] for path in policies])
    return 0


def report(words: Sequence[str]) -> int:
    """polyreach report RUNS."""
    from polyreach.report import ReportOptions, write_report

    write_report(tyro.cli(ReportOptions, args=words, prog="polyreach report"), console)
    return 0
