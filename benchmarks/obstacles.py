"""Reaching among obstacles: a policy, alone and through the controller, planners, a quadratic
program and least squares in the same scenes.

    python -m benchmarks.obstacles [ROBOT[=POLICY] ...] [--goals N] [--obstacles K ...]
        [--out FOLDER]

ROBOT is a shipped robot, with its shipped policy by default, or the path of a robot.yaml. Results
go to FOLDER/obstacles.json, in which those of other robots stay; obstacles.md and obstacles.png
show all of them.
"""

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console

from benchmarks import timing
from benchmarks.obstacle_controllers import (
    LimitedController,
    LimitedQP,
    NodeController,
    PlannedController,
    SceneController,
)
from benchmarks.obstacle_episodes import Outcome, play_all
from benchmarks.obstacle_scenes import draw_scenes, is_in_way
from benchmarks.obstacles_page import JUDGED, Results, draw_results, results_page
from benchmarks.qp_controller import QPController
from benchmarks.robot_arguments import find_robot, robot_parser
from benchmarks.rrt_planner import MultiStartWays, RRTWays
from polyreach.deploy.controllers import LeastSquaresController, PolicyController
from polyreach.deploy.goal_sets import radii
from polyreach.robot.onnx_policy import PolicyFile
from polyreach_description import Robot, list_robots, load_robot
from polyreach_description.policy_search import find_policy
from polyreach_description.policy_tensors import OBSTACLES

GOALS, COUNTS = 60, (1, 2, 4, 8)
SECONDS, SEED = 8.0, 20_000
QUICK_GOALS, PART_GOALS = 3, 15  # of `python -m benchmarks obstacles`
QUICK_SECONDS = 3.0


def controllers(
    robot: Robot, policy: Path | None, stack: ExitStack
) -> Iterator[tuple[str, SceneController]]:
    """Name and controller; those of a policy where there is one.

    stack: ends their processes. Raises RuntimeError if the environment of the quadratic program and
    of RRT-Connect is missing.
    """
    if policy is not None:
        file = PolicyFile(policy)
        file.check(robot)
        yield "policy", LimitedController(robot, PolicyController(file))
        yield "policy, through the controller", NodeController(robot, policy)
    yield "least squares", LimitedController(robot, LeastSquaresController(robot))
    yield "multi-start", PlannedController(robot, MultiStartWays(robot).plan)
    ways = stack.enter_context(RRTWays(robot))
    yield "multi-start and RRT-Connect", PlannedController(robot, ways.plan)
    yield "QP", LimitedQP(robot, stack.enter_context(QPController(robot)))


def measure_robot(
    robot: Robot,
    policy: Path | None,
    goals: int,
    counts: Sequence[int],
    seconds: float,
    console: Console,
) -> dict[str, Any]:
    """Figures of all controllers with each number of obstacles, on the same goal sets; see
    `figures`. `in_way` are the shares of the scenes in which an obstacle is in the straight way,
    `solved` those in which some controller reached the goals and was never near.
    """
    scenes = draw_scenes(robot, goals, SEED)
    in_way = {k: _in_way(robot, scenes, k) for k in counts}
    solved = {k: np.zeros(goals, dtype=bool) for k in counts}
    rates: dict[str, dict[str, Any]] = {}
    with ExitStack() as stack:
        for name, controller in controllers(robot, policy, stack):
            rates[name] = {}
            for count in counts:
                of_count = [scene.with_first(count) for scene in scenes]
                first = len(controller.command_s), len(controller.plan_s)
                outcomes = play_all(robot, of_count, controller, seconds)
                result = figures(robot, outcomes, in_way[count])
                times = {
                    "command_s": controller.command_s[first[0] :],
                    "plan_s": controller.plan_s[first[1] :],
                }
                result |= {key: _times(values) for key, values in times.items() if values}
                rates[name][str(count)] = result
                solved[count] |= np.array([outcome.clear[0] for outcome in outcomes])
                console.print(f"{robot.name}, {name}, {count} obstacles: {result['clear']}")
            if isinstance(controller, NodeController) and controller.faults:
                console.print(f"faults: {controller.faults}")
    return {
        "goals": goals,
        "seconds": seconds,
        "seed": SEED,
        "stop_distance_m": robot.stop_distance,
        "oriented": bool(robot.oriented.any()),
        "policy": policy.name if policy else "",
        "in_way": {str(k): int(value.sum()) for k, value in in_way.items()},
        "solved": {str(k): int(value.sum()) for k, value in solved.items()},
        "controllers": rates,
    }


