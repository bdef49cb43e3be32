"""A draft of a robot.yaml as text with comments, and what is left to be decided.

The file that is drafted may be untrusted: a child process of limited time and memory loads it.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from polyreach_description.config_file import RobotError
from polyreach_description.limited import LimitError, Limits, run_limited
from polyreach_description.model_check import read_bounded

TRIAL_LIMITS = Limits(cpu_s=120, memory_bytes=4 * 2**30)
_TRIAL = Path(__file__).with_name("draft_trial.py")
_PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_./-]*")
_RESERVED = frozenset("y n yes no on off true false null".split())


@dataclass(frozen=True)
class NewRobot:
    """A drafted robot.yaml."""

    text: str  # of the file
    decisions: tuple[str, ...]  # sentences: what was guessed, and what is left to be decided
    problem: str  # why the robot cannot be used as it is; '' if it can


def new_robot_yaml(model: Path, reference: str, effectors: tuple[str, ...] = ()) -> NewRobot:
    """Draft a robot.yaml of an MJCF or URDF; reference: its path as the file is to have it;
    effectors: the names of those to keep, all that are found if none.

    Raises RobotError that names the model and what is wrong with it.
    """
    if not model.is_file():
        raise RobotError(f"model file '{model}' does not exist")
    read_bounded(model)
    try:
        answer = run_limited(_TRIAL, (str(model), reference, *effectors), b"", TRIAL_LIMITS)
    except LimitError as error:
        raise RobotError(f"'{model}' cannot be loaded within the bounds: {error}") from None
    if "refused" in answer:
        raise RobotError(answer["refused"])
    return NewRobot(answer["text"], tuple(answer["decisions"]), answer["problem"])


def yaml_name(text: str) -> str:
    """A name as YAML has it, in quotes where it would be something else without them."""
    plain = _PLAIN.fullmatch(text) and text.lower() not in _RESERVED
    return text if plain else json.dumps(text)


def commented(entry: str, *comments: str) -> str:
    """A line of YAML with a comment, if there is any."""
    text = "; ".join(filter(None, comments))
    return f"{entry} # {text}" if text else entry


def section(title: str, lines: Iterator[str]) -> str:
    """A key with the lines that belong to it; '' without any."""
    body = "".join(f"  {line}\n" for line in lines)
    return f"{title}\n{body}" if body else ""
