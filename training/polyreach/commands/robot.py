"""The commands about robots, simulated or real: parse options, call the package, print."""

import importlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from polyreach.commands.options import parse_options
from polyreach.commands.terminal import console, print_table
from polyreach.errors import UserError, check_range
from polyreach_description import load_robot
from polyreach_description.urdf_export import MOCK_PLUGIN, robot_to_urdf


@dataclass(frozen=True)
class RobotOptions:
    """Check the files of a robot, show their content, or write a URDF for ros2_control."""

    action: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="check|show|urdf")]
    """What to do: check, show or urdf."""
    robot: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="ROBOT")]
    """Name of a shipped robot, or path of a robot.yaml."""
    json: bool = False
    """Print as JSON (check, show)."""
    plugin: str = MOCK_PLUGIN
    """Hardware plugin in the <ros2_control> block (urdf)."""
    param: tuple[str, ...] = ()
    """Parameters NAME=VALUE of the hardware plugin (urdf)."""
    out: Path | None = None
    """File for the URDF; by default standard output (urdf)."""


def robot(words: Sequence[str]) -> int:
    """polyreach robot check|show|urdf ROBOT."""
    from polyreach.robot.robot_report import check_robot, describe_robot, joint_rows

    options = parse_options(RobotOptions, words, prog="polyreach robot")
    if options.action not in ("check", "show", "urdf"):
        raise UserError(f"unknown action '{options.action}' (legal: check, show, urdf)")
    if options.action == "urdf":
        return _write_urdf(options)
    found = load_robot(options.robot)
    if options.action == "check":
        measured = check_robot(found)
        if options.json:
            print(json.dumps({**describe_robot(found), "check": measured}, indent=2))
            return 0
    if options.json:
        print(json.dumps(describe_robot(found), indent=2))
        return 0
    for key, value in describe_robot(found).items():
        if key != "joints":
            console.print(
                f"{key}: {', '.join(map(str, value)) if isinstance(value, list) else value}",
                soft_wrap=True,
            )
    print_table("controlled joints", *joint_rows(found))
    if options.action == "check":
        for key, value in measured.items():
            console.print(f"{key}: {value}", soft_wrap=True)
        console.print(f"robot '{found.name}' is fine")
    return 0


def _write_urdf(options: RobotOptions) -> int:
    pairs = [text.partition("=") for text in options.param]
    for name, equals, _ in pairs:
        if not (name and equals):
            raise UserError(f"parameter '{name}{equals}' of the plugin must be NAME=VALUE")
    parameters = {name: value for name, _, value in pairs}
    text = robot_to_urdf(load_robot(options.robot), options.plugin, parameters or None)
    if options.out is None:
        print(text)
        return 0
    options.out.write_text(text, encoding="utf-8")
    console.print(f"wrote {options.out}", soft_wrap=True)
    return 0


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
    """Show a page with the robot and goals to drag; the demo then sends no goals."""
    host: str = "127.0.0.1"
    """Address that the page listens on; everybody who can reach it can move the robot."""
    port: int = 8080
    """Port of the page; 0: any free port."""
    watchdog: bool = False
    """Send the commands through the command watchdog, a process of its own."""


def demo(words: Sequence[str]) -> int:
    """polyreach demo [ROBOT]; 0 if all goals were reached."""
    options = parse_options(DemoOptions, words, prog="polyreach demo")
    check_range("goal_sets", options.goal_sets, 1)
    if options.view:
        return _view(options)
    nodes = _nodes("demo.run_demo")
    robot = load_robot(options.robot)
    picture = options.picture or Path("runs") / f"demo-{robot.name}.png"
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
    )
    try:
        result = nodes.run_demo(config)
    except (nodes.DemoError, ValueError) as error:
        raise UserError(str(error)) from None
    if options.json:
        print(json.dumps({**result.to_dict(), "picture": str(picture)}, indent=2))
    return 0 if result.success else 1


def _view(options: DemoOptions) -> int:
    page = _nodes("view.run_view")
    config = page.ViewConfig(
        robot=options.robot,
        policy=options.policy,
        seconds=options.seconds,
        host=options.host,
        port=options.port,
        watchdog=options.watchdog,
    )
    try:
        page.run_view(config)
    except (page.DemoError, ValueError) as error:
        raise UserError(str(error)) from None
    return 0


def goal(words: Sequence[str]) -> int:
    """polyreach goal EFFECTOR X Y Z."""
    return int(_nodes("goal_node").main(["polyreach goal", *words]))


def _nodes(module: str) -> Any:
    """A module of polyreach_nodes; it needs rclpy, which training does not."""
    try:
        return importlib.import_module(f"polyreach_nodes.{module}")
    except ImportError as error:
        raise UserError(
            f"the ROS 2 nodes cannot be imported ({error}): source a ROS 2 installation, or "
            "install the wheels with 'make setup'"
        ) from None
