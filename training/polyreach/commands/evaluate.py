"""polyreach evaluate: measure a policy file."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from polyreach.commands.options import parse_options
from polyreach.commands.pipeline import controller_pipeline
from polyreach.commands.terminal import print_table
from polyreach.deploy.evaluate import compare
from polyreach.deploy.evaluation_config import EvaluationConfig
from polyreach.deploy.tables import (
    alone_rows,
    comparison_rows,
    evaluation_rows,
    self_distance_line,
)
from polyreach.robot.onnx_policy import PolicyFile
from polyreach_description import load_robot


@dataclass(frozen=True, kw_only=True)
class EvaluateOptions(EvaluationConfig):
    """Measure a policy file in the dynamic simulation, with goals for all effectors at once, and
    compare it on the same goals with damped least squares and with a planner: inverse kinematics
    from many starts, then straight to the nearest solution on a clear way.
    """

    policy: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="POLICY")]
    """Policy file to measure."""
    robot: str | None = None
    """Path of a robot.yaml; by default the shipped robot that the policy names."""
    json: bool = False
    """Print the figures as JSON."""


def run(words: Sequence[str]) -> int:
    """polyreach evaluate POLICY."""
    options = parse_options(EvaluateOptions, words, prog="polyreach evaluate")
    policy = PolicyFile(options.policy)
    robot = load_robot(options.robot or policy.robot_name)
    policy.check(robot)
    results = compare(policy, robot, options, controller_pipeline(robot))
    result = results["policy"]
    if options.json:
        names = {"least squares": "least_squares", "multi-start": "multi_start"}
        print(json.dumps({names.get(name, name): of for name, of in results.items()}, indent=2))
        return 0
    title = (
        f"{options.policy.name}: {options.goals} goals for all effectors at once, "
        f"error after {options.seconds:g} s"
    )
    print_table(title, *evaluation_rows(result))
    print(self_distance_line(result))
    if "alone" in result:
        print_table("one goal at a time", *alone_rows(result["alone"]))
    print_table("the same goals, also without learning", *comparison_rows(results))
    return 0
