"""polyreach export: write the policy of a run to one ONNX file."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from polyreach.commands.options import parse_options
from polyreach.commands.pipeline import controller_pipeline
from polyreach.commands.terminal import console
from polyreach.deploy.evaluation_config import EvaluationConfig
from polyreach.deploy.export import export_run
from polyreach.deploy.policy_card import measure_and_describe, remove_card
from polyreach.errors import UserError
from polyreach.runs.config import load_run_robot
from polyreach.runs.folder import RunFolder


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


def run(words: Sequence[str]) -> int:
    """polyreach export RUN."""
    options = parse_options(ExportOptions, words, prog="polyreach export")
    path = options.out or options.run / "policy.onnx"
    if path.suffix != ".onnx":
        raise UserError(f"a policy file ends in .onnx, but --out is '{path}'")
    remove_card(path)
    export_run(options.run, path)
    written = [path]
    if options.goals > 0:
        robot = load_run_robot(RunFolder(options.run).read_config())
        config = EvaluationConfig(goals=options.goals, threads=options.threads)
        pipeline = controller_pipeline(robot)
        written.append(measure_and_describe(path, robot, config, pipeline))
    console.print("wrote " + " and ".join(str(file) for file in written), soft_wrap=True)
    return 0
