"""The target of the period before: refined, and looked at whether it still leads to the goals."""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from polyreach.robot.choices import Choice
from polyreach.robot.features import served_joints
from polyreach.robot.goals import Goals
from polyreach.robot.kinematics import forget
from polyreach.robot.obstacle_clearance import Obstacles
from polyreach.robot.refinement import Refinement
from polyreach.robot.search_memory import Memory, memory_size, read_memory
from polyreach.robot.straight_motion import StraightMotion
from polyreach.robot.straight_ways import KEPT_BESIDE, StraightWays, Ways
from polyreach_description import Robot

KEPT_POINTS = 5  # on the way to the target
KEPT_MARGIN = 0.003  # [m], beside the stop distance, of the way to the target
SETTLED = 1e-5  # [m], gain of a refinement after which the target is not refined any more
ARRIVED = 0.005  # [m], error with which a target stays
SEARCHES = 5  # for new goals, where the target is far, or bodies would be near there
NEAR_S = 1.0  # [s] to a target that needs no further search
NEW_GOAL = 0.05  # [m], by which goals have moved since the choice when a policy is asked anew


class TargetState(NamedTuple):
    """Targets (B, nu) [rad or m], and whether refinement has settled there (B, 1) in {0, 1}."""

    target: Tensor
    settled: Tensor


class Track(NamedTuple):
    """What became of the target of the period before."""

    before: Memory
    unrefined: TargetState
    refined: TargetState
    via: Tensor  # (B, nu) [rad or m]
    straight: Tensor  # (B, 1) bool: the target is the via
    ways: Ways  # there, W = 1
    stays: Tensor  # (B, 1) bool: it still leads to the goals
    asks: Tensor  # (B, 1) bool: the policy is asked for configurations
    bends: Tensor  # () bool: ways by others are searched now
    searches: Tensor  # (B, 1) since the goals are new
    frames: Tensor  # (B, N, 4, 3) where the robots are
    serves: Tensor  # (B, nu) 1 for joints that serve an active effector

    @property
    def target(self) -> Tensor:
        """Refined (B, nu) [rad or m]."""
        return self.refined.target

    @property
    def kept(self) -> Choice:
        """The target, and where the way to it ends."""
        return Choice(self.target, self.via, self.ways.end, self.before.aim, self.before.left)


class Tracking(nn.Module):
    """Looks at the target that a memory has kept."""

    def __init__(
        self, robot: Robot, refinement: Refinement, ways: StraightWays, motion: StraightMotion
    ) -> None:
        super().__init__()
        self.joints, self.effectors = len(robot.joint_names), len(robot.effector_names)
        self.refinement, self.ways, self.motion = refinement, ways, motion
        self.kinematics, self.errors = refinement.kinematics, refinement.errors
        self.goal_numbers = Goals.numbers(self.effectors, bool(self.errors.turning))
        for name, value in {
            "action_sets": robot.action_sets,
            "kept_points": np.linspace(0, 1, KEPT_POINTS + 1)[:, None],
        }.items():
            tensor = torch.tensor(value, dtype=torch.float32)
            self.register_buffer(name, tensor, persistent=False)
        self.register_load_state_dict_pre_hook(forget)

    action_sets: Tensor
    kept_points: Tensor

    @property
    def memory_size(self) -> int:
        """M."""
        return memory_size(self.joints, self.effectors, self.goal_numbers)

    def read(self, memory: Tensor) -> Memory:
        """The parts of a memory (B, M)."""
        parts = read_memory(memory, self.joints, self.effectors, self.goal_numbers)
        low, high = self.refinement.low, self.refinement.high
        return parts._replace(
            target=torch.minimum(torch.maximum(parts.target, low), high),
            via=torch.minimum(torch.maximum(parts.via, low), high),
            aim=torch.minimum(torch.maximum(parts.aim, low), high),
        )

    def forward(
        self, joint_pos: Tensor, goals: Goals, obstacles: Obstacles, memory: Tensor
    ) -> Track:
        """Refine the target of the period before, and look whether it still leads to the goals."""
        before, mask = self.read(memory), goals.active[..., None]
        serves = served_joints(goals.active, self.action_sets)  # (B, nu)
        target = torch.where(serves > 0.5, before.target, joint_pos)
        same = ((goals.flat - before.goals).abs().amax(dim=1, keepdim=True) == 0.0).float()
        unrefined = TargetState(target, same * before.settled)
        target, settled = self.refine(unrefined, goals)
        straight = (before.via == before.target).all(dim=1, keepdim=True)
        via = torch.where(straight | (serves < 0.5), target, before.via)
        frames, ways = self.ways(
            joint_pos, via, goals, obstacles, 1, self.kept_points, KEPT_MARGIN, KEPT_BESIDE
        )
        moved = ((goals.position - before.chosen_for) * mask).norm(dim=-1).amax(1, keepdim=True)
        other = (goals.active - before.active).abs().amax(dim=1, keepdim=True) > 0.5
        new = (moved > NEW_GOAL) | other
        searches = before.searches * (~new)
        leads = ways.error.amax(dim=1, keepdim=True) < ARRIVED
        good = self.motion.travel_time(target - joint_pos)[:, None] < NEAR_S
        good = good & (ways.near < 0.5)
        stays = leads & (good | (searches > SEARCHES - 0.5))
        asks = new & ~stays
        # of robots that are computed together, all or none; the first search asks the policy
        odd = searches % 2 > 0.5
        bends = (odd & ~leads).any() & (searches > 0.5).all()
        refined = TargetState(target, settled)
        return Track(
            before, unrefined, refined, via, straight, ways, stays, asks, bends, searches, frames,
            serves,
        )  # fmt: skip

    def refine(self, state: TargetState, goals: Goals) -> TargetState:
        """A target a step nearer to the goals, unless it is settled."""
        refined, error = self.refinement.step(state.target, goals)
        error_there = self.errors(self.kinematics.frames_at(refined), goals)
        gain = self.missing(error) - self.missing(error_there)
        # out of reach, a step may lead away
        target = torch.where((gain > 0.0) & (state.settled < 0.5), refined, state.target)
        return TargetState(target, torch.maximum(state.settled, (gain < SETTLED).float()))

    def missing(self, error: Tensor) -> Tensor:
        """Of errors (B, E or 2 E, 3), those of all effectors together (B, 1) [m]."""
        return self.errors.size(error).sum(dim=1, keepdim=True)
