"""Whether any effector makes progress towards its goal, and if not, why.

Plain numbers: so few of them are slower in NumPy.
"""

import math
from collections import deque
from collections.abc import Callable, Sequence
from operator import truediv

import numpy as np
from numpy.typing import NDArray

from polyreach_description.orientation import IDENTITY, rotation_error
from polyreach_nodes.control.watchdog import State

UPDATE_S = 0.1  # [s] between two updates; joints hardly oscillate at more than 2 Hz
MAX_ELAPSED_S = 1.0  # [s] that one period counts at most, as the first one or after a clock jump
PEAK_S = 1.0  # [s at full speed] whose largest error counts: a swing that passes a goal is not near
PEAK_PARTS = 4  # of that time, after each of which the largest error is judged
TOLERANCE_SHARE = 0.25  # of the tolerance, by which an error must fall: less may be noise
ERROR_SHARE = 0.1  # of the error, by which it must fall
REST_SPEED = 0.005  # share of the allowed speed below which a joint is at rest
WANTED_SPEED = 0.02  # share of its limit below which the policy does not want a joint to move
REST_RANGE = 0.02  # [rad or m] within which a joint is at rest
SWING = 2.0  # travel over net displacement from which a joint swings
MAX_NAMED = 3  # joints in a reason
SLOWED = 0.5  # factor below which distances hold the robot
LIMIT_SHARE = 0.01  # of a joint's range, within which it is at its position limit

Vector = NDArray[np.float64]


