"""Which joint states are believed: malformed, implausible and overtaken ones are refused."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum

import numpy as np
from numpy.typing import NDArray

from polyreach_description import HeldJoint, Robot
from polyreach_nodes.control.watchdog import Watchdog

MAX_JOINT_POS = 1e4  # [rad or m], a position beyond is a broken sensor
JUMP_SPEED = 3.0  # times a joint's velocity limit: no joint moves that fast, so the sensor is wrong
JUMP_PERIODS = 2.0  # control periods for which a sensor may be wrong before that is a fault
HELD_TOLERANCE = 0.05  # [rad or m] from home, of a held joint that moves an effector
CLOCK_RESET_S = 1.0  # [s] by which stamps go back when a clock was set, not when messages overtake
MAX_SOURCES = 32

Vector = NDArray[np.float64]


class Received(Enum):
    """What a joint state message brought."""

    INVALID = 0  # malformed or not finite: nothing moves until a valid one comes
    NOTHING = 1  # no controlled joint, or the oldest position is as old as before
    FRESH = 2  # the oldest position is younger now


@dataclass
class _Source:
    """A publisher of joint states, identified by the joint names in its messages."""

    names: list[str]  # of the controlled joints
    places: list[int]  # of these in the message
    joints: list[int]  # the same joints in the robot's order
    held: list[tuple[HeldJoint, int]]  # joints that are not controlled, and their places
    known_names: list[str]  # of controlled and held joints
    stamp_s: float = 0.0  # of the last message


class JointStateFilter:
    """Keeps the last plausible position of every controlled joint; nu joints.

    A position to which a joint cannot have moved is refused, and the one before is kept. The next
    ones are believed once they have been near that for JUMP_PERIODS; if they stay away for as long,
    it is a fault. Ages and faults go to the watchdog. Times are seconds on a monotonic clock.
    """

    def __init__(
        self, robot: Robot, watchdog: Watchdog, on_held: Callable[[int, float], None]
    ) -> None:
        """on_held: takes the qpos address and position [rad or m] of a joint that is held."""
        nu = len(robot.joint_names)
        self.joint_pos: Vector = robot.home.copy()
        self.refused_count = self.late_count = 0
        self.refused_reason = ""  # of the last one
        self._watchdog = watchdog
        self._on_held = on_held
        self._period_s = 1.0 / robot.control_rate
        plausible = JUMP_SPEED * self._period_s * robot.joint_vel_limits
        self._plausible: list[float] = plausible.tolist()  # [rad or m] in a period
        self._plausible_s = [-np.inf] * nu  # when a joint's position was no jump
        self._doubted_s = [np.inf] * nu  # since when a joint's positions are refused as jumps
        self._calm_s = -np.inf  # from when on joint states are believed again
        self._in_outage = False
        self._joint_index = {name: i for i, name in enumerate(robot.joint_names)}
        self._held = {joint.name: joint for joint in robot.held_joints}
        self._sources: dict[tuple[str, ...], _Source] = {}

    @property
    def is_doubted(self) -> bool:
        """Whether there is an outage, or a jump that is not over."""
        return self._in_outage or self._calm_s > -np.inf or min(self._doubted_s) < np.inf

    def forget(self) -> None:
        """Forget all joint states; the next ones are believed, wherever they are."""
        self._watchdog.forget()
        self._plausible_s = [-np.inf] * len(self._plausible_s)
        self._doubted_s = [np.inf] * len(self._doubted_s)
        self._calm_s = -np.inf
        self._in_outage = False

    def new_outage(self, now_s: float) -> str:
        """Why motion must not go on by itself, once in an outage; else ''."""
        if self._in_outage or not (outage := self._watchdog.outage(now_s)):
            return ""
        self._in_outage = True
        return outage

    def receive(
        self, names: list[str], position: Sequence[float], now_s: float, stamp_s: float = 0.0
    ) -> Received:
        """Take a joint state [rad or m], matched by name; unknown joints are ignored.

        stamp_s: the publisher's time, 0 if there is none. A message older than the one before is
        left out, unless the clock was set back by more than CLOCK_RESET_S.
        """
        source = self._sources.get(tuple(names)) or self._match(names)
        if source is None:
            return self._refuse("joint state names a joint twice")
        if not source.known_names:
            return Received.NOTHING
        if stamp_s and 0.0 < source.stamp_s - stamp_s < CLOCK_RESET_S:
            self.late_count += 1
            return Received.NOTHING
        source.stamp_s = stamp_s
        if len(position) != len(names):
            return self._refuse(
                f"joint state has {len(names)} names, but {len(position)} positions", source
            )
        values = [float(position[place]) for place in source.places]
        for name, value in zip(source.names, values, strict=True):
            if not abs(value) < MAX_JOINT_POS:
                return self._refuse(f"joint state of '{name}' is {value:g}", source)
        for held, place in source.held:
            value = float(position[place])
            if held.carries and not abs(value - held.value) <= HELD_TOLERANCE:
                return self._refuse(
                    f"'{held.name}' is not controlled and must stay at {held.value:g}, but is at "
                    f"{value:g}",
                    source,
                )
            if abs(value) < MAX_JOINT_POS:
                self._on_held(held.qpos_adr, value)
        if jump := self._jump(source, values, now_s):
            return self._refuse(jump, source)
        for joint, value in zip(source.joints, values, strict=True):
            self.joint_pos[joint] = value
            self._plausible_s[joint], self._doubted_s[joint] = now_s, np.inf
        if now_s < self._calm_s:
            return Received.INVALID
        self._calm_s = -np.inf
        fresh = self._watchdog.received(source.joints, source.known_names, now_s)
        return Received.FRESH if fresh else Received.NOTHING

    def _jump(self, source: _Source, values: list[float], now_s: float) -> str:
        """Which joint moved faster than it can since it was last believed; or ''."""
        for name, joint, value in zip(source.names, source.joints, values, strict=True):
            moved, plausible = abs(value - self.joint_pos.item(joint)), self._plausible[joint]
            if moved <= plausible:
                continue
            # time does not make a jump plausible
            since_s = min(now_s, self._doubted_s[joint])
            periods = (since_s - self._plausible_s[joint]) / self._period_s
            if moved > plausible * max(periods, 1.0):
                self._doubted_s[joint] = since_s
                self._calm_s = now_s + JUMP_PERIODS * self._period_s
                jump = f"joint state of '{name}' jumped by {moved:.3g}"
                if now_s - since_s >= JUMP_PERIODS * self._period_s:
                    self._watchdog.fault = (
                        f"{jump} and stays there: check the sensor before ~/resume, which accepts "
                        "its position"
                    )
                return jump
        return ""

    def _refuse(self, reason: str, source: _Source | None = None) -> Received:
        self._watchdog.reject(reason, source.known_names if source else ())
        self.refused_count += 1
        self.refused_reason = reason
        return Received.INVALID

    def _match(self, names: list[str]) -> _Source | None:
        """The source that sends these names; None if a controlled joint is named twice."""
        pairs = [
            (i, self._joint_index[name])
            for i, name in enumerate(names)
            if name in self._joint_index
        ]
        if len({joint for _, joint in pairs}) != len(pairs):
            return None
        if len(self._sources) >= MAX_SOURCES:
            self._sources.clear()
        source = self._sources[tuple(names)] = _Source(
            names=[names[place] for place, _ in pairs],
            places=[place for place, _ in pairs],
            joints=[joint for _, joint in pairs],
            held=[(self._held[name], i) for i, name in enumerate(names) if name in self._held],
            known_names=[name for name in names if name in self._joint_index or name in self._held],
        )
        return source
