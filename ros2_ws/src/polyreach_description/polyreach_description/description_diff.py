"""Differences between a robot's model and the URDF that describes the real one.

Both are compared as mechanisms: by the axes of the joints that both have, in the frame of the base,
at home and in random configurations. It therefore does not matter where links have their frames, or
into how many links a rigid part is split. Frames count for the effectors alone, where both have a
link of the same name.

The model is given as URDF too, as urdf_export writes it, so that both are read by the same code.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from polyreach_description.urdf_kinematics import TURNING, UrdfJoint, UrdfTree

POSITION_TOLERANCE = 1e-3  # [m]
ANGLE_TOLERANCE = 1e-2  # [rad]
LIMIT_TOLERANCE = 1e-3  # [rad or m], of position limits; share of velocity limits
SAMPLES = 5  # random configurations
MAX_SHOWN = 8  # differences; the rest is counted
MAX_NAMES = 20  # of joints in a sentence
Vector = NDArray[np.float64]


@dataclass(frozen=True)
class DescribedRobot:
    """A robot's model, for the comparison."""

    urdf: str
    base: str  # the link of its base frame, in `urdf`
    base_frame: str  # the link's name in a description
    home: dict[str, float]  # of all joints [rad or m]
    controlled: tuple[str, ...]
    effector_links: tuple[str, ...]  # that have the same frame in a description, if it has them


def differences(description: bytes, robot: DescribedRobot) -> list[str]:
    """What a description says otherwise than the model; joints before those they carry.

    Position and velocity limits count for joints in motion, and only where the model allows what
    the description does not. A link's offset is a difference of the first joint that has another
    place by it. Raises UrdfError for a text that is no URDF.
    """
    ours, theirs = UrdfTree(robot.urdf.encode()), UrdfTree(description)
    comparison = _Comparison(ours, theirs, robot)
    found = list(comparison.joint_differences())
    if robot.base_frame not in theirs.links:
        found.insert(0, f"base_frame '{robot.base_frame}' is no link of the description")
    else:
        found += comparison.unknown_joints()
        found += comparison.kinematic_differences()
    more = len(found) - MAX_SHOWN
    return [*found[:MAX_SHOWN], f"and {more} more"] if more > 0 else found


