"""One reach action from its acceptance to its result: a state machine without ROS."""

import math
from collections.abc import Iterable
from enum import Enum, auto

from polyreach_nodes.client.reach_request import ReachClient, ReachRequest, point_text
from polyreach_nodes.client.sent_goals import GONE_S, SentGoals
from polyreach_nodes.client.status import EffectorStatus, error_text
from polyreach_nodes.control.watchdog import MOVING_STATES, STUCK_STATES, State

START_TIMEOUT_S = 5.0  # [s] for the controller to appear and to accept the goals
RESEND_S = (
    0.5  # [s] after which a goal that was not received is sent again; a first one may be lost
)
REFRESH_SHARE = 0.4  # of the controller's goal_timeout, after which a goal is sent again
PAUSE_S = 1.0  # [s] for which a joint state may be missing
RELEASE_TIMEOUT_S = 2.0  # [s] to clear goals at the end
RUNNING_STATES = (State.IDLE, *MOVING_STATES)
PAUSED_STATES = (State.STALE, State.WAITING)


class Outcome(Enum):
    """How an action ends."""

    SUCCEEDED = auto()
    ABORTED = auto()
    CANCELED = auto()


class Phase(Enum):
    """What a task is doing."""

    QUEUED = auto()  # until it begins
    STARTING = auto()  # until the controller has every goal
    REACHING = auto()
    RELEASING = auto()  # until the controller has cleared the goals
    DONE = auto()


