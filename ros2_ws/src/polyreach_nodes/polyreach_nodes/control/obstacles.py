"""The obstacles around the robot: accepted or refused with a reason, deleted, expired."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from polyreach_description import Robot
from polyreach_nodes.control.goal_frames import LinkFrames
from polyreach_nodes.control.nearest_obstacles import NearestObstacles
from polyreach_nodes.control.obstacle import Obstacle, Point
from polyreach_nodes.control.obstacle_clearance import MAX_OBSTACLES
from polyreach_nodes.control.obstacle_markers import (
    Action,
    MarkerError,
    MarkerFields,
    check_action,
    read_obstacle,
)
from polyreach_nodes.control.proximity import Proximity

MAX_MARKERS = 4 * MAX_OBSTACLES  # in one message
MAX_SPEED = 5.0  # [m/s]; what is faster counts as of this speed
VELOCITY_TIMEOUT_S = 0.5  # [s] after which an obstacle that is not sent again counts as at rest

Vector = NDArray[np.float64]


@dataclass(frozen=True)
class _Entry:
    obstacle: Obstacle
    received_s: float
    expires_s: float
    slot: int


class Obstacles:
    """Up to MAX_OBSTACLES obstacles; times are seconds on a monotonic clock, at receipt.

    The velocity of an obstacle is that between its last two places, until VELOCITY_TIMEOUT_S after
    the last.
    """

    def __init__(self, robot: Robot, proximity: Proximity, links: LinkFrames) -> None:
        """proximity: keeps the robot away from the obstacles. links: frames that they may have."""
        self.refusal = ""  # why the last message was refused, until one is accepted
        self._robot = robot
        self._proximity = proximity
        self._links = links
        self._period_s = 1.0 / robot.control_rate
        self._entries: dict[str, _Entry] = {}  # by the name of the obstacle
        self._nearest: NearestObstacles | None = None  # None: not made since they changed
        self._next_s = math.inf  # when the next obstacle expires, or counts as at rest
        self._moving_since_s = math.inf  # receipt of the oldest place of those that move

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def by_slot(self) -> dict[int, Obstacle]:
        """The obstacles by number, 0 to MAX_OBSTACLES - 1, which does not change."""
        return {entry.slot: entry.obstacle for entry in self._entries.values()}

    def take(self, markers: Sequence[MarkerFields], now_s: float, joint_pos: Vector | None) -> str:
        """Take all markers of a message in their order, or none; returns why it was refused, or ''.

        joint_pos: (nu,) [rad or m]; None without a valid joint state.
        """
        self.expire(now_s)
        try:
            entries = self._changed(markers, now_s, joint_pos)
        except ValueError as error:
            self.refusal = f"obstacles refused: {error}"
            return self.refusal
        self.refusal = ""
        self._replace(entries)
        return ""

    def nearest(self, joint_pos: Vector, now_s: float) -> Vector | None:
        """The nearest obstacles as an input of policies, (8, 11), with the robot at joint_pos (nu,)
        [rad or m]; None without any. See NearestObstacles.
        """
        if not self._entries:
            return None
        if self._nearest is None:
            placed = ((entry.obstacle, entry.received_s) for entry in self._entries.values())
            self._nearest = NearestObstacles(placed)
        return self._nearest.at(now_s, lambda: self._proximity.spheres(joint_pos))

    def expire(self, now_s: float) -> None:
        """Delete obstacles at the end of their lifetime; called in every control period."""
        if now_s >= self._next_s:
            kept = {n: entry for n, entry in self._entries.items() if now_s < entry.expires_s}
            self._replace({n: _at_rest(entry, now_s) for n, entry in kept.items()})
        if self._moving_since_s < math.inf:
            self._proximity.obstacle_age_s = now_s - self._moving_since_s

    def _changed(
        self, markers: Sequence[MarkerFields], now_s: float, joint_pos: Vector | None
    ) -> dict[str, _Entry]:
        """The obstacles after a message. Raises ValueError."""
        if len(markers) > MAX_MARKERS:
            raise ValueError(f"more than {MAX_MARKERS} markers in one message")
        links_known = joint_pos is not None
        if joint_pos is not None and any(marker.frame in self._links for marker in markers):
            self._links.update(joint_pos)
        entries = dict(self._entries)
        for marker in markers:
            action = check_action(marker)
            if action is Action.DELETEALL:
                entries.clear()
            elif action is Action.DELETE:
                entries.pop(marker.name, None)
            else:
                obstacle = read_obstacle(marker, self._robot, self._links, links_known)
                before = entries.get(marker.name)
                if before is None and len(entries) == MAX_OBSTACLES:
                    raise MarkerError(marker, f"there are {MAX_OBSTACLES} obstacles, the most")
                slot = before.slot if before is not None else _free_slot(entries)
                velocity = self._velocity(obstacle, self._entries.get(marker.name), now_s)
                lifetime_s = marker.lifetime_s or math.inf
                entries[marker.name] = _Entry(
                    replace(obstacle, velocity=velocity), now_s, now_s + lifetime_s, slot
                )
        return entries

    def _velocity(self, obstacle: Obstacle, before: _Entry | None, now_s: float) -> Point:
        """Velocity [m/s, base frame] since the place before, if that was a moment ago."""
        if before is None or now_s - before.received_s >= VELOCITY_TIMEOUT_S:
            return 0.0, 0.0, 0.0
        # messages that were late may arrive at the same moment
        elapsed_s = max(now_s - before.received_s, self._period_s)
        places = zip(obstacle.position, before.obstacle.position, strict=True)
        velocity = [(after - place) / elapsed_s for after, place in places]
        excess = max(1.0, math.hypot(*velocity) / MAX_SPEED)
        x, y, z = (component / excess for component in velocity)
        return x, y, z

    def _replace(self, entries: dict[str, _Entry]) -> None:
        self._entries, self._nearest = entries, None
        moving = [entry.received_s for entry in entries.values() if entry.obstacle.speed]
        self._moving_since_s = min(moving, default=math.inf)
        at_rest_s = self._moving_since_s + VELOCITY_TIMEOUT_S
        expiries = (entry.expires_s for entry in entries.values())
        self._next_s = min([at_rest_s, *expiries])
        self._proximity.obstacle_age_s = 0.0
        self._proximity.set_obstacles(self.by_slot, VELOCITY_TIMEOUT_S)


def _at_rest(entry: _Entry, now_s: float) -> _Entry:
    """The entry, without a velocity that is too old."""
    if now_s < entry.received_s + VELOCITY_TIMEOUT_S:
        return entry
    return replace(entry, obstacle=replace(entry.obstacle, velocity=(0.0, 0.0, 0.0)))


def _free_slot(entries: dict[str, _Entry]) -> int:
    taken = {entry.slot for entry in entries.values()}
    return next(slot for slot in range(MAX_OBSTACLES) if slot not in taken)
