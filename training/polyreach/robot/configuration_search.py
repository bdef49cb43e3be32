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
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from polyreach.robot.features import served_joints
from polyreach.robot.goals import Goals, repeat
from polyreach.robot.kinematics import forget
from polyreach.robot.obstacle_clearance import Obstacles
from polyreach.robot.refinement import Refinement
from polyreach.robot.search_memory import Memory, memory_size, read_memory
from polyreach.robot.self_clearance import Capsules
from polyreach.robot.straight_motion import FIRST_S, Response, StraightMotion
from polyreach.robot.straight_ways import BESIDE, KEPT_BESIDE, StraightWays, Ways
from polyreach_description import Robot

CANDIDATES = 8  # K
VIAS = CANDIDATES + 1  # of which the last is the one kept
TRIED = CANDIDATES + 2  # the present configuration and the one kept are tried, too
STEPS = 4  # of refinement of a new configuration
POINTS = 10  # on the way to a new configuration
KEPT_POINTS = 5  # on the way to the target
MARGIN = 0.006  # [m], beside the stop distance, of a new way
KEPT_MARGIN = 0.003  # [m], of the way to the target
PRECISE = 0.003  # [m], error that costs nothing
SETTLED = 1e-5  # [m], gain of a refinement after which the target is not refined any more
ARRIVED = 0.005  # [m], error with which a target stays
ERROR_COST = 20.0  # [1/m]
TIME_COST = 0.1  # [1/s]
KEEP_BONUS = 0.05
BLOCKED_COST = 100.0  # of a target that is not clear itself
SEARCHES = 5  # for new goals, where the target is far
NEAR_S = 1.0  # [s] to a target that needs no further search
NEW_GOAL = 0.05  # [m], by which goals have moved since the choice when a policy is asked anew
OPEN = 1e-4  # [rad or m], by which a way may end before the via
AT_VIA_S = 0.1  # [s] to a via that is reached
MOVING = 0.02  # [m/s], goal speed from which the target's own velocity is added in full
SMOOTHING = 0.3  # share of a new velocity in the target's velocity
ROUNDS = 1024  # searches until the configurations repeat

Propose = Callable[[], Tensor]
"""Names K configurations (B, K, nu) [rad or m] for B robots."""


class Choice(NamedTuple):
    """Targets, where the robot goes first, and where it goes now (B, nu) [rad or m]: as far as the
    straight way is clear. And what it would rather reach, if a way were found.
    """

    target: Tensor
    via: Tensor
    end: Tensor
    aim: Tensor
    left: Tensor  # (B, 1) cost of the error that is left at the end, by the via

    def where(self, condition: Tensor, other: "Choice") -> "Choice":
        """`other` where the condition (B, 1) holds."""
        pairs = zip(other, self, strict=True)
        return Choice(*(torch.where(condition, first, second) for first, second in pairs))


class Aim(NamedTuple):
    """Targets (B, nu) [rad or m], and whether refinement has settled there (B, 1) in {0, 1}."""

    target: Tensor
    settled: Tensor


class Options(NamedTuple):
    """N choices for each of B robots, and what they cost."""

    choice: Choice  # of (B, N, nu)
    cost: Tensor  # (B, N)

    def best(self) -> Choice:
        """Those of least cost (B, nu)."""
        return Choice(*(pick(part, self.cost) for part in self.choice))


def pick(rows: Tensor, cost: Tensor) -> Tensor:
    """Of rows (B, N, nu), those of least cost (B, N)."""
    # by a product: the sizes of an exported graph are constant
    numbers = torch.arange(int(rows.shape[1]), device=rows.device)
    chosen = (cost.argmin(dim=1, keepdim=True) == numbers).float()
    return (rows * chosen[..., None]).sum(dim=1)


