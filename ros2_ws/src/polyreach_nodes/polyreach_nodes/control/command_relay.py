"""Which joint velocity commands reach the hardware: checks, a deadline and a latch."""

import math
from collections.abc import Sequence
from enum import Enum, StrEnum, auto
from operator import le

from polyreach_nodes.parameters import MAX_COMMAND_TIMEOUT_S

SLACK = 1e-9  # by which a velocity may exceed its limit [rad/s or m/s]
DEADLINE_SHARE = 0.95  # of the timeout; waking up and publishing zero take the rest
TIMER_SLACK_S = 1e-4  # by which a timer may be early on the clock of `now_s`
MIN_TIMEOUT_S = 0.001
QUIET_TIMEOUTS = 2.0  # for which commands are zero or absent before a trip can end
HELD_UP_DEADLINES = 2.0  # without a call: the process was held up, and silence proves nothing
START_S = 1.0  # [s] for which zero is repeated at start: discovery may take as long


class State(StrEnum):
    """What the relay does with commands."""

    WAITING = "WAITING"  # limits unknown; then repeats zero until commands are zero or absent
    IDLE = "IDLE"  # no commands; the last one was zero
    RELAYING = "RELAYING"
    TRIPPED = "TRIPPED"  # repeats zero; nothing passes


class Output(Enum):
    """What has to be published now."""

    NOTHING = auto()
    COMMAND = auto()  # the command that was given
    ZERO = auto()


class Drop(StrEnum):
    """Why a command did not pass."""

    LENGTH = "wrong length"
    NOT_FINITE = "not finite"
    OVER_LIMIT = "over limit"
    LATCHED = "while tripped"


class CommandRelay:
    """Passes valid commands, and trips if none follows within `timeout_s` of a nonzero one.

    Times are seconds of one monotonic clock. `deadline` has to be called `deadline_s` after every
    command that passed, and every `deadline_s` in the states WAITING and TRIPPED.

    A trip ends when the controller was resumed after it, and commands are zero or absent for
    QUIET_TIMEOUTS timeouts, then or later: motion starts from rest. Time in which this process was
    held up does not count, because commands sent then may be lost or still queued.
    """

    def __init__(self, limits: Sequence[float], timeout_s: float, now_s: float) -> None:
        """limits: (nu,) [rad/s or m/s], above 0. Raises ValueError for other limits or timeouts."""
        if not limits or not all(0.0 < limit < math.inf for limit in limits):
            raise ValueError(f"velocity limits {list(limits)}: expected finite numbers above 0")
        if not MIN_TIMEOUT_S <= timeout_s <= MAX_COMMAND_TIMEOUT_S:
            raise ValueError(
                f"timeout {timeout_s:g} s: expected {MIN_TIMEOUT_S:g} to {MAX_COMMAND_TIMEOUT_S:g}"
            )
        self.limits = tuple(limits)
        self.timeout_s = timeout_s
        self.deadline_s = DEADLINE_SHARE * timeout_s
        self.state = State.WAITING
        self.reason = ""  # of the last trip
        self.trips = 0
        self.relayed = 0
        self.dropped = dict.fromkeys(Drop, 0)
        self.moving = False  # the last command that passed was not zero
        self._bounds = tuple(limit + SLACK for limit in limits)
        self._passed_s = now_s
        self._quiet_s = now_s  # since then, commands are zero or absent
        self._checked_s = now_s  # of the last call
        self._resumed = False  # since the last trip

    def command(self, joint_vel: Sequence[float] | None, now_s: float) -> Output:
        """Check a command (nu,) [rad/s or m/s]; None: a message of another length or layout."""
        expired = self._expire(now_s)
        if (
            joint_vel is None
            or len(joint_vel) != len(self._bounds)
            or not all(map(le, map(abs, joint_vel), self._bounds))  # false for NaN
        ):
            self.dropped[self._drop_reason(joint_vel)] += 1
            self._quiet_s = now_s  # its sender is not at rest
            return expired
        moves = any(joint_vel)
        if self.state is State.WAITING and moves:
            expired = self.trip("commands were not zero at the start", now_s)
        if self.state is State.TRIPPED:
            self.dropped[Drop.LATCHED] += 1
            if moves:
                self._quiet_s = now_s
            return expired
        self.state = State.RELAYING
        self.moving = moves
        self.relayed += 1
        self._passed_s = now_s
        return Output.COMMAND

    def deadline(self, now_s: float) -> Output:
        """Check for missing commands; zero repeats in the states WAITING and TRIPPED."""
        expired = self._expire(now_s + TIMER_SLACK_S)
        return Output.ZERO if self.state in (State.WAITING, State.TRIPPED) else expired

    def resumed(self, now_s: float) -> None:
        """Note that the controller was resumed."""
        self._resumed = True
        self._expire(now_s)

    def trip(self, reason: str, now_s: float) -> Output:
        """Stop: nothing passes from now on."""
        self.state = State.TRIPPED
        self.reason = reason
        self.trips += 1
        self.moving = self._resumed = False
        self._quiet_s = self._checked_s = now_s
        return Output.ZERO

    def _expire(self, now_s: float) -> Output:
        """End what has expired: a command, the wait at start, a trip."""
        if now_s - self._checked_s > HELD_UP_DEADLINES * self.deadline_s:
            self._quiet_s = now_s
        self._checked_s = now_s
        if self.state is State.RELAYING:
            age_s = now_s - self._passed_s
            if age_s >= self.deadline_s:
                if self.moving:
                    return self.trip(
                        f"no command for {age_s:.3f} s while moving (timeout {self.timeout_s:g} s)",
                        now_s,
                    )
                self.state = State.IDLE
        elif self.state is State.WAITING:
            if now_s - self._quiet_s >= max(START_S, QUIET_TIMEOUTS * self.timeout_s):
                self.state = State.IDLE
        elif (
            self.state is State.TRIPPED
            and self._resumed
            and now_s - self._quiet_s >= QUIET_TIMEOUTS * self.timeout_s
        ):
            self.state = State.IDLE
        return Output.NOTHING

    def _drop_reason(self, joint_vel: Sequence[float] | None) -> Drop:
        if joint_vel is None or len(joint_vel) != len(self._bounds):
            return Drop.LENGTH
        return Drop.OVER_LIMIT if all(map(math.isfinite, joint_vel)) else Drop.NOT_FINITE
