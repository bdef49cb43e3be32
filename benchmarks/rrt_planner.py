"""Ways around obstacles: the multi-start planner's straight way where one is clear, RRT-Connect of
OMPL in an environment and a process of its own where none is.
"""

from dataclasses import asdict, dataclass
from time import process_time
from typing import Self

import numpy as np
from numpy.typing import NDArray

from benchmarks.kinematic_copy import collision_pairs, kinematic_mjcf, obstacle_pairs
from benchmarks.obstacle_scenes import Scene, SceneDistance
from benchmarks.worker_process import PYTHON, WorkerProcess
from polyreach.deploy.baselines.inverse_kinematics import InverseKinematics
from polyreach.deploy.baselines.multi_start import (
    EXACT,
    SOLVED,
    MultiStartConfig,
    MultiStartPlanner,
)
from polyreach.deploy.goal_sets import radii
from polyreach_description import Robot
from polyreach_description.distances import scaled_distances

MARGIN = 0.5  # share of the stop distance by which checked points are farther than it

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Plan:
    """Way points (P, nu) [rad or m], the start included, and the CPU time [s] that they took."""

    way: Array
    seconds: float


class MultiStartWays:
    """The multi-start planner with the obstacles in its checks: one straight way."""

    def __init__(self, robot: Robot, seed: int = 0) -> None:
        self.robot, self.config, self._seed = robot, MultiStartConfig(margin=MARGIN), seed

    def plan(self, scene: Scene) -> Plan:
        """The way to a goal reached or, where no way is clear, to the last clear point of one."""
        return self.plan_straight(scene)[0]

    def plan_straight(self, scene: Scene) -> tuple[Plan, bool]:
        """The same, and whether the goal is reached on a clear way."""
        robot, config = self.robot, self.config
        checked_m = (1.0 + config.margin) * robot.stop_distance
        distance = SceneDistance(robot, checked_m, scene.obstacles)
        planner = MultiStartPlanner(robot, config, self._seed, distance)
        begin = process_time()
        plans = planner.plan(scene.start[None], scene.goals)
        seconds = process_time() - begin
        return Plan(np.stack([scene.start, plans.targets[0]]), seconds), bool(plans.clear[0])


@dataclass(frozen=True)
class RRTSettings:
    """Settings of RRT-Connect."""

    step_s: float = 0.015
    """Distance between checked points, as the time [s] in which joints at full speed cover it."""
    range_s: float = 0.5
    """Largest extension of a tree, in the same unit [s]."""
    checks: int = 20_000
    """Number of checked configurations after which a search ends, about a second."""
    seed: int = 1
    """Seed of OMPL's random numbers, of each scene."""


class RRTWays:
    """MultiStartWays and, where it has no clear way, RRT-Connect to clear solutions of inverse
    kinematics from as many starts again; where that has none either, as MultiStartWays.

    A context manager, which ends its process on exit.
    """

    def __init__(self, robot: Robot, settings: RRTSettings | None = None, seed: int = 0) -> None:
        """Raises RuntimeError if the environment is missing."""
        self._settings, self._seed = settings or RRTSettings(), seed
        self._robot, self._straight = robot, MultiStartWays(robot, seed)
        strict, config = radii(robot)[0], self._straight.config
        self._exact = EXACT * strict
        self._solver = InverseKinematics(robot, config.iterations, SOLVED * strict)
        self._worker = WorkerProcess(PYTHON, "rrt_worker.py")

    def plan(self, scene: Scene) -> Plan:
        """Way points; see the class."""
        plan, clear = self._straight.plan_straight(scene)
        if clear:
            return plan
        rng = np.random.default_rng((self._seed, 1))
        low, high = self._robot.joint_pos_limits.T
        self._worker.send(self._space(scene))
        begin = process_time()
        starts = rng.uniform(low, high, (self._straight.config.starts, len(low)))
        solutions = self._solver.solve(np.vstack([scene.start, starts])[None], scene.goals)
        ends = solutions.joint_pos[0, solutions.error[0] < self._exact]
        seconds = plan.seconds + process_time() - begin
        self._worker.send((scene.start, ends))
        way, searched_s = self._worker.receive()
        return Plan(plan.way if way is None else way, seconds + searched_s)

    def _space(self, scene: Scene) -> dict[str, object]:
        """The fields of a Space; see benchmarks/rrt_worker.py."""
        robot, obstacles = self._robot, scene.obstacles
        stop, bodies = robot.stop_distance, robot.model.geom_bodyid
        kept = (1.0 + self._straight.config.margin) * stop
        distances = scaled_distances(robot.pair_distances, stop, kept)
        return {
            **asdict(self._settings),
            "mjcf": kinematic_mjcf(robot, obstacles),
            "pairs": [
                *(
                    (f"geom{a}", f"geom{b}", float(distances[bodies[a], bodies[b]]))
                    for a, b in collision_pairs(robot)
                ),
                *((*pair, kept) for pair in obstacle_pairs(robot, obstacles)),
            ],
            "ratios": robot.moved.ratios,
            "offsets": robot.moved.offsets,
            "joint_pos_limits": robot.joint_pos_limits,
            "joint_vel_limits": robot.joint_vel_limits,
        }

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._worker.__exit__(*exception)
