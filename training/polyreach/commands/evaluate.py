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


@dataclass(frozen=True)
class EvaluateOptions:
    """Measure a policy file in the dynamic simulation, with goals for all effectors at once, and
    compare it on the same goals with damped least squares and with a planner: inverse kinematics
    from many starts, then straight to the nearest solution on a clear way.
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
    delay: float = 0.0
    """Largest delay of the commands [s]; each episode has its own, drawn uniformly from zero."""
    lag: float = 0.0
    """Time constant of a first-order lag of the servos, besides their own [s]."""
    controlled: int = 100
    """Number of goal sets measured through the controller's limits and distances, and with goals
    that jump; a fifth of it with goals that move; 0: none.
    """
    starts: int = 20
    """Number of random starts of the planner; 0: without it."""
    json: bool = False
    """Print the figures as JSON."""


def run(words: Sequence[str]) -> int:
    """polyreach evaluate POLICY."""
    options = parse_options(EvaluateOptions, words, prog="polyreach evaluate")
    policy = PolicyFile(options.policy)
    robot = load_robot(options.robot or policy.robot_name)
    policy.check(robot)
    config = EvaluationConfig(
        goals=options.goals,
        seconds=options.seconds,
        seed=options.seed,
        threads=options.threads,
        delay=options.delay,
        lag=options.lag,
        controlled=options.controlled,
        starts=options.starts,
    )
    results = compare(policy, robot, config, controller_pipeline(robot))
    result = results["policy"]
    if options.json:
        names = {"least squares": "least_squares", "multi-start": "multi_start"}
        print(json.dumps({names.get(name, name): of for name, of in results.items()}, indent=2))
        return 0
    title = (
        f"{options.policy.name}: {config.goals} goals for all effectors at once, "
        f"error after {config.seconds:g} s"
    )
    print_table(title, *evaluation_rows(result))
    print(self_distance_line(result))
    if "alone" in result:
        print_table("one goal at a time", *alone_rows(result["alone"]))
    print_table("the same goals, also without learning", *comparison_rows(results))
    return 0
