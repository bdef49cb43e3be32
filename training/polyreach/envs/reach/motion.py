"""How the joints of N robots follow the velocities that are commanded."""

import math
from typing import Any, Protocol

import torch
from torch import Tensor

from polyreach.envs.reach.config import ReachConfig
from polyreach.envs.reach.dynamics import BatchDynamics
from polyreach.envs.reach.joint_limits import JointLimits
from polyreach_description import Robot

State = dict[str, Any]

GRID = 64  # values of the delay, and of the lag, from 0 to the largest
SERVO_STATE = ("velocity", "commands", "choice")


class Motion(Protocol):
    """Joints of N robots. `step` holds one velocity for an action of some control periods."""

    @property
    def command(self) -> Tensor:
        """The last command after limits (N, nu) [rad/s or m/s]."""

    def start(self, which: Tensor, joint_pos: Tensor, generator: torch.Generator | None) -> None:
        """Put the robots in `which` (N,) at rest at joint_pos (N, nu), with new delays and lags
        drawn from `generator`, or, without one, those that they had.
        """

    def step(self, joint_pos: Tensor, joint_vel: Tensor) -> Tensor:
        """Joint positions (N, nu) after an action with joint_vel (N, nu) [rad/s or m/s]."""

    def state_dict(self) -> State:
        """Tensors (N, ...) that the next steps depend on; they are not written to afterwards."""

    def load_state_dict(self, state: State) -> None:
        """Restore what state_dict returned."""

    def close(self) -> None:
        """Stop threads."""


def make_motion(
    robot: Robot, num_envs: int, config: ReachConfig, device: torch.device, threads: int
) -> Motion:
    """The motion that the settings say."""
    if config.mode == "dynamic":
        return BatchDynamics(robot, num_envs, config, device, threads)
    if config.acceleration_limits or config.max_delay_s > 0 or config.max_lag_s > 0:
        return LaggingJoints(robot, num_envs, config, device)
    return Integration(robot, num_envs, config, device)


class Integration:
    """Joints that have the commanded velocity at once: digrad-2018."""

    def __init__(
        self, robot: Robot, num_envs: int, config: ReachConfig, device: torch.device
    ) -> None:
        self.duration = config.action_repeat / robot.control_rate  # [s]
        limits = torch.tensor(robot.joint_pos_limits, dtype=torch.float32, device=device)
        self.low, self.high = limits.T
        self.command = torch.zeros(num_envs, len(limits), device=device)

    def start(self, which: Tensor, joint_pos: Tensor, generator: torch.Generator | None) -> None:
        """The last command is zero."""
        self.command = torch.where(which[:, None], 0.0, self.command)

    def step(self, joint_pos: Tensor, joint_vel: Tensor) -> Tensor:
        """Integrate over the action, inside the position limits."""
        self.command = joint_vel
        return (joint_pos + joint_vel * self.duration).clamp(self.low, self.high)

    def state_dict(self) -> State:
        """The last command."""
        return {"command": self.command}

    def load_state_dict(self, state: State) -> None:
        """Checkpoints of version 0.2 have no command, which nothing depended on."""
        self.command = state.get("command", self.command).to(self.command.device)

    def close(self) -> None:
        """Nothing runs."""


