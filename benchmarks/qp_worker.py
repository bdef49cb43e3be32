"""Differential inverse kinematics of mink, a quadratic program per control period. This file runs
in the environment of requirements-qp.txt, as a process that benchmarks/qp_controller.py starts.

Messages are pickles: a Problem as a dict, at first and whenever it changes, or the arguments of
`commands`, which are answered.
"""

from dataclasses import dataclass
from time import process_time
from typing import Any

import mink
import mujoco
import numpy as np
from numpy.typing import NDArray
from worker_loop import serve

Array = NDArray[np.float64]
SOLVER = "daqp"


@dataclass(frozen=True)
class Problem:
    """What a worker solves; see QPSettings for the settings. nu controlled joints move the model's
    nv joints, themselves included, to ratios @ joint_pos + offsets; E effectors.
    """

    mjcf: str
    pairs: list[tuple[str, str, float]]  # geoms, and the distance [m] at which they stop
    obstacle_pairs: list[tuple[str, str]]  # a geom and an obstacle
    obstacle_distance: float  # [m] at which these stop
    home: Array  # (nu,) [rad or m]
    ratios: Array  # (nv, nu)
    offsets: Array  # (nv,) [rad or m]
    controlled: NDArray[np.int64]  # (nu,) where they are among the model's joints
    joint_pos_limits: Array  # (nu, 2) [rad or m]
    joint_vel_limits: Array  # (nu,) [rad/s or m/s]
    joint_acc_limits: Array  # (nu,) [rad/s^2 or m/s^2]
    period: float  # [s]
    effector_goals: list[str]  # (E,) position, axis or pose
    effector_axes: Array  # (E, 3) unit vectors of the effectors' frames
    goal_gain: float
    deceleration: float
    orientation_cost: float
    damping: float
    posture_cost: float
    posture_gain: float
    collision_gain: float
    parting_speed: float
    detection_distance: float
    obstacle_gain: float
    obstacle_detection: float


class JointLimit(mink.Limit):
    """Bounds of each controlled joint's displacement in a period, from its velocity, acceleration
    and position limits: none is so fast that it could not stop before its position limit.
    """

    def __init__(self, problem: Problem) -> None:
        self.low, self.high = problem.joint_pos_limits.T
        self.speed, self.acceleration = problem.joint_vel_limits, problem.joint_acc_limits
        self.joint_pos, self.before = problem.home, np.zeros(len(problem.home))
        self.limits_acceleration = True
        rows = np.eye(len(problem.ratios))[problem.controlled]  # (nu, nv)
        self.rows = np.vstack([rows, -rows])

    def compute_qp_inequalities(
        self, configuration: mink.Configuration, dt: float
    ) -> mink.Constraint:
        """Rows (2 nu, nv) and bounds (2 nu,), at joint_pos (nu,) [rad or m] after the velocities
        `before` (nu,) [rad/s or m/s].
        """
        change = self.acceleration * dt if self.limits_acceleration else np.inf
        low = np.maximum(-self.speed, self.before - change)
        high = np.minimum(self.speed, self.before + change)
        high = np.clip(self._stopping_speed(self.high - self.joint_pos, dt), low, high)
        low = np.clip(-self._stopping_speed(self.joint_pos - self.low, dt), low, high)
        return mink.Constraint(self.rows, dt * np.concatenate([high, -low]))

    def _stopping_speed(self, distance: Array, dt: float) -> Array:
        # a joint that slows down by a dt in each period stops within v^2 / (2 a) + v dt / 2
        half = self.acceleration * dt / 2
        return np.sqrt(half**2 + 2 * self.acceleration * np.maximum(distance, 0.0)) - half


class CouplingTask(mink.Task):
    """A constraint: joints that follow others move in proportion to them."""

    def __init__(self, problem: Problem) -> None:
        count = len(problem.ratios)
        followers = np.setdiff1d(np.arange(count), problem.controlled)
        super().__init__(cost=np.ones(len(followers)))
        # dq_follower - ratios dq_controlled = 0
        self.rows = np.eye(count)[followers]
        self.rows[:, problem.controlled] -= problem.ratios[followers]

    def compute_error(self, configuration: mink.Configuration) -> Array:
        """(F,) zeros: positions are set exactly."""
        return np.zeros(len(self.rows))

    def compute_jacobian(self, configuration: mink.Configuration) -> Array:
        """(F, nv)."""
        return self.rows


class PairLimit(mink.CollisionAvoidanceLimit):
    """mink's limit of the approach of two geoms, for the given pairs alone. Its bound is taken for
    a displacement, as mink's other limits are, and rows of pairs out of range are left out.
    """

    def _construct_geom_id_pairs(self, geom_pairs: Any) -> list[tuple[int, int]]:
        return [
            (self.model.geom(first).id, self.model.geom(second).id) for first, second in geom_pairs
        ]

    def compute_qp_inequalities(
        self, configuration: mink.Configuration, dt: float
    ) -> mink.Constraint:
        """Rows (K, nv) and bounds (K,), or none."""
        rows, bounds = super().compute_qp_inequalities(configuration, 1.0)
        near = np.isfinite(bounds)
        return mink.Constraint(rows[near], bounds[near]) if near.any() else mink.Constraint()