class ProgressChecker:
    """Reports BLOCKED or OSCILLATING when no effector makes progress; it never stops anything.

    An effector makes progress when its peak error, the largest of the last PEAK_S, falls below its
    best error by a margin: a tenth of the best error, or a quarter of the tolerance if that is
    more, for less may be noise. The best error is the peak error at the last progress, at first
    the error at a new goal. Slow motion thus adds up to progress, an oscillation through a goal is
    no progress, and progress is finite, since each lowers an error for good. Progress of one
    effector counts for all: others may wait for the joints they share. An effector that has
    reached its goal makes none; when all have, everything starts anew. The angle of a goal with an
    orientation is an error of its own, which counts as `tolerance / angle_tolerance` metres per
    radian.

    Time is the robot's. Motion at a low speed_scale takes longer to bring an effector nearer, so
    time counts speed_scale times where it is said to be "at full speed".

    - BLOCKED: for `timeout_s`, no joint was commanded faster than REST_SPEED of its limit times
      speed_scale, and no error fell by the margin. Or all joints stayed within REST_RANGE for a
      window: `timeout_s` at full speed, the first since the last progress, then one after another.
      `reason` names two bodies that are too near each other, a wall of the workspace, a joint at a
      position limit, or the policy, which commands no motion, and two bodies that are near then.
    - OSCILLATING: there was a window in which joints travelled at least SWING times as far as they
      got; `reason` names those that travelled most. If joints only went somewhere, they may yet
      bring an effector nearer; after a second such window, `reason` names them.

    The state is ACTIVE again with the next progress, the next goal, and when goals are reached.
    BLOCKED makes the present errors the best ones, so that progress counts from there.
    """

    def __init__(
        self, joint_names: Sequence[str], vel_limits: Vector, low: Vector, high: Vector
    ) -> None:
        """vel_limits (nu,) [rad/s or m/s]; low, high (nu,) [rad or m]: limits that are kept."""
        self.timeout_s = 0.0  # [s] without progress before it is reported; 0: never
        self.tolerance = 0.02  # [m] error below which a goal counts as reached
        self.angle_tolerance = 0.05  # [rad], and its angle
        self.state = State.ACTIVE
        self.reason = ""
        self._names = tuple(joint_names)
        self._vel_limits: list[float] = vel_limits.tolist()
        near = LIMIT_SHARE * (high - low)
        self._low, self._high = (low + near).tolist(), (high - near).tolist()
        self._goals: dict[int, tuple[Sequence[float], Sequence[float]]] = {}
        self._waited_s = self._waited_full_s = 0.0  # since the last update; at full speed
        self.restart()

    def set_timeout(self, timeout_s: float) -> None:
        """Time [s] without progress before it is reported; 0: never."""
        if timeout_s != self.timeout_s:
            self.timeout_s = timeout_s
            self.restart()

    def restart(self) -> None:
        """Forget errors and motion, but not the goals."""
        self.state, self.reason = State.ACTIVE, ""
        self._best: list[float] = []  # [m] of the active effectors, then of their angles

    def set_goal(
        self, effector: int, goal: Sequence[float], orientation: Sequence[float] = IDENTITY
    ) -> None:
        """Take a goal: position (3,) [m], unit quaternion x y z w (4,), always the same for goals
        without an orientation. If it is within the tolerances of the last one, nothing changes.
        """
        position, turned = self._goals.get(effector, ((math.inf,) * 3, orientation))
        if (
            math.dist(position, goal) > self.tolerance
            or rotation_error(turned, orientation) > self.angle_tolerance
        ):
            self._goals[effector] = tuple(goal), tuple(orientation)
            self.restart()

    def clear_goal(self, effector: int) -> None:
        """Forget a goal; it may be what the other effectors were blocked by."""
        if self._goals.pop(effector, None) is not None:
            self.restart()

    def due(self, elapsed_s: float, speed_scale: float) -> bool:
        """Count a control period of elapsed_s [s]; whether an update is due."""
        if not self.timeout_s:
            return False
        elapsed_s = min(elapsed_s, MAX_ELAPSED_S)
        self._waited_s += elapsed_s
        self._waited_full_s += speed_scale * elapsed_s
        return self._waited_s >= UPDATE_S

    def update(
        self,
        distances: list[float],
        angles: list[float],
        joint_pos: Vector,
        wanted: Vector,
        command: Vector,
        speed_scale: float,
        slowed: float,
        obstacle: Callable[[], str],
    ) -> None:
        """Check the distances [m] of the active effectors from their goals, and the angles [rad] of
        those whose goals have an orientation, at joint_pos (nu,) [rad or m].

        wanted, command: (nu,) [rad/s or m/s] of the policy, and after all limits; slowed: factor by
        which distances slow it; obstacle: names the bodies or the wall that are near; it is
        called for a reason only.
        """
        elapsed_s, full_s = self._waited_s, self._waited_full_s
        self._waited_s = self._waited_full_s = 0.0
        position: list[float] = joint_pos.tolist()
        metres = self.tolerance / self.angle_tolerance  # per radian
        errors = distances + [metres * angle for angle in angles]
        if len(errors) != len(self._best):
            self._start(errors, position)
            return
        self._follow(position)
        self._window_s += full_s
        if self._has_peaks(errors, full_s):
            peaks = list(map(max, *self._parts))
            if max(peaks) <= self.tolerance:
                self.restart()
                return
            if self._fell(peaks, self._best):
                self._best = list(map(min, peaks, self._best))
                self.state, self.reason = State.ACTIVE, ""
                self._start_window(position, 0)
        at_rest = self._rests(errors, command.tolist(), speed_scale, elapsed_s)
        if max(errors) <= self.tolerance:
            return
        over = self._window_s >= self.timeout_s
        rests_now = at_rest and self.state is not State.BLOCKED
        if rests_now or (over and (at_rest or self._still())):
            cause = self._cause(position, wanted.tolist(), slowed, obstacle)
            self.state, self.reason = State.BLOCKED, f"no progress: {cause}"
            self._best = list(errors)
        elif over and (swings := self._swinging(position)):
            self.state, self.reason = State.OSCILLATING, f"no progress: {swings}"
        if over:
            self._start_window(position, self._windows + 1)

    def _start(self, errors: list[float], position: list[float]) -> None:
        self._best, self._rest_errors = list(errors), list(errors)
        self._rest_s = self._part_s = 0.0
        self._part = [0.0] * len(errors)  # [m] largest errors of the part under way
        self._parts: deque[list[float]] = deque(maxlen=PEAK_PARTS)
        self._start_window(position, 0)

    def _start_window(self, position: list[float], number: int) -> None:
        self._windows, self._window_s = number, 0.0  # since the last progress
        self._from = self._last = self._least = self._most = position
        self._travel = [0.0] * len(position)  # [rad or m] to and fro

    def _follow(self, position: list[float]) -> None:
        rows = zip(self._travel, position, self._last, strict=True)
        self._travel = [travel + abs(now - last) for travel, now, last in rows]
        self._least = list(map(min, self._least, position))
        self._most = list(map(max, self._most, position))
        self._last = position

    def _has_peaks(self, errors: list[float], full_s: float) -> bool:
        """Note the errors; whether a part is over, and there are enough of them."""
        self._part = list(map(max, self._part, errors))
        self._part_s += full_s
        if self._part_s < PEAK_S / PEAK_PARTS:
            return False
        self._parts.append(self._part)
        self._part, self._part_s = errors, 0.0
        return len(self._parts) == PEAK_PARTS

    def _fell(self, errors: list[float], before: list[float]) -> bool:
        """Whether an effector that had not reached its goal came nearer by the margin."""
        least = TOLERANCE_SHARE * self.tolerance
        for new, old in zip(errors, before, strict=True):
            if new < old - max(least, ERROR_SHARE * old) and old > self.tolerance:
                return True
        return False

    def _rests(
        self, errors: list[float], command: list[float], speed_scale: float, elapsed_s: float
    ) -> bool:
        """Whether the joints have been at rest for the timeout, and no error fell meanwhile."""
        share = max(map(abs, map(truediv, command, self._vel_limits)))
        moves = share > REST_SPEED * speed_scale or speed_scale <= 0.0
        if moves or self._fell(errors, self._rest_errors):
            self._rest_s, self._rest_errors = 0.0, errors
        else:
            self._rest_s += elapsed_s
        return self._rest_s >= self.timeout_s

    def _still(self) -> bool:
        """Whether all joints stayed where they are in this window."""
        return max(map(float.__sub__, self._most, self._least)) < REST_RANGE

    def _cause(
        self, position: list[float], wanted: list[float], slowed: float, obstacle: Callable[[], str]
    ) -> str:
        wanting = [
            v if abs(v) > WANTED_SPEED * top else 0.0
            for v, top in zip(wanted, self._vel_limits, strict=True)
        ]
        if not any(wanting):
            near = obstacle()
            held = f": {near}" if near else "; a goal may be out of reach"
            return f"the policy commands no motion{held}"
        if slowed < SLOWED and (near := obstacle()):
            return near
        at_limit = [
            abs(v) if (v > 0.0 and q > high) or (v < 0.0 and q < low) else 0.0
            for v, q, low, high in zip(wanting, position, self._low, self._high, strict=True)
        ]
        if any(at_limit):
            return f"{self._list(at_limit)} at a position limit"
        return "the joints stay where they are"

    def _swinging(self, position: list[float]) -> str:
        """Which joints swing; or, in a second window, which move at all; or ''."""
        ranges = map(float.__sub__, self._most, self._least)
        moved = [
            travel if extent > REST_RANGE else 0.0
            for travel, extent in zip(self._travel, ranges, strict=True)
        ]
        swings = [
            travel if travel >= SWING * abs(now - before) else 0.0
            for travel, now, before in zip(moved, position, self._from, strict=True)
        ]
        if any(swings):
            return f"{self._list(swings)} moving to and fro"
        return f"{self._list(moved)} moving" if self._windows else ""

    def _list(self, weights: list[float]) -> str:
        """The joints of positive weight, those of the largest weight by name."""
        pairs = sorted(zip(weights, self._names, strict=True), key=lambda pair: -pair[0])
        joints = [f"'{name}'" for weight, name in pairs if weight]
        names = ", ".join(joints[:MAX_NAMED])
        if more := len(joints[MAX_NAMED:]):
            return f"joints {names} and {more} more are"
        return f"joint {names} is" if len(joints) == 1 else f"joints {names} are"