def _in_way(robot: Robot, scenes: Sequence[Any], count: int) -> np.ndarray[Any, Any]:
    return np.array(
        [is_in_way(robot, scene.start, scene.end, scene.obstacles[:count]) for scene in scenes]
    )


def figures(
    robot: Robot, outcomes: Sequence[Outcome], in_way: np.ndarray[Any, Any]
) -> dict[str, Any]:
    """Numbers of scenes by radius [m], in which all goals were reached at the end (`inside`), the
    same and never near (`clear`), the same where an obstacle is in the straight way; numbers of
    those that came near and that touched an obstacle; quantiles of times [s] and of the least
    clearance [m].
    """
    inside = np.array([outcome.inside for outcome in outcomes])  # (N, radii)
    clear = np.array([outcome.clear for outcome in outcomes])
    times = np.array([outcome.time_s for outcome in outcomes])
    arrived = times[np.isfinite(times)]
    result: dict[str, Any] = {
        "inside": _by_radius(robot, inside),
        "clear": _by_radius(robot, clear),
        "clear_in_way": _by_radius(robot, clear[in_way]),
        "near": sum(outcome.near for outcome in outcomes),
        "touched": sum(outcome.touched for outcome in outcomes),
        "clearance_p5_m": float(np.quantile([outcome.clearance for outcome in outcomes], 0.05)),
    }
    if len(arrived):
        result["time_s"] = {f"{q:g}": float(np.quantile(arrived, q)) for q in (0.5, 0.95)}
    return result


def _by_radius(robot: Robot, counted: np.ndarray[Any, Any]) -> dict[str, int]:
    pairs = zip(radii(robot)[:JUDGED], counted.sum(axis=0).tolist()[:JUDGED], strict=True)
    return {f"{radius:g}": count for radius, count in pairs}


def _times(values: Sequence[float]) -> dict[str, float]:
    return {"mean_s": float(np.mean(values)), "worst_s": float(np.max(values))}


def measure(robot_name: str) -> Iterator[tuple[str, str]]:
    """Rows (controller, success) for a shipped robot with its shipped policy."""
    robot = load_robot(robot_name)
    goals, seconds = (QUICK_GOALS, QUICK_SECONDS) if timing.quick else (PART_GOALS, SECONDS)
    quiet = Console(quiet=True)
    counts = (2,) if timing.quick else (1, 4)
    results = measure_robot(robot, find_policy(robot_name), goals, counts, seconds, quiet)
    for name, rates in results["controllers"].items():
        for count, result in rates.items():
            radius, clear = next(iter(result["clear"].items()))
            yield (
                f"{robot_name}, {name}, {count} obstacles",
                f"{clear} of {goals} within {1e3 * float(radius):g} mm and never near, "
                f"{result['touched']} touched",
            )


def parse_arguments(argv: list[str] | None = None) -> argparse.Namespace:
    """Parse robots, goals, obstacles and out. Exits with status 2 for numbers out of range."""
    parser = robot_parser(
        "obstacles",
        "A policy, planners, a quadratic program and least squares among obstacles.",
        GOALS,
    )
    parser.add_argument(
        "--obstacles", type=int, nargs="+", default=list(COUNTS), metavar="K", help="in each scene"
    )
    arguments = parser.parse_args(argv)
    if arguments.goals < 1:
        parser.error(f"--goals is {arguments.goals}, but must be at least 1")
    for count in arguments.obstacles:
        if not 1 <= count <= OBSTACLES:
            parser.error(f"--obstacles is {count}, but must be from 1 to {OBSTACLES}")
    return arguments


def main(argv: list[str] | None = None) -> int:
    """Measure, print and write; returns the exit status."""
    arguments = parse_arguments(argv)
    torch.set_num_threads(1)
    out: Path = arguments.out
    out.mkdir(parents=True, exist_ok=True)
    file, console = out / "obstacles.json", Console(markup=False, highlight=False)
    results: Results = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    counts = sorted(set(arguments.obstacles))
    for text in () if arguments.redraw else arguments.robots or list_robots():
        robot, policy = find_robot(text)
        results[robot.name] = measure_robot(
            robot, policy, arguments.goals, counts, SECONDS, console
        )
        file.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    (out / "obstacles.md").write_text(results_page(results), encoding="utf-8")
    draw_results(results, out / "obstacles.png")
    console.print(f"wrote {file}, obstacles.md and obstacles.png")
    return 0


if __name__ == "__main__":
    sys.exit(main())
