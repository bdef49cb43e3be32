"""A goal on a page: where its handle stands, what was asked of the controller and what it holds."""

import numpy as np
from numpy.typing import NDArray

SEND_PERIOD_S = 0.05  # between two goals of one effector, while its handle is dragged
ANSWER_S = 1.0  # for the controller to show in its status what it was asked for
SAME = 1e-6  # [m]; the status tells positions with six digits

Vector = NDArray[np.float64]


class GoalHandle:
    """The handle of one effector; positions (3,) [m, base frame], times [s, monotonic].

    The handle stands where the controller holds a goal, unless somebody drags it. Between a request
    and its answer it stands where it was asked for. Without a goal it keeps its place, dimmed;
    before the first goal, and after a first goal that was refused, it follows the effector.
    """

    def __init__(self, effector: str) -> None:
        self.effector = effector
        self.position: Vector = np.zeros(3)
        self.on = False  # whether the effector has a goal, as far as is known
        self.held: Vector | None = None  # what the status says
        self._placed = False
        self._draggers: set[int] = set()
        self._asked: Vector | None = None
        self._ask_end_s = -np.inf
        self._unsent = False
        self._sent_s = -np.inf
        self._heard = ""
        self._heard_at_ask = ""

    @property
    def dragged(self) -> bool:
        """Whether somebody holds the handle."""
        return bool(self._draggers)

    def grab(self, client: int) -> None:
        """A browser starts to drag the handle."""
        self._draggers.add(client)

    def drag(self, position: Vector) -> None:
        """The handle was moved: its position is to be sent."""
        self.position = position
        self.on = self._placed = self._unsent = True

    def release(self, client: int) -> None:
        """A browser lets the handle go."""
        self._draggers.discard(client)

    def switch_on(self) -> None:
        """Ask for a goal where the handle stands."""
        self.drag(self.position)

    def switch_off(self, now_s: float) -> None:
        """The controller was asked to clear the goal."""
        self.on = self._unsent = False
        self._placed = True
        self._ask(None, now_s)

    def due(self, now_s: float) -> Vector | None:
        """The position to send now, if there is one and the last was not sent just before."""
        if not self._unsent or now_s - self._sent_s < SEND_PERIOD_S:
            return None
        self._unsent, self._sent_s = False, now_s
        self._ask(self.position, now_s)
        return self.position

    def _ask(self, position: Vector | None, now_s: float) -> None:
        self._asked, self._ask_end_s = position, now_s + ANSWER_S
        self._heard_at_ask = self._heard

    def told(self, goal: Vector | None, heard: str, refused: bool, now_s: float) -> None:
        """Take what the status says: goal, number of goals heard, whether the last was refused."""
        self.held, self._heard = goal, heard
        if self._draggers or self._unsent:
            return
        if now_s < self._ask_end_s:
            answered = _same(goal, self._asked) or (refused and heard != self._heard_at_ask)
            if not answered:
                return
            self._ask_end_s = -np.inf
            if refused and goal is None:
                self._placed = False
        self.on = goal is not None
        if goal is not None:
            self.position, self._placed = goal, True

    def follow(self, effector_pos: Vector) -> None:
        """Stand at the effector (3,) [m, base frame] while there was no goal yet."""
        if not self._placed and not self._draggers:
            self.position = effector_pos


def _same(one: Vector | None, other: Vector | None) -> bool:
    if one is None or other is None:
        return one is other
    return bool(np.abs(one - other).max() <= SAME)


def read_goal(text: str) -> Vector | None:
    """The position (3,) [m] in a status value 'x y z'; None if it holds no goal."""
    try:
        goal = np.array([float(word) for word in text.split()])
    except ValueError:
        return None
    return goal if goal.shape == (3,) and np.isfinite(goal).all() else None
