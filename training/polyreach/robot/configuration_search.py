"""From named configurations to a velocity: refine, check, choose, go straight there.

In every control period the target of the period before is refined. While it is at the goals and
the straight way to it is clear of the robot's own bodies and of obstacles, it stays. Otherwise K
configurations are refined and checked beside it: those that a policy names for new goals, and
others, spread evenly over the joints' ranges, in the periods after. The best becomes the target.
Where no straight way is clear, every other search is for another configuration by which the robot
goes there; as in a probabilistic roadmap of one node (LaValle, Planning Algorithms, section 5.6).
The target is kept in a memory, which the caller hands back in the next period.
"""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from polyreach.robot.choices import Choice, Options, join, pick
from polyreach.robot.goals import Goals, repeat
from polyreach.robot.kinematics import forget
from polyreach.robot.obstacle_clearance import Obstacles
from polyreach.robot.refinement import Refinement
from polyreach.robot.search_memory import Memory
from polyreach.robot.self_clearance import Capsules
from polyreach.robot.straight_motion import FIRST_S, Response, StraightMotion
from polyreach.robot.straight_ways import BESIDE, StraightWays, Ways
from polyreach.robot.tracking import Track, Tracking
from polyreach_description import Robot

CANDIDATES = 8  # K
VIAS = CANDIDATES + 1  # of which the last is the one kept
TRIED = CANDIDATES + 2  # the present configuration and the one kept are tried, too
STEPS = 4  # of refinement of a new configuration
POINTS = 10  # on the way to a new configuration
LOOKS = 5  # of these, between which obstacles are looked for
BENT_POINTS = 5  # on each of the two pieces of a way by another configuration
MARGIN = 0.006  # [m], beside the stop distance, of a new way
PRECISE = 0.003  # [m], error that costs nothing
ERROR_COST = 20.0  # [1/m]
TIME_COST = 0.1  # [1/s]
KEEP_BONUS = 0.05
KEEP_SHARE = 0.5  # of what is left, by which another way must be better in the end
PATIENCE = 200.0, 600.0  # searches until that share grows, and until it is whole
NEAR_COST = 1.0  # of a target where two bodies are as near as they are now, if that is too near
BLOCKED_COST = 100.0  # of a target that is not clear itself
OPEN = 1e-4  # [rad or m], by which a way may end before the via
AT_VIA_S = 0.1  # [s] to a via that is reached
MOVING = 0.02  # [m/s], goal speed from which the target's own velocity is added in full
SMOOTHING = 0.3  # share of a new velocity in the target's velocity
ROUNDS = 1024  # searches until the configurations repeat

Propose = Callable[[], Tensor]
"""Names K configurations (B, K, nu) [rad or m] for B robots."""


