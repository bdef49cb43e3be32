"""polyreach list: what there is to train, report and run."""

import json
from collections.abc import Sequence
from dataclasses import dataclass

from polyreach.commands.options import parse_options
from polyreach.commands.terminal import print_table
from polyreach.envs.registry import list_envs
from polyreach.experiments import EXPERIMENTS
from polyreach.methods import METHODS
from polyreach_description import list_robots, load_robot
from polyreach_description.policy_search import list_policies


@dataclass(frozen=True)
class ListOptions:
    """List methods, environments, experiments, robots and shipped policies."""

    json: bool = False
    """Print the lists as JSON."""


def run(words: Sequence[str]) -> int:
    """polyreach list."""
    options = parse_options(ListOptions, words, prog="polyreach list")
    methods = {name: method.paper for name, method in METHODS.items()}
    envs = {name: list(env_spec(name).tasks) for name, env_spec in list_envs().items()}
    experiments = {name: experiment.paper for name, experiment in EXPERIMENTS.items()}
    robots = [load_robot(name) for name in list_robots()]
    policies = [str(path) for path in list_policies()]
    if options.json:
        joints_and_effectors = {
            robot.name: {"joints": list(robot.joint_names), "effectors": list(robot.effector_names)}
            for robot in robots
        }
        lists = {
            "methods": methods,
            "envs": envs,
            "experiments": experiments,
            "robots": joints_and_effectors,
            "policies": policies,
        }
        print(json.dumps(lists, indent=2))
        return 0
    print_table("methods", ["name", "paper"], [[name, paper] for name, paper in methods.items()])
    robots_only = [name for name, method in METHODS.items() if not method.task_conditioned]
    print_table(
        f"environments in addition to all robots, for all methods but {' and '.join(robots_only)}",
        ["name", "tasks"],
        [[name, _shortened(tasks)] for name, tasks in envs.items()],
    )
    print_table(
        "experiments of `polyreach report`",
        ["name", "paper"],
        [[name, paper] for name, paper in experiments.items()],
    )
    print_table(
        "robots",
        ["name", "controlled joints", "effectors"],
        [
            [robot.name, str(len(robot.joint_names)), ", ".join(robot.effector_names)]
            for robot in robots
        ],
    )
    print_table("policies", ["file"], [[path] for path in policies])
    return 0


def _shortened(names: list[str], count: int = 10) -> str:
    rest = f", and {len(names) - count} more" if len(names) > count else ""
    return ", ".join(names[:count]) + rest