class LaggingJoints:
    """Joints with limited commands, which they follow after a delay, with a first-order lag.

    In every control period the command goes over to the action within the acceleration limits and
    brakes before position limits, as in the controller. A delay d later it becomes the velocity u
    that a servo follows: dv/dt = (u - v) / tau. Between two commands u is constant, so that the
    velocity and the way after a period are exact linear functions of the velocity before and of the
    last commands: servo_weights. Every episode has its own d and tau, each of GRID values.
    """

    def __init__(
        self, robot: Robot, num_envs: int, config: ReachConfig, device: torch.device
    ) -> None:
        joints, period = len(robot.joint_names), 1.0 / robot.control_rate
        self.repeat, self.device = config.action_repeat, device
        limits = torch.tensor(robot.joint_pos_limits, dtype=torch.float32, device=device)
        self.low, self.high = limits.T
        apply = JointLimits(robot, device).apply
        self._limit = apply if config.acceleration_limits else _unlimited
        # commands that may still act, newest first: one more than the whole periods of delay
        count = 1 + delay_periods(config.max_delay_s, period)
        self.commands = torch.zeros(count, num_envs, joints, device=device)
        self.velocity = torch.zeros(1, num_envs, joints, device=device)
        delays = torch.linspace(0.0, config.max_delay_s, GRID, dtype=torch.float64)
        lags = torch.linspace(0.0, config.max_lag_s, GRID, dtype=torch.float64)
        self.delays, self.lags = delays.to(device), lags.to(device)  # (GRID,) [s]
        delay, lag = torch.cartesian_prod(delays, lags).T
        self._table = servo_weights(delay, lag, period, count).to(device)  # (2, 1 + count, GRID^2)
        self.choice = torch.zeros(2, num_envs, dtype=torch.int64, device=device)  # delay, lag
        self._look_up()

    def _look_up(self) -> None:
        """The weights of every joint (2, 1 + count, N, nu)."""
        weights = self._table[:, :, GRID * self.choice[0] + self.choice[1]]
        self.weights = weights[..., None].expand(-1, -1, *self.commands.shape[1:]).contiguous()

    @property
    def command(self) -> Tensor:
        """The last command after limits (N, nu) [rad/s or m/s]."""
        return self.commands[0]

    @property
    def delay(self) -> Tensor:
        """(N,) [s]."""
        return self.delays[self.choice[0]]

    @property
    def lag(self) -> Tensor:
        """Time constants (N,) [s]."""
        return self.lags[self.choice[1]]

    def start(self, which: Tensor, joint_pos: Tensor, generator: torch.Generator | None) -> None:
        """Rest, and a delay and a lag that are uniform up to their maxima."""
        self.commands = torch.where(which[:, None], 0.0, self.commands)
        self.velocity = torch.where(which[:, None], 0.0, self.velocity)
        if generator is not None and (self.delays[-1] > 0 or self.lags[-1] > 0):
            size = self.choice.shape
            drawn = torch.randint(GRID, size, generator=generator, device=self.device)
            self.choice = torch.where(which, drawn, self.choice)
            self._look_up()

    def step(self, joint_pos: Tensor, joint_vel: Tensor) -> Tensor:
        """The control periods of an action, one after the other."""
        for _ in range(self.repeat):
            command = self._limit(joint_vel, self.command, joint_pos)
            signals = torch.cat([self.velocity, command[None], self.commands[:-1]])
            after = (self.weights * signals).sum(dim=1)  # (2, N, nu)
            self.velocity, self.commands = after[:1], signals[1:]
            joint_pos = (joint_pos + after[1]).clamp(self.low, self.high)
        return joint_pos

    def state_dict(self) -> State:
        """Velocities, commands, and the numbers of delay and lag."""
        return {name: getattr(self, name).movedim(1, 0) for name in SERVO_STATE}

    def load_state_dict(self, state: State) -> None:
        """Restore what state_dict returned."""
        for name in SERVO_STATE:
            setattr(self, name, state[name].movedim(0, 1).to(self.device).contiguous())
        self._look_up()

    def close(self) -> None:
        """Nothing runs."""


def delay_periods(delay_s: float, period_s: float) -> int:
    """Control periods begun within a delay; one that is longer only by rounding does not count."""
    return math.ceil(delay_s / period_s - 1e-9)


def _unlimited(wanted: Tensor, previous: Tensor, joint_pos: Tensor) -> Tensor:
    return wanted


def servo_weights(delay: Tensor, lag: Tensor, period: float, count: int) -> Tensor:
    """What the velocity and the way of a joint in a control period depend on: (2, 1 + count, N).

    delay, lag: (N,) [s]; lag is the time constant. Row 0 gives the velocity after the period [rad/s
    or m/s], row 1 the way in it [rad or m]. Columns: the velocity before, the command of this
    period, and those of the `count` - 1 periods before it.
    """
    delay, tau = delay.double(), lag.double().clamp(min=1e-9)
    whole = (delay / period + 1e-9).floor()
    # the command of `whole` + 1 periods ago acts for the time `first`, then the one after it
    first = (delay - whole * period).clamp(min=0.0)
    second = period - first
    kept_first, kept_second = torch.exp(-first / tau), torch.exp(-second / tau)
    older = 1.0 - kept_first, tau * (kept_first - 1.0)
    # velocity: v <- u + (v - u) exp(-t / tau); way: u t + (v - u) tau (1 - exp(-t / tau))
    velocity = [
        kept_first * kept_second,
        1.0 - kept_second,
        older[0] * kept_second,
    ]
    way = [
        tau * (1.0 - kept_first * kept_second),
        second - tau * (1.0 - kept_second),
        first + older[1] + older[0] * tau * (1.0 - kept_second),
    ]
    values = torch.stack([torch.stack(velocity), torch.stack(way)])  # (2, 3, N)
    column = torch.arange(count + 1, device=delay.device)[:, None]  # commands, and one beyond
    newer = values[:, None, 1] * (column == whole) + values[:, None, 2] * (column == whole + 1)
    return torch.cat([values[:, :1], newer[:, :count]], dim=1).float()