class ReachTask:
    """Sends goals to the controller and monitors them; call begin(), and step() until it is DONE.

    Times are monotonic seconds. Only the controller's status counts: it has a goal when the status
    shows it, and has cleared it when the status does not show it any more.
    """

    def __init__(
        self, client: ReachClient, request: ReachRequest, settle_s: float, now_s: float
    ) -> None:
        self.request = request
        self.phase = Phase.QUEUED
        self.outcome = Outcome.ABORTED
        self.message = ""
        self.errors = [math.nan] * len(request.effectors)  # [m]
        # [rad], 0 for effectors whose goals have no orientation
        self.angle_errors = [math.nan] * len(request.effectors)
        self._client = client
        self._settle_s = settle_s
        self._start_s = now_s
        self._end_s = self._release_s = self._paused_s = math.inf
        self._sent_s = math.inf
        self._sent = SentGoals(client)
        self._within_s = math.inf  # since when every effector has been within the tolerance

    @property
    def reached(self) -> list[bool]:
        """Whether each effector is within the tolerances now."""
        request = self.request
        return [
            error <= request.tolerance and angle <= request.angle_tolerance
            for error, angle in zip(self.errors, self.angle_errors, strict=True)
        ]

    @property
    def running(self) -> bool:
        """Whether the outcome is still open."""
        return self.phase in (Phase.QUEUED, Phase.STARTING, Phase.REACHING)

    @property
    def has_result(self) -> bool:
        """Whether outcome and message are final."""
        return self.done or (self.outcome is Outcome.SUCCEEDED and not self.running)

    @property
    def done(self) -> bool:
        """Whether there is nothing left to do."""
        return self.phase is Phase.DONE

    def elapsed_s(self, now_s: float) -> float:
        """Time since it began, or, before that, since it was made, until its outcome [s]."""
        return min(now_s, self._end_s) - self._start_s

    @property
    def moves(self) -> tuple[str, ...]:
        """The effectors to which it gives goals, among them those that it holds."""
        return self._client.effectors if self.request.hold else self.request.effectors

    def must_clear(self, effector: str) -> bool:
        """Whether the effector may have a goal of this task that is to be cleared at its end."""
        return not self.done and self._sent.may_have(effector)

    def begin(self, now_s: float, old: "ReachTask | None" = None) -> None:
        """Let step() send the goals. The task before, `old`, ends as preempted if it runs.

        That one does not clear goals of effectors that this task moves, too. What it holds stays
        held if this task holds, too, and is released otherwise, also after a success.
        """
        self.phase, self._start_s = Phase.STARTING, now_s
        if old is None:
            return
        succeeded = old.done and old.outcome is Outcome.SUCCEEDED
        if succeeded:
            old._sent.keep_only_holds()
            old.phase, old._release_s = Phase.RELEASING, now_s
        if old.running or succeeded:
            self._sent.take_over(old._sent, self.request.effectors, self.request.hold)
        old.end(Outcome.ABORTED, "preempted by a newer goal", now_s)

    def end(self, outcome: Outcome, message: str, now_s: float) -> None:
        """Fix the outcome and, unless it is a success, start to clear the goals."""
        if self.running:
            self.outcome, self.message = outcome, message
            self._end_s = self._release_s = now_s
            self.phase = Phase.DONE if outcome is Outcome.SUCCEEDED else Phase.RELEASING

    def step(self, now_s: float, blocked: bool = False) -> None:
        """Do what is due; `blocked` while another task still clears goals of what it `moves`."""
        if self.phase in (Phase.STARTING, Phase.REACHING):
            if fault := self._fault(now_s):
                self.end(Outcome.ABORTED, fault, now_s)
            elif self.phase is Phase.STARTING:
                self._start(now_s, blocked)
        if self.phase is Phase.REACHING:
            self._watch(now_s)
        if self.phase is Phase.RELEASING:
            self._release(now_s)

    def _fault(self, now_s: float) -> str:
        """Why the task cannot go on; or ''."""
        client, status = self._client, self._client.status
        elapsed_s = now_s - self._start_s
        known = bool(client.effectors and status.state)
        if self.phase is Phase.STARTING and client.effectors and (f := self.request.fault(client)):
            return f
        if status.state in PAUSED_STATES:
            self._paused_s = min(self._paused_s, max(status.received_s, self._start_s))
        else:
            self._paused_s = math.inf
        stopped = status.state not in ("", *RUNNING_STATES, *PAUSED_STATES)
        if stopped or status.received_s - self._paused_s > PAUSE_S:
            return f"controller '{client.controller}' does not move: {status.message}"
        if known and now_s - max(status.received_s, self._start_s) > GONE_S:
            return f"controller '{client.controller}' is gone: no status for {GONE_S:g} s"
        if elapsed_s > self.request.timeout_s:
            return (
                f"not reached in {self.request.timeout_s:g} s: "
                f"{self._distances() or 'not settled'} ({status.message})"
            )
        if self.phase is Phase.STARTING and elapsed_s > START_TIMEOUT_S:
            return self._why_not_started()
        return ""

    def _distances(self) -> str:
        """Which effectors are how far from their goals."""
        rows = zip(
            self.request.effectors, self.errors, self.angle_errors, self.reached, strict=True
        )
        goals = self.request.goals(self._client)
        return ", ".join(
            f"'{name}' is {error_text(error, None if goals[name][2] is None else angle)} away"
            for name, error, angle, reached in rows
            if not reached
        )

    def _why_not_started(self) -> str:
        client = self._client
        if not client.effectors or not client.status.state:
            return f"no controller '{client.controller}' in {START_TIMEOUT_S:g} s"
        if self.request.hold and not client.can_hold():
            return f"controller '{client.controller}' does not offer to hold effectors"
        missing = [name for name in self.request.effectors if not self._has_goal(name)]
        return (
            f"controller '{client.controller}' did not take the goal of {_quoted(missing)} "
            f"in {START_TIMEOUT_S:g} s"
        )

    def _start(self, now_s: float, blocked: bool) -> None:
        """Send the goals once the controller is connected, and those that are lost again."""
        names, client, status = self.request.effectors, self._client, self._client.status
        if self._sent_s == math.inf:
            free = not any(map(client.is_clearing, self.moves))
            connected = all(map(client.is_connected, names))
            if blocked or not free or not connected or now_s - status.received_s > GONE_S:
                return
            if self.request.hold:
                held = self._sent.hold_others(now_s)
                if refusal := self._sent.hold_refusal:
                    self.end(Outcome.ABORTED, refusal, now_s)
                if refusal or not held:
                    return
            for name, pose in self.request.goals(client).items():
                self._sent.expect(name, pose)
            self._sent_s = now_s
        goals = self.request.goals(client)
        # a frame may move with another effector, which must have its goal before
        ordered = sorted(names, key=lambda name: bool(goals[name][0]))
        for place, name in enumerate(ordered):
            if goals[name][0] and not all(map(self._has_goal, ordered[:place])):
                return
            sent = self._sent[name]
            was_received = status.effector(name).goals_received != sent.received_before
            if was_received and status.rejected_effector == name:
                self.end(Outcome.ABORTED, status.rejected, now_s)
                return
            if not was_received and now_s - sent.sent_s > RESEND_S:
                sent.sent_s = now_s
                self._send(name)
        if all(map(self._has_goal, names)):
            self.phase = Phase.REACHING

    def _send(self, effector: str) -> None:
        client, request = self._client, self.request
        frame, position, orientation = request.goals(client)[effector]
        stamp_ns = request.stamp_ns(effector) if frame else None
        client.send_goal(effector, position, frame or client.base_frame, orientation, stamp_ns)

    def _has_goal(self, effector: str) -> bool:
        """Whether a status that was received after the goal was sent shows it."""
        status = self._client.status
        pose = self.request.goals(self._client)[effector]
        return status.received_s > self._sent_s and status.effector(effector).given_pose == pose

    def _watch(self, now_s: float) -> None:
        """Note errors; end when all stayed within the tolerance, or when a goal was changed."""
        names, status = self.request.effectors, self._client.status
        for name in names:
            effector, sent = status.effector(name), self._sent[name]
            if not self._has_goal(name):
                change = f"replaced by {_pose_text(effector)}" if effector.goal else "cleared"
                text = f"goal of '{name}' was {change} by others ({status.message})"
                self.end(Outcome.ABORTED, text, now_s)
                return
            if 0.0 < REFRESH_SHARE * status.goal_timeout_s < now_s - sent.sent_s:
                sent.received_before, sent.sent_s = effector.goals_received, now_s
                self._send(name)
        errors = [status.effector(name).error for name in names]
        self.errors = [math.nan if error is None else error for error in errors]
        self.angle_errors = [self._angle_error(name) for name in names]
        if status.state not in RUNNING_STATES or not all(self.reached):
            self._within_s = math.inf
            if status.state in STUCK_STATES:
                self.end(Outcome.ABORTED, f"{self._distances()} ({status.message})", now_s)
            return
        self._within_s = min(self._within_s, status.received_s)
        if status.received_s - self._within_s >= self._settle_s:
            self.end(Outcome.SUCCEEDED, "reached", now_s)

    def _angle_error(self, effector: str) -> float:
        if self.request.goals(self._client)[effector][2] is None:
            return 0.0
        angle = self._client.status.effector(effector).angle
        return math.nan if angle is None else angle

    def _release(self, now_s: float) -> None:
        """Clear every goal that this task sent, or holds, and that the controller still has."""
        if self._sent.clear(now_s):
            self.phase = Phase.DONE
        elif now_s - self._release_s > RELEASE_TIMEOUT_S:
            self.message += (
                "; the controller did not confirm that it cleared the goal of "
                f"{_quoted(self._sent.effectors or self.moves)}"
            )
            self.phase = Phase.DONE


def _pose_text(effector: EffectorStatus) -> str:
    if (given := effector.given_pose) is None:
        return "none"
    frame, position, turned = given
    text = (
        point_text(position)
        if turned is None
        else (f"{point_text(position)} with orientation {point_text(turned)}")
    )
    return f"{text} in frame '{frame}'" if frame else text


def _quoted(effectors: Iterable[str]) -> str:
    return ", ".join(f"'{name}'" for name in effectors)
