"""The facts that `polyreach robot check` and `polyreach robot show` report."""

from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from polyreach.robot.capsule_fit import fit_capsules
from polyreach.robot.drive_check import drift_at_rest, speeds_reached
from polyreach.robot.kinematics import ForwardKinematics
from polyreach.robot.self_distance import SelfDistance
from polyreach_description import Robot, RobotError
from polyreach_description.config_file import Coupling
from polyreach_description.robot import SPEED_UP_S
from polyreach_description.self_collision import LinkPair, pair_text, touching_links

CHECKED = 200  # random configurations
TOLERANCE = 1e-6  # [m], between the kinematics of ForwardKinematics and of MuJoCo
MANY = 0.5  # share of random configurations in self-collision
SHOWN = 5  # pairs of links
MISJUDGED = 0.08  # share of random configurations whose distances a policy misjudges
TRACKED = 0.95  # share of a commanded speed
OFTEN = 0.3  # share of the configurations in which two links are that close
ALWAYS = 0.95  # share of them in which two links are always that close


def describe_robot(robot: Robot) -> dict[str, Any]:
    """Names, tree and limits, as plain JSON values."""
    sets = {
        name: [joint for joint, member in zip(robot.joint_names, row, strict=True) if member]
        for name, row in zip(robot.effector_names, robot.action_sets, strict=True)
    }
    return {
        "robot": robot.name,
        "file": str(robot.file.path),
        "model": str(robot.file.model),
        "base frame": robot.base_frame,
        "control rate [Hz]": robot.control_rate,
        "effectors": list(robot.effector_names),
        **{f"joints of {name}": joints for name, joints in sets.items()},
        "shared joints": list(robot.shared_joints),
        "coupled joints": coupled_joints(robot),
        "held joints": [joint.name for joint in robot.held_joints],
        "robot_sha256": robot.sha256,
        "joints": [
            dict(zip(*_joint(robot, index), strict=True)) for index in range(len(robot.joint_names))
        ],
    }


def coupled_joints(robot: Robot) -> list[str]:
    """How each follower of a controlled joint moves with it."""
    names = {robot.model.joint(int(joint)).name for joint in robot.moved.ids}
    followers = ((n, c) for n, c in robot.couplings.items() if n in names)
    return [f"{name} = {_linear(coupling)}" for name, coupling in followers]


def _linear(coupling: Coupling) -> str:
    text = coupling.leader if coupling.ratio == 1.0 else f"{coupling.ratio:g} {coupling.leader}"
    sign = "-" if coupling.offset < 0.0 else "+"
    return f"{text} {sign} {abs(coupling.offset):g}" if coupling.offset else text


def _joint(robot: Robot, index: int) -> tuple[list[str], list[Any]]:
    low, high = robot.joint_pos_limits[index]
    unit = "m" if robot.is_slide[index] else "rad"
    tasks = [
        name
        for name, row in zip(robot.effector_names, robot.action_sets, strict=True)
        if row[index]
    ]
    keys = ["name", "unit", "low", "high", "home", "velocity", "acceleration", "effectors"]
    numbers = (
        low,
        high,
        robot.home[index],
        robot.joint_vel_limits[index],
        robot.joint_acc_limits[index],
    )
    return keys, [
        robot.joint_names[index],
        unit,
        *(round(float(value), 6) for value in numbers),
        tasks,
    ]


def joint_rows(
    robot: Robot, reached: Mapping[str, float] | None = None
) -> tuple[list[str], list[list[str]]]:
    """Header and rows of a table of the controlled joints; which effectors they move is listed
    beside it.

    reached: speed over commanded speed of each joint, the last column.
    """
    header: list[str] = []
    rows = []
    for index in range(len(robot.joint_names)):
        header, values = _joint(robot, index)
        place = header.index("effectors")
        del header[place], values[place]
        if reached is not None:
            header.append("reached")
            values.append(f"{reached[robot.joint_names[index]]:.1%}")
        rows.append([_cell(value) for value in values])
    return header, rows