class ConfigurationSearch(nn.Module):
    """Chooses and keeps a target, and moves straight to it, or straight by another configuration
    where the way there is not clear.
    """

    def __init__(self, robot: Robot, capsules: Capsules | None = None) -> None:
        super().__init__()
        self.joints, self.effectors = len(robot.joint_names), len(robot.effector_names)
        self.period = 1.0 / robot.control_rate
        self.refinement = Refinement(robot)
        self.kinematics, self.errors = self.refinement.kinematics, self.refinement.errors
        self.ways = StraightWays(robot, self.kinematics, self.errors, capsules)
        self.motion = StraightMotion(robot)
        self.track = Tracking(robot, self.refinement, self.ways, self.motion)
        # an additive recurrence that fills space evenly: powers of 1 / g, g^(nu + 1) = g + 1
        g = 2.0
        for _ in range(64):
            g = (1 + g) ** (1 / (self.joints + 1))
        constants = {
            "ratios": g ** -np.arange(1.0, self.joints + 1),
            "order": np.arange(CANDIDATES)[:, None],
            "points": np.linspace(0, 1, POINTS + 1)[:, None],
            "bent_points": np.linspace(0, 1, BENT_POINTS + 1)[:, None],
            "is_new": np.arange(VIAS) < VIAS - 1,
        }
        for name, value in constants.items():
            tensor = torch.tensor(value, dtype=torch.float32)
            self.register_buffer(name, tensor, persistent=False)
        self.register_load_state_dict_pre_hook(forget)

    ratios: Tensor
    order: Tensor
    points: Tensor
    bent_points: Tensor
    is_new: Tensor

    @property
    def memory_size(self) -> int:
        """M."""
        return self.track.memory_size

    def forward(
        self,
        joint_pos: Tensor,
        previous: Tensor,
        goals: Goals,
        obstacles: Obstacles,
        memory: Tensor,
        propose: Propose,
    ) -> tuple[Tensor, Tensor]:
        """Velocities (B, nu) [rad/s or m/s] and the memory (B, M) of the next period.

        joint_pos (B, nu) [rad or m]; previous: command of the period before (B, nu) [rad/s or m/s].
        """
        track = self.track(joint_pos, goals, obstacles, memory)
        choice = track.kept
        if not bool(track.stays.all()):
            found = self.search(joint_pos, goals, obstacles, track, propose)
            choice = found.where(track.stays, track.kept)
        return self.move(joint_pos, previous, goals, track, choice)

    def search(
        self,
        joint_pos: Tensor,
        goals: Goals,
        obstacles: Obstacles,
        track: Track,
        propose: Propose,
    ) -> Choice:
        """The best straight way, or in every other search by another configuration."""
        if bool(track.bends):
            return self.search_bent(joint_pos, goals, obstacles, track)[0]
        return self.search_straight(joint_pos, goals, obstacles, track, propose)[0]

    def search_straight(
        self,
        joint_pos: Tensor,
        goals: Goals,
        obstacles: Obstacles,
        track: Track,
        propose: Propose,
    ) -> tuple[Choice, list[Ways]]:
        """The best among the target kept on the way to it, and K new configurations, the present
        one and the target kept, each straight. And the ways that were looked at.
        """
        named = torch.where(track.searches[..., None] < 0.5, propose(), self.spread(track.searches))
        named = torch.cat([named, joint_pos[:, None]], dim=1)
        named = self.served(named, joint_pos, track, track.target)
        many, start = goals.repeat(TRIED), repeat(joint_pos, TRIED)
        target = self.refinement(named, many, STEPS)
        limits = obstacles, TRIED, self.points, MARGIN, BESIDE, POINTS // LOOKS
        _, ways = self.ways(start, target, many, *limits)
        time = self.time(start, target)
        # a way may be found to what is clear itself
        there = self.cost(ways.error_there, ways.near_there) + BLOCKED_COST * (~ways.clear_there)
        there = there + TIME_COST * time
        aim = pick(target.reshape(-1, TRIED, self.joints), there.reshape(-1, TRIED))
        straight = self.options(target, target, ways, repeat(aim, TRIED), time, TRIED)
        kept = self.kept(joint_pos, track, aim)
        return join(kept, straight).best(), [ways]

    def search_bent(
        self, joint_pos: Tensor, goals: Goals, obstacles: Obstacles, track: Track
    ) -> tuple[Choice, list[Ways]]:
        """The best among the target kept on the way to it, and the aim by one of VIAS others. And
        the ways that were looked at.
        """
        aim = track.before.aim
        # others than those that are tried straight
        by = self.served(self.spread(track.searches + ROUNDS / 2), joint_pos, track, track.via)
        many, start, end = goals.repeat(VIAS), repeat(joint_pos, VIAS), repeat(aim, VIAS)
        limits = obstacles, VIAS, self.bent_points, MARGIN, BESIDE
        _, first = self.ways(start, by, many, *limits)
        _, second = self.ways(first.end, end, many, *limits)
        time = self.time(start, first.end) + self.time(first.end, end)
        bent = self.options(end, first.end, second._replace(end=first.end), end, time, VIAS)
        bent = bent._replace(cost=bent.cost + KEEP_BONUS * self.is_new)
        return join(self.kept(joint_pos, track, aim), bent).best(), [first, second]

    def kept(self, joint_pos: Tensor, track: Track, aim: Tensor) -> Options:
        """The target kept, on the way to it."""
        parts = track.kept._replace(aim=aim)
        # beyond a via nothing is looked at; what was found there holds until the robot is there
        first = self.time(joint_pos, track.via)
        open_to_via = (track.ways.end - track.via).abs().amax(dim=1, keepdim=True) < OPEN
        by_via = open_to_via & (first > AT_VIA_S) & ~track.straight
        left = torch.where(by_via, parts.left, self.left(track.ways))
        time = torch.where(
            by_via, first + self.time(track.via, track.target), self.time(joint_pos, track.target)
        )
        patience = (track.searches - PATIENCE[0]) / (PATIENCE[1] - PATIENCE[0])
        share = KEEP_SHARE * patience.clamp(min=0.0, max=1.0)
        cost = (1 - share) * left + TIME_COST * time - KEEP_BONUS
        return Options(Choice(*(part[:, None] for part in parts)), cost)

    def served(self, named: Tensor, joint_pos: Tensor, track: Track, kept: Tensor) -> Tensor:
        """Configurations (B (N + 1), nu): named ones (B, N, nu), of which joints that serve no goal
        stay, and one that was kept (B, nu).
        """
        named = torch.where(track.serves[:, None] > 0.5, named, joint_pos[:, None])
        return torch.cat([named, kept[:, None]], dim=1).reshape(-1, self.joints)

    def time(self, start: Tensor, end: Tensor) -> Tensor:
        """Time (R, 1) [s] of straight ways from start to end (R, nu)."""
        return self.motion.travel_time(end - start)[:, None]

    def options(
        self, target: Tensor, via: Tensor, ways: Ways, aim: Tensor, time: Tensor, count: int
    ) -> Options:
        """By rows (B N, nu), and the time (B N, 1) [s] that they take; count: N."""
        left = self.left(ways)
        rows = (
            part.reshape(-1, count, int(part.shape[1]))
            for part in (target, via, ways.end, aim, left)
        )
        return Options(Choice(*rows), (left + TIME_COST * time).reshape(-1, count))

    def spread(self, searches: Tensor) -> Tensor:
        """K configurations (B, K, nu) [rad or m], others after each of `searches` (B, 1)."""
        number = searches[..., None] * CANDIDATES + self.order + 1  # (B, K, 1)
        return self.refinement.joint_pos(self.evenly(number))

    def evenly(self, number: Tensor) -> Tensor:
        """Points (..., nu) in [-1, 1] of the even sequence, by number (..., 1) from 1."""
        turns = number * self.ratios
        return 2 * (turns - turns.floor()) - 1

    def move(
        self, joint_pos: Tensor, previous: Tensor, goals: Goals, track: Track, choice: Choice
    ) -> tuple[Tensor, Tensor]:
        """Velocities (B, nu) and the memory (B, M) of the next period."""
        before = track.before
        previous = previous * track.serves
        known = before.active.amax(dim=1, keepdim=True)  # a new memory knows no joint positions
        moved = (joint_pos - before.joint_pos) * track.serves * known
        learned = FIRST_S + known * (before.reaction - FIRST_S)
        last = Response(before.behind, before.mean, learned)
        response = self.motion.respond(last, previous, moved)
        same = (choice.target == track.target).all(dim=1, keepdim=True)
        drift = self.drift(before, track.target, goals, same & ~track.asks)
        drift = drift * track.serves
        following = Memory(
            choice.target,
            choice.via,
            choice.aim,
            choice.left,
            joint_pos,
            drift,
            *response,
            goals.flat,
            track.refined.settled * same,
            torch.where(track.asks[..., None], goals.position, before.chosen_for),
            torch.where(track.asks, goals.active, before.active),
            torch.where(track.stays, track.searches, track.searches % ROUNDS + 1),
        )
        there = joint_pos + response.ahead
        velocity = self.motion(there, previous, choice.end, drift, response.reaction)
        return velocity * track.serves, following.flat

    def drift(self, before: Memory, kept: Tensor, goals: Goals, same: Tensor) -> Tensor:
        """The target's own velocity (B, nu), which goals that move give it; 0 where they rest."""
        positions = before.goals[:, : 3 * self.effectors].reshape(-1, self.effectors, 3)
        step = ((goals.position - positions) * goals.active[..., None]).norm(dim=-1)
        moving = (step.amax(dim=1, keepdim=True) / (self.period * MOVING)).clamp(max=1.0)
        velocity = moving * (kept - before.target) / self.period
        drift = before.drift + SMOOTHING * (velocity - before.drift)
        excess = (drift.abs() / self.motion.speed).amax(dim=1, keepdim=True).clamp(min=1.0)
        return drift * (same / excess)

    def left(self, ways: Ways) -> Tensor:
        """Cost (R, 1) of what is left at the ends of ways."""
        return self.cost(ways.error, ways.near)

    def cost(self, error: Tensor, near: Tensor) -> Tensor:
        """Cost (R, 1) of the error (R, E) [m] that is left, and of bodies that are near (R, 1)."""
        missing = (error - PRECISE).clamp(min=0.0).sum(dim=1, keepdim=True)
        return ERROR_COST * missing + NEAR_COST * near