class _Comparison:
    def __init__(self, ours: UrdfTree, theirs: UrdfTree, robot: DescribedRobot) -> None:
        self.ours, self.theirs, self.robot = ours, theirs, robot
        followers = {j.name for j in ours.joints.values() if j.mimic}
        leaders = {j.name: j.mimic[0] for j in ours.joints.values() if j.mimic}
        self.driven = {
            *robot.controlled,
            *(name for name in followers if leaders[name] in robot.controlled),
        }
        carrying = {j.name for link in robot.effector_links for j in self._chain(ours, link)}
        # joints whose place counts: fingers, for one, may be missing in either
        self.needed = self.driven | (carrying & ours.joints.keys())
        self.wrong: set[str] = set()  # joints with a difference of their own

    def _chain(self, tree: UrdfTree, link: str) -> list[UrdfJoint]:
        return [j for j in tree.chain(link) if j.moves] if link in tree.links else []

    def joint_differences(self) -> Iterator[str]:
        """Names, types, couplings and limits of the joints of the model."""
        for joint in self.ours.joints.values():
            if not joint.moves:
                continue
            other = self.theirs.joints.get(joint.name)
            if other is None:
                if joint.name in self.driven:
                    self.wrong.add(joint.name)
                    yield (
                        f"joint '{joint.name}' is missing in the description (it has: "
                        f"{_names(j.name for j in self.theirs.joints.values() if j.moves)})"
                    )
                continue
            if (text := self._kind_difference(joint, other)) or joint.name not in self.driven:
                if text:
                    self.wrong.add(joint.name)
                    yield text
                continue
            yield from self._limit_differences(joint, other)

    def _kind_difference(self, joint: UrdfJoint, other: UrdfJoint) -> str:
        turns = joint.type in TURNING
        if not other.moves and joint.name not in self.driven:
            return ""  # a joint that is held may be none
        if not other.moves or (other.type in TURNING) != turns:
            kind = "revolute" if turns else "prismatic"
            return f"joint '{joint.name}' is {other.type} in the description, {kind} in the model"
        if joint.name in self.driven and other.mimic:
            if not joint.mimic:
                return (
                    f"joint '{joint.name}' follows '{other.mimic[0]}' in the description, but is "
                    "controlled"
                )
            ours, theirs = joint.mimic, other.mimic
            if ours[0] == theirs[0] and not np.allclose(ours[1:], theirs[1:], atol=1e-3):
                return (
                    f"joint '{joint.name}' follows '{ours[0]}' with ratio and offset "
                    f"{theirs[1]:g}, {theirs[2]:g} in the description, {ours[1]:g}, {ours[2]:g} in "
                    "the model"
                )
        return ""

    def _limit_differences(self, joint: UrdfJoint, other: UrdfJoint) -> Iterator[str]:
        name, unit = joint.name, "rad" if joint.type in TURNING else "m"
        if (
            joint.lower < other.lower - LIMIT_TOLERANCE
            or joint.upper > other.upper + LIMIT_TOLERANCE
        ):
            yield (
                f"joint '{name}' moves from {other.lower:g} to {other.upper:g} {unit} in the "
                f"description, from {joint.lower:g} to {joint.upper:g} {unit} in the model"
            )
        if joint.velocity > other.velocity * (1.0 + LIMIT_TOLERANCE):
            yield (
                f"joint '{name}' moves at up to {other.velocity:g} {unit}/s in the description, at "
                f"{joint.velocity:g} {unit}/s in the robot.yaml"
            )

    def unknown_joints(self) -> Iterator[str]:
        """Joints of the description between its base and what the model moves."""
        links = [self.theirs.joints[n].child for n in self.needed if n in self.theirs.joints]
        links += self.robot.effector_links
        base = {joint.name for joint in self.theirs.chain(self.robot.base_frame)}
        above = {j.name for link in links for j in self.theirs.chain(link) if j.type != "fixed"}
        for name in self.theirs.joints:  # parents first
            if name in above - base and name not in self.ours.joints:
                self.wrong.add(name)
                yield f"joint '{name}' of the description is not in the model"

    def kinematic_differences(self) -> Iterator[str]:
        """The first joints, and effectors, that are not where the model has them."""
        common = [
            joint.name
            for joint in self.ours.joints.values()
            if joint.moves and joint.name in self.theirs.joints
        ]
        worst: dict[str, tuple[float, float]] = dict.fromkeys(common, (0.0, 0.0))
        links = [n for n in self.robot.effector_links if n in self.theirs.links & self.ours.links]
        at_links: dict[str, tuple[float, float]] = dict.fromkeys(links, (0.0, 0.0))
        directions: dict[str, tuple[Vector, Vector]] = {}
        for values in self._configurations(common):
            ours = self.ours.frames(values, self.robot.base)
            theirs = self.theirs.frames(values, self.robot.base_frame)
            our_axes, their_axes = self.ours.axes(ours), self.theirs.axes(theirs)
            for name in common:
                if name in their_axes:
                    slides = self.ours.joints[name].type == "prismatic"
                    gap = _axis_gap(our_axes[name], their_axes[name], slides)
                    directions.setdefault(name, (our_axes[name][1], their_axes[name][1]))
                    worst[name] = _larger(worst[name], gap)
            for link in links:
                at_links[link] = _larger(at_links[link], _pose_gap(ours[link], theirs[link]))
        for name in common:
            if name in self.wrong or not _differs(worst[name]):
                continue
            if not self._explained(name):
                yield _place_text(name, worst[name], directions[name])
            self.wrong.add(name)
        for link in links:
            above = [j.name for tree in (self.ours, self.theirs) for j in tree.chain(link)]
            if _differs(at_links[link]) and not self.wrong & set(above):
                distance, angle = at_links[link]
                yield (
                    f"effector link '{link}' is up to {1e3 * distance:.1f} mm and "
                    f"{math.degrees(angle):.1f} degrees off in the description"
                )

    def _configurations(self, common: list[str]) -> Iterator[dict[str, float]]:
        """Home, and random values of the joints in `common` that are in both, couplings kept."""
        yield self.robot.home
        rng = np.random.default_rng(0)
        for _ in range(SAMPLES):
            values = dict(self.robot.home)
            for name in common:
                joint = self.ours.joints[name]
                if self.theirs.joints[name].moves:
                    low, high = max(joint.lower, -math.pi), min(joint.upper, math.pi)
                    values[name] = rng.uniform(low, high) if low < high else values.get(name, 0.0)
            for joint in self.ours.joints.values():
                if joint.mimic:
                    leader, ratio, offset = joint.mimic
                    values[joint.name] = ratio * values.get(leader, 0.0) + offset
            yield values

    def _explained(self, name: str) -> bool:
        """Whether a joint above, in either tree, has a difference already."""
        trees = self.ours, self.theirs
        above = (joint for tree in trees for joint in tree.chain(tree.joints[name].parent))
        return any(joint.name in self.wrong for joint in above)


