"""Whether the robot may move: age of the joint state, halt and fault; a pure state machine."""

import math
from collections.abc import Iterable
from enum import StrEnum


class State(StrEnum):
    """What the controller is doing; IDLE slows down and holds, MOVING_STATES move towards goals."""

    WAITING = "WAITING"  # no joint state yet, or no robot_description that is required
    IDLE = "IDLE"  # no effector has a goal
    ACTIVE = "ACTIVE"
    BLOCKED = "BLOCKED"  # ACTIVE, but the joints are at rest before the goals are reached
    OSCILLATING = "OSCILLATING"  # ACTIVE, but joints move without an effector that makes progress
    STALE = "STALE"  # joint state too old or invalid
    HALTED = "HALTED"  # until resumed
    FAULT = "FAULT"  # program error or long outage, until resumed; or another robot's description


STUCK_STATES = (State.BLOCKED, State.OSCILLATING)
MOVING_STATES = (State.ACTIVE, *STUCK_STATES)


class Watchdog:
    """Checks the age of every joint's state, by its time of receipt on a monotonic clock."""

    def __init__(self, joints: int, timeout_s: float) -> None:
        self.timeout_s = timeout_s
        self.outage_timeout_s = 0.0  # [s], see outage; 0: motion resumes after any outage
        self.halted = False
        self.fault = ""
        self.refused = ""  # why this robot must not move at all; ~/resume does not end it
        self.awaited = ""  # what must be known of the robot before it may move
        self.invalid = ""
        self._received_s = [-math.inf] * joints
        self._oldest_s = -math.inf
        self._doubted: set[str] = set()  # joints whose last position was refused

    def forget(self) -> None:
        """Forget every joint state (halt and fault stay)."""
        self.invalid = ""
        self._doubted.clear()
        self._received_s = [-math.inf] * len(self._received_s)
        self._oldest_s = -math.inf

    def received(self, joints: Iterable[int], names: Iterable[str], now_s: float) -> bool:
        """Note valid positions of the controlled `joints`, and of all joints in the message by
        name; whether that made the oldest controlled joint younger.
        """
        before = self._oldest_s
        for joint in joints:
            self._received_s[joint] = now_s
        self._oldest_s = min(self._received_s)
        if self.invalid:
            self._doubted.difference_update(names)
            if not self._doubted:
                self.invalid = ""
        return self._oldest_s > before

    def reject(self, reason: str, names: Iterable[str] = ()) -> None:
        """Note an invalid joint state: nothing moves until a valid one comes, of these joints."""
        self.invalid = reason
        self._doubted.update(names)

    def age_s(self, now_s: float) -> float:
        """Age of the oldest joint [s]; infinite before all were received."""
        return now_s - self._oldest_s

    def outage(self, now_s: float) -> str:
        """Why motion must not resume by itself when joint states return; '' if it may.

        After outage_timeout_s without valid ones of every joint, somebody may have moved the robot
        or be near it.
        """
        limit_s = max(self.outage_timeout_s, self.timeout_s)
        if self.outage_timeout_s and limit_s < self.age_s(now_s) < math.inf:
            return f"no valid joint state for more than {limit_s:g} s"
        return ""

    def has_valid_state(self, now_s: float) -> bool:
        """Whether there is a valid joint state within the age limit."""
        return not self.invalid and 0.0 <= self.age_s(now_s) <= self.timeout_s

    def state(self, now_s: float, has_goal: bool) -> State:
        """The state at now_s, for the most severe reason."""
        if self.fault or self.refused:
            return State.FAULT
        if self.halted:
            return State.HALTED
        if self.awaited:
            return State.WAITING
        if not self.has_valid_state(now_s):
            waiting = not self.invalid and self.age_s(now_s) == math.inf
            return State.WAITING if waiting else State.STALE
        return State.ACTIVE if has_goal else State.IDLE
