"""One reach action from its acceptance to its result; a state machine that does not know ROS."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from typing import Protocol

from polyreach_nodes.client.controller_client import Point, Report
from polyreach_nodes.control.watchdog import MOVING_STATES, STUCK_STATES, State

START_TIMEOUT_S = 5.0  # [s] for the controller to appear and to take the goals
RESEND_S = 0.5  # [s] after which a goal that was not heard counts as lost: the first may be
REFRESH_SHARE = 0.4  # of the controller's goal_timeout, after which a goal is sent again
GONE_S = 1.0  # [s] without a status after which the controller counts as gone
PAUSE_S = 1.0  # [s] for which a joint state may be missing
RELEASE_TIMEOUT_S = 2.0  # [s] to clear goals at the end
SAME_POSITION = 2e-6  # [m], as precise as positions in the status are
RUNNING_STATES = (State.IDLE, *MOVING_STATES)
PAUSED_STATES = (State.STALE, State.WAITING)


class Link(Protocol):
    """The controller as a task needs it; ControllerLink is one."""

    controller: str
    report: Report
    effectors: tuple[str, ...]
    base_frame: str

    def listens(self, effector: str) -> bool:
        """Whether goals and requests to clear them would arrive."""

    def send(self, effector: str, position: Sequence[float]) -> None:
        """Publish a goal [m]."""

    def clear(self, effector: str) -> None:
        """Ask to forget a goal."""

    def clearing(self, effector: str) -> bool:
        """Whether such a request is under way."""


@dataclass(frozen=True)
class Request:
    """What an action asks for: E effectors, frames and positions [m], tolerance [m], time [s]."""

    effectors: tuple[str, ...]
    frames: tuple[str, ...]
    positions: tuple[Point, ...]
    tolerance: float
    timeout_s: float

    def fault(self, link: Link) -> str:
        """Why the action cannot be started, with the value and the legal choices; or ''."""
        legal = f"(controller '{link.controller}' has: {', '.join(link.effectors)})"
        if not self.effectors:
            return f"effectors is empty {legal}"
        if len(self.positions) != len(self.effectors):
            return (
                f"{len(self.effectors)} effectors, but {len(self.positions)} poses: "
                "there must be one pose for every effector"
            )
        for name, frame, position in zip(self.effectors, self.frames, self.positions, strict=True):
            if name not in link.effectors:
                return f"unknown effector '{name}' {legal}"
            if self.effectors.count(name) > 1:
                return f"effector '{name}' is named twice, but may be named once"
            if frame not in ("", link.base_frame):
                return f"frame of '{name}' is '{frame}', but must be '{link.base_frame}' or empty"
            if not all(map(math.isfinite, position)):
                return f"position of '{name}' is {_text(position)}, but must be finite"
        if not 0.0 <= self.tolerance < math.inf:
            return f"tolerance is {self.tolerance:g}, but must be 0 (the default) or more [m]"
        if not 0.0 <= self.timeout_s < math.inf:
            return f"timeout is {self.timeout_s:g}, but must be 0 (the default) or more [s]"
        return ""


class Outcome(Enum):
    """How an action ends."""

    SUCCEEDED = auto()
    ABORTED = auto()
    CANCELED = auto()


class Phase(Enum):
    """What a task is doing."""

    STARTING = auto()  # until the controller has taken every goal
    REACHING = auto()
    RELEASING = auto()  # until the controller has forgotten the goals
    DONE = auto()


@dataclass
class Given:
    """What an effector was sent: the positions [m], and what the controller had heard before."""

    positions: set[Point]
    heard: str
    sent_s: float


class ReachTask:
    """Gives goals to the controller and watches them; step() again and again until it is DONE.

    Times are monotonic seconds. Only the controller's own status counts: a goal is given when the
    status tells it, and forgotten when the status no longer does.
    """

    def __init__(self, link: Link, request: Request, settle_s: float, now_s: float) -> None:
        self.request = request
        self.phase = Phase.STARTING
        self.outcome = Outcome.ABORTED
        self.message = ""
        self.errors = [math.nan] * len(request.effectors)  # [m]
        self._link = link
        self._settle_s = settle_s
        self._start_s = now_s
        self._end_s = self._paused_s = math.inf
        self._sent_s = math.inf
        self._given: dict[str, Given] = {}
        self._within_s = math.inf  # since when every effector has been within the tolerance

    @property
    def reached(self) -> list[bool]:
        """Whether each effector is within the tolerance now."""
        return [error <= self.request.tolerance for error in self.errors]

    @property
    def running(self) -> bool:
        """Whether the outcome is still open."""
        return self.phase in (Phase.STARTING, Phase.REACHING)

    @property
    def done(self) -> bool:
        """Whether there is nothing left to do."""
        return self.phase is Phase.DONE

    def elapsed_s(self, now_s: float) -> float:
        """Time since the start [s], until the outcome was known."""
        return min(now_s, self._end_s) - self._start_s

    def holds(self, effector: str) -> bool:
        """Whether the effector's goal is this task's to clear."""
        return effector in self._given and self.phase is not Phase.DONE

    def take_over(self, old: "ReachTask") -> None:
        """Let the older task end without clearing goals of effectors that this one moves, too."""
        for name in set(self.request.effectors) & old._given.keys():
            self._given[name] = old._given.pop(name)

    def end(self, outcome: Outcome, message: str, now_s: float) -> None:
        """Fix the outcome and, unless it is a success, start to clear the goals."""
        if self.running:
            self.outcome, self.message, self._end_s = outcome, message, now_s
            self.phase = Phase.DONE if outcome is Outcome.SUCCEEDED else Phase.RELEASING

    def step(self, now_s: float, blocked: bool = False) -> None:
        """Do what is due; `blocked` while another task still clears goals of these effectors."""
        if self.running:
            if fault := self._fault(now_s):
                self.end(Outcome.ABORTED, fault, now_s)
            elif self.phase is Phase.STARTING:
                self._start(now_s, blocked)
        if self.phase is Phase.REACHING:
            self._watch(now_s)
        if self.phase is Phase.RELEASING:
            self._release(now_s)

    def _fault(self, now_s: float) -> str:
        """Why this cannot go on, in words; or ''."""
        link, report = self._link, self._link.report
        elapsed_s = now_s - self._start_s
        known = bool(link.effectors and report.state)
        if self.phase is Phase.STARTING and link.effectors and (f := self.request.fault(link)):
            return f
        if report.state in PAUSED_STATES:
            self._paused_s = min(self._paused_s, max(report.time_s, self._start_s))
        else:
            self._paused_s = math.inf
        stopped = report.state not in ("", *RUNNING_STATES, *PAUSED_STATES)
        if stopped or report.time_s - self._paused_s > PAUSE_S:
            return f"controller '{link.controller}' does not move: {report.message}"
        if known and now_s - max(report.time_s, self._start_s) > GONE_S:
            return f"controller '{link.controller}' is gone: no status for {GONE_S:g} s"
        if elapsed_s > self.request.timeout_s:
            return self._why_not_reached()
        if self.phase is Phase.STARTING and elapsed_s > START_TIMEOUT_S:
            return self._why_not_started()
        return ""

    def _why_not_reached(self) -> str:
        return (
            f"not reached in {self.request.timeout_s:g} s: {self._far() or 'not settled'} "
            f"({self._link.report.message})"
        )

    def _far(self) -> str:
        """Which effectors are how far from their goals."""
        pairs = zip(self.request.effectors, self.errors, strict=True)
        return ", ".join(
            f"'{name}' is {error:.3f} m away"
            for name, error in pairs
            if not error <= self.request.tolerance
        )

    def _why_not_started(self) -> str:
        link, names = self._link, self.request.effectors
        if not link.effectors or not link.report.state:
            return f"no controller '{link.controller}' in {START_TIMEOUT_S:g} s"
        waiting = [name for name in names if not self._taken(name)]
        return (
            f"controller '{link.controller}' did not take the goal of {_names(waiting)} "
            f"in {START_TIMEOUT_S:g} s"
        )

    def _start(self, now_s: float, blocked: bool) -> None:
        names, report = self.request.effectors, self._link.report
        if self._sent_s == math.inf:
            free = all(self._link.listens(n) and not self._link.clearing(n) for n in names)
            if blocked or not free or now_s - report.time_s > GONE_S:
                return
            for name, position in zip(names, self.request.positions, strict=True):
                before = self._given[name].positions if name in self._given else set()
                heard = report.heard.get(name, "")
                self._given[name] = Given(before | {position}, heard, now_s)
                self._link.send(name, position)
            self._sent_s = now_s
            return
        for name, position in zip(names, self.request.positions, strict=True):
            given = self._given[name]
            if self._refused(name):
                self.end(Outcome.ABORTED, report.rejected, now_s)
                return
            if report.heard.get(name, "") == given.heard and now_s - given.sent_s > RESEND_S:
                given.sent_s = now_s
                self._link.send(name, position)
        if all(map(self._taken, names)):
            self.phase = Phase.REACHING

    def _refused(self, effector: str) -> bool:
        report = self._link.report
        heard = report.heard.get(effector, "") != self._given[effector].heard
        return heard and report.rejected.startswith(f"goal of '{effector}' rejected")

    def _taken(self, effector: str) -> bool:
        """Whether the status, received after the goal was sent, tells the goal."""
        report = self._link.report
        position = self.request.positions[self.request.effectors.index(effector)]
        return report.time_s > self._sent_s and _same(report.goals.get(effector), position)

    def _watch(self, now_s: float) -> None:
        """Note errors; end when all stayed within the tolerance, or when a goal is another one."""
        names, report = self.request.effectors, self._link.report
        for name in names:
            if not self._taken(name):
                found = report.goals.get(name)
                what = f"replaced by {_text(found)}" if found else "cleared"
                text = f"goal of '{name}' was {what} by others ({report.message})"
                self.end(Outcome.ABORTED, text, now_s)
                return
            given = self._given[name]
            age_s = now_s - given.sent_s
            if 0.0 < REFRESH_SHARE * report.goal_timeout_s < age_s:
                given.heard, given.sent_s = report.heard.get(name, ""), now_s
                self._link.send(name, self.request.positions[names.index(name)])
        self.errors = [report.errors.get(name, math.nan) for name in names]
        if report.state not in RUNNING_STATES or not all(self.reached):
            self._within_s = math.inf
            if report.state in STUCK_STATES:
                text = f"{self._far()} ({report.message})"
                self.end(Outcome.ABORTED, text, now_s)
            return
        self._within_s = min(self._within_s, report.time_s)
        if report.time_s - self._within_s >= self._settle_s:
            self.end(Outcome.SUCCEEDED, "reached", now_s)

    def _release(self, now_s: float) -> None:
        """Clear every goal that this task gave and that the controller still has."""
        link, report = self._link, self._link.report
        for name, given in list(self._given.items()):
            # a goal that is still on its way would come after the request to clear it
            on_its_way = report.heard.get(name, "") == given.heard and now_s - given.sent_s < GONE_S
            if on_its_way or link.clearing(name):
                continue
            if any(_same(report.goals.get(name), position) for position in given.positions):
                link.clear(name)
            else:
                del self._given[name]
        if not self._given:
            self.phase = Phase.DONE
        elif now_s - self._end_s > RELEASE_TIMEOUT_S:
            self.message += (
                "; the controller did not confirm that it cleared the goal of "
                f"{_names(self._given)}"
            )
            self.phase = Phase.DONE


def _same(found: Point | None, wanted: Point) -> bool:
    return found is not None and math.dist(found, wanted) <= SAME_POSITION


def _names(effectors: Iterable[str]) -> str:
    return ", ".join(f"'{name}'" for name in effectors)


def _text(position: Point) -> str:
    return f"({', '.join(f'{value:g}' for value in position)})"
