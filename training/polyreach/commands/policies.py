"""The commands about methods and policies: parse options, call the package, print the outcome."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from polyreach.commands.options import parse_options
from polyreach.commands.terminal import console, print_table
from polyreach.envs.registry import list_envs
from polyreach.errors import UserError
from polyreach.experiments import EXPERIMENTS
from polyreach.methods import METHODS
from polyreach.runs.config import load_run_robot
from polyreach.runs.folder import RunFolder
from polyreach_description import list_robots, load_robot
from polyreach_description.closed_output import outlast_output
from polyreach_description.policy_search import list_policies


@dataclass(frozen=True)
class EvaluateOptions:
    """Measure a policy file in the dynamic simulation, with goals for all effectors at once, and
    compare it with damped least squares.
    """

    policy: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="POLICY")]
    """Policy file to measure."""
    robot: str | None = None
    """Path of a robot.yaml; by default the shipped robot that the policy names."""
    goals: int = 1000
    """Number of goal sets, each with a random start of its own."""
    seconds: float = 5.0
    """Time from the start until the errors are measured [s]."""
    seed: int = 20_000
    """Seed of starts and goals."""
    threads: int = 1
    """CPU threads of the simulation."""
    json: bool = False
    """Print the figures as JSON."""


def evaluate(words: Sequence[str]) -> int:
    """polyreach evaluate POLICY."""
    from polyreach.deploy import evaluate as measure
    from polyreach.robot.onnx_policy import PolicyFile

    options = parse_options(EvaluateOptions, words, prog="polyreach evaluate")
    policy = PolicyFile(options.policy)
    robot = load_robot(options.robot or policy.robot_name)
    policy.check(robot)
    config = measure.EvaluationConfig(options.goals, options.seconds, options.seed, options.threads)
    result = measure.evaluate_policy(policy, robot, config)
    baseline = measure.evaluate_actions(measure.least_squares_actions(robot), robot, config)
    if options.json:
        print(json.dumps({"policy": result, "least_squares": baseline}, indent=2))
        return 0
    title = (
        f"{options.policy.name}: {config.goals} goals for all effectors at once, "
        f"error after {config.seconds:g} s"
    )
    print_table(title, *measure.evaluation_rows(result))
    print(measure.self_distance_line(result))
    if "alone" in result:
        print_table("one goal at a time", *measure.alone_rows(result["alone"]))
    print_table("least squares, no learning, same goals", *measure.evaluation_rows(baseline))
    return 0


@dataclass(frozen=True)
class ExportOptions:
    """Write the policy of a run to one ONNX file, evaluate it, and write its model card."""

    run: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """Run folder."""
    out: Path | None = None
    """File to write; by default RUN/policy.onnx."""
    goals: int = 1000
    """Number of goal sets of the evaluation that is stored in the file; 0: no evaluation and no
    card.
    """
    threads: int = 1
    """CPU threads of the evaluation."""


def export(words: Sequence[str]) -> int:
    """polyreach export RUN."""
    from polyreach.deploy.evaluate import EvaluationConfig
    from polyreach.deploy.export import export_run
    from polyreach.deploy.policy_card import measure_and_describe, remove_card

    options = parse_options(ExportOptions, words, prog="polyreach export")
    path = options.out or options.run / "policy.onnx"
    if path.suffix != ".onnx":
        raise UserError(f"a policy file ends in .onnx, but --out is '{path}'")
    remove_card(path)
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
    """List methods, environments, experiments, robots and shipped policies."""

    json: bool = False
    """Print the lists as JSON."""


def list_all(words: Sequence[str]) -> int:
    """polyreach list."""
    options = parse_options(ListOptions, words, prog="polyreach list")
    methods = {name: method.paper for name, method in METHODS.items()}
    robots = {}
    for name in list_robots():
        found = load_robot(name)
        robots[name] = {"joints": list(found.joint_names), "effectors": list(found.effector_names)}
    envs = {name: list(env_spec(name).tasks) for name, env_spec in list_envs().items()}
    policies = [str(path) for path in list_policies()]
    papers = {name: experiment.paper for name, experiment in EXPERIMENTS.items()}
    if options.json:
        listed = {
            "methods": methods,
            "envs": envs,
            "experiments": papers,
            "robots": robots,
            "policies": policies,
        }
        print(json.dumps(listed, indent=2))
        return 0
    print_table("methods", ["name", "paper"], [[name, paper] for name, paper in methods.items()])
    untold = [name for name, method in METHODS.items() if not method.task_conditioned]
    print_table(
        f"environments besides all robots, of all methods but {' and '.join(untold)}",
        ["name", "tasks"],
        [[name, _shortened(tasks)] for name, tasks in envs.items()],
    )
    print_table(
        "experiments of `polyreach report`",
        ["name", "after"],
        [[name, paper] for name, paper in papers.items()],
    )
    rows = [
        [name, str(len(own["joints"])), ", ".join(own["effectors"])] for name, own in robots.items()
    ]
    print_table("robots", ["name", "controlled joints", "effectors"], rows)
    print_table("policies", ["file"], [[path] for path in policies])
    return 0


def _shortened(names: list[str], count: int = 10) -> str:
    rest = f", and {len(names) - count} more" if len(names) > count else ""
    return ", ".join(names[:count]) + rest


def report(words: Sequence[str]) -> int:
    """polyreach report EXPERIMENT."""
    from polyreach.experiments.report import ReportOptions, write_report

    options = parse_options(ReportOptions, words, prog="polyreach report")
    with outlast_output():
        return write_report(options, console)


@dataclass(frozen=True)
class DrawOptions:
    """Draw the policy of a run: the weights that each task has of its own (RUN-split.png), and the
    motion of robots with legs (RUN-motion.png).

    The motion needs OpenGL; without a display, set MUJOCO_GL=osmesa or MUJOCO_GL=egl.
    """

    run: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """Run folder."""
    out: Path = Path()
    """Folder for the pictures."""
    start: float = 2.0
    """Time of the first frame of the motion [s]."""
    every: float = 0.08
    """Time between two frames [s]."""
    frames: int = 8
    """Number of frames."""


def draw(words: Sequence[str]) -> int:
    """polyreach draw RUN."""
    from polyreach.runs.plots import draw_run

    options = parse_options(DrawOptions, words, prog="polyreach draw")
    written = draw_run(options.run, options.out, options.start, options.every, options.frames)
    console.print("wrote " + " and ".join(str(file) for file in written), soft_wrap=True)
    return 0
