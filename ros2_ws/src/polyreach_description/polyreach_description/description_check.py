"""Compare a robot with a URDF that came over the network, in a child process within bounds."""

import json
from dataclasses import asdict
from pathlib import Path

from polyreach_description.description_diff import DescribedRobot
from polyreach_description.limited import LimitError, Limits, run_limited
from polyreach_description.printable import MAX_SHOWN, printable
from polyreach_description.robot import Robot
from polyreach_description.urdf_export import ROOT_LINK, robot_to_urdf

MAX_DESCRIPTION_BYTES = 4 * 2**20
TRIAL_LIMITS = Limits(cpu_s=10, memory_bytes=2 * 2**30)
_TRIAL = Path(__file__).with_name("description_trial.py")


def described_robot(robot: Robot) -> DescribedRobot:
    """What `compare` needs of a robot. Raises RobotError where robot_to_urdf does."""
    model, home = robot.model, robot.qpos(robot.home)
    links = [model.site(site).name for site in robot.site_ids]
    # a description seldom has the link of an effector that is a point of a body, but that body's
    links += [entry.body for entry in robot.file.effectors.values() if entry.body is not None]
    return DescribedRobot(
        urdf=robot_to_urdf(robot),
        base=model.body(robot.base_body).name if robot.base_body else ROOT_LINK,
        base_frame=robot.base_frame,
        home={
            model.joint(joint).name: float(home[model.jnt_qposadr[joint]])
            for joint in range(model.njnt)
        },
        controlled=robot.joint_names,
        effector_links=tuple(links),
    )


def compare(description: str, robot: DescribedRobot) -> list[str]:
    """The differences between a description and a robot, see description_diff.differences.

    What cannot be read or compared within the bounds is a difference, too. Blocks for a quarter of
    a second and for up to 100 s, so that it is for a thread of its own; the work is a child's.
    """
    data = description.encode("utf-8", errors="replace")
    if len(data) > MAX_DESCRIPTION_BYTES:
        return [f"it has {len(data)} bytes, expected at most {MAX_DESCRIPTION_BYTES}"]
    request = json.dumps(asdict(robot)).encode() + b"\n" + data
    try:
        found = run_limited(_TRIAL, (), request, TRIAL_LIMITS)
    except LimitError as error:
        return [f"it cannot be compared within the bounds: {error}"]
    return [printable(str(text), MAX_SHOWN) for text in found]
