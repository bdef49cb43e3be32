"""Drives robots by plans of the multi-start planner, which take their time."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from polyreach.deploy.baselines.multi_start import MultiStartPlanner
from polyreach.deploy.goal_sets import Goals, radii
from polyreach.robot.straight_motion import StraightMotion
from polyreach_description import Robot
from polyreach_description.policy_tensors import PolicyInputs

Array = NDArray[np.float64]

NEARBY = 5.0  # coarsest radii between two goals of an effector that moves on rather than jumps
SAME = 1e-6  # [m] or of a quaternion's components
SMOOTHING = 0.15  # share of a new velocity in that of a target


class MultiStartController:
    """A plan is made whenever the goals differ from those of the last one and no plan is under way.
    The robot goes to its target once its computing time is over; until then it goes on as before.

    For goals that are near those of the last plan, only the current configuration and the last
    target are starts; if that gives no clear way, all starts are used, which takes longer. Between
    such plans the target moves on at its own velocity.
    plan_s, follow_s: (K,) computing times [s] of such plans, used in turn.
    """

    def __init__(
        self, robot: Robot, planner: MultiStartPlanner, plan_s: Array, follow_s: Array
    ) -> None:
        self._robot, self._planner = robot, planner
        self._plan_s, self._follow_s = plan_s, follow_s
        self._nearby = NEARBY * radii(robot)[-1]
        self._motion, self._period = StraightMotion(robot), 1.0 / robot.control_rate
        self.plans = 0

    def reset(self, rows: int) -> None:
        """Start with `rows` robots at rest."""
        shape = (rows, len(self._robot.joint_names))
        self._planned = np.full((rows, len(self._robot.effector_names), 7), np.inf)
        self._begun = np.zeros(rows, dtype=np.int64)  # period in which the last plan began
        self._ready = np.full(rows, -1)  # period in which a plan is ready; -1: none under way
        self._next, self._targets, self._drift = np.zeros((3, *shape))
        self._next_drift, self._joint_pos = np.zeros((2, *shape))
        self._response = self._motion.first_response(rows)
        self._tick = self.plans = 0

    def command(self, inputs: PolicyInputs[Array]) -> Array:
        """Joint velocities (N, nu) [rad/s or m/s]."""
        assert inputs.goal_orientations is not None and inputs.previous_joint_vel is not None
        goals = Goals(inputs.goals, inputs.goal_orientations, inputs.active)
        joint_pos, before = inputs.joint_pos, inputs.previous_joint_vel
        if self._tick == 0:
            self._targets, self._joint_pos = joint_pos.copy(), joint_pos.copy()
        else:
            self._targets += self._drift * self._period
        moved = _floats(before, joint_pos - self._joint_pos)
        self._response = self._motion.respond(self._response, *moved)
        self._joint_pos = joint_pos.copy()
        # where all commands before lead
        joint_pos = joint_pos + self._response.ahead.double().numpy()
        ready = self._ready == self._tick
        late = (self._tick - self._begun[ready, None]) * self._period  # [s]
        self._drift[ready] = self._next_drift[ready]
        self._targets[ready] = self._next[ready] + late * self._drift[ready]
        self._ready[ready] = -1
        poses = np.concatenate([goals.positions, goals.orientations], axis=-1)
        distance = np.abs(poses - self._planned).max(axis=(1, 2))  # (N,)
        idle = self._ready < 0
        rests = idle & (distance <= SAME)
        self._targets[rests], self._drift[rests] = self._next[rests], 0.0
        near = idle & ~rests & (distance < self._nearby)
        self._plan(np.flatnonzero(idle & ~rests & ~near), joint_pos, before, goals, poses)
        self._plan(np.flatnonzero(near), joint_pos, before, goals, poses, follow=True)
        self._tick += 1
        reaction = self._response.reaction
        return self._velocity(joint_pos, before, self._targets, self._drift, reaction)

    def _plan(
        self,
        rows: NDArray[np.int64],
        joint_pos: Array,
        before: Array,
        goals: Goals,
        poses: Array,
        follow: bool = False,
    ) -> None:
        """Begin to plan for the robots `rows`, from where they will be when the plan is ready.

        joint_pos, before: (N, nu), where the commands so far lead, and the last of them.
        """
        if not len(rows):
            return
        wanted = goals.rows(rows)
        times = self._times(self._follow_s if follow else self._plan_s, len(rows))
        ahead = self._ahead(rows, joint_pos, before, times)
        self._next_drift[rows] = 0.0
        if follow:
            plans = self._planner.follow(ahead, self._targets[rows], wanted)
            passed = (self._tick - self._begun[rows, None]) * self._period
            self._next_drift[rows] = self._target_velocity(
                rows, plans.targets, np.asarray(passed, dtype=np.float64)
            )
            again = np.flatnonzero(~plans.clear)
            if len(again):
                times[again] += self._times(self._plan_s, len(again))
                ahead[again] = self._ahead(rows[again], joint_pos, before, times[again])
                others = self._planner.plan(ahead[again], wanted.rows(again))
                plans.targets[again] = others.targets
                self._next_drift[rows[again]] = 0.0
        else:
            plans = self._planner.plan(ahead, wanted)
        self._next[rows], self._planned[rows] = plans.targets, poses[rows]
        self._begun[rows] = self._tick
        self._ready[rows] = self._tick + np.ceil(times * self._robot.control_rate).astype(int)

    def _target_velocity(self, rows: NDArray[np.int64], targets: Array, passed: Array) -> Array:
        """Smoothed velocities (R, nu) of targets that are now at `targets` (R, nu), `passed` (R, 1)
        [s] after the ones before; 0 where that is another solution rather than a motion.
        """
        velocity = (targets - self._next[rows]) / passed
        moves = (np.abs(velocity) <= self._robot.joint_vel_limits).all(axis=1, keepdims=True)
        smooth = self._drift[rows] + SMOOTHING * (velocity - self._drift[rows])
        return np.where(moves, smooth, 0.0)

    def _times(self, measured: Array, count: int) -> Array:
        self.plans += count
        return measured[(self.plans + np.arange(count)) % len(measured)]

    def _ahead(
        self, rows: NDArray[np.int64], joint_pos: Array, before: Array, times: Array
    ) -> Array:
        """Where the robots `rows` will be after `times` (R,) [s], (R, nu)."""
        periods = np.ceil(times * self._robot.control_rate)
        result, velocity = joint_pos[rows], before[rows]
        targets, drift = self._targets[rows], self._drift[rows]
        reaction = self._response.reaction[torch.from_numpy(rows)]
        for period in range(int(periods.max())):
            velocity = self._velocity(result, velocity, targets, drift, reaction)
            now = (periods > period)[:, None]
            result = result + self._period * velocity * now
        return result

    def _velocity(
        self, joint_pos: Array, before: Array, targets: Array, drift: Array, reaction: Tensor
    ) -> Array:
        parts = _floats(joint_pos, before, targets, drift)
        velocity: Array = self._motion(*parts, reaction).double().numpy()
        return velocity


def _floats(*arrays: Array) -> list[Tensor]:
    return [torch.from_numpy(array).float() for array in arrays]