def _cell(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def check_robot(robot: Robot) -> dict[str, Any]:
    """Compare the kinematics with MuJoCo's, measure self-collision, and drive the simulated robot
    for a second.

    Raises RobotError if the two kinematics differ or the simulation does not stay finite.
    """
    rng = np.random.default_rng(0)
    low, high = robot.joint_pos_limits.T
    uniform = rng.uniform(low, high, (CHECKED, len(low)))
    ours = ForwardKinematics(robot.tree, torch.float64)(torch.tensor(uniform)).effector.numpy()
    theirs = np.stack([robot.forward_kinematics(joint_pos) for joint_pos in uniform])
    difference = float(np.abs(ours - theirs).max())
    if difference > TOLERANCE:
        raise RobotError(
            f"robot '{robot.name}': its forward kinematics differ from MuJoCo's by "
            f"{difference:.2g} m"
        )
    touching = touching_links(robot.model, robot.qpos(uniform))
    collisions = float(np.mean([bool(pairs) for pairs in touching]))
    free = robot.sample_configuration(rng, CHECKED)
    spread = (
        np.stack([robot.forward_kinematics(joint_pos) for joint_pos in free])
        .std(axis=0)
        .max(axis=-1)
    )
    for name, extent in zip(robot.effector_names, spread, strict=True):
        if extent < TOLERANCE:
            raise RobotError(
                f"robot '{robot.name}': effector '{name}' stays where it is, on the axis of its "
                "joints"
            )
    home_pairs = sorted(touching_links(robot.model, robot.qpos(robot.home)[None])[0])
    near = near_links(robot)
    reached = speeds_reached(robot)
    misjudged = fit_capsules(robot).misjudged
    return {
        "forward kinematics against MuJoCo [m]": float(f"{difference:.2g}"),
        "random configurations in self-collision": f"{collisions:.1%}",
        "links that touch most often in them": most_often(touching) or "none",
        "self-collision at home": pair_text(home_pairs) or "no",
        f"links nearer than {1e3 * robot.slow_distance:g} mm at home or often": pair_text(near)
        or "none",
        f"joints that policies move slower, to speed up in {SPEED_UP_S:g} s": ", ".join(
            slow_joints(robot)
        )
        or "none",
        "random configurations whose distances policies misjudge": f"{misjudged:.1%}",
        "drift in a second of zero velocity [rad or m]": float(f"{drift_at_rest(robot):.2g}"),
        "speed reached over commanded": {
            name: round(float(share), 3)
            for name, share in zip(robot.joint_names, reached, strict=True)
        },
        "warnings": _warnings(robot, collisions, home_pairs, near, reached, misjudged),
    }


def _warnings(
    robot: Robot,
    collisions: float,
    home_pairs: list[LinkPair],
    near: dict[LinkPair, float],
    reached: NDArray[np.float64],
    misjudged: float,
) -> list[str]:
    """Sentences on what keeps the robot from moving as it should."""
    warnings = []
    if collisions > MANY:
        warnings.append(
            f"{collisions:.0%} of random configurations are in self-collision, most often of "
            "the links named above: shrink their geoms, or write pairs that may always touch under "
            "'no_collision' in the robot.yaml"
        )
    if home_pairs:
        warnings.append(
            f"at home {pair_text(home_pairs)} touch, so that the controller keeps the robot there: "
            "choose another home, or write the pairs under 'no_collision'"
        )
    always = [pair for pair, share in near.items() if share >= ALWAYS]
    if always:
        warnings.append(
            f"{pair_text(always)} are always nearer than {1e3 * robot.slow_distance:g} mm, so that "
            "the controller always slows the robot: write them under 'no_collision' in the "
            "robot.yaml, with a smaller distance if they can touch"
        )
    slow = [
        f"'{name}' {share:.0%}"
        for name, share in zip(robot.joint_names, reached, strict=True)
        if share < TRACKED
    ]
    if slow:
        warnings.append(
            f"in simulation these joints reach less than the commanded speed: {', '.join(slow)}: "
            "their effort is too small for their load"
        )
    if misjudged > MISJUDGED:
        warnings.append(
            f"the capsules that stand for bodies in a policy misjudge {misjudged:.0%} of random "
            "configurations: there it stops short of goals, or before its own body; give bodies "
            "that come near each other simpler collision geoms"
        )
    return warnings


def most_often(touching: list[set[LinkPair]]) -> str:
    """The SHOWN pairs of links that touch most often, each with its share of the configurations."""
    counts = Counter(pair for pairs in touching for pair in pairs)
    return ", ".join(
        f"{pair_text([pair])} {count / len(touching):.0%}"
        for pair, count in counts.most_common(SHOWN)
    )


def slow_joints(robot: Robot) -> list[str]:
    """Joints whose policies use less than their velocity limit, and how much: see Robot."""
    return [
        f"{name} ({speed:.3g} of {limit:.3g})"
        for name, speed, limit in zip(
            robot.joint_names, robot.action_speeds, robot.joint_vel_limits, strict=True
        )
        if speed < limit * (1.0 - 1e-9)
    ]


def near_links(robot: Robot) -> dict[LinkPair, float]:
    """Pairs of links closer than the slow distance at home, or in more than OFTEN of random
    configurations, with the share of these.

    The controller would slow down for them all the time.
    """
    self_distance = SelfDistance(robot, robot.slow_distance)
    low, high = robot.joint_pos_limits.T
    sample = np.random.default_rng(0).uniform(low, high, (CHECKED, len(low)))
    counts = Counter(pair for joint_pos in sample for pair in self_distance.close_pairs(joint_pos))
    often = {pair for pair, count in counts.items() if count > OFTEN * CHECKED}
    pairs = sorted(often | self_distance.close_pairs(robot.home))
    body = self_distance.model.body
    return {(body(a).name, body(b).name): counts[a, b] / CHECKED for a, b in pairs}
