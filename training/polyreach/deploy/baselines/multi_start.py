"""The baseline with planning: inverse kinematics from many random starts, the nearest solution to
which the straight way is clear of the robot's own bodies, then straight there.
"""

import time
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from polyreach.deploy.baselines.inverse_kinematics import InverseKinematics
from polyreach.deploy.baselines.straight_line import least_duration
from polyreach.deploy.goal_sets import Goals, radii
from polyreach.errors import check_range
from polyreach.robot.self_distance import SelfDistance
from polyreach_description import Robot

Array = NDArray[np.float64]

BLOCKED_CANDIDATES = 8  # the nearest of them, from which to choose where none is clear
SOLVED = 0.05  # share of the strictest radius at which a start needs no further iterations
EXACT = 0.5  # share of it below which a solution is one


@dataclass(frozen=True)
class MultiStartConfig:
    """How the planner works."""

    starts: int = 20
    """Number of random starts, besides the current configuration."""
    points: int = 15
    """Number of points on the straight way that are checked, the end included."""
    iterations: int = 30
    """Largest number of iterations of damped least squares."""
    margin: float = 0.1
    """Share of the stop distance by which checked points are farther than it."""

    def __post_init__(self) -> None:
        """Raise UserError for a value that no planner can have."""
        check_range("starts", self.starts, 0)
        check_range("points", self.points, 1)
        check_range("iterations", self.iterations, 1)
        check_range("margin", self.margin, 0.0)


class Plans(NamedTuple):
    """Where N robots go straight: targets (N, nu) [rad or m], and whether they are goals reached on
    a clear way (N,); else they are the last clear points of ways to goals.
    """

    targets: Array
    clear: NDArray[np.bool_]


class CloseAtStart(NamedTuple):
    """Pairs of bodies that are close where a way starts."""

    within_margin: set[tuple[int, int]]
    within_stop: set[tuple[int, int]]


class MultiStartPlanner:
    """Plans for goal sets, with random starts drawn from `seed`."""

    def __init__(
        self,
        robot: Robot,
        config: MultiStartConfig,
        seed: int = 0,
        distance: SelfDistance | None = None,
    ) -> None:
        """distance: what counts as close, by default bodies within the stop distance and margin."""
        self._robot, self._config = robot, config
        strict = radii(robot)[0]
        self._exact = EXACT * strict
        self._solver = InverseKinematics(robot, config.iterations, SOLVED * strict)
        checked_m = (1.0 + config.margin) * robot.stop_distance
        self._distance = distance or SelfDistance(robot, checked_m)
        self._stop_distance = SelfDistance(robot, robot.stop_distance)
        self._rng = np.random.default_rng(seed)

    def plan(self, joint_pos: Array, goals: Goals) -> Plans:
        """Plans of N robots at joint_pos (N, nu) [rad or m]."""
        low, high = self._robot.joint_pos_limits.T
        size = (len(joint_pos), self._config.starts, len(low))
        drawn = self._rng.uniform(low, high, size)
        return self._choose(joint_pos, np.concatenate([joint_pos[:, None], drawn], axis=1), goals)

    def follow(self, joint_pos: Array, targets: Array, goals: Goals) -> Plans:
        """Plans with two starts only: joint_pos and the targets of plans for goals nearby."""
        return self._choose(joint_pos, np.stack([joint_pos, targets], axis=1), goals)

    def plan_times(self, joint_pos: Array, goals: Goals, follow: bool = False) -> Array:
        """CPU time [s] of a plan for each of N goal sets on its own, (N,), on one thread."""
        threads, times = torch.get_num_threads(), np.zeros(len(joint_pos))
        torch.set_num_threads(1)
        for i in range(-1, len(joint_pos)):  # the first one twice, to warm up
            row = slice(max(0, i), max(0, i) + 1)
            begin = time.process_time()
            if follow:
                self.follow(joint_pos[row], joint_pos[row], goals.rows(row))
            else:
                self.plan(joint_pos[row], goals.rows(row))
            times[row] = time.process_time() - begin
        torch.set_num_threads(threads)
        return times

    def _choose(self, joint_pos: Array, starts: Array, goals: Goals) -> Plans:
        solutions = self._solver.solve(starts, goals)
        way = solutions.joint_pos - joint_pos[:, None]
        duration = least_duration(self._robot, way)  # (N, S) [s]
        exact = solutions.error < self._exact
        # where no solution is exact, the one of the least error comes first
        order = np.lexsort((duration, np.where(exact, 0.0, solutions.error)), axis=1)
        plans = [
            self._choose_one(start, candidates[rank], int(count))
            for start, candidates, rank, count in zip(
                joint_pos, solutions.joint_pos, order, exact.sum(axis=1), strict=True
            )
        ]
        targets, clear = zip(*plans, strict=True)
        return Plans(np.array(targets), np.array(clear))

    def _choose_one(self, start: Array, candidates: Array, exact: int) -> tuple[Array, bool]:
        """The target for candidates (S, nu), the best first, and whether it is one of the first
        `exact` ones on a clear way.
        """
        relaxed = CloseAtStart(
            self._distance.close_pairs(start), self._stop_distance.close_pairs(start)
        )
        shares = np.arange(1, self._config.points + 1) / self._config.points
        # most ways that are not clear are close at the end or in the middle
        checks = [1.0, *shares[_by_halves(len(shares) - 1)]]
        for end in candidates[:exact]:
            if all(self._is_clear(start + share * (end - start), relaxed) for share in checks):
                return end, True
        least, target = len(shares) + 1, start
        for end in candidates[: min(exact, BLOCKED_CANDIDATES) or 1]:
            points = start + shares[:, None] * (end - start)
            blocked = [not self._is_clear(point, relaxed) for point in points]
            if sum(blocked) < least:
                least, target = sum(blocked), end
                if any(blocked):
                    first = blocked.index(True)
                    target = points[first - 1] if first else start
        return target, False

    def _is_clear(self, joint_pos: Array, relaxed: CloseAtStart) -> bool:
        """Whether no pair is within the margin, but those that were at the start; of these, none
        may be within the stop distance, but those that were.
        """
        if not relaxed.within_margin:
            return self._distance.least_share(joint_pos) >= 1.0
        return (
            self._distance.close_pairs(joint_pos) <= relaxed.within_margin
            and self._stop_distance.close_pairs(joint_pos) <= relaxed.within_stop
        )


def _by_halves(count: int) -> list[int]:
    """0 to count - 1, the middle first, then the middles of the halves, and so on."""
    order, parts = [], [(0, count)]
    while parts:
        low, high = parts.pop(0)
        if low < high:
            middle = (low + high) // 2
            order.append(middle)
            parts += [(low, middle), (middle + 1, high)]
    return order
