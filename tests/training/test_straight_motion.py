"""The straight motion to a configuration: limits, arrival with delay and lag, times by hand."""

import math
from collections import deque

import pytest
import torch
from torch import Tensor

from polyreach.robot.straight_motion import FIRST_S, RECENT_S, Response, StraightMotion
from polyreach_description import Robot, load_robot

ROBOT = load_robot("planar8")
PERIOD = 1.0 / ROBOT.control_rate
SPEED = torch.tensor(ROBOT.joint_vel_limits).float()
CHANGE = torch.tensor(ROBOT.joint_acc_limits).float()


@pytest.fixture
def motion() -> StraightMotion:
    return StraightMotion(ROBOT)


def draw(robot: Robot, count: int, seed: int) -> Tensor:
    low, high = torch.tensor(robot.joint_pos_limits).float().T
    generator = torch.Generator().manual_seed(seed)
    return low + (high - low) * torch.rand(count, len(low), generator=generator)


@pytest.mark.parametrize("way", [2.0, 0.05])
def test_travel_time_is_that_of_a_trapezoid(motion: StraightMotion, way: float) -> None:
    moved = torch.zeros(2, 8)
    moved[0, 3] = way
    moved[1, 3], moved[1, 5] = way, -way / 2
    speed, change = float(SPEED[3]), float(CHANGE[3])
    at_full_speed = way - speed**2 / change
    # a ramp up and one down, and full speed between; or a triangle
    expected = (
        2 * speed / change + at_full_speed / speed
        if at_full_speed > 0
        else 2 * (way / change) ** 0.5
    )
    assert motion.travel_time(moved).tolist() == pytest.approx([expected, expected])
    assert float(motion.travel_time(torch.zeros(1, 8))) == 0.0


def test_velocities_are_never_above_their_limits(motion: StraightMotion) -> None:
    generator = torch.Generator().manual_seed(0)
    joint_pos, target = draw(ROBOT, 500, 1), draw(ROBOT, 500, 2)
    target[:20] = joint_pos[:20]
    previous, drift = 3 * SPEED * torch.randn(2, 500, 8, generator=generator)
    velocity = motion(joint_pos, previous, target, drift, torch.full((500, 1), 0.05))
    assert ((velocity.abs() / SPEED).amax(dim=1) <= 1 + 1e-6).all()
    assert ((velocity.abs() / SPEED).amax(dim=1) > 0.99).any()


def test_a_start_from_rest_is_straight_and_ramps_up_within_the_acceleration_limits(
    motion: StraightMotion,
) -> None:
    start, target = draw(ROBOT, 50, 1), draw(ROBOT, 50, 2)
    joint_pos, previous, drift = start, torch.zeros(50, 8), torch.zeros(50, 8)
    for _ in range(int(0.3 / PERIOD)):
        velocity = motion(joint_pos, previous, target, drift, torch.zeros(50, 1))
        assert (velocity.abs() - previous.abs() <= 1.001 * CHANGE * PERIOD).all()
        assert (velocity * (target - start) >= 0).all()
        joint_pos, previous = joint_pos + PERIOD * velocity, velocity
    moved, way = joint_pos - start, target - start
    share = (moved * way).sum(dim=1, keepdim=True) / way.square().sum(dim=1, keepdim=True)
    assert (moved - share * way).abs().max() < 1e-4
    assert (share > 0).all() and share.max() < 1.0


class Servos:
    """Robots (B, nu) that follow commands after a delay, with a lag and limited accelerations."""

    def __init__(self, joint_pos: Tensor, delay_s: float, lag_s: float) -> None:
        self.joint_pos, self.lag_s = joint_pos.clone(), lag_s
        self.velocity, self.command = torch.zeros_like(joint_pos), torch.zeros_like(joint_pos)
        self.before = self.joint_pos
        self.response = StraightMotion(ROBOT).first_response(len(joint_pos))
        self.step_s = 0.002
        self.waiting = deque([torch.zeros_like(joint_pos)] * round(delay_s / self.step_s))

    def step(self, motion: StraightMotion, target: Tensor, drift: Tensor) -> None:
        """One control period of a motion, as the controller limits it."""
        self.response = motion.respond(self.response, self.command, self.joint_pos - self.before)
        self.before = self.joint_pos
        there = self.joint_pos + self.response.ahead
        command = motion(there, self.command, target, drift, self.response.reaction)
        change = (command - self.command).clamp(-CHANGE * PERIOD, CHANGE * PERIOD)
        self.command = self.command + change
        for _ in range(round(PERIOD / self.step_s)):
            self.waiting.append(self.command)
            share = 1.0 if self.lag_s == 0 else self.step_s / (self.lag_s + self.step_s)
            self.velocity = self.velocity + share * (self.waiting.popleft() - self.velocity)
            self.joint_pos = self.joint_pos + self.step_s * self.velocity