def _axis_gap(
    ours: tuple[Vector, Vector], theirs: tuple[Vector, Vector], slides: bool
) -> tuple[float, float]:
    """Distance [m] of their point from our axis, 0 for slides, and angle [rad] between the axes."""
    (our_point, our_axis), (their_point, their_axis) = ours, theirs
    cross = float(np.linalg.norm(np.cross(our_axis, their_axis)))
    angle = math.atan2(cross, float(our_axis @ their_axis))
    apart = float(np.linalg.norm(np.cross(their_point - our_point, our_axis)))
    return (0.0 if slides else apart), angle


def _pose_gap(ours: Vector, theirs: Vector) -> tuple[float, float]:
    """Distance [m] and angle [rad] between two poses (4, 4)."""
    turn = ours[:3, :3].T @ theirs[:3, :3]
    sine = np.linalg.norm(
        [turn[2, 1] - turn[1, 2], turn[0, 2] - turn[2, 0], turn[1, 0] - turn[0, 1]]
    )
    angle = math.atan2(float(sine) / 2.0, (float(np.trace(turn)) - 1.0) / 2.0)
    return float(np.linalg.norm(ours[:3, 3] - theirs[:3, 3])), angle


def _larger(first: tuple[float, float], second: tuple[float, float]) -> tuple[float, float]:
    return max(first[0], second[0]), max(first[1], second[1])


def _differs(gap: tuple[float, float]) -> bool:
    # not <=: what is no number differs
    return not (gap[0] <= POSITION_TOLERANCE and gap[1] <= ANGLE_TOLERANCE)


def _place_text(name: str, gap: tuple[float, float], axes: tuple[Vector, Vector]) -> str:
    ours, theirs = axes
    if math.atan2(float(np.linalg.norm(np.cross(ours, theirs))), float(ours @ theirs)) > (
        ANGLE_TOLERANCE
    ):
        return (
            f"axis of joint '{name}' at home is {_direction(theirs)} in the description, "
            f"{_direction(ours)} in the model"
        )
    return (
        f"joint '{name}' is up to {1e3 * gap[0]:.1f} mm and {math.degrees(gap[1]):.1f} degrees off "
        "in the description: a link before it has another shape, or a joint another zero"
    )


def _direction(axis: Vector) -> str:
    return f"({', '.join(f'{value + 0.0:.3g}' for value in np.round(axis, 3))})"


def _names(names: Iterator[str]) -> str:
    listed = list(names)
    more = f" and {len(listed) - MAX_NAMES} more" if len(listed) > MAX_NAMES else ""
    return ", ".join(listed[:MAX_NAMES]) + more
