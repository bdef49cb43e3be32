"""From goals and joint positions to a command: policy, joint limits, distances."""

import math

import numpy as np
from numpy.typing import NDArray

from polyreach_description import Robot
from polyreach_description.limits import REACTION_PERIODS
from polyreach_description.policy_tensors import PolicyInputs, PolicyOutputs
from polyreach_nodes.control.goals import Goals
from polyreach_nodes.control.limits import JointLimits
from polyreach_nodes.control.policy import Policy
from polyreach_nodes.control.progress import ProgressChecker
from polyreach_nodes.control.proximity import Proximity
from polyreach_nodes.control.tracking_monitor import TrackingMonitor

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
        self._memory: Vector | None = None  # of the policy; None: zeros

    def set_reaction(self, reaction_s: float) -> None:
        """Time [s] after which joints follow a command."""
        self.limits.reaction_s = self.proximity.reaction_s = self.tracking.reaction_s = reaction_s

    def stop(self) -> Vector:
        """Zero velocities (nu,), at once; the next command starts from rest, and the policy without
        memory.
        """
        self.command = self.zero
        self._memory = None
        self.slowed = 1.0
        self.tracking.restart()
        return self.zero

    def brake(self, elapsed_s: float) -> Vector:
        """The command (nu,) that slows down as fast as the acceleration limits allow, elapsed_s [s]
        after the last one; the policy goes on without memory.
        """
        change = self.limits.change(max(0.0, elapsed_s))
        slower = self.command - np.minimum(np.maximum(self.command, -change), change)
        self.stop()
        if slower.any():
            self.command = slower
        return self.command

    def step(
        self,
        joint_pos: Vector,
        goals: Goals,
        elapsed_s: float,
        jog: Vector | None = None,
        obstacles: Vector | None = None,
    ) -> Vector:
        """The command (nu,) at joint_pos (nu,) [rad or m], elapsed_s [s] after the last one.

        Policy -> velocity, acceleration and position limits -> distances. Without goals, `jog`
        (nu,) [rad/s or m/s] takes the policy's place; without both, the joints slow down within
        their limits and hold. The policy then forgets its memory. obstacles: input of the policy.

        Raises ValueError for a policy output that is not finite, TrackingError if a joint does not
        track its commands.
        """
        wanted, output = self.zero, None
        if goals.any_active:
            output = self._compute(joint_pos, goals, obstacles)
            wanted = output.joint_vel.astype(np.float64)
        elif jog is not None:
            wanted, self._memory = jog, None
        elif self.command is self.zero:
            return self.stop()
        else:
            self._memory = None
        previous = self.command
        joint = self.tracking.untracked_joint(
            previous, joint_pos, min(elapsed_s, self.period_s), self.speed_scale
        )
        if joint >= 0:
            raise TrackingError(
                f"joint '{self.robot.joint_names[joint]}' does not track its command: "
                "are the drives on, and is their controller active?"
            )
        command = self.limits.apply(wanted, previous, joint_pos, self.speed_scale, elapsed_s)
        self.command, self.slowed = self.proximity.scale_command(
            command, previous, joint_pos, self.limits.change(elapsed_s)
        )
        if output is not None and self.progress.due(elapsed_s, self.speed_scale):
            self._check_progress(goals, joint_pos, wanted)
        return self.command

    def _compute(
        self, joint_pos: Vector, goals: Goals, obstacles: Vector | None
    ) -> PolicyOutputs[NDArray[np.float32]]:
        output = self.policy.compute(
            PolicyInputs(
                joint_pos=joint_pos,
                goals=goals.targets,
                active=goals.active,
                previous_joint_vel=self.command,
                goal_orientations=goals.target_orientations,
                oriented=goals.oriented,
                obstacles=obstacles,
                memory=self._memory,
            )
        )
        joint_vel = output.joint_vel.tolist()
        if len(joint_vel) != len(self.zero) or not all(map(math.isfinite, joint_vel)):
            raise ValueError(f"policy output is {joint_vel}")
        if output.next_memory is not None and not np.isfinite(output.next_memory).all():
            raise ValueError("policy output 'next_memory' is not finite")
        self._memory = None if output.next_memory is None else output.next_memory.astype(float)
        return output

    def _check_progress(self, goals: Goals, joint_pos: Vector, wanted: Vector) -> None:
        distances, angles = goals.errors(joint_pos)
        self.progress.update(
            distances[goals.active > 0].tolist(),
            angles[goals.oriented > 0].tolist(),
            joint_pos,
            wanted,
            self.command,
            self.speed_scale,
            self.slowed,
            lambda: self.proximity.reason or self.proximity.nearest(joint_pos),
        )

    @property
    def slowed_reason(self) -> str:
        """Why distances slowed the last command; '' if they did not."""
        if self.slowed >= 1.0:
            return ""
        return f"slowed to {100 * self.slowed:.0f} %: {self.proximity.reason}"
