"""Analytic policy gradient: configurations learned through the robot's own kinematics.

Everything that reaching depends on is differentiable here: forward kinematics, the distances of
capsules around the bodies, and the time of a straight motion. So a network that names K
configurations for a start and its goals descends the gradient of their cost itself, without a
critic and without simulation (analytic policy gradient: Wiedemann et al. 2023). Of the K
configurations the best gets nearly all of the weight, so that they come to answer different
situations (multiple choice learning: Guzman-Rivera et al. 2012). The control loop refines them,
checks them and goes straight to the best: see polyreach.robot.configuration_search.

What the paper leaves open, and what is done here. Wiedemann et al. unroll a trajectory through the
dynamics. Here a configuration stands for the straight motion to it, and the cost is that of its end
and of one random point on the way. A step of the environments is one goal set for each robot, and
one update follows it.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from polyreach.envs.reach.effector_reach import EffectorReachEnv
from polyreach.errors import check_range, check_widths
from polyreach.methods.learner import Learner, Metrics
from polyreach.methods.method import Method
from polyreach.networks.configuration_policy import ConfigurationPolicy
from polyreach.robot.capsule_fit import fit_capsules
from polyreach.robot.configuration_search import CANDIDATES
from polyreach.robot.features import Observation
from polyreach.robot.goals import Goals
from polyreach.robot.self_clearance import SelfClearance
from polyreach.robot.straight_motion import StraightMotion

PAPER = (
    "Wiedemann et al. 2023, Training Efficient Controllers via Analytic Policy Gradient; "
    "Guzman-Rivera et al. 2012, Multiple Choice Learning"
)


@dataclass(frozen=True)
class APGConfig:
    """Settings of the analytic policy gradient."""

    hidden: tuple[int, ...] = (384, 384, 384)
    """Widths of the hidden layers."""
    lr: float = 1e-3
    """Learning rate of Adam."""
    final_lr: float = 0.05
    """The rate falls linearly to this share of itself at the last step."""
    warm_up: int = 100
    """Updates over which the rate rises from zero."""
    grad_clip: float = 1.0
    """Norm at which the gradient is clipped."""
    reach_scale: float = 0.1
    """Error at which half of an effector's cost is reached [m]: e / (e + reach_scale)."""
    nearness_weight: float = 10.0
    """Weight of the nearness of bodies [1/m]; 0 leaves the bodies out."""
    margin: float = 0.02
    """Nearness begins this far outside the stop distance [m]."""
    time_weight: float = 0.15
    """Weight of the time of the motion [1/s]."""
    rest: float = 0.05
    """Weight of a random one of the K configurations; the best has the other share."""

    def __post_init__(self) -> None:
        """Raise UserError for a value that no run can have."""
        check_widths("hidden", self.hidden)
        for name in ("lr", "grad_clip", "reach_scale"):
            check_range(name, getattr(self, name), 1e-12)
        for name in ("nearness_weight", "margin", "time_weight", "warm_up"):
            check_range(name, getattr(self, name), 0.0)
        for name in ("final_lr", "rest"):
            check_range(name, getattr(self, name), 0.0, 1.0)


class GoalSets(NamedTuple):
    """Starts and goals of B robots, and what their motions may not come below."""

    joint_pos: Tensor  # (B, nu) [rad or m]
    goals: Goals
    needed: Tensor  # (B, P) [m] clearances

    def rows(self, index: Tensor) -> "GoalSets":
        """Those of `index`."""
        goals = self.goals.map(lambda part: part[index])
        return GoalSets(self.joint_pos[index], goals, self.needed[index])


class Costs(NamedTuple):
    """Of configurations, each (N,)."""

    total: Tensor
    reach: Tensor
    nearness: Tensor
    time: Tensor


