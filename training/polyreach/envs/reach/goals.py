"""Where episodes start and what their goals are: banks of configurations, and goals that move."""

from collections import Counter
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from polyreach.errors import UserError
from polyreach.robot.features import Observation
from polyreach.robot.kinematics import ForwardKinematics
from polyreach.robot.self_distance import SelfDistance
from polyreach_description import Robot

PATH_PARTS = 16  # of a path between two configurations, to measure how fast effectors go along it
LEAST_SHARE = 1e-3  # of random configurations that have to be clear
FIRST_TRIES = 1000  # before that share is judged


class Goals(NamedTuple):
    """Goals of B robots: those inputs of a policy that say what it is to do."""

    goals: Tensor  # (B, E, 3) [m, base frame]
    active: Tensor  # (B, E) in {0, 1}
    goal_orientations: Tensor | None = None  # (B, E, 4) [x y z w]; None without oriented effectors
    oriented: Tensor | None = None  # (B, E) in {0, 1}

    def rows(self, index: Tensor) -> "Goals":
        """Those of `index`."""
        parts = self._asdict().items()
        return Goals(**{name: part[index] for name, part in parts if part is not None})

    def put(self, parts: Observation, which: Tensor) -> Observation:
        """Observations with these goals in the rows of `which` (B,), elsewhere as they are."""
        chosen: dict[str, Tensor] = {}
        for name, value in self._asdict().items():
            if value is None:
                continue
            rows = which.reshape(-1, *[1] * (value.dim() - 1))
            chosen[name] = torch.where(rows, value, getattr(parts, name))
        return parts._replace(**chosen)


def sample_clear_configurations(
    robot: Robot, rng: np.random.Generator, count: int
) -> NDArray[np.float64]:
    """Draw (count, nu) configurations as robot.sample_configuration does, with all bodies farther
    apart than their stop distance.

    Raises UserError, with the bodies that are nearer most often, if almost none is.
    """
    self_distance = SelfDistance(robot, robot.stop_distance)
    clear: list[NDArray[np.float64]] = []
    near: Counter[tuple[int, int]] = Counter()
    tries = 0
    while len(clear) < count:
        (candidate,) = robot.sample_configuration(rng, 1)
        tries += 1
        pairs = self_distance.close_pairs(candidate)
        near.update(pairs)
        if not pairs:
            clear.append(candidate)
        elif tries > FIRST_TRIES and len(clear) < LEAST_SHARE * tries:
            (first, second), _ = near.most_common(1)[0]
            raise UserError(
                f"robot '{robot.name}' is nearer to itself than its stop distance, "
                f"{1e3 * robot.stop_distance:g} mm, in almost every configuration, most often with "
                f"its links '{robot.model.body(first).name}' and '{robot.model.body(second).name}':"
                " give the two a smaller distance under 'no_collision' in the robot.yaml, or make "
                "collision_stop_distance smaller"
            )
    return np.array(clear)


class MovingGoals:
    """Goals that follow the effectors between two configurations: always reachable together.

    At phase p the configuration is the share (1 - cos p) / 2 of the straight way from number i of
    the bank to number i + 1. The rate dp/dt is constant in an episode, and 0 for goals that stand
    still.
    """

    def __init__(
        self,
        kinematics: ForwardKinematics,
        configurations: Tensor,
        num_envs: int,
        share: float,
        speed: float,
    ) -> None:
        self.kinematics, self.share, self.speed = kinematics, share, speed
        self.start_at, self.end_at = configurations, configurations.roll(-1, 0)  # (bank, nu)
        self.stretch = self._stretch()  # (bank,) [m]
        device = configurations.device
        self.goal_index = torch.zeros(num_envs, dtype=torch.int64, device=device)
        self.goal_phase = torch.zeros(num_envs, device=device)  # [rad]
        self.goal_rate = torch.zeros(num_envs, device=device)  # [rad/s]

    @torch.no_grad()
    def _stretch(self) -> Tensor:
        """The largest speed of an effector if the way were done in 1 s at constant joint speeds."""
        largest = torch.zeros(len(self.start_at), device=self.start_at.device)
        before = self.kinematics(self.start_at).effector
        for part in range(1, PATH_PARTS + 1):
            way = torch.lerp(self.start_at, self.end_at, part / PATH_PARTS)
            after = self.kinematics(way).effector
            distance = (after - before).norm(dim=-1).amax(dim=1)
            largest = torch.maximum(largest, PATH_PARTS * distance)
            before = after
        return largest

    def draw(self, which: Tensor, index: Tensor, generator: torch.Generator) -> None:
        """Start episodes in the robots of `which` (N,), anywhere on the paths `index` (N,); goals
        that stand still are at the start of theirs.
        """
        chance, speed, phase = torch.rand(3, len(which), generator=generator, device=which.device)
        # the share changes by dp/dt / 2 per second at most
        rate = 2.0 * self.speed * speed / self.stretch[index].clamp(min=1e-3)
        rate = torch.where(chance < self.share, rate, 0.0)
        phase = torch.where(rate > 0, 2.0 * torch.pi * phase, 0.0)
        self.goal_index = torch.where(which, index, self.goal_index)
        self.goal_phase = torch.where(which, phase, self.goal_phase)
        self.goal_rate = torch.where(which, rate, self.goal_rate)

    def hold(self) -> None:
        """Let all goals stand still from now on."""
        self.goal_rate = torch.zeros_like(self.goal_rate)

    def advance(self, seconds: float) -> tuple[Tensor, Tensor]:
        """That many seconds later: whether the goals of each robot move (N,), and configurations
        (N, nu) [rad or m] at those that do.
        """
        self.goal_phase = self.goal_phase + self.goal_rate * seconds
        share = (0.5 - 0.5 * self.goal_phase.cos())[:, None]
        index = self.goal_index
        return self.goal_rate > 0, torch.lerp(self.start_at[index], self.end_at[index], share)

    def state_dict(self) -> dict[str, Any]:
        """Tensors (N,)."""
        return {name: getattr(self, name) for name in ("goal_index", "goal_phase", "goal_rate")}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what state_dict returned."""
        for name, now in self.state_dict().items():
            setattr(self, name, state[name].to(now.device))
