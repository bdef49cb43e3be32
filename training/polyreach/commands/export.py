"""polyreach export: write the policy of a run, or one without training, to one ONNX file."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from polyreach.commands.options import parse_options
from polyreach.commands.pipeline import controller_pipeline
from polyreach.commands.terminal import console
from polyreach.deploy.evaluation_config import EvaluationConfig
from polyreach.deploy.export import LEAST_SQUARES, export_run, export_search
from polyreach.deploy.policy_card import measure_and_describe, remove_card
from polyreach.errors import UserError
from polyreach.runs.config import load_run_robot
from polyreach.runs.folder import RunFolder
from polyreach_description import Robot, load_robot


@dataclass(frozen=True)
class FileOptions:
    """What the two forms of the command have in common."""

    out: Path | None = None
    """File to write; by default RUN/policy.onnx, or ROBOT-least-squares.onnx."""
    threads: int = 1
    """CPU threads of the evaluation."""


@dataclass(frozen=True)
class ExportOptions(FileOptions):
    """Write the policy of a run to one ONNX file, evaluate it, and write its model card.

    `polyreach export least-squares ROBOT` writes a file without training instead. A run folder of
    that name is ./least-squares.
    """

    run: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")] = tyro.MISSING
    """Run folder."""
    goals: int = 200
    """Number of goal sets of the evaluation that is stored in the file; 0: no evaluation and no
    card.
    """


@dataclass(frozen=True)
class LeastSquaresOptions(FileOptions):
    """Write an ONNX file that moves a robot without training: damped least squares from
    configurations spread over the joints' ranges, on ways clear of the robot's own body. Evaluate
    it, and write its model card.
    """

    robot: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="ROBOT")] = tyro.MISSING
    """Name of a shipped robot, or path of a robot.yaml."""
    goals: int = 10
    """Number of goal sets of the evaluation that is stored in the file; 0: no evaluation and no
    card.
    """


def run(words: Sequence[str]) -> int:
    """polyreach export RUN, or polyreach export least-squares ROBOT."""
    if words[:1] == [LEAST_SQUARES]:
        prog = f"polyreach export {LEAST_SQUARES}"
        search = parse_options(LeastSquaresOptions, words[1:], prog=prog)
        robot = load_robot(search.robot)
        path = _file(search.out or Path(f"{robot.name}-{LEAST_SQUARES}.onnx"))
        export_search(robot, path)
        return _measure(path, robot, search.robot, search.goals, search.threads)
    options = parse_options(ExportOptions, words, prog="polyreach export")
    path = _file(options.out or options.run / "policy.onnx")
    export_run(options.run, path)
    config = RunFolder(options.run).read_config()
    return _measure(path, load_run_robot(config), config.env, options.goals, options.threads)


def _file(path: Path) -> Path:
    """`path`, if a policy can be written there; removes the card of the one before."""
    if path.suffix != ".onnx":
        raise UserError(f"a policy file ends in .onnx, but --out is '{path}'")
    remove_card(path)
    return path


def _measure(path: Path, robot: Robot, word: str, goals: int, threads: int) -> int:
    """Evaluate the file and write its card; word: how the command line calls the robot."""
    written = [path]
    if goals > 0:
        config = EvaluationConfig(goals=goals, threads=threads)
        pipeline = controller_pipeline(robot)
        written.append(measure_and_describe(path, robot, config, pipeline, word))
    console.print("wrote " + " and ".join(str(file) for file in written), soft_wrap=True)
    return 0
