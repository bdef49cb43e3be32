"""Read and check `robot.yaml`: what is written there, before any model is loaded."""

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from polyreach_description import yaml_values as values
from polyreach_description.printable import PrintableError
from polyreach_description.yaml_file import read_yaml

MAX_HINGE_VELOCITY = 30.0  # [rad/s]; above it the number is most likely in degrees
MAX_SLIDE_VELOCITY = 10.0  # [m/s]; above it the number is most likely in millimetres
MAX_ACCELERATION = 2000.0  # [rad/s^2 or m/s^2]
MAX_CONTROL_RATE = 1000.0  # [Hz]
MIN_DISTANCE, MAX_DISTANCE = 1e-4, 1.0  # [m], of collision distances
MAX_NAME = 100  # characters
GOAL_KINDS = ("position", "axis", "pose")
AXES = {"x": (1.0, 0.0, 0.0), "y": (0.0, 1.0, 0.0), "z": (0.0, 0.0, 1.0)}
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]*")


class RobotError(PrintableError, ValueError):
    """A robot file is wrong; the message says which file, what was found and what is legal."""


@dataclass(frozen=True)
class EffectorEntry:
    """An effector: a site of the model, or a point of a body (for URDF, which has no sites).

    Its goal is a position; with `axis` also the direction of one axis of the site's or body's
    frame, with `pose` all of that frame's orientation.
    """

    site: str | None
    body: str | None
    offset: tuple[float, float, float]  # [m], in the body's frame
    goal: str = "position"  # one of GOAL_KINDS
    axis: str = "z"  # of `goal: axis`: x, y or z


@dataclass(frozen=True)
class JointEntry:
    """Limits of one controlled joint."""

    velocity: float  # [rad/s or m/s]
    acceleration: float  # [rad/s^2 or m/s^2]
    effort: float | None  # [N m or N]; None: not limited in simulation


@dataclass(frozen=True)
class Coupling:
    """How a joint follows another one: its position is ratio * the leader's + offset."""

    leader: str
    ratio: float
    offset: float  # [rad or m]
    is_linear: bool = True


@dataclass(frozen=True)
class RobotFile:
    """The content of a robot.yaml."""

    path: Path
    name: str
    model: Path
    base_frame: str
    control_rate: float  # [Hz]
    effectors: dict[str, EffectorEntry]
    joints: dict[str, JointEntry]
    home: dict[str, float]
    home_keyframe: str | None  # of the model; 'home' goes before it
    fixed_base: bool  # free joints are removed
    no_collision: tuple[str | tuple[str, str], ...]  # links, or pairs of links
    pair_distances: tuple[tuple[str, str, float], ...] = ()  # two links, their stop distance [m]
    collision_stop_distance: float | None = None  # [m]; None: by the robot's size
    collision_slow_distance: float | None = None  # [m]; None: by the stop distance
    coupled_joints: dict[str, Coupling] = field(default_factory=dict)  # by follower


_TOP_KEYS = (
    "name",
    "model",
    "base_frame",
    "control_rate",
    "effectors",
    "joints",
    "home",
    "coupled_joints",
    "home_keyframe",
    "fixed_base",
    "no_collision",
    "collision_stop_distance",
    "collision_slow_distance",
)
_NEEDED_KEYS = _TOP_KEYS[:6]


def is_robot_name(text: str) -> bool:
    """Whether `text` can name a robot, and so files and folders: [A-Za-z][A-Za-z0-9_-]*."""
    return len(text) <= MAX_NAME and _NAME.fullmatch(text) is not None


def read_robot_file(path: Path) -> RobotFile:
    """Parse `path`.

    Raises RobotError with one sentence that names the file, the key and what is legal.
    """
    try:
        return _parse(path)
    except ValueError as error:  # RobotError, YamlError, or a number of too many digits to show
        raise RobotError(f"{path}: {error}") from None


def _parse(path: Path) -> RobotFile:
    if not path.is_file():
        raise RobotError("no such robot file")
    content = values.mapping(read_yaml(path), "the file", _TOP_KEYS)
    for key in _NEEDED_KEYS:
        if key not in content:
            raise RobotError(f"key '{key}' is missing (needed: {', '.join(_NEEDED_KEYS)})")
    robot_name = values.text(content["name"], "name")
    if not is_robot_name(robot_name):
        raise RobotError(
            f"name '{robot_name[:MAX_NAME]}' must be letters, digits, '_' and '-', a letter first, "
            f"at most {MAX_NAME} of them: folders and files are named after it"
        )
    model = path.parent / values.text(content["model"], "model")
    if not model.is_file():
        raise RobotError(f"model file '{model}' does not exist (paths are relative to the yaml)")
    effectors = values.named(content["effectors"], "effectors")
    for name in effectors:
        if not re.fullmatch(r"[A-Za-z][A-Za-z0-9]*(_[A-Za-z0-9]+)*", name):
            raise RobotError(
                f"effector name '{name}' must be usable in a ROS topic: letters, digits and single "
                "underscores between them, a letter first"
            )
    joints = values.named(content["joints"], "joints")
    home = values.named(content.get("home") or {}, "home", empty=True)
    no_collision, pair_distances = _no_collision(content.get("no_collision") or [])
    return RobotFile(
        path=path,
        name=robot_name,
        model=model,
        base_frame=values.text(content["base_frame"], "base_frame"),
        control_rate=values.number(
            content["control_rate"], "control_rate", 1.0, MAX_CONTROL_RATE, "Hz"
        ),
        effectors={name: _effector(name, entry) for name, entry in effectors.items()},
        joints={name: _joint(name, entry) for name, entry in joints.items()},
        home={
            name: values.number(value, f"home of '{name}'", -1e3, 1e3, "rad or m")
            for name, value in home.items()
        },
        home_keyframe=values.text(content["home_keyframe"], "home_keyframe")
        if "home_keyframe" in content
        else None,
        fixed_base=values.flag(content.get("fixed_base", False), "fixed_base"),
        no_collision=no_collision,
        pair_distances=pair_distances,
        collision_stop_distance=_distance(content, "collision_stop_distance"),
        collision_slow_distance=_distance(content, "collision_slow_distance"),
        coupled_joints={
            name: _coupling(name, entry)
            for name, entry in values.named(
                content.get("coupled_joints") or {}, "coupled_joints", empty=True
            ).items()
        },
    )