class Track(NamedTuple):
    """What became of the target of the period before."""

    before: Memory
    unrefined: Aim
    aim: Aim  # refined
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
        return self.aim.target

    @property
    def kept(self) -> Choice:
        """The target, and where the way to it ends."""
        return Choice(self.target, self.via, self.ways.end, self.before.aim, self.before.left)


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
        self.goal_numbers = Goals.numbers(self.effectors, bool(self.errors.turning))
        self.ways = StraightWays(robot, self.kinematics, self.errors, capsules)
        self.motion = StraightMotion(robot)
        # an additive recurrence that fills space evenly: powers of 1 / g, g^(nu + 1) = g + 1
        g = 2.0
        for _ in range(64):
            g = (1 + g) ** (1 / (self.joints + 1))
        constants = {
            "ratios": g ** -np.arange(1.0, self.joints + 1),
            "order": np.arange(CANDIDATES)[:, None],
            "action_sets": robot.action_sets,
            "points": np.linspace(0, 1, POINTS + 1)[:, None],
            "kept_points": np.linspace(0, 1, KEPT_POINTS + 1)[:, None],
            "is_new": np.arange(VIAS) < VIAS - 1,
        }
        for name, value in constants.items():
            tensor = torch.tensor(value, dtype=torch.float32)
            self.register_buffer(name, tensor, persistent=False)
        self.register_load_state_dict_pre_hook(forget)

    ratios: Tensor
    order: Tensor
    action_sets: Tensor
    points: Tensor
    kept_points: Tensor
    is_new: Tensor

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

    def track(
        self, joint_pos: Tensor, goals: Goals, obstacles: Obstacles, memory: Tensor
    ) -> "Track":
        """Refine the target of the period before, and look whether it still leads to the goals."""
        before, mask = self.read(memory), goals.active[..., None]
        serves = served_joints(goals.active, self.action_sets)  # (B, nu)
        target = torch.where(serves > 0.5, before.target, joint_pos)
        same = ((goals.flat - before.goals).abs().amax(dim=1, keepdim=True) == 0.0).float()
        unrefined = Aim(target, same * before.settled)
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
        near = self.motion.travel_time(target - joint_pos)[:, None] < NEAR_S
        stays = leads & (near | (searches > SEARCHES - 0.5))
        asks = new & ~stays
        # of robots that are computed together, all or none; the first search asks the policy
        odd = searches % 2 > 0.5
        bends = (odd & ~leads).any() & (searches > 0.5).all()
        refined = Aim(target, settled)
        return Track(
            before, unrefined, refined, via, straight, ways, stays, asks, bends, searches, frames,
            serves,
        )  # fmt: skip

    def refine(self, aim: "Aim", goals: Goals) -> "Aim":
        """A target a step nearer to the goals, unless it is settled."""
        refined, error = self.refinement.step(aim.target, goals)
        error_there = self.errors(self.kinematics.frames_at(refined), goals)
        gain = self.missing(error) - self.missing(error_there)
        # out of reach, a step may lead away
        target = torch.where((gain > 0.0) & (aim.settled < 0.5), refined, aim.target)
        return Aim(target, torch.maximum(aim.settled, (gain < SETTLED).float()))

    def search(
        self,
        joint_pos: Tensor,
        goals: Goals,
        obstacles: Obstacles,
        track: "Track",
        propose: Propose,
    ) -> "Choice":
        """The best straight way, or in every other search by another configuration."""
        if bool(track.bends):
            return self.search_bent(joint_pos, goals, obstacles, track)[0]
        return self.search_straight(joint_pos, goals, obstacles, track, propose)[0]

    def search_straight(
        self,
        joint_pos: Tensor,
        goals: Goals,
        obstacles: Obstacles,
        track: "Track",
        propose: Propose,
    ) -> tuple["Choice", list[Ways]]:
        """The best among the target kept on the way to it, and K new configurations, the present
        one and the target kept, each straight. And the ways that were looked at.
        """
        named = torch.where(track.searches[..., None] < 0.5, propose(), self.spread(track.searches))
        named = torch.cat([named, joint_pos[:, None]], dim=1)
        named = self.served(named, joint_pos, track, track.target)
        many, start = goals.repeat(TRIED), repeat(joint_pos, TRIED)
        target = self.refinement(named, many, STEPS)
        limits = obstacles, TRIED, self.points, MARGIN, BESIDE, POINTS // KEPT_POINTS
        _, ways = self.ways(start, target, many, *limits)
        time = self.time(start, target)
        # a way may be found to what is clear itself
        there = self.cost(ways.error_there, time) + BLOCKED_COST * (~ways.clear_there)
        aim = pick(target.reshape(-1, TRIED, self.joints), there.reshape(-1, TRIED))
        straight = self.options(target, target, ways, repeat(aim, TRIED), time, TRIED)
        kept = self.kept(joint_pos, track, aim)
        return join(kept, straight).best(), [ways]

    def search_bent(
        self, joint_pos: Tensor, goals: Goals, obstacles: Obstacles, track: "Track"
    ) -> tuple["Choice", list[Ways]]:
        """The best among the target kept on the way to it, and the aim by one of VIAS others. And
        the ways that were looked at.
        """
        aim = track.before.aim
        # others than those that are tried straight
        by = self.served(self.spread(track.searches + ROUNDS / 2), joint_pos, track, track.via)
        many, start, end = goals.repeat(VIAS), repeat(joint_pos, VIAS), repeat(aim, VIAS)
        limits = obstacles, VIAS, self.kept_points, MARGIN, BESIDE
        _, first = self.ways(start, by, many, *limits)
        _, second = self.ways(first.end, end, many, *limits)
        time = self.time(start, first.end) + self.time(first.end, end)
        bent = self.options(end, first.end, second._replace(end=first.end), end, time, VIAS)
        bent = bent._replace(cost=bent.cost + KEEP_BONUS * self.is_new)
        return join(self.kept(joint_pos, track, aim), bent).best(), [first, second]

    def kept(self, joint_pos: Tensor, track: "Track", aim: Tensor) -> Options:
        """The target kept, on the way to it."""
        parts = track.kept._replace(aim=aim)
        direct = self.cost(track.ways.error, self.time(joint_pos, track.target))
        # beyond a via nothing is looked at; what was found there holds until the robot is there
        first = self.time(joint_pos, track.via)
        open_to_via = (track.ways.end - track.via).abs().amax(dim=1, keepdim=True) < OPEN
        by_via = open_to_via & (first > AT_VIA_S) & ~track.straight
        bent = parts.left + TIME_COST * (first + self.time(track.via, track.target))
        cost = torch.where(by_via, bent, direct) - KEEP_BONUS
        return Options(Choice(*(part[:, None] for part in parts)), cost)

    def served(self, named: Tensor, joint_pos: Tensor, track: "Track", kept: Tensor) -> Tensor:
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
        left = self.cost(ways.error, 0.0 * time)
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
        self, joint_pos: Tensor, previous: Tensor, goals: Goals, track: "Track", choice: "Choice"
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
            track.aim.settled * same,
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

    def missing(self, error: Tensor) -> Tensor:
        """Of errors (B, E or 2 E, 3), those of all effectors together (B, 1) [m]."""
        return self.errors.size(error).sum(dim=1, keepdim=True)

    def cost(self, error: Tensor, time: Tensor) -> Tensor:
        """Cost (R, 1) of the error (R, E) [m] that is left, and of the time (R, 1) [s] it takes."""
        missing = (error - PRECISE).clamp(min=0.0).sum(dim=1, keepdim=True)
        return ERROR_COST * missing + TIME_COST * time


def join(*options: Options) -> Options:
    """All of these choices."""
    choices = zip(*(option.choice for option in options), strict=True)
    rows = Choice(*(torch.cat(parts, dim=1) for parts in choices))
    return Options(rows, torch.cat([option.cost for option in options], dim=1))
