"""polyreach demo: simulator, controller and goals over ROS 2."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from polyreach.commands.nodes import import_nodes
from polyreach.commands.options import parse_options
from polyreach.errors import UserError, check_range
from polyreach_description import robot_file


@dataclass(frozen=True)
class DemoOptions:
    """Run simulator, controller and goals over real ROS 2 topics, on this machine only."""

    robot: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="ROBOT")] = "planar8"
    """Name of a shipped robot, or path of a robot.yaml."""
    policy: Path | None = None
    """Policy file; by default the robot's shipped policy."""
    goal_sets: int = 5
    """Number of goal sets, sent one after the other, each with a goal for every effector."""
    seconds: float | None = None
    """Time limit of the demo [s]; by default 60, with --view none."""
    seed: int = 1
    """Seed of the goals."""
    picture: Path | None = None
    """File for the picture of the motion; by default runs/demo-ROBOT.png."""
    json: bool = False
    """Print the result as JSON instead of the live errors."""
    view: bool = False
    """Show a page with the robot and goals to drag; it sends random goals until one is dragged."""
    host: str = "127.0.0.1"
    """Address that the page listens on; anyone who can reach it can move the robot."""
    port: int = 8080
    """Port of the page; 0: any free port."""
    watchdog: bool = False
    """Send the commands through the command watchdog, a process of its own."""
    command_interface: str = "velocity"
    """What the simulated robot takes: velocity, position or trajectory."""


def run(words: Sequence[str]) -> int:
    """polyreach demo [ROBOT]; 0 if all goals were reached."""
    options = parse_options(DemoOptions, words, prog="polyreach demo")
    check_range("goal_sets", options.goal_sets, 1)
    if options.view:
        return _view(options)
    nodes = import_nodes("demo.run_demo")
    picture = options.picture or Path("runs") / f"demo-{robot_file(options.robot).name}.png"
    picture.parent.mkdir(parents=True, exist_ok=True)
    config = nodes.DemoConfig(
        robot=options.robot,
        policy=options.policy,
        goal_sets=options.goal_sets,
        seconds=60.0 if options.seconds is None else options.seconds,
        seed=options.seed,
        picture=picture,
        live=not options.json,
        watchdog=options.watchdog,
        command_interface=options.command_interface,
    )
    try:
        result = nodes.run_demo(config)
    except (nodes.DemoError, ValueError) as error:
        raise UserError(str(error)) from None
    if options.json:
        print(json.dumps({**result.to_dict(), "picture": str(picture)}, indent=2))
    return 0 if result.success else 1


def _view(options: DemoOptions) -> int:
    page = import_nodes("view.run_view")
    config = page.ViewConfig(
        robot=options.robot,
        policy=options.policy,
        seconds=options.seconds,
        host=options.host,
        port=options.port,
        watchdog=options.watchdog,
        command_interface=options.command_interface,
    )
    try:
        page.run_view(config)
    except (page.DemoError, ValueError) as error:
        raise UserError(str(error)) from None
    return 0
