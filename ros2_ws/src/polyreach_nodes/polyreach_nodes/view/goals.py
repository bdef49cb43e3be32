"""A goal on a page: the pose of its handle, the last request and the goal of the controller."""

import numpy as np
from numpy.typing import NDArray

from polyreach_description.orientation import IDENTITY, unit_quaternion
from polyreach_nodes.client.status import EffectorStatus, GoalPose

SEND_PERIOD_S = 0.05  # [s] between two goals of one effector, while its handle is dragged
ANSWER_S = 1.0  # [s] for the status to show what was requested

Vector = NDArray[np.float64]


class GoalHandle:
    """The handle of one effector; positions (3,) [m, base frame], orientations (4,) [unit
    quaternion x y z w] that count where its goals have one, times [s, monotonic].

    The handle is at the goal that the controller has, unless somebody drags it. Between a request
    and its answer it is at the requested goal. Without a goal it keeps its position, dimmed; before
    the first goal, and after a first goal that was rejected, it follows the effector.
    """

    def __init__(self, effector: str, oriented: bool = False) -> None:
        """oriented: whether its goals have an orientation."""
        self.effector, self.oriented = effector, oriented
        self.position: Vector = np.zeros(3)
        self.orientation: Vector = np.array(IDENTITY)
        self.on = False  # whether the effector has a goal, as far as is known
        self.goal: Vector | None = None  # of the controller, in its last status
        self.goal_orientation: Vector = np.array(IDENTITY)  # of that goal
        self._placed = False
        self._draggers: set[int] = set()
        self._requested: GoalPose | None = None
        self._answer_end_s = -np.inf
        self._unsent = False
        self._sent_s = -np.inf
        self._received = 0  # goals that the controller received, in its last status
        self._received_before = 0  # the same, at the last request

    @property
    def dragged(self) -> bool:
        """Whether somebody drags the handle."""
        return bool(self._draggers)

    def grab(self, client: int) -> None:
        """A browser starts to drag the handle."""
        self._draggers.add(client)

    def drag(self, position: Vector, orientation: Vector | None = None) -> None:
        """The handle was moved: its pose is to be sent; its orientation stays if it is None."""
        self.position = position
        self.orientation = self.orientation if orientation is None else orientation
        self.on = self._placed = self._unsent = True

    def release(self, client: int) -> None:
        """A browser lets the handle go."""
        self._draggers.discard(client)

    def switch_on(self) -> None:
        """Request a goal at the pose of the handle."""
        self.drag(self.position)

    def switch_off(self, now_s: float) -> None:
        """The page requested to clear the goal."""
        self.on = self._unsent = False
        self._placed = True
        self._request(None, now_s)

    def due(self, now_s: float) -> GoalPose | None:
        """The goal to send now, if there is one and SEND_PERIOD_S is over since the last."""
        if not self._unsent or now_s - self._sent_s < SEND_PERIOD_S:
            return None
        self._unsent, self._sent_s = False, now_s
        x, y, z = self.position.tolist()
        turned = unit_quaternion(self.orientation.tolist()) if self.oriented else None
        pose = (x, y, z), turned
        self._request(pose, now_s)
        return pose

    def _request(self, pose: GoalPose | None, now_s: float) -> None:
        self._requested, self._answer_end_s = pose, now_s + ANSWER_S
        self._received_before = self._received

    def update(self, status: EffectorStatus, is_rejected: bool, now_s: float) -> None:
        """Take the effector's status, and whether the last rejected goal was this effector's."""
        goal = None if status.goal is None else np.array(status.goal)
        turned = np.array(status.goal_orientation or IDENTITY)
        self.goal, self._received = goal, status.goals_received
        self.goal_orientation = turned
        if self._draggers or self._unsent:
            return
        if now_s < self._answer_end_s:
            is_new = self._received != self._received_before
            if status.goal_pose != self._requested and not (is_rejected and is_new):
                return
            self._answer_end_s = -np.inf
            if is_rejected and goal is None:
                self._placed = False
        self.on = goal is not None
        if goal is not None:
            self.position, self._placed = goal, True
            self.orientation = turned

    def follow(self, position: Vector, orientation: Vector) -> None:
        """Be at the effector's pose while there was no goal yet."""
        if not self._placed and not self._draggers:
            self.position, self.orientation = position, orientation
