"""Straight to a configuration: all joints start and arrive together, within their limits."""

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

from polyreach.robot.kinematics import forget
from polyreach_description import Robot

BRAKING = 0.75  # share of the acceleration limits used for braking; the rest is a reserve
REACH_S = 0.03  # [s] least reaction time for which a motion ends as fast as drives permit
LONGEST_S = 0.3  # [s] greatest reaction time
CAUTION = 0.6  # gain near the target, times the reaction time
RECENT_S = 0.04  # [s]
FIRST_S = 0.08  # [s] reaction time of drives of which nothing is known; rather too long
LEARNING_S = 0.2  # [s] in which a reaction time is learned at FAST
FAST = 0.02  # sum of the squared changes of all joints' commands, in shares of full speed
SMALL = 1e-6  # [s]


class Response(NamedTuple):
    """How the joints have followed their commands, of B robots."""

    behind: Tensor  # (B, nu) [rad or m] recent commands that the joints have not followed
    mean: Tensor  # (B, nu) of recent commands [rad/s or m/s]
    reaction: Tensor  # (B, 1) [s] delay and lag together

    @property
    def ahead(self) -> Tensor:
        """What the joints will still move (B, nu) [rad or m] by the commands so far."""
        return self.behind + self.reaction * self.mean


class StraightMotion(nn.Module):
    """Velocities that lead to a target on the straight line in joint space.

    With t the time that the line takes at full speed, the share u of full speed is limited by the
    ramp from the command before, and by what still stops at the target: u = k t near it, and
    u = sqrt(2 a (t - a / (2 k^2))) beyond, continuous in value and slope.

    The reaction time of the drives is learned from how they follow. What they will still move is
    counted (a dead-time compensator: Smith 1957), so that a delay does not make a robot swing.
    """

    def __init__(self, robot: Robot) -> None:
        super().__init__()
        self.period = 1.0 / robot.control_rate
        self.keeps = math.exp(-self.period / RECENT_S)
        self.learns = 1.0 - math.exp(-self.period / LEARNING_S)
        for name, value in {
            "speed": robot.joint_vel_limits,
            "change": robot.joint_acc_limits,
        }.items():
            self.register_buffer(name, torch.tensor(value, dtype=torch.float32), persistent=False)
        self.register_load_state_dict_pre_hook(forget)

    speed: Tensor
    change: Tensor

    def forward(
        self,
        joint_pos: Tensor,
        previous: Tensor,
        target: Tensor,
        drift: Tensor,
        reaction: Tensor,
    ) -> Tensor:
        """Joint velocities (B, nu) [rad/s or m/s] within the velocity limits.

        joint_pos (B, nu) [rad or m]: where the joints will be once they have followed all commands
        before; see `Response.ahead`. previous: command of the period before (B, nu). drift:
        velocity of the target (B, nu). reaction (B, 1) [s].
        """
        gain = CAUTION / reaction.clamp(min=REACH_S)  # k
        way = target + reaction * drift - joint_pos
        # t: of the slowest joint
        time = (way.abs() / self.speed).amax(dim=1, keepdim=True)
        full = way / time.clamp(min=SMALL)  # velocities at u = 1
        accelerate = (self.change / full.abs().clamp(min=SMALL)).amin(dim=1, keepdim=True)
        brake = BRAKING * accelerate
        bend = brake / gain.square()  # t
        beyond = (time - bend / 2).clamp(min=0.0)
        stop = torch.where(time < bend, gain * time, (2 * brake * beyond).sqrt())
        before = (previous - drift) * full
        before = before.sum(dim=1, keepdim=True) / (full * full).sum(dim=1, keepdim=True).clamp(
            min=SMALL
        )
        ramp = before.clamp(min=0.0) + accelerate * self.period
        share = torch.minimum(stop, ramp).clamp(max=1.0)
        velocity = share * full + drift
        excess = (velocity.abs() / self.speed).amax(dim=1, keepdim=True).clamp(min=1.0)
        return velocity / excess

    def first_response(self, rows: int) -> Response:
        """Of robots that have had no command yet."""
        still = torch.zeros(rows, len(self.speed), device=self.speed.device)
        return Response(still, still, still[:, :1] + FIRST_S)

    def respond(self, before: Response, previous: Tensor, moved: Tensor) -> Response:
        """The response after a period with the command `previous` (B, nu) [rad/s or m/s], since
        which the joints have `moved` (B, nu) [rad or m].

        Where the command changes by c, the joints fall behind by c times the reaction time; what
        they miss for long has other causes, and is forgotten. So the reaction time is fitted to
        recent changes, by normalised least mean squares (Haykin, Adaptive Filter Theory, ch. 7).
        """
        behind = self.keeps * (before.behind + self.period * previous - moved)
        mean = previous + self.keeps * (before.mean - previous)
        # shares of full speed, within what can be
        missed = (behind / self.speed).clamp(-LONGEST_S, LONGEST_S)  # [s]
        usual = (mean / self.speed).clamp(-1.0, 1.0)
        reaction = before.reaction.clamp(0.0, LONGEST_S)
        change = previous / self.speed - usual
        size = (change * change).sum(dim=1, keepdim=True) + FAST
        step = ((missed - reaction * change) * change).sum(dim=1, keepdim=True) / size
        reaction = (reaction + self.learns * step).clamp(0.0, LONGEST_S)
        return Response(missed * self.speed, usual * self.speed, reaction)

    def travel_time(self, way: Tensor) -> Tensor:
        """Time (...,) [s] of the straight way (..., nu), from rest to rest, at the limits."""
        time = (way.abs() / self.speed).amax(dim=-1)
        full = way / time[..., None].clamp(min=SMALL)
        ramp = 1.0 / (self.change / full.abs().clamp(min=SMALL)).amin(dim=-1)  # [s] to full speed
        return torch.where(time > ramp, time + ramp, 2 * (time * ramp).clamp(min=0).sqrt())
