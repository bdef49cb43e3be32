"""From goals and joint positions to a command: policy, joint limits, distances."""

import math

import numpy as np
from numpy.typing import NDArray

from polyreach_description import Robot
from polyreach_description.contract import PolicyInputs
from polyreach_nodes.control.goals import Goals
from polyreach_nodes.control.limits import JointLimits
from polyreach_nodes.control.policy import Policy
from polyreach_nodes.control.progress import ProgressChecker
from polyreach_nodes.control.proximity import Proximity
from polyreach_nodes.control.tracking_monitor import TrackingMonitor
from polyreach_nodes.parameters import REACTION_PERIODS

Vector = NDArray[np.float64]


class TrackingError(RuntimeError):
    """A joint does not track its command."""


class CommandPipeline:
    """Computes one command (nu,) [rad/s or m/s] after another, each within limits of the last."""

    def __init__(self, robot: Robot, policy: Policy) -> None:
        self.robot = robot
        self.policy = policy
        self.period_s = 1.0 / robot.control_rate
        self.limits = JointLimits(
            robot.joint_pos_limits, robot.joint_vel_limits, robot.joint_acc_limits, self.period_s
        )
        self.proximity = Proximity(robot, robot.slow_distance, robot.stop_distance)
        self.tracking = TrackingMonitor(robot.joint_vel_limits, REACTION_PERIODS * self.period_s)
        self.progress = ProgressChecker(
            robot.joint_names, robot.joint_vel_limits, self.limits.low, self.limits.high
        )
        self.speed_scale = 1.0
        self.slowed = 1.0  # factor by which distances slowed the last command
        self.zero: Vector = np.zeros(len(robot.joint_names))
        self.command: Vector = self.zero

    def set_reaction(self, reaction_s: float) -> None:
        """Time [s] after which joints follow a command."""
        self.limits.reaction_s = self.proximity.reaction_s = self.tracking.reaction_s = reaction_s

    def stop(self) -> Vector:
        """Zero velocities (nu,), at once; the next command starts from rest."""
        self.command = self.zero
        self.slowed = 1.0
        self.tracking.restart()
        return self.zero

    def step(self, joint_pos: Vector, goals: Goals, elapsed_s: float) -> Vector:
        """The command (nu,) at joint_pos (nu,) [rad or m], elapsed_s [s] after the last one.

        Policy -> velocity, acceleration and position limits -> distances. Without goals, the joints
        slow down within their limits and hold.

        Raises ValueError for a policy output that is not finite, TrackingError if a joint does not
        track its commands.
        """
        wanted, output = self.zero, None
        if goals.any_active:
            output = self.policy.compute(PolicyInputs(joint_pos, goals.positions, goals.active))
            wanted = output.joint_vel.astype(np.float64)
            if wanted.shape != self.zero.shape or not all(map(math.isfinite, wanted.tolist())):
                raise ValueError(f"policy output is {wanted.tolist()}")
        elif self.command is self.zero:
            return self.stop()
        previous = self.command
        joint = self.tracking.untracked_joint(
            previous, joint_pos, min(elapsed_s, self.period_s), self.speed_scale
        )
        if joint >= 0:
            raise TrackingError(
                f"joint '{self.robot.joint_names[joint]}' does not track its command: "
                "are the drives on, and is the velocity controller active?"
            )
        command = self.limits.apply(wanted, previous, joint_pos, self.speed_scale, elapsed_s)
        self.command, self.slowed = self.proximity.scale_command(
            command, previous, joint_pos, self.limits.change(elapsed_s)
        )
        if output is not None and self.progress.due(elapsed_s, self.speed_scale):
            self._check_progress(output.effector_pos.tolist(), goals, joint_pos, wanted)
        return self.command

    def _check_progress(
        self, effector_pos: list[list[float]], goals: Goals, joint_pos: Vector, wanted: Vector
    ) -> None:
        rows = zip(effector_pos, goals.positions.tolist(), goals.active.tolist(), strict=True)
        self.progress.update(
            [math.dist(position, goal) for position, goal, active in rows if active],
            joint_pos,
            wanted,
            self.command,
            self.speed_scale,
            self.slowed,
            self.proximity.reason,
        )

    @property
    def slowed_reason(self) -> str:
        """Why distances slowed the last command; '' if they did not."""
        if self.slowed >= 1.0:
            return ""
        return f"slowed to {100 * self.slowed:.0f} %: {self.proximity.reason}"