class APG(Learner):
    """Draws starts and goals, and descends the cost of the best configuration."""

    env: EffectorReachEnv
    actor: ConfigurationPolicy

    def __init__(
        self, config: APGConfig, env: EffectorReachEnv, total_steps: int, seed: int
    ) -> None:
        super().__init__(config, env, total_steps, seed)
        self.config, robot = config, env.robots.robot
        self.stop_distance = robot.stop_distance
        self.actor = ConfigurationPolicy(robot, env.robots.layout.inputs, config.hidden)
        self.actor.to(self.device)
        self.kinematics = self.actor.features.kinematics
        self.errors = self.actor.features.errors
        self.clearance = SelfClearance(robot, fit_capsules(robot)).to(self.device)
        self.motion = StraightMotion(robot).to(self.device)
        self.optimizer = self.adam(self.actor.parameters(), config.lr)
        self.parts |= {"actor": self.actor, "optimizer": self.optimizer}

    def step(self) -> Metrics:
        """One goal set for each robot, and one update."""
        sets = self.draw(self.env.num_envs)
        self.env_steps += self.env.num_envs
        self.schedule_rates()
        metrics = self.update(sets)
        self.updates += 1
        return metrics

    def schedule_rates(self) -> None:
        """A rise over the first updates, then the fall to the last."""
        rise = min(1.0, (self.updates + 1) / max(1, self.config.warm_up))
        self.rates[self.optimizer] = self.config.lr * rise
        super().schedule_rates()

    @torch.no_grad()
    def draw(self, count: int) -> GoalSets:
        """Random starts, and goals that other configurations reach."""
        robots = self.env.robots
        index = torch.randint(
            len(robots.configurations), (count,), generator=self.generator, device=self.device
        )
        starts = robots.configurations[index]
        drawn = robots.sample_goals(count, self.generator)
        goals = self.errors.goals_of(Observation(starts, **drawn._asdict()))
        # a pair that is nearer at the start may stay as near
        now = self.clearance.at(starts)
        return GoalSets(starts, goals, now.clamp(max=self.stop_distance + self.config.margin))

    def cost(self, sets: GoalSets, target: Tensor, share: Tensor) -> Costs:
        """Costs of targets (N, nu), one for each row of `sets`; share (N, 1) in [0, 1] is the point
        on the way at which bodies are looked at besides its end.
        """
        frames = self.kinematics.frames_at(target)
        error = self.errors.size(self.errors(frames, sets.goals))  # (N, E)
        reach = (error / (error + self.config.reach_scale)).sum(dim=-1)
        on_way = torch.lerp(sets.joint_pos, target, share)
        nearness = sum(
            short.amax(dim=-1) + 0.2 * short.sum(dim=-1)
            for short in (
                (sets.needed - self.clearance(there)).clamp(min=0.0)
                for there in (frames, self.kinematics.frames_at(on_way))
            )
        )
        assert isinstance(nearness, Tensor)
        times = (target - sets.joint_pos).abs() / self.motion.speed  # (N, nu)
        time = times.amax(dim=-1) + 0.1 * times.mean(dim=-1)
        # c(q) = sum_e e / (e + s) + w_n nearness + w_t time
        total = reach + self.config.nearness_weight * nearness + self.config.time_weight * time
        return Costs(total, reach, nearness, time)

    def update(self, sets: GoalSets) -> Metrics:
        """One step down the gradient of the best configuration's cost."""
        count, rows = len(sets.joint_pos), torch.arange(len(sets.joint_pos), device=self.device)
        targets = self.actor.targets(sets.joint_pos, sets.goals)  # (B, K, nu)
        share = torch.rand(count, 1, generator=self.generator, device=self.device)
        with torch.no_grad():
            many = rows.repeat_interleave(CANDIDATES)
            costs = self.cost(sets.rows(many), targets.flatten(0, 1), share[many])
            best = costs.total.unflatten(0, (count, -1)).argmin(dim=1)
        other = torch.randint(CANDIDATES, (count,), generator=self.generator, device=self.device)
        twice = torch.cat([rows, rows])
        chosen = targets[twice, torch.cat([best, other])]
        share = torch.rand(2 * count, 1, generator=self.generator, device=self.device)
        total, reach, nearness, time = self.cost(sets.rows(twice), chosen, share)
        # L = E[(1 - w) min_k c(q_k) + w c(q_j)], j drawn from all K
        weight = self.config.rest
        loss = (1 - weight) * total[:count].mean() + weight * total[count:].mean()
        self.optimizer.zero_grad()
        loss.backward()
        norm = nn.utils.clip_grad_norm_(self.actor.parameters(), self.config.grad_clip)
        self.optimizer.step()
        means = {"reach": reach, "nearness": nearness, "time": time}
        best_means = {name: float(part[:count].detach().mean()) for name, part in means.items()}
        return {"loss": float(loss.detach()), "gradient": float(norm), **best_means}


METHOD = Method(
    "apg",
    PAPER,
    APG,
    APGConfig(),
    tuned={"robot": APGConfig()},
    task_conditioned=False,
    numbers={"steps": 400_000, "num_envs": 128, "eval_every": 50_000, "eval_goals": 64},
)
