"""Differential inverse kinematics of mink, a quadratic program per control period. This file runs
in the environment of requirements-qp.txt, as a process that benchmarks/qp_controller.py starts.

Messages are pickles, each way: first the Problem as a dict, then the arguments of `commands`.
"""

import os
import pickle
import sys
from dataclasses import dataclass
from time import process_time
from typing import Any

import mink
import mujoco
import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
SOLVER = "daqp"


@dataclass(frozen=True)
class Problem:
    """What a worker solves; see QPSettings for the settings. nu joints, E effectors."""

    mjcf: str
    pairs: list[tuple[str, str, float]]  # geoms, and the distance [m] at which they stop
    home: Array  # (nu,) [rad or m]
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


class JointLimit(mink.Limit):
    """Bounds of each joint's displacement in a period, from its velocity, acceleration and position
    limits: none is so fast that it could not stop before its position limit.
    """

    def __init__(self, model: mujoco.MjModel, problem: Problem) -> None:
        self.low, self.high = model.jnt_range.T
        self.speed, self.acceleration = problem.joint_vel_limits, problem.joint_acc_limits
        self.before = np.zeros(model.nv)  # velocity of the period before [rad/s or m/s]
        self.limits_acceleration = True
        self.rows = np.vstack([np.eye(model.nv), -np.eye(model.nv)])

    def compute_qp_inequalities(
        self, configuration: mink.Configuration, dt: float
    ) -> mink.Constraint:
        """Rows (2 nv, nv) and bounds (2 nv,)."""
        change = self.acceleration * dt if self.limits_acceleration else np.inf
        low = np.maximum(-self.speed, self.before - change)
        high = np.minimum(self.speed, self.before + change)
        high = np.clip(self._stopping_speed(self.high - configuration.q, dt), low, high)
        low = np.clip(-self._stopping_speed(configuration.q - self.low, dt), low, high)
        return mink.Constraint(self.rows, dt * np.concatenate([high, -low]))

    def _stopping_speed(self, distance: Array, dt: float) -> Array:
        # a joint that slows down by a dt in each period stops within v^2 / (2 a) + v dt / 2
        half = self.acceleration * dt / 2
        return np.sqrt(half**2 + 2 * self.acceleration * np.maximum(distance, 0.0)) - half


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
        self.joint_limit = JointLimit(model, problem)
        self.limits: list[mink.Limit] = [self.joint_limit]
        for distance in sorted({pair[2] for pair in problem.pairs}):
            pairs = [pair[:2] for pair in problem.pairs if pair[2] == distance]
            self.limits.append(
                PairLimit(
                    model,
                    pairs,
                    gain=self._per_period(problem.collision_gain),
                    minimum_distance_from_collisions=distance,
                    collision_detection_distance=max(problem.detection_distance, 2 * distance),
                    bound_relaxation=-problem.parting_speed * problem.period,
                )
            )
        self.tasks = [self._tasks(number) for number in range(len(problem.effector_goals))]
        self.posture = mink.PostureTask(
            model, cost=problem.posture_cost, gain=self._per_period(problem.posture_gain)
        )
        self.posture.set_target(problem.home)

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
        self, joint_pos: Array, goals: Array, active: Array, previous: Array
    ) -> tuple[Array, Array]:
        """Velocities (N, nu) [rad/s or m/s] and CPU times (N,) [s].

        joint_pos: (N, nu). goals: poses (N, E, 7), unit quaternion w x y z and position [m], world
        frame. active: (N, E). previous: the velocities of the period before (N, nu).
        """
        velocities, seconds = np.empty_like(joint_pos), np.empty(len(joint_pos))
        for row in range(len(joint_pos)):
            start = process_time()
            velocities[row] = self._command(
                joint_pos[row], goals[row], active[row] > 0, previous[row]
            )
            seconds[row] = process_time() - start
        return velocities, seconds

    def _command(
        self, joint_pos: Array, goals: Array, active: NDArray[np.bool_], previous: Array
    ) -> Array:
        configuration = self.configuration
        configuration.update(np.clip(joint_pos, self.joint_limit.low, self.joint_limit.high))
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
        self.joint_limit.before = previous
        for limited in (True, False):  # without a solution, a faster change is better than none
            self.joint_limit.limits_acceleration = limited
            try:
                velocity: Array = mink.solve_ik(
                    configuration,
                    tasks,
                    self.problem.period,
                    SOLVER,
                    damping=self.problem.damping,
                    limits=self.limits,
                )
                return velocity
            except mink.NoSolutionFound:
                pass
        return np.zeros_like(joint_pos)


def main() -> None:
    """Answer messages until the input ends."""
    requests, answers = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what libraries print must not be read as an answer
    worker = Worker(Problem(**pickle.load(requests)))
    while True:
        try:
            arguments = pickle.load(requests)
        except EOFError:
            return
        pickle.dump(worker.commands(*arguments), answers)
        answers.flush()


if __name__ == "__main__":
    main()
