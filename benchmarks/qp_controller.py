"""A quadratic program as a controller: mink in an environment and a process of its own."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from benchmarks.kinematic_copy import collision_pairs, kinematic_mjcf, obstacle_pairs
from benchmarks.worker_process import PYTHON, WorkerProcess
from polyreach_description import Robot
from polyreach_description.distances import scaled_distances
from polyreach_description.orientation import matrices, quaternions
from polyreach_description.policy_tensors import PolicyInputs
from polyreach_nodes.control.obstacle import Obstacle

Array = NDArray[np.float64]


@dataclass(frozen=True)
class QPSettings:
    """Settings of the program; `python -m benchmarks.qp_search` varies them one by one."""

    goal_gain: float = 15.0
    """Largest share of its error that an effector covers per second [1/s]."""
    deceleration: float = 3.0
    """Deceleration with which effectors approach their goals, in reaches of the robot [1/s^2]."""
    orientation_cost: float = 0.2
    """Cost of an angle [rad], relative to a distance [m]."""
    damping: float = 1e-3
    """Cost of a joint's squared displacement."""
    posture_cost: float = 3e-3
    """Cost of a joint's deviation from its course to home, relative to an effector's from its
    course to the goal.
    """
    posture_gain: float = 1.0
    """Share of its way home that a joint covers per second [1/s]."""
    collision_gain: float = 5.0
    """Share of the distance left by which two geoms approach per second [1/s]."""
    clearance: float = 0.2
    """Share of the stop distance by which geoms are kept farther apart than it."""
    parting_speed: float = 1.0
    """Stop distances per second by which geoms that are nearer than that part [1/s]."""
    detection_distance: float = 10.0
    """Stop distances below which two geoms count."""
    obstacle_gain: float = 3.0
    """As collision_gain, of a geom and an obstacle [1/s]."""
    obstacle_detection: float = 0.4
    """Reaches of the robot below which a geom and an obstacle count."""


class QPController:
    """Robots that a quadratic program per control period drives, one at a time.

    A context manager, which ends its process on exit. `times` are the CPU times [s] of all programs
    so far that were solved while `timed` was set.
    """

    def __init__(self, robot: Robot, settings: QPSettings | None = None) -> None:
        """Raises RuntimeError if the environment is missing."""
        self.robot, self.times, self.timed = robot, list[float](), True
        self._settings = QPSettings() if settings is None else settings
        data = robot.data_at_home()
        self._base_pos = data.xpos[robot.base_body].copy()
        self._base_rotation = data.xmat[robot.base_body].reshape(3, 3).copy()
        self._worker = WorkerProcess(PYTHON, "qp_worker.py")
        self.set_obstacles(())

    def set_obstacles(self, obstacles: Sequence[Obstacle]) -> None:
        """Replace the obstacles, which count in the program as bodies of the robot do."""
        self._worker.send(self._problem(obstacles))

    def _problem(self, obstacles: Sequence[Obstacle]) -> dict[str, Any]:
        """The fields of a Problem; see benchmarks/qp_worker.py."""
        robot, values = self.robot, asdict(self._settings)
        stop = robot.stop_distance
        kept = (1.0 + values.pop("clearance")) * stop
        distances = scaled_distances(robot.pair_distances, stop, kept)
        bodies = robot.model.geom_bodyid
        return {
            **values,
            "mjcf": kinematic_mjcf(robot, obstacles),
            "pairs": [
                (f"geom{a}", f"geom{b}", float(distances[bodies[a], bodies[b]]))
                for a, b in collision_pairs(robot)
            ],
            "obstacle_pairs": obstacle_pairs(robot, obstacles),
            "obstacle_distance": kept,
            "home": robot.home,
            "ratios": robot.moved.ratios,
            "offsets": robot.moved.offsets,
            "controlled": robot.moved.controlled,
            "joint_pos_limits": robot.joint_pos_limits,
            "joint_vel_limits": robot.joint_vel_limits,
            "joint_acc_limits": robot.joint_acc_limits,
            "period": 1.0 / robot.control_rate,
            "effector_goals": list(robot.effector_goals),
            "effector_axes": robot.effector_axes,
            "deceleration": values["deceleration"] * robot.reach,
            "parting_speed": values["parting_speed"] * stop,
            "detection_distance": values["detection_distance"] * stop,
            "obstacle_detection": values["obstacle_detection"] * robot.reach,
        }

    def reset(self, rows: int) -> None:
        """Nothing is kept between two calls."""

    def command(self, inputs: PolicyInputs[Array]) -> Array:
        """Joint velocities (N, nu) [rad/s or m/s]. Raises RuntimeError if the process ended."""
        orientations, before = inputs.goal_orientations, inputs.previous_joint_vel
        assert orientations is not None and before is not None
        positions = inputs.goals @ self._base_rotation.T + self._base_pos
        rotations = quaternions(self._base_rotation @ matrices(orientations))  # x y z w
        poses = np.concatenate([rotations[..., [3, 0, 1, 2]], positions], axis=-1)
        self._worker.send((inputs.joint_pos, poses, inputs.active, before, self.timed))
        velocities, times = self._worker.receive()
        self.times.extend(times)
        result: Array = velocities
        return result

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._worker.__exit__(*exception)
