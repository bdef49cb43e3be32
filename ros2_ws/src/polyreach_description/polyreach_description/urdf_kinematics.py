"""The kinematics that a URDF describes, by NumPy alone: joints, limits, and forward kinematics.

A URDF may be a stranger's, so all that is read is bounded. Positions are in metres, angles in rad.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from xml.etree.ElementTree import Element

import numpy as np
from numpy.typing import NDArray

from polyreach_description.model_check import parse_xml
from polyreach_description.printable import PrintableError, printable

MAX_LINKS = 2000
MAX_NAME = 200  # characters
TURNING = ("revolute", "continuous")
MOVING = (*TURNING, "prismatic")
TYPES = (*MOVING, "fixed", "floating", "planar")
Matrix = NDArray[np.float64]


class UrdfError(PrintableError, ValueError):
    """A text is no URDF that can be read; the message names what is wrong."""


@dataclass(frozen=True)
class UrdfJoint:
    """A joint with its frame `origin` (4, 4) in the parent link and a unit vector `axis` (3,)."""

    name: str
    type: str  # one of TYPES
    parent: str
    child: str
    origin: Matrix
    axis: Matrix
    lower: float  # -inf and inf: no position limits
    upper: float
    velocity: float  # inf: no limit
    mimic: tuple[str, float, float] | None  # joint, multiplier, offset

    @property
    def moves(self) -> bool:
        """Whether it has one degree of freedom."""
        return self.type in MOVING

    def motion(self, value: float) -> Matrix:
        """The pose (4, 4) of the child link in the parent link at `value` [rad or m]."""
        step = np.eye(4)
        if self.type == "prismatic":
            step[:3, 3] = value * self.axis
        elif self.type in TURNING:
            x, y, z = self.axis
            cross = np.array([[0.0, -z, y], [z, 0.0, -x], [-y, x, 0.0]])
            # Rodrigues: R = I + sin(a) K + (1 - cos(a)) K^2
            step[:3, :3] += math.sin(value) * cross + (1.0 - math.cos(value)) * cross @ cross
        pose: Matrix = self.origin @ step
        return pose


class UrdfTree:
    """The joints of a URDF, parents first, and the frames of its links."""

    def __init__(self, text: bytes) -> None:
        """Raises UrdfError for what is no URDF with one tree of links."""
        root = parse_xml(text)
        if root is None or root.tag != "robot":
            raise UrdfError("no XML with the root <robot>, or XML with a DOCTYPE")
        links = [_name(link, "link") for link in root.iterfind("link")]
        if not links or len(links) > MAX_LINKS:
            raise UrdfError(f"{len(links)} links, expected 1 to {MAX_LINKS}")
        self.links = frozenset(links)
        elements = root.findall("joint")
        if len(elements) > MAX_LINKS:
            raise UrdfError(f"{len(elements)} joints, expected at most {MAX_LINKS}")
        joints = [_joint(element) for element in elements]
        self.above = {joint.child: joint for joint in joints}
        self.joints: dict[str, UrdfJoint] = {}
        children: dict[str, list[UrdfJoint]] = {}
        for joint in joints:
            for link in (joint.parent, joint.child):
                if link not in self.links:
                    raise UrdfError(f"joint '{joint.name}' names link '{link}', which is missing")
            children.setdefault(joint.parent, []).append(joint)
        waiting = [link for link in self.links if link not in self.above]
        if len(waiting) > 1:
            raise UrdfError(f"{len(waiting)} links without a joint that carries them, expected one")
        while waiting:
            for joint in children.get(waiting.pop(), ()):
                if joint.name in self.joints:
                    raise UrdfError(f"two joints are named '{joint.name}'")
                self.joints[joint.name] = joint
                waiting.append(joint.child)
        if len(self.joints) < len(joints):
            raise UrdfError("joints in a circle, or two that have the same child link")

    def chain(self, link: str) -> list[UrdfJoint]:
        """The joints above a link, from the root on."""
        chain = []
        while link in self.above:
            chain.append(self.above[link])
            link = chain[-1].parent
        return chain[::-1]

    def frames(self, values: Mapping[str, float], base: str) -> dict[str, Matrix]:
        """Poses (4, 4) of all links in the frame of link `base`.

        values: of joints [rad or m]; others are at 0.
        """
        poses: dict[str, Matrix] = {}
        for joint in self.joints.values():
            parent = poses.setdefault(joint.parent, np.eye(4))
            poses[joint.child] = parent @ joint.motion(values.get(joint.name, 0.0))
        to_base = np.linalg.inv(poses.setdefault(base, np.eye(4)))
        return {link: to_base @ pose for link, pose in poses.items()}

    def axes(self, frames: Mapping[str, Matrix]) -> dict[str, tuple[Matrix, Matrix]]:
        """A point [m] on the axis of every moving joint, and its direction, by joint.

        frames: as `frames` gave them. The axis stands still in the child link, too.
        """
        return {
            joint.name: (frames[joint.child][:3, 3], frames[joint.child][:3, :3] @ joint.axis)
            for joint in self.joints.values()
            if joint.moves
        }


def _joint(element: Element) -> UrdfJoint:
    name, kind = _name(element, "joint"), element.get("type", "")
    what = f"joint '{name}'"
    if kind not in TYPES:
        raise UrdfError(f"type of {what} is '{printable(kind, 40)}' (legal: {', '.join(TYPES)})")
    parent, child = (_link(element, tag, what) for tag in ("parent", "child"))
    axis = _numbers(element.find("axis"), "xyz", (1.0, 0.0, 0.0), f"axis of {what}")
    length = float(np.linalg.norm(axis))
    if kind in MOVING and length < 1e-6:
        raise UrdfError(f"axis of {what} is zero")
    limit, mimic = element.find("limit"), element.find("mimic")
    lower, upper = -math.inf, math.inf
    if limit is not None and kind in ("revolute", "prismatic"):
        lower, upper = (_number(limit, key, 0.0, what) for key in ("lower", "upper"))
    return UrdfJoint(
        name=name,
        type=kind,
        parent=parent,
        child=child,
        origin=_origin(element.find("origin"), what),
        axis=axis / length if length else axis,
        lower=lower,
        upper=upper,
        velocity=math.inf if limit is None else _number(limit, "velocity", 0.0, what) or math.inf,
        mimic=None
        if mimic is None
        else (
            mimic.get("joint", "")[:MAX_NAME],
            _number(mimic, "multiplier", 1.0, what),
            _number(mimic, "offset", 0.0, what),
        ),
    )


def _name(element: Element, what: str) -> str:
    name = element.get("name", "")
    if not name or len(name) > MAX_NAME:
        raise UrdfError(f"a {what} has a name of {len(name)} characters, expected 1 to {MAX_NAME}")
    return name


def _link(element: Element, tag: str, what: str) -> str:
    found = element.find(tag)
    if found is None:
        raise UrdfError(f"{what} has no <{tag} link=...>")
    return found.get("link", "")[:MAX_NAME]


def _origin(element: Element | None, what: str) -> Matrix:
    roll, pitch, yaw = _numbers(element, "rpy", (0.0, 0.0, 0.0), f"origin of {what}")
    (cr, sr), (cp, sp), (cy, sy) = ((math.cos(a), math.sin(a)) for a in (roll, pitch, yaw))
    pose = np.eye(4)
    # R = Rz(yaw) Ry(pitch) Rx(roll)
    pose[:3, :3] = [
        [cy * cp, cy * sp * sr - sy * cr, cy * sp * cr + sy * sr],
        [sy * cp, sy * sp * sr + cy * cr, sy * sp * cr - cy * sr],
        [-sp, cp * sr, cp * cr],
    ]
    pose[:3, 3] = _numbers(element, "xyz", (0.0, 0.0, 0.0), f"origin of {what}")
    return pose


def _numbers(
    element: Element | None, key: str, default: tuple[float, float, float], what: str
) -> Matrix:
    text = None if element is None else element.get(key)
    if text is None:
        return np.array(default)
    words = text[:MAX_NAME].split()
    if len(words) != 3:
        raise UrdfError(f"{key} in the {what} is '{printable(text, 60)}', expected three numbers")
    return np.array([_decimal(word, f"{key} in the {what}") for word in words])


def _number(element: Element, key: str, default: float, what: str) -> float:
    text = element.get(key)
    return default if text is None else _decimal(text[:MAX_NAME], f"{key} of {what}")


def _decimal(text: str, what: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value) or abs(value) > 1e9:
        raise UrdfError(f"{what} is '{printable(text, 40)}', expected a number")
    return value
