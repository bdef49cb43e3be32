"""The controller's status as one typed value: `encode` writes its key-value pairs, `decode` reads
them.

They are the values of a diagnostic_msgs/DiagnosticStatus, whose message is `message`. Numbers are
written with full precision; docs/controller.md lists the keys.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from polyreach_description.printable import PrintableError

Point = tuple[float, float, float]
Quaternion = tuple[float, float, float, float]  # x y z w
GoalPose = tuple[Point, Quaternion | None]
FramedPose = tuple[str, Point, Quaternion | None]  # with its frame, empty for the base frame
T = TypeVar("T")

# followed by the effector's name
GOAL, ORIENTATION = "goal/", "goal_orientation/"
FRAME, IN_FRAME = "goal_frame/", "goal_in_frame/"
ERROR, ANGLE, RECEIVED, HELD = "error/", "angle_error/", "received/", "held/"
MAX_SHOWN = 100  # characters of a value that an error repeats


class StatusError(PrintableError, ValueError):
    """A status that no controller of this version publishes; the message names key and value."""


@dataclass(frozen=True)
class EffectorStatus:
    """What the controller reports of one effector."""

    goal: Point | None = None  # [m, base frame]
    error: float | None = None  # [m]; None without a goal or its frame, or a valid joint state
    goals_received: int = 0  # since the controller was configured, rejected ones included
    goal_orientation: Quaternion | None = None  # [base frame]; None for a goal without one
    angle_deg: float | None = None  # [degrees] to the goal; None as above
    frame: str = ""  # in which the goal was given; empty: the base frame
    goal_in_frame: GoalPose | None = None  # the goal as it was given in that frame
    held: bool = False  # whether the goal is a hold

    @property
    def goal_pose(self) -> GoalPose | None:
        """The goal with its orientation, or None for those without one."""
        return None if self.goal is None else (self.goal, self.goal_orientation)

    @property
    def given_pose(self) -> FramedPose | None:
        """The goal as it was given, or None."""
        pose = self.goal_in_frame if self.frame else self.goal_pose
        return None if pose is None else (self.frame, *pose)

    @property
    def angle(self) -> float | None:
        """The angle to the goal [rad]."""
        return None if self.angle_deg is None else math.radians(self.angle_deg)


@dataclass(frozen=True)
class ControllerStatus:
    """A status of the controller. Empty texts: there is nothing to report."""

    state: str = ""  # a State, UNCONFIGURED, INACTIVE or FINALIZED; empty before the first status
    message: str = ""  # the state, and the reason for it
    reached: bool = False  # whether every effector that has a goal is within the tolerance
    effectors: Mapping[str, EffectorStatus] = field(default_factory=dict)
    rejected: str = ""  # why the last rejected goal was rejected, until that effector has a new one
    rejected_effector: str = ""  # whose goal that was
    not_followed: str = ""  # which goals do not follow their frames, and why
    expired: str = ""  # which goal was dropped after goal_timeout_s
    twists: str = ""  # which twists are rejected, scaled or held, and why
    joint_jog: str = ""  # why the last joint jog was rejected or scaled
    slowed: str = ""  # how much distances slow the robot, and which
    no_progress: str = ""  # why the state is BLOCKED or OSCILLATING
    refused_joint_states: int = 0
    refused_joint_state: str = ""  # why the last one was refused
    late_joint_states: int = 0
    obstacles: int = 0  # number of them
    avoids_obstacles: bool = False  # whether the policy goes around them, or only stops before them
    refused_obstacles: str = ""  # why the last message of obstacles was refused
    goal_timeout_s: float = 0.0  # [s] after which a goal that is not sent again expires; 0: never
    compute_max_ms: float | None = None  # [ms] CPU time of the policy when its file was loaded
    recording: str = ""  # what is wrong with the recording
    description: str = ""  # how robot_description differs from the model
    received_s: float = -math.inf  # [s, monotonic] when the client received it

    def effector(self, name: str) -> EffectorStatus:
        """The status of an effector; without goal and error if the controller reports none."""
        return self.effectors.get(name, EffectorStatus())

    @property
    def reason(self) -> str:
        """The message without the state in front of it."""
        return self.message.removeprefix(self.state).removeprefix(":").strip()


def encode(status: ControllerStatus) -> dict[str, str]:
    """The key-value pairs of a status, without `message` and `received_s`."""
    values = {
        "state": status.state,
        "reached": str(status.reached).lower(),
        "rejected": status.rejected,
        "rejected_effector": status.rejected_effector,
        "not followed": status.not_followed,
        "expired": status.expired,
        "twists": status.twists,
        "joint_jog": status.joint_jog,
        "slowed": status.slowed,
        "no progress": status.no_progress,
        "refused joint states": str(status.refused_joint_states),
        "refused joint state": status.refused_joint_state,
        "late joint states": str(status.late_joint_states),
        "obstacles": str(status.obstacles),
        "avoids obstacles": str(status.avoids_obstacles).lower(),
        "refused obstacles": status.refused_obstacles,
        "goal_timeout": repr(status.goal_timeout_s),
        "policy compute max [ms]": _optional(status.compute_max_ms),
        "recording": status.recording,
        "description": status.description,
    }
    for name, effector in status.effectors.items():
        values[GOAL + name] = " ".join(map(repr, effector.goal or ()))
        values[ERROR + name] = _optional(effector.error)
        if effector.goal_orientation is not None:
            values[ORIENTATION + name] = " ".join(map(repr, effector.goal_orientation))
        if effector.goal_in_frame is not None:
            position, turned = effector.goal_in_frame
            values[FRAME + name] = effector.frame
            values[IN_FRAME + name] = " ".join(map(repr, (*position, *(turned or ()))))
        if effector.angle_deg is not None:
            values[ANGLE + name] = repr(effector.angle_deg)
        if effector.held:
            values[HELD + name] = "true"
        values[RECEIVED + name] = str(effector.goals_received)
    return values


def decode(
    values: Mapping[str, str], message: str = "", received_s: float = -math.inf
) -> ControllerStatus:
    """The status in key-value pairs; unknown keys are ignored, all but `state` may be missing.

    Raises StatusError if there is no state, or if a value does not fit its key.
    """
    if not values.get("state"):
        raise StatusError("the status has no value 'state'")

    def read(key: str, parse: Callable[[str], T], default: T, expected: str) -> T:
        if not (text := values.get(key, "")):
            return default
        try:
            return parse(text)
        except ValueError:
            raise StatusError(
                f"status value '{key}' is '{text[:MAX_SHOWN]}', but must be {expected}"
            ) from None

    def effector(name: str) -> EffectorStatus:
        return EffectorStatus(
            goal=read(GOAL + name, _point, None, "three finite numbers [m]"),
            goal_orientation=read(ORIENTATION + name, _quaternion, None, "four finite numbers"),
            error=read(ERROR + name, _finite, None, "a finite number [m]"),
            angle_deg=read(ANGLE + name, _finite, None, "a finite number [degrees]"),
            frame=values.get(FRAME + name, ""),
            goal_in_frame=read(IN_FRAME + name, _pose, None, "three or seven finite numbers"),
            goals_received=read(RECEIVED + name, _count, 0, "a number of goals"),
            held=read(HELD + name, _boolean, False, "'true' or 'false'"),
        )

    prefixes = (GOAL, ORIENTATION, ERROR, ANGLE, RECEIVED, HELD)
    names = [key.partition("/")[2] for key in values if key.startswith(prefixes)]
    states = "a number of joint states"
    return ControllerStatus(
        state=values["state"],
        message=message,
        reached=read("reached", _boolean, False, "'true' or 'false'"),
        effectors={name: effector(name) for name in names},
        rejected=values.get("rejected", ""),
        rejected_effector=values.get("rejected_effector", ""),
        not_followed=values.get("not followed", ""),
        expired=values.get("expired", ""),
        twists=values.get("twists", ""),
        joint_jog=values.get("joint_jog", ""),
        slowed=values.get("slowed", ""),
        no_progress=values.get("no progress", ""),
        refused_joint_states=read("refused joint states", _count, 0, states),
        refused_joint_state=values.get("refused joint state", ""),
        late_joint_states=read("late joint states", _count, 0, states),
        obstacles=read("obstacles", _count, 0, "a number of obstacles"),
        avoids_obstacles=read("avoids obstacles", _boolean, False, "'true' or 'false'"),
        refused_obstacles=values.get("refused obstacles", ""),
        goal_timeout_s=read("goal_timeout", _finite, 0.0, "a finite number [s]"),
        compute_max_ms=read("policy compute max [ms]", _finite, None, "a finite number [ms]"),
        recording=values.get("recording", ""),
        description=values.get("description", ""),
        received_s=received_s,
    )


def read_timing(values: Mapping[str, str]) -> dict[str, float]:
    """The times [ms] among the values of a controller's diagnostics, by key; others are left out.

    Keys are such as 'loop period p99 [ms]'.
    """
    times = {}
    for key, text in values.items():
        if key.endswith(" [ms]"):
            try:
                times[key] = _finite(text)
            except ValueError:
                continue
    return times


def error_text(distance: float, angle: float | None = None) -> str:
    """Errors [m] and [rad] as messages show them: '12 mm, 3.1 deg'."""
    text = f"{1e3 * distance:.0f} mm"
    return text if angle is None else f"{text}, {math.degrees(angle):.1f} deg"


def _optional(number: float | None) -> str:
    return "" if number is None else repr(number)


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError
    return number


def _point(text: str) -> Point:
    x, y, z = map(_finite, text.split())
    return x, y, z


def _quaternion(text: str) -> Quaternion:
    x, y, z, w = map(_finite, text.split())
    return x, y, z, w


def _pose(text: str) -> GoalPose:
    x, y, z, *q = map(_finite, text.split())
    return (x, y, z), _quaternion(" ".join(map(repr, q))) if q else None


def _count(text: str) -> int:
    if (count := int(text)) < 0:
        raise ValueError
    return count


def _boolean(text: str) -> bool:
    if text not in ("true", "false"):
        raise ValueError
    return text == "true"
