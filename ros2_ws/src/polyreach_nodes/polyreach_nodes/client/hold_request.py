"""A request to the controller to hold the effectors without a goal, until its status shows it."""

import math

from polyreach_nodes.client.reach_request import ReachClient
from polyreach_nodes.client.status import FramedPose


class HoldRequest:
    """Holds every effector that has no goal; times are monotonic seconds.

    The request and the status take different ways, so that the answer alone does not say which
    goals there are.
    """

    def __init__(self, client: ReachClient) -> None:
        self.pending = False  # whether the controller may be about to hold effectors
        self.refusal = ""  # why it does not
        self._client = client
        self._free: set[str] = set()  # effectors without a goal when it was called
        self._called_s = self._answered_s = math.inf

    def call(self, now_s: float) -> None:
        """Call the service; only the effectors that have no goal now are held by this request."""
        status = self._client.status
        if math.isinf(self._called_s):
            self._free = {n for n in self._client.effectors if status.effector(n).goal is None}
        self.pending, self._called_s, self._answered_s = True, now_s, math.inf
        self._client.hold()

    def take(self, now_s: float) -> dict[str, FramedPose] | None:
        """The goals of the effectors that it holds; None before the status shows them."""
        client, status = self._client, self._client.status
        if client.is_holding():
            return None
        self._answered_s = min(self._answered_s, now_s)
        self.refusal = client.hold_refusal
        since_s = self._called_s if self.all_have_goals else self._answered_s
        if not self.refusal and status.received_s <= since_s:
            return None
        self.pending = False
        effectors = {name: status.effector(name) for name in self._free}
        return {n: e.given_pose for n, e in effectors.items() if e.held and e.given_pose}

    @property
    def all_have_goals(self) -> bool:
        """Whether the status shows a goal of every effector."""
        status = self._client.status
        return all(status.effector(name).goal is not None for name in self._client.effectors)