class Worker:
    """One robot's program, for any number of states in turn."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        model = mujoco.MjModel.from_xml_string(problem.mjcf)
        self.configuration = mink.Configuration(model)
        self.joint_limit = JointLimit(problem)
        coupling = CouplingTask(problem)
        self.constraints = [coupling] if len(coupling.rows) else None
        self.limits: list[mink.Limit] = [self.joint_limit]
        for distance in sorted({pair[2] for pair in problem.pairs}):
            pairs = [pair[:2] for pair in problem.pairs if pair[2] == distance]
            self._keep_apart(pairs, distance, problem.collision_gain, problem.detection_distance)
        if problem.obstacle_pairs:
            self._keep_apart(
                problem.obstacle_pairs,
                problem.obstacle_distance,
                problem.obstacle_gain,
                problem.obstacle_detection,
            )
        self.tasks = [self._tasks(number) for number in range(len(problem.effector_goals))]
        self.posture = mink.PostureTask(
            model, cost=problem.posture_cost, gain=self._per_period(problem.posture_gain)
        )
        self.posture.set_target(problem.ratios @ problem.home + problem.offsets)

    def _keep_apart(
        self, pairs: list[tuple[str, str]], distance: float, gain: float, detection: float
    ) -> None:
        """Limit the approach of these geoms to `distance` [m]; gain: [1/s]."""
        self.limits.append(
            PairLimit(
                self.configuration.model,
                pairs,
                gain=self._per_period(gain),
                minimum_distance_from_collisions=distance,
                collision_detection_distance=max(detection, 2 * distance),
                bound_relaxation=-self.problem.parting_speed * self.problem.period,
            )
        )

    def _per_period(self, gain: float) -> float:
        """Share per period for a gain [1/s]."""
        return min(1.0, gain * self.problem.period)

    def _tasks(self, number: int) -> tuple[mink.FrameTask, mink.AxisAlignTask | None]:
        """The tasks of an effector: its position or pose, and the direction of its axis."""
        problem, site = self.problem, f"effector{number}"
        kind, gain = problem.effector_goals[number], self._per_period(problem.goal_gain)
        frame = mink.FrameTask(
            site,
            "site",
            position_cost=1.0,
            orientation_cost=problem.orientation_cost if kind == "pose" else 0.0,
            gain=gain,
        )
        if kind != "axis":
            return frame, None
        axis = problem.effector_axes[number]
        return frame, mink.AxisAlignTask(site, "site", axis, problem.orientation_cost, gain)

    def _approach_gain(self, error: Array) -> float:
        """Share of an error (3,) [m] that an effector covers in a period."""
        distance = max(float(np.linalg.norm(error)), 1e-9)
        # k = min(k_max, sqrt(2 a e) / e): with a deceleration a, the effector stops at the goal
        stopping = (2 * self.problem.deceleration / distance) ** 0.5
        return self._per_period(min(self.problem.goal_gain, stopping))

    def commands(
        self, joint_pos: Array, goals: Array, active: Array, previous: Array, timed: bool
    ) -> tuple[Array, list[float]]:
        """Velocities (N, nu) [rad/s or m/s] and, if `timed`, the N CPU times [s].

        joint_pos: (N, nu). goals: poses (N, E, 7), unit quaternion w x y z and position [m], world
        frame. active: (N, E). previous: the velocities of the period before (N, nu).
        """
        velocities, seconds = np.empty_like(joint_pos), list[float]()
        for row in range(len(joint_pos)):
            start = process_time() if timed else 0.0
            velocities[row] = self._command(
                joint_pos[row], goals[row], active[row] > 0, previous[row]
            )
            if timed:
                seconds.append(process_time() - start)
        return velocities, seconds

    def _command(
        self, joint_pos: Array, goals: Array, active: NDArray[np.bool_], previous: Array
    ) -> Array:
        problem, configuration, limit = self.problem, self.configuration, self.joint_limit
        limit.joint_pos, limit.before = np.clip(joint_pos, limit.low, limit.high), previous
        configuration.update(problem.ratios @ limit.joint_pos + problem.offsets)
        tasks: list[mink.BaseTask] = [self.posture]
        for number in np.flatnonzero(active):
            frame, direction = self.tasks[number]
            pose = mink.SE3(wxyz_xyz=goals[number])
            frame.set_target(pose)
            frame.gain = self._approach_gain(
                configuration.data.site(frame.frame_name).xpos - goals[number, 4:]
            )
            tasks.append(frame)
            if direction is not None:
                direction.set_target(pose.rotation().apply(direction.axis))
                tasks.append(direction)
        for limited in (True, False):  # without a solution, a faster change is better than none
            limit.limits_acceleration = limited
            try:
                velocity: Array = mink.solve_ik(
                    configuration,
                    tasks,
                    problem.period,
                    SOLVER,
                    damping=problem.damping,
                    limits=self.limits,
                    constraints=self.constraints,
                )
                return velocity[problem.controlled]
            except mink.NoSolutionFound:
                pass
        return np.zeros_like(joint_pos)


def main() -> None:
    """Answer messages until the input ends."""
    serve(lambda message: Worker(Problem(**message)).commands)


if __name__ == "__main__":
    main()
