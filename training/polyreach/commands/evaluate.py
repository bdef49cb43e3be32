"""polyreach evaluate: measure a policy file."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from polyreach.commands.options import parse_options
from polyreach.commands.terminal import print_table
from polyreach.deploy.evaluate import (
    EvaluationConfig,
    alone_rows,
    evaluate_actions,
    evaluate_policy,
    evaluation_rows,
    least_squares_actions,
    self_distance_line,
)
from polyreach.robot.onnx_policy import PolicyFile
from polyreach_description import load_robot


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
    """Number of goal sets, each with its own random start."""
    seconds: float = 5.0
    """Time from the start until the errors are measured [s]."""
    seed: int = 20_000
    """Seed of starts and goals."""
    threads: int = 1
    """CPU threads of the simulation."""
    json: bool = False
    """Print the figures as JSON."""


def run(words: Sequence[str]) -> int:
    """polyreach evaluate POLICY."""
    options = parse_options(EvaluateOptions, words, prog="polyreach evaluate")
    policy = PolicyFile(options.policy)
    robot = load_robot(options.robot or policy.robot_name)
    policy.check(robot)
    config = EvaluationConfig(options.goals, options.seconds, options.seed, options.threads)
    result = evaluate_policy(policy, robot, config)
    baseline = evaluate_actions(least_squares_actions(robot), robot, config)
    if options.json:
        print(json.dumps({"policy": result, "least_squares": baseline}, indent=2))
        return 0
    title = (
        f"{options.policy.name}: {config.goals} goals for all effectors at once, "
        f"error after {config.seconds:g} s"
    )
    print_table(title, *evaluation_rows(result))
    print(self_distance_line(result))
    if "alone" in result:
        print_table("one goal at a time", *alone_rows(result["alone"]))
    print_table("least squares, no learning, same goals", *evaluation_rows(baseline))
    return 0
