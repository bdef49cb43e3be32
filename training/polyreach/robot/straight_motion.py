"""Straight to a configuration: all joints start and arrive together, within their limits."""

import torch
from torch import Tensor, nn

from polyreach.robot.kinematics import forget
from polyreach_description import Robot

GAIN = 8.0  # [1/s], near the target
BRAKING = 0.6  # share of the acceleration limits used for braking; the rest is a reserve
LONGEST_S = 0.15  # [s], delay and lag of a robot together
SMALL = 1e-6  # [s]


class StraightMotion(nn.Module):
    """Velocities that lead to a target on the straight line in joint space.

    With t the time that the line takes at full speed, the share u of full speed is limited by the
    ramp from the command before, and by what still stops at the target: u = k t near it, and
    u = sqrt(2 a (t - a / (2 k^2))) beyond, continuous in value and slope.
    """

    def __init__(self, robot: Robot) -> None:
        super().__init__()
        self.period = 1.0 / robot.control_rate
        for name, value in {
            "speed": robot.joint_vel_limits,
            "change": robot.joint_acc_limits,
        }.items():
            self.register_buffer(name, torch.tensor(value, dtype=torch.float32), persistent=False)
        self.register_load_state_dict_pre_hook(forget)

    speed: Tensor
    change: Tensor

    def forward(self, joint_pos: Tensor, previous: Tensor, target: Tensor, drift: Tensor) -> Tensor:
        """Joint velocities (B, nu) [rad/s or m/s] within the velocity limits.

        joint_pos (B, nu) [rad or m]: where the joints will be once they have followed all commands
        before; see `ahead`. previous: command of the period before (B, nu). drift: velocity of the
        target (B, nu).
        """
        way = target - joint_pos
        # t: of the slowest joint
        time = (way.abs() / self.speed).amax(dim=1, keepdim=True)
        full = way / time.clamp(min=SMALL)  # velocities at u = 1
        accelerate = (self.change / full.abs().clamp(min=SMALL)).amin(dim=1, keepdim=True)
        brake = BRAKING * accelerate
        beyond = (time - brake / (2 * GAIN**2)).clamp(min=0.0)
        stop = torch.where(time < brake / GAIN**2, GAIN * time, (2 * brake * beyond).sqrt())
        before = (previous - drift) * full
        before = before.sum(dim=1, keepdim=True) / (full * full).sum(dim=1, keepdim=True).clamp(
            min=SMALL
        )
        ramp = before.clamp(min=0.0) + accelerate * self.period
        share = torch.minimum(stop, ramp).clamp(max=1.0)
        velocity = share * full + drift
        excess = (velocity.abs() / self.speed).amax(dim=1, keepdim=True).clamp(min=1.0)
        return velocity / excess

    def ahead(self, before: Tensor, previous: Tensor, moved: Tensor) -> Tensor:
        """What the joints have still to move (B, nu) [rad or m] to have followed all commands.

        It is counted, so that neither delay nor lag need to be known (a dead-time compensator:
        Smith 1957): it was `before`, grew by the command `previous` of the period before, and the
        joints have `moved` since. It is at most the way of LONGEST_S at that command, so that an
        error in following does not add up.
        """
        ahead = before + self.period * previous - moved
        longest = LONGEST_S * previous
        return torch.maximum(torch.minimum(ahead, longest.clamp(min=0.0)), longest.clamp(max=0.0))

    def travel_time(self, way: Tensor) -> Tensor:
        """Time (...,) [s] of the straight way (..., nu), from rest to rest, at the limits."""
        time = (way.abs() / self.speed).amax(dim=-1)
        full = way / time[..., None].clamp(min=SMALL)
        ramp = 1.0 / (self.change / full.abs().clamp(min=SMALL)).amin(dim=-1)  # [s] to full speed
        return torch.where(time > ramp, time + ramp, 2 * (time * ramp).clamp(min=0).sqrt())
