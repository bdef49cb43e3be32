"""A quadratic program as a controller: mink in an environment and a process of its own."""

import pickle
import subprocess
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.kinematic_copy import collision_pairs, kinematic_mjcf
from polyreach_description import Robot
from polyreach_description.contract import PolicyInputs
from polyreach_description.distances import scaled_distances
from polyreach_description.orientation import matrices, quaternions

ROOT = Path(__file__).parents[1]
PYTHON = ROOT / ".venv-qp" / "bin" / "python"

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


class QPController:
    """Robots that a quadratic program per control period drives, one at a time.

    A context manager, which ends its process on exit. `times` are the CPU times [s] of all programs
    so far.
    """

    def __init__(self, robot: Robot, settings: QPSettings | None = None) -> None:
        """Raises RuntimeError if the environment is missing."""
        if not PYTHON.exists():
            raise RuntimeError(f"'{PYTHON}' is missing: make it with `make qp`")
        self.robot, self.times = robot, list[float]()
        settings = QPSettings() if settings is None else settings
        values = asdict(settings)
        stop = robot.stop_distance
        distances = scaled_distances(
            robot.pair_distances, stop, (1.0 + values.pop("clearance")) * stop
        )
        bodies = robot.model.geom_bodyid
        data = robot.data_at_home()
        self._base_pos = data.xpos[robot.base_body].copy()
        self._base_rotation = data.xmat[robot.base_body].reshape(3, 3).copy()
        self._process = subprocess.Popen(
            [str(PYTHON), str(ROOT / "benchmarks" / "qp_worker.py")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        self._send(
            {
                **values,
                "mjcf": kinematic_mjcf(robot),
                "pairs": [
                    (f"geom{a}", f"geom{b}", float(distances[bodies[a], bodies[b]]))
                    for a, b in collision_pairs(robot)
                ],
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
                "deceleration": settings.deceleration * robot.reach,
                "parting_speed": settings.parting_speed * stop,
                "detection_distance": settings.detection_distance * stop,
            }
        )

    def reset(self, rows: int) -> None:
        """Nothing is kept between two calls."""

    def command(self, inputs: PolicyInputs[Array]) -> Array:
        """Joint velocities (N, nu) [rad/s or m/s]. Raises RuntimeError if the process ended."""
        orientations, before = inputs.goal_orientations, inputs.previous_joint_vel
        assert orientations is not None and before is not None
        positions = inputs.goals @ self._base_rotation.T + self._base_pos
        rotations = quaternions(self._base_rotation @ matrices(orientations))  # x y z w
        poses = np.concatenate([rotations[..., [3, 0, 1, 2]], positions], axis=-1)
        self._send((inputs.joint_pos, poses, inputs.active, before))
        assert self._process.stdout is not None
        try:
            velocities, times = pickle.load(self._process.stdout)
        except EOFError:
            raise self._ended() from None
        self.times.extend(times.tolist())
        result: Array = velocities
        return result

    def _send(self, message: Any) -> None:
        assert self._process.stdin is not None
        try:
            pickle.dump(message, self._process.stdin)
            self._process.stdin.flush()
        except BrokenPipeError:
            raise self._ended() from None

    def _ended(self) -> RuntimeError:
        return RuntimeError(f"'{PYTHON}' ended with status {self._process.wait()}")

    def __enter__(self) -> "QPController":
        return self

    def __exit__(self, *exception: object) -> None:
        self._process.communicate()
