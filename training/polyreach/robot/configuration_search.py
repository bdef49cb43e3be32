"""From named configurations to a velocity: refine, check, choose, go straight there.

In every control period the target of the period before is refined. While it is at the goals and
the straight way to it is clear of the robot's own bodies, it stays. Otherwise K configurations are
refined and checked beside it: those that a policy names for new goals, and others, spread evenly
over the joints' ranges, in the periods after. The best becomes the target. The target is kept in a
memory, which the caller hands back in the next period.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from polyreach.robot.capsule_fit import fit_capsules
from polyreach.robot.features import served_joints
from polyreach.robot.goals import Goals, repeat
from polyreach.robot.kinematics import forget
from polyreach.robot.refinement import Refinement
from polyreach.robot.self_clearance import Capsules, SelfClearance
from polyreach.robot.straight_motion import FIRST_S, Response, StraightMotion
from polyreach_description import Robot

CANDIDATES = 8  # K
TRIED = CANDIDATES + 1  # the present configuration is tried, too
STEPS = 4  # of refinement of a new configuration
POINTS = 10  # on the way to a new configuration
KEPT_POINTS = 5  # on the way to the target
MARGIN = 0.006  # [m], beside the stop distance, of a new way
KEPT_MARGIN = 0.003  # [m], of the way to the target
WORSE = 1e-4  # [m], by which a way may come nearer than its start, where that is too near
PRECISE = 0.003  # [m], error that costs nothing
ARRIVED = 0.005  # [m], error with which a target stays
ERROR_COST = 20.0  # [1/m]
TIME_COST = 0.1  # [1/s]
KEEP_BONUS = 0.05
SEARCHES = 5  # for new goals, where the target is far
NEAR_S = 1.0  # [s] to a target that needs no further search
NEW_GOAL = 0.05  # [m], by which goals have moved since the choice when a policy is asked anew
MOVING = 0.02  # [m/s], goal speed from which the target's own velocity is added in full
SMOOTHING = 0.3  # share of a new velocity in the target's velocity
ROUNDS = 1024  # searches until the configurations repeat

Propose = Callable[[], Tensor]
"""Names K configurations (B, K, nu) [rad or m] for B robots."""


class Memory(NamedTuple):
    """What is carried from one control period to the next, of B robots."""

    target: Tensor  # (B, nu) [rad or m]
    joint_pos: Tensor  # (B, nu) [rad or m] of the period before
    drift: Tensor  # (B, nu) velocity of the target [rad/s or m/s]
    behind: Tensor  # (B, nu) of the Response, as the next two
    mean: Tensor  # (B, nu)
    reaction: Tensor  # (B, 1)
    goals: Tensor  # (B, E, 3) [m] of the period before
    chosen_for: Tensor  # (B, E, 3) [m] goals for which the policy was asked
    active: Tensor  # (B, E) of these
    searches: Tensor  # (B, 1) since then

    @property
    def flat(self) -> Tensor:
        """(B, M)."""
        return torch.cat(
            [p.reshape(-1, 3 * int(p.shape[1])) if p.dim() > 2 else p for p in self], dim=1
        )


class Points(NamedTuple):
    """What holds at n points of ways."""

    clearance: Tensor  # (B, n, P) [m]
    error: Tensor  # (B, n, E) [m]

    def map(self, function: Callable[[Tensor], Tensor]) -> "Points":
        """The same with `function` applied to both."""
        return Points(*map(function, self))

    def split(self) -> tuple["Points", "Points"]:
        """The first point, and the others."""
        return self.map(lambda part: part[:, :1]), self.map(lambda part: part[:, 1:])


class Way(NamedTuple):
    """Straight ways, as far as they are clear."""

    end: Tensor  # (B, nu) [rad or m] the last clear point
    error: Tensor  # (B, E) [m] there


class Choice(NamedTuple):
    """Targets, and where the straight ways to them stop being clear (B, nu) [rad or m]."""

    target: Tensor
    end: Tensor

    def where(self, condition: Tensor, other: "Choice") -> "Choice":
        """`other` where the condition (B, 1) holds."""
        pairs = zip(other, self, strict=True)
        return Choice(*(torch.where(condition, first, second) for first, second in pairs))


class Track(NamedTuple):
    """What became of the target of the period before."""

    before: Memory
    target: Tensor  # (B, nu) [rad or m], refined
    way: Way
    stays: Tensor  # (B, 1) bool: it still leads to the goals
    asks: Tensor  # (B, 1) bool: the policy is asked for configurations
    searches: Tensor  # (B, 1) since the goals are new
    here: Points  # n = 1, where the robots are
    frames: Tensor  # (B, N, 4, 3) there
    serves: Tensor  # (B, nu) 1 for joints that serve an active effector

    @property
    def kept(self) -> Choice:
        """The target, and where the way to it ends."""
        return Choice(self.target, self.way.end)


class ConfigurationSearch(nn.Module):
    """Chooses and keeps a target, and moves straight to it."""

    def __init__(self, robot: Robot, capsules: Capsules | None = None) -> None:
        super().__init__()
        self.joints, self.effectors = len(robot.joint_names), len(robot.effector_names)
        self.period, self.stop_distance = 1.0 / robot.control_rate, robot.stop_distance
        self.refinement = Refinement(robot)
        self.kinematics, self.errors = self.refinement.kinematics, self.refinement.errors
        self.clearance = SelfClearance(robot, capsules or fit_capsules(robot))
        self.motion = StraightMotion(robot)
        # an additive recurrence that fills space evenly: powers of 1 / g, g^(nu + 1) = g + 1
        g = 2.0
        for _ in range(64):
            g = (1 + g) ** (1 / (self.joints + 1))
        constants = {
            "ratios": g ** -np.arange(1.0, self.joints + 1),
            "order": np.arange(CANDIDATES)[:, None],
            "numbers": np.arange(max(TRIED, POINTS) + 1)[None],
            "action_sets": robot.action_sets,
            "points": np.linspace(0, 1, POINTS + 1)[1:, None],
            "kept_points": np.linspace(0, 1, KEPT_POINTS + 1)[:, None],
        }
        for name, value in constants.items():
            tensor = torch.tensor(value, dtype=torch.float32)
            self.register_buffer(name, tensor, persistent=False)
        self.register_load_state_dict_pre_hook(forget)

    ratios: Tensor
    order: Tensor
    numbers: Tensor
    action_sets: Tensor
    points: Tensor
    kept_points: Tensor

    @property
    def memory_size(self) -> int:
        """M."""
        return 5 * self.joints + 7 * self.effectors + 2

    def read(self, memory: Tensor) -> Memory:
        """The parts of a memory (B, M)."""
        sizes = [self.joints] * 5 + [1] + [3 * self.effectors] * 2 + [self.effectors, 1]
        parts = Memory(*memory.split(sizes, 1))
        low, high = self.refinement.low, self.refinement.high
        return parts._replace(
            target=torch.minimum(torch.maximum(parts.target, low), high),
            goals=parts.goals.reshape(-1, self.effectors, 3),
            chosen_for=parts.chosen_for.reshape(-1, self.effectors, 3),
        )

    def forward(
        self, joint_pos: Tensor, previous: Tensor, goals: Goals, memory: Tensor, propose: Propose
    ) -> tuple[Tensor, Tensor]:
        """Velocities (B, nu) [rad/s or m/s] and the memory (B, M) of the next period.

        joint_pos (B, nu) [rad or m]; previous: command of the period before (B, nu) [rad/s or m/s].
        """
        track = self.track(joint_pos, goals, memory)
        choice = track.kept
        if not bool(track.stays.all()):
            choice = self.search(joint_pos, goals, track, propose).where(track.stays, track.kept)
        return self.move(joint_pos, previous, goals, track, choice)

    def track(self, joint_pos: Tensor, goals: Goals, memory: Tensor) -> "Track":
        """Refine the target of the period before, and look whether it still leads to the goals."""
        before, mask = self.read(memory), goals.active[..., None]
        serves = served_joints(goals.active, self.action_sets)  # (B, nu)
        target = torch.where(serves > 0.5, before.target, joint_pos)
        refined, error = self.refinement.step(target, goals)
        error_there = self.errors(self.kinematics.frames_at(refined), goals)
        # out of reach, a step may lead away
        target = torch.where(self.missing(error_there) < self.missing(error), refined, target)
        # the first point is where the robots are
        frames, points = self.on_way(joint_pos, target, goals, self.kept_points)
        here, ahead = points.split()
        way = self.way(joint_pos, target, here, ahead, KEPT_MARGIN)
        moved = ((goals.position - before.chosen_for) * mask).norm(dim=-1).amax(1, keepdim=True)
        other = (goals.active - before.active).abs().amax(dim=1, keepdim=True) > 0.5
        new = (moved > NEW_GOAL) | other
        searches = before.searches * (~new)
        leads = way.error.amax(dim=1, keepdim=True) < ARRIVED
        near = self.motion.travel_time(target - joint_pos)[:, None] < NEAR_S
        stays = leads & (near | (searches > SEARCHES - 0.5))
        present = frames[:: len(self.kept_points)]
        asks = new & ~stays
        return Track(before, target, way, stays, asks, searches, here, present, serves)

    def search(self, joint_pos: Tensor, goals: Goals, track: "Track", propose: Propose) -> "Choice":
        """The best among K new configurations, the present one and the target kept."""
        named = torch.where(track.searches[..., None] < 0.5, propose(), self.spread(track.searches))
        named = torch.where(track.serves[:, None] > 0.5, named, joint_pos[:, None])
        named = torch.cat([named, joint_pos[:, None]], dim=1)
        many = goals.repeat(TRIED)
        target = self.refinement(named.reshape(-1, self.joints), many, STEPS)
        start = repeat(joint_pos, TRIED)
        here = track.here.map(lambda part: repeat(part, TRIED))
        _, ahead = self.on_way(start, target, many, self.points)
        way = self.way(start, target, here, ahead, MARGIN)
        cost = self.cost(start, target, way).reshape(-1, TRIED, 1)
        keep = self.cost(joint_pos, track.target, track.way)[:, None] - KEEP_BONUS
        best = torch.cat([cost, keep], dim=1).argmin(dim=1)  # (B, 1)
        chosen = (best == self.numbers[:, : TRIED + 1]).float()[:, :, None]  # (B, K + 2, 1)
        rows = zip((target, way.end), track.kept, strict=True)
        return Choice(
            *(
                (
                    torch.cat([new.reshape(-1, TRIED, self.joints), kept[:, None]], dim=1) * chosen
                ).sum(dim=1)
                for new, kept in rows
            )
        )

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
            joint_pos,
            drift,
            *response,
            goals.position,
            torch.where(track.asks[..., None], goals.position, before.chosen_for),
            torch.where(track.asks, goals.active, before.active),
            torch.where(track.stays, track.searches, track.searches % ROUNDS + 1),
        )
        there = joint_pos + response.ahead
        velocity = self.motion(there, previous, choice.end, drift, response.reaction)
        return velocity * track.serves, following.flat

    def drift(self, before: Memory, kept: Tensor, goals: Goals, same: Tensor) -> Tensor:
        """The target's own velocity (B, nu), which goals that move give it; 0 where they rest."""
        step = ((goals.position - before.goals) * goals.active[..., None]).norm(dim=-1)
        moving = (step.amax(dim=1, keepdim=True) / (self.period * MOVING)).clamp(max=1.0)
        velocity = moving * (kept - before.target) / self.period
        drift = before.drift + SMOOTHING * (velocity - before.drift)
        excess = (drift.abs() / self.motion.speed).amax(dim=1, keepdim=True).clamp(min=1.0)
        return drift * (same / excess)

    def on_way(
        self, joint_pos: Tensor, target: Tensor, goals: Goals, points: Tensor
    ) -> tuple[Tensor, Points]:
        """Frames (B n, N, 4, 3), and what holds there: at shares `points` (n, 1) of the straight
        ways from joint_pos to target (B, nu).
        """
        count = len(points)
        rows = joint_pos[:, None] + points * (target - joint_pos)[:, None]  # (B, n, nu)
        frames = self.kinematics.frames_at(rows.reshape(-1, self.joints))
        error = self.errors.size(self.errors(frames, goals.repeat(count)))
        clearance = self.clearance(frames).reshape(-1, count, self.clearance.pairs)
        return frames, Points(clearance, error.reshape(-1, count, self.effectors))

    def way(
        self, joint_pos: Tensor, target: Tensor, here: Points, ahead: Points, margin: float
    ) -> Way:
        """The straight way from joint_pos, which is `here`, to target (B, nu), as far as it is
        clear at the n points `ahead`, the last of which is the target.

        A pair that is nearer than it should be at the start may stay as near.
        """
        needed = (here.clearance - WORSE).clamp(max=self.stop_distance + margin)
        blocked = ((needed - ahead.clearance).amax(dim=2) > 0.0).float()  # (B, n)
        clear = (blocked.cumsum(dim=1) < 0.5).float()  # up to each point
        count = clear.sum(dim=1, keepdim=True)  # (B, 1)
        # at the last clear point, or where the robot is
        points = int(ahead.error.shape[1])  # constant in an exported graph
        last = (count == self.numbers[:, : points + 1]).float()[..., None]  # (B, n + 1, 1)
        error = torch.cat([here.error, ahead.error], dim=1)
        share = count / points
        return Way(joint_pos + share * (target - joint_pos), (last * error).sum(dim=1))

    def missing(self, error: Tensor) -> Tensor:
        """Of errors (B, E or 2 E, 3), those of all effectors together (B, 1) [m]."""
        return self.errors.size(error).sum(dim=1, keepdim=True)

    def cost(self, joint_pos: Tensor, target: Tensor, way: Way) -> Tensor:
        """Cost (B, 1) of a target: what is missing at the end of its way, and the time it takes."""
        missing = (way.error - PRECISE).clamp(min=0.0).sum(dim=1, keepdim=True)
        time = self.motion.travel_time(target - joint_pos)[:, None]
        return ERROR_COST * missing + TIME_COST * time
