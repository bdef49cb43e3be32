"""Settings of the quadratic program, varied: `python -m benchmarks.qp_search [ROBOT ...]`.

From the defaults, one setting at a time takes each of its VALUES. A line shows the share of goal
sets reached and never near, and the median time to those reached.
"""

import argparse
import sys
from collections.abc import Iterator
from dataclasses import asdict, replace

from rich.console import Console

from benchmarks.parts import ROBOTS
from benchmarks.qp_controller import QPController, QPSettings
from benchmarks.reaching_page import clear_rate
from polyreach.deploy.evaluate import Evaluation
from polyreach.deploy.evaluation_config import EvaluationConfig
from polyreach_description import load_robot

SEED = 30_000  # other starts and goals than those of the comparison
VALUES: dict[str, tuple[float, ...]] = {
    "goal_gain": (8.0, 15.0, 30.0),
    "deceleration": (2.0, 3.0, 5.0, 1000.0),
    "orientation_cost": (0.1, 0.2, 0.5),
    "damping": (1e-5, 1e-4, 1e-3, 1e-2),
    "posture_cost": (0.0, 3e-3, 1e-2),
    "posture_gain": (0.3, 1.0, 3.0),
    "collision_gain": (2.0, 5.0, 15.0),
    "clearance": (0.1, 0.2, 0.5),
    "parting_speed": (0.0, 1.0, 3.0),
    "detection_distance": (3.0, 10.0),
}


def variants() -> Iterator[tuple[str, QPSettings]]:
    """The defaults, and those with one setting changed; each with its name."""
    defaults = QPSettings()
    yield "defaults", defaults
    for name, values in VALUES.items():
        for value in values:
            if value != asdict(defaults)[name]:
                yield f"{name} {value:g}", replace(defaults, **{name: value})


def main(argv: list[str] | None = None) -> int:
    """Print a line for each variant and robot."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.qp_search")
    parser.add_argument("robots", nargs="*", default=list(ROBOTS), metavar="ROBOT")
    parser.add_argument("--goals", type=int, default=100)
    arguments = parser.parse_args(argv)
    console = Console(markup=False, highlight=False)
    config = EvaluationConfig(goals=arguments.goals, seed=SEED, starts=0)
    evaluations = [Evaluation(load_robot(name), config) for name in arguments.robots]
    for text, settings in variants():
        for evaluation in evaluations:
            with QPController(evaluation.robot, settings) as program:
                figures = evaluation.measure(program)
            rate, time_s = clear_rate(figures), figures.get("time_s", {}).get("0.5", float("inf"))
            console.print(f"{text}; {evaluation.robot.name}: {rate:.1f} %, {time_s:.2f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
