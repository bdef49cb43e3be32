"""polyreach robot: draft a robot.yaml, check a robot, show what it has, or write its URDF."""

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from polyreach.commands.options import parse_options
from polyreach.commands.terminal import console, print_table
from polyreach.errors import UserError
from polyreach.robot.robot_report import check_robot, describe_robot, joint_rows
from polyreach_description import load_robot
from polyreach_description.draft_yaml import new_robot_yaml
from polyreach_description.urdf_export import MOCK_PLUGIN, robot_to_urdf


@dataclass(frozen=True)
class RobotOptions:
    """Draft a robot.yaml, check the files of a robot, show their content, or write a URDF for
    ros2_control.
    """

    action: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="new|check|show|urdf")]
    """What to do: new, check, show or urdf."""
    robot: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="ROBOT")]
    """Name of a shipped robot, or path of a robot.yaml; for new, path of an MJCF or URDF."""
    json: bool = False
    """Print as JSON (check, show)."""
    plugin: str = MOCK_PLUGIN
    """Hardware plugin in the <ros2_control> block (urdf)."""
    param: tuple[str, ...] = ()
    """Parameters NAME=VALUE of the hardware plugin (urdf)."""
    out: Path | None = None
    """File to be written; by default robot.yaml (new), or standard output (urdf)."""
    effectors: tuple[str, ...] = ()
    """Names of the effectors to keep; by default all ends of the kinematic tree (new)."""
    force: bool = False
    """Replace a file that exists (new)."""


def run(words: Sequence[str]) -> int:
    """polyreach robot new MODEL, or polyreach robot check|show|urdf ROBOT."""
    options = parse_options(RobotOptions, words, prog="polyreach robot")
    if options.action not in ("new", "check", "show", "urdf"):
        raise UserError(f"unknown action '{options.action}' (legal: new, check, show, urdf)")
    if options.action == "new":
        return _write_draft(options)
    if options.action == "urdf":
        return _write_urdf(options)
    robot = load_robot(options.robot)
    if options.action == "check":
        measured = check_robot(robot)
        if options.json:
            print(json.dumps({**describe_robot(robot), "check": measured}, indent=2))
            return 0
    if options.json:
        print(json.dumps(describe_robot(robot), indent=2))
        return 0
    for key, value in describe_robot(robot).items():
        if key != "joints":
            console.print(
                f"{key}: {', '.join(map(str, value)) if isinstance(value, list) else value}",
                soft_wrap=True,
            )
    if options.action == "show":
        print_table("controlled joints", *joint_rows(robot))
        return 0
    warnings = measured.pop("warnings")
    reached = measured.pop("speed reached over commanded")
    print_table("controlled joints", *joint_rows(robot, reached))
    for key, value in measured.items():
        console.print(f"{key}: {value}", soft_wrap=True)
    for warning in warnings:
        console.print(f"warning: {warning}", soft_wrap=True)
    verdict = "can be used; note the warnings above" if warnings else "is fine"
    console.print(f"robot '{robot.name}' {verdict}")
    return 0


def _write_draft(options: RobotOptions) -> int:
    """Write a first robot.yaml of a model, and say what is left to be decided."""
    model, out = Path(options.robot), options.out or Path("robot.yaml")
    if out.exists() and not options.force:
        raise UserError(f"'{out}' exists: give another file by --out, or replace it by --force")
    drafted = new_robot_yaml(model, os.path.relpath(model, out.parent), options.effectors)
    out.write_text(drafted.text, encoding="utf-8")
    console.print(f"wrote {out}; to be decided in it:", soft_wrap=True, markup=False)
    for decision in drafted.decisions:
        console.print(f"- {decision}", soft_wrap=True, markup=False)
    if drafted.problem:
        console.print(f"warning: {drafted.problem}", soft_wrap=True, markup=False)
    console.print(f"next: polyreach robot check {out}", soft_wrap=True, markup=False)
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