@pytest.mark.parametrize("delay_s", [0.0, 0.02, 0.04, 0.06])
@pytest.mark.parametrize("lag_s", [0.0, 0.04])
def test_it_arrives_without_swinging(motion: StraightMotion, delay_s: float, lag_s: float) -> None:
    start, target = draw(ROBOT, 200, 3), draw(ROBOT, 200, 4)
    target[:50] = start[:50] + 0.02 * (target - start)[:50]  # short ways, too
    servos, drift = Servos(start, delay_s, lag_s), torch.zeros_like(start)
    sign = (target - start).sign()
    overshoot, arrived = torch.zeros(200, 8), torch.full((200,), torch.inf)
    for period in range(int(6.0 / PERIOD)):
        servos.step(motion, target, drift)
        overshoot = torch.maximum(overshoot, (servos.joint_pos - target) * sign)
        near = (servos.joint_pos - target).abs().amax(dim=1) < 0.02
        arrived = torch.where(near, arrived.clamp(max=(period + 1) * PERIOD), torch.inf)
    assert overshoot.max() < 0.02  # [rad]
    assert (servos.joint_pos - target).abs().max() < 1e-3 and servos.velocity.abs().max() < 1e-3
    # full braking would be sooner, by what is held back for the delay
    assert (arrived < 1.35 * motion.travel_time(target - start) + 0.7).all()


def test_a_moving_target_is_followed(motion: StraightMotion) -> None:
    joint_pos = draw(ROBOT, 20, 5)
    drift = 0.2 * SPEED * torch.ones(20, 8)
    servos, target = Servos(joint_pos, 0.02, 0.02), joint_pos.clone()
    for _ in range(int(2.0 / PERIOD)):
        target = target + PERIOD * drift
        servos.step(motion, target, drift)
    assert (servos.velocity - drift).abs().max() < 0.01
    # behind by no more than the reaction time
    assert (target - servos.joint_pos).abs().max() < 0.06 * float(drift.max())


def test_what_is_not_followed_yet_is_counted_and_fades(motion: StraightMotion) -> None:
    behind, mean = torch.full((1, 8), 0.02), torch.full((1, 8), 0.5)
    previous, moved = torch.full((1, 8), 1.0), torch.full((1, 8), 0.01)
    before = Response(behind, mean, torch.tensor([[0.05]]))
    after = motion.respond(before, previous, moved)
    keeps = math.exp(-PERIOD / RECENT_S)
    # what was behind, and a period of the command less what was moved
    assert after.behind[0].tolist() == pytest.approx([keeps * (0.02 + PERIOD - 0.01)] * 8)
    assert after.mean[0].tolist() == pytest.approx([1.0 - 0.5 * keeps] * 8)
    ahead = after.behind + after.reaction * after.mean
    assert torch.equal(after.ahead, ahead)


@pytest.mark.parametrize("reaction_s", [0.0, 0.04, 0.12])
def test_the_reaction_time_is_learned(motion: StraightMotion, reaction_s: float) -> None:
    """Of servos with that lag, from the ramps of three motions."""
    start, target = draw(ROBOT, 50, 3), draw(ROBOT, 50, 4)
    servos = Servos(start, 0.0, reaction_s)
    assert float(servos.response.reaction[0]) == pytest.approx(FIRST_S)
    for way in (target, start, target):
        for _ in range(int(3.0 / PERIOD)):
            servos.step(motion, way, torch.zeros_like(start))
    learned = servos.response.reaction
    assert (learned - reaction_s).abs().max() < 0.6 * abs(FIRST_S - reaction_s)


def test_a_joint_that_does_not_follow_is_not_waited_for(motion: StraightMotion) -> None:
    response, previous = motion.first_response(1), torch.full((1, 8), 0.5)
    for _ in range(200):
        response = motion.respond(response, previous, torch.zeros(1, 8))
    # the geometric sum of all that was ever missed
    keeps = math.exp(-PERIOD / RECENT_S)
    missed = 0.5 * PERIOD * keeps / (1 - keeps)
    assert response.behind[0].tolist() == pytest.approx([missed] * 8, rel=1e-3)


def test_a_command_the_other_way_is_braked_first(motion: StraightMotion) -> None:
    joint_pos, target = torch.zeros(1, 8), torch.zeros(1, 8)
    target[0, 0] = 1.0
    back = torch.zeros(1, 8)
    back[0, 0] = -SPEED[0]
    velocity = motion(joint_pos, back, target, torch.zeros(1, 8), torch.zeros(1, 1))
    # from rest on: the controller's acceleration limit takes care of the rest
    assert float(velocity[0, 0]) == pytest.approx(float(CHANGE[0]) * PERIOD)
