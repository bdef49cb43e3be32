"""The goals that a reach action has given to the controller, and how they are cleared."""

import math
from collections.abc import Collection
from dataclasses import dataclass

from polyreach_nodes.client.hold_request import HoldRequest
from polyreach_nodes.client.reach_request import ReachClient
from polyreach_nodes.client.status import FramedPose

GONE_S = 1.0  # [s] after which a message, or a controller without a status, counts as lost


@dataclass
class SentGoal:
    """What was sent for an effector, and how many goals the controller had received before; or the
    pose in which it is held.
    """

    poses: set[FramedPose]
    received_before: int = -1
    sent_s: float = -math.inf
    is_hold: bool = False


class SentGoals:
    """The goals that one action has sent, by effector, and the effectors that it holds.

    Times are monotonic seconds. A goal of others, whatever it replaced, is left alone.
    """

    def __init__(self, client: ReachClient) -> None:
        self._client = client
        self._goals: dict[str, SentGoal] = {}
        self._hold = HoldRequest(client)

    def __getitem__(self, effector: str) -> SentGoal:
        return self._goals[effector]

    @property
    def effectors(self) -> tuple[str, ...]:
        """Those whose goals are still to be cleared, as far as is known."""
        return tuple(self._goals)

    def may_have(self, effector: str) -> bool:
        """Whether the effector may have a goal of this action."""
        return effector in self._goals or self._hold.pending

    def expect(self, effector: str, pose: FramedPose) -> None:
        """A goal is about to be sent; it replaces a hold, and goals that were taken over."""
        before = self._goals[effector].poses if effector in self._goals else set()
        received = self._client.status.effector(effector).goals_received
        self._goals[effector] = SentGoal(before | {pose}, received)

    def take_over(self, old: "SentGoals", effectors: Collection[str], holds: bool) -> None:
        """Take goals of another action: those of some effectors and, with `holds`, all holds."""
        for name, goal in list(old._goals.items()):
            if name in effectors or (holds and goal.is_hold):
                self._goals[name] = old._goals.pop(name)

    def keep_only_holds(self) -> None:
        """Leave all goals alone but those of effectors that are held."""
        self._goals = {name: goal for name, goal in self._goals.items() if goal.is_hold}

    def hold_others(self, now_s: float) -> bool:
        """Hold the effectors without a goal; whether the status shows that all have goals."""
        hold = self._hold
        if not hold.pending and not hold.all_have_goals and self._client.can_hold():
            hold.call(now_s)
        self._note_held(now_s)
        return hold.all_have_goals and not hold.pending

    @property
    def hold_refusal(self) -> str:
        """Why the effectors are not held, once that is known; or ''."""
        return "" if self._hold.pending else self._hold.refusal

    def _note_held(self, now_s: float) -> None:
        if self._hold.pending and (held := self._hold.take(now_s)) is not None:
            for name, pose in held.items():
                self._goals[name] = SentGoal({pose}, is_hold=True)

    def clear(self, now_s: float) -> bool:
        """Clear every goal that the controller still has; whether the status shows none of them."""
        self._note_held(now_s)
        for name, sent in list(self._goals.items()):
            effector = self._client.status.effector(name)
            # a goal that is still on its way would arrive after the request to clear it
            lost = now_s - sent.sent_s >= GONE_S
            on_its_way = effector.goals_received == sent.received_before and not lost
            if on_its_way or self._client.is_clearing(name):
                continue
            if effector.given_pose in sent.poses:
                self._client.clear_goal(name)
            else:
                del self._goals[name]
        return not self._goals and not self._hold.pending
