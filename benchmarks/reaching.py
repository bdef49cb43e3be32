"""Reaching: a policy, damped least squares, a multi-start planner and a quadratic program on the
same starts and goals.

    python -m benchmarks.reaching [ROBOT[=POLICY] ...] [--goals N] [--out FOLDER]

ROBOT is a shipped robot, with its shipped policy by default, or the path of a robot.yaml. Results
go to FOLDER/reaching.json, in which those of other robots stay; reaching.md and reaching.png show
all of them.
"""

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from benchmarks import timing
from benchmarks.qp_controller import QPController
from benchmarks.reaching_page import Results, draw_results, results_page
from benchmarks.robot_arguments import find_robot, robot_parser
from polyreach.commands.pipeline import controller_pipeline
from polyreach.deploy.controllers import PolicyController
from polyreach.deploy.evaluate import Evaluation, baselines
from polyreach.deploy.evaluation_config import EvaluationConfig
from polyreach.robot.onnx_policy import PolicyFile
from polyreach_description import Robot, list_robots, load_robot
from polyreach_description.policy_search import find_policy

GOALS, CONTROLLED = 300, 100
PART = EvaluationConfig(goals=40, controlled=20)  # of `python -m benchmarks reaching`
QUICK = EvaluationConfig(goals=8, controlled=5, seconds=2.0, starts=5)


def controller_figures(
    robot: Robot, policy: Path | None, config: EvaluationConfig
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Name and figures of each controller, see Evaluation; the policy's where there is one.

    Raises RuntimeError, at last, if the environment of the quadratic program is missing.
    """
    evaluation = Evaluation(robot, config, controller_pipeline(robot))
    if policy is not None:
        file = PolicyFile(policy)
        file.check(robot)
        controller = PolicyController(file)
        figures = evaluation.measure(controller)
        yield "policy", figures | {"controlled": evaluation.measure_controlled(controller)}
    yield from baselines(evaluation).items()
    with QPController(robot) as program:
        figures = evaluation.measure(program)
        # the last commands were those of one robot, to be timed
        times = program.times[-round(config.seconds * robot.control_rate) :]
        figures["compute"] = {"mean_s": sum(times) / len(times), "worst_s": max(times)}
        yield "QP", figures | {"controlled": evaluation.measure_controlled(program)}


def measure(robot_name: str) -> Iterator[tuple[str, str]]:
    """Rows (controller, success and compute time) for a shipped robot with its shipped policy."""
    robot = load_robot(robot_name)
    config = QUICK if timing.quick else PART
    for name, figures in controller_figures(robot, find_policy(robot_name), config):
        radius, rate = next(iter(figures["clear_all"].items()))
        compute = figures.get("compute") or figures["plan"]
        each = "command" if "compute" in figures else "plan"
        yield (
            f"{robot_name}, {name}",
            f"{rate:.0%} within {1e3 * float(radius):g} mm and never near, "
            f"{1e3 * compute['mean_s']:.2f} ms CPU per {each}",
        )


def parse_arguments(argv: list[str] | None = None) -> argparse.Namespace:
    """Parse robots, goals, controlled, threads and out."""
    parser = robot_parser(
        "reaching",
        "A policy, least squares, a planner and a quadratic program on the same goals.",
        GOALS,
    )
    parser.add_argument(
        "--controlled", type=int, default=CONTROLLED, help="goals that jump; a fifth as many move"
    )
    parser.add_argument("--threads", type=int, default=1, help="threads of the simulation")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    """Measure, print and write; returns the exit status."""
    arguments = parse_arguments(argv)
    torch.set_num_threads(1)
    config = EvaluationConfig(
        goals=arguments.goals, controlled=arguments.controlled, threads=arguments.threads
    )
    out: Path = arguments.out
    out.mkdir(parents=True, exist_ok=True)
    file, console = out / "reaching.json", Console(markup=False, highlight=False)
    results: Results = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    for text in () if arguments.redraw else arguments.robots or list_robots():
        robot, policy = find_robot(text)
        results[robot.name] = {}
        for name, figures in controller_figures(robot, policy, config):
            console.print(f"{robot.name}, {name}: {figures['clear_all']}")
            results[robot.name][name] = figures
        file.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    (out / "reaching.md").write_text(results_page(results), encoding="utf-8")
    draw_results(results, out / "reaching.png")
    console.print(f"wrote {file}, reaching.md and reaching.png")
    return 0


if __name__ == "__main__":
    sys.exit(main())
