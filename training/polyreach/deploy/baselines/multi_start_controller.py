"""Drives robots by plans of the multi-start planner, which take their time."""

import copy

import numpy as np
from numpy.typing import NDArray

from polyreach.deploy.baselines.multi_start import MultiStartPlanner
from polyreach.deploy.baselines.straight_line import StraightLineMotion
from polyreach.deploy.goal_sets import Goals, radii
from polyreach_description import Robot
from polyreach_description.contract import PolicyInputs

Array = NDArray[np.float64]

GAIN = 6.0  # [1/s] at which deviations from where the robot was commanded to are corrected
REST = 0.05  # share of the velocity limits below which it counts as at rest
NEARBY = 5.0  # coarsest radii between two goals of an effector that moves on rather than jumps
SAME = 1e-6  # [m] or of a quaternion's components


class MultiStartController:
    """A plan is made whenever the goals differ from those of the last one and no plan is under way.
    The robot follows it once its computing time is over; until then it goes on as before.

    For goals that are near those of the last plan, only the current configuration and the last
    target are starts; if that gives no clear way, all starts are used, which takes longer.
    plan_s, follow_s: (K,) computing times [s] of such plans, used in turn.
    """

    def __init__(
        self, robot: Robot, planner: MultiStartPlanner, plan_s: Array, follow_s: Array
    ) -> None:
        self._robot, self._planner = robot, planner
        self._plan_s, self._follow_s = plan_s, follow_s
        self._nearby = NEARBY * radii(robot)[-1]
        self.plans = 0

    def reset(self, rows: int) -> None:
        """Start with `rows` robots at rest."""
        self._motion: StraightLineMotion | None = None
        self._ready = np.full(rows, -1)  # period in which a plan is ready; -1: none under way
        self._tick = 0
        self.plans = 0

    def command(self, inputs: PolicyInputs[Array]) -> Array:
        """Joint velocities (N, nu) [rad/s or m/s]."""
        orientations = inputs.goal_orientations
        assert orientations is not None
        goals = Goals(inputs.goals, orientations, inputs.active)
        if self._motion is None:
            self._motion = StraightLineMotion(self._robot, inputs.joint_pos)
            self._targets, self._next = inputs.joint_pos.copy(), inputs.joint_pos.copy()
            self._planned = np.full((*goals.positions.shape[:2], 7), np.inf)
        self._take_over(inputs)
        ready = self._ready == self._tick
        self._targets[ready], self._ready[ready] = self._next[ready], -1
        poses = np.concatenate([goals.positions, goals.orientations], axis=-1)
        distance = np.abs(poses - self._planned).max(axis=(1, 2))  # (N,)
        start = (self._ready < 0) & (distance > SAME)
        near = start & (distance < self._nearby)
        self._plan(np.flatnonzero(start & ~near), goals, poses, follow=False)
        self._plan(np.flatnonzero(near), goals, poses, follow=True)
        self._tick += 1
        return self._motion.step(self._targets).copy()

    def _take_over(self, inputs: PolicyInputs[Array]) -> None:
        """Let the motion go on from what was commanded, which may be less than it asked for.

        That is the sum of the commands. The measured state is behind it, because servos follow
        late, but as far: what deviates along the motion is corrected only at rest.
        """
        motion, before = self._motion, inputs.previous_joint_vel
        assert motion is not None and before is not None
        motion.joint_pos += (before - motion.joint_vel) * motion.period_s
        motion.joint_vel = before.copy()
        deviation = inputs.joint_pos - motion.joint_pos
        rests = (np.abs(before) < REST * self._robot.joint_vel_limits).all(axis=1, keepdims=True)
        square = np.maximum((before * before).sum(axis=1, keepdims=True), 1e-12)
        along = (deviation * before).sum(axis=1, keepdims=True) / square * before
        motion.joint_pos += GAIN * motion.period_s * (deviation - np.where(rests, 0.0, along))

    def _plan(self, rows: NDArray[np.int64], goals: Goals, poses: Array, follow: bool) -> None:
        """Begin to plan for the robots `rows`, from where they will be when the plan is ready."""
        if not len(rows):
            return
        assert self._motion is not None
        wanted = goals.rows(rows)
        times = self._times(self._follow_s if follow else self._plan_s, len(rows))
        ahead = self._ahead(rows, times)
        if follow:
            plans = self._planner.follow(ahead, self._targets[rows], wanted)
            again = np.flatnonzero(~plans.clear)
            if len(again):
                times[again] += self._times(self._plan_s, len(again))
                ahead[again] = self._ahead(rows[again], times[again])
                others = self._planner.plan(ahead[again], wanted.rows(again))
                plans.targets[again] = others.targets
        else:
            plans = self._planner.plan(ahead, wanted)
        self._next[rows], self._planned[rows] = plans.targets, poses[rows]
        self._ready[rows] = self._tick + np.ceil(times * self._robot.control_rate).astype(int)

    def _times(self, measured: Array, count: int) -> Array:
        self.plans += count
        return measured[(self.plans + np.arange(count)) % len(measured)]

    def _ahead(self, rows: NDArray[np.int64], times: Array) -> Array:
        """Where the robots `rows` will be after `times` (R,) [s], (R, nu)."""
        assert self._motion is not None
        motion = copy.copy(self._motion)
        motion.joint_pos, motion.joint_vel = motion.joint_pos[rows], motion.joint_vel[rows]
        periods = np.ceil(times * self._robot.control_rate)
        result = motion.joint_pos.copy()
        for period in range(int(periods.max())):
            motion.step(self._targets[rows])
            now = periods >= period + 1
            result[now] = motion.joint_pos[now]
        return result