def _distance(content: dict[str, Any], key: str) -> float | None:
    if key not in content:
        return None
    return values.number(content[key], key, MIN_DISTANCE, MAX_DISTANCE, "m")


def _no_collision(
    entries: Any,
) -> tuple[tuple[str | tuple[str, str], ...], tuple[tuple[str, str, float], ...]]:
    """Links and pairs without collision, and pairs with a stop distance of their own."""
    what = "'no_collision'"
    forms = "pairs [LINK, LINK] or [LINK, LINK, DISTANCE]"
    if not isinstance(entries, list):
        raise RobotError(f"{what} must list links and {forms}, not {values.shown(entries)}")
    links: list[str | tuple[str, str]] = []
    distances = []
    for entry in entries:
        if not isinstance(entry, list) or len(entry) not in (2, 3):
            links.append(values.text(entry, f"entry of {what}, a link or one of the {forms},"))
            continue
        first, second = (values.text(name, f"link in {what}") for name in entry[:2])
        if len(entry) == 2:
            links.append((first, second))
        else:
            pair = f"distance of [{first}, {second}] in {what}"
            distances.append(
                (first, second, values.number(entry[2], pair, MIN_DISTANCE, MAX_DISTANCE, "m"))
            )
    return tuple(links), tuple(distances)


def _effector(name: str, entry: Any) -> EffectorEntry:
    what = f"effector '{name}'"
    entry = values.mapping(entry, what, ("site", "body", "offset", "goal", "axis"))
    if ("site" in entry) == ("body" in entry):
        raise RobotError(
            f"{what} needs either 'site: NAME' or 'body: NAME' (with an optional 'offset: [x, y, "
            "z]')"
        )
    offset = entry.get("offset", [0.0, 0.0, 0.0])
    if "site" in entry and "offset" in entry:
        raise RobotError(f"{what}: 'offset' goes with 'body', a site has its own position")
    if not isinstance(offset, list) or len(offset) != 3:
        raise RobotError(
            f"{what}: offset {values.shown(offset)} must be three numbers [x, y, z] in metres"
        )
    x, y, z = (values.number(value, f"offset of {what}", -10.0, 10.0, "m") for value in offset)
    key = "site" if "site" in entry else "body"
    named = values.text(entry[key], f"{key} of {what}")
    goal = values.choice(entry.get("goal", "position"), f"goal of {what}", GOAL_KINDS)
    if "axis" in entry and goal != "axis":
        raise RobotError(f"{what}: 'axis' goes with 'goal: axis', but its goal is {goal}")
    return EffectorEntry(
        named if key == "site" else None,
        named if key == "body" else None,
        (x, y, z),
        goal,
        values.choice(entry.get("axis", "z"), f"axis of {what}", tuple(AXES)),
    )


def _joint(name: str, entry: Any) -> JointEntry:
    what = f"joint '{name}'"
    entry = values.mapping(entry, what, ("velocity", "acceleration", "effort"))
    for key in ("velocity", "acceleration"):
        if key not in entry:
            raise RobotError(
                f"{what} needs '{key}' [{'rad/s' if key == 'velocity' else 'rad/s^2'}]"
            )
    effort = entry.get("effort")
    return JointEntry(
        velocity=values.number(
            entry["velocity"], f"velocity of {what}", 1e-3, MAX_HINGE_VELOCITY, "rad/s"
        ),
        acceleration=values.number(
            entry["acceleration"], f"acceleration of {what}", 1e-3, MAX_ACCELERATION, "rad/s^2"
        ),
        effort=None
        if effort is None
        else values.number(effort, f"effort of {what}", 1e-3, 1e6, "N m"),
    )


def _coupling(name: str, entry: Any) -> Coupling:
    what = f"coupled joint '{name}'"
    entry = values.mapping(entry, what, ("follows", "ratio", "offset"))
    if "follows" not in entry:
        raise RobotError(f"{what} needs 'follows: JOINT'")
    return Coupling(
        values.text(entry["follows"], f"'follows' of {what}"),
        values.number(entry.get("ratio", 1.0), f"ratio of {what}", -100.0, 100.0, "1"),
        values.number(entry.get("offset", 0.0), f"offset of {what}", -1e3, 1e3, "rad or m"),
    )
