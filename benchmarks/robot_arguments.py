"""The arguments of benchmarks that measure robots and write a page: robots, goals, out, redraw."""

import argparse
from pathlib import Path

from polyreach_description import Robot, list_robots, load_robot
from polyreach_description.policy_search import find_policy


def robot_parser(name: str, description: str, goals: int) -> argparse.ArgumentParser:
    """A parser of benchmarks.<name>; goals: default number of goal sets."""
    parser = argparse.ArgumentParser(prog=f"python -m benchmarks.{name}", description=description)
    parser.add_argument(
        "robots",
        nargs="*",
        metavar="ROBOT[=POLICY]",
        help="a shipped robot or a robot.yaml, and a policy file; default: the shipped robots",
    )
    parser.add_argument("--goals", type=int, default=goals, help="goal sets")
    parser.add_argument("--out", type=Path, default=Path("runs") / name, metavar="FOLDER")
    parser.add_argument("--redraw", action="store_true", help="measure nothing; page and picture")
    return parser


def find_robot(text: str) -> tuple[Robot, Path | None]:
    """The robot and the policy that ROBOT[=POLICY] names; a shipped robot has a shipped policy."""
    name, _, policy = text.partition("=")
    robot = load_robot(name)
    if policy:
        return robot, Path(policy)
    return robot, find_policy(name) if name in list_robots() else None
