"""Where episodes of the reach environment start, and goals that stand still or move."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from polyreach.envs.reach.config import ReachConfig
from polyreach.envs.reach.goals import Goals, sample_clear_configurations
from polyreach.envs.reach.reach import ReachEnv
from polyreach.errors import UserError
from polyreach.robot.features import Observation
from polyreach.robot.self_distance import SelfDistance
from polyreach_description import load_robot

SMALL = ReachConfig(configurations=200, action_repeat=1, horizon_s=4.0)


def make(count: int = 100, robot: str = "planar8", **changes: object) -> ReachEnv:
    return ReachEnv(load_robot(robot), count, replace(SMALL, **changes))  # type: ignore[arg-type]


def test_clear_configurations_keep_the_stop_distance() -> None:
    robot = load_robot("humanoid27")
    self_distance = SelfDistance(robot, robot.stop_distance)

    def near(env: ReachEnv) -> list[bool]:
        return [bool(self_distance.close_pairs(row)) for row in env.configurations.numpy()]

    plain = make(1, "humanoid27", configurations=1000)
    assert 0.002 < np.mean(near(plain)) < 0.5
    clear = make(1, "humanoid27", configurations=1000, clear_configurations=True)
    assert len(clear.configurations) == 1000 and not any(near(clear))
    low, high = robot.joint_pos_limits.T
    share = (clear.configurations.numpy() - low) / (high - low)
    assert share.min() > 0.049 and share.max() < 0.951
    assert np.ptp(share, axis=0).min() > 0.8


def test_a_robot_that_is_always_near_itself_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    robot = load_robot("humanoid27")
    pair = robot.model.body("pelvis").id, robot.model.body("left_forearm").id
    monkeypatch.setattr(SelfDistance, "close_pairs", lambda *_: {pair})
    with pytest.raises(
        UserError, match="its stop distance, 20 mm, in almost every .*'left_forearm'"
    ):
        sample_clear_configurations(robot, np.random.default_rng(0), 3)


def test_goals_that_move_are_reachable_smooth_and_slow_enough() -> None:
    env = make(count=300, moving_goals=0.5, goal_speed=0.2)
    env.reset(seed=1)
    seen, starts = [env.goals], env.goals
    for _ in range(env.horizon - 1):
        env.step(torch.zeros(300, 8))
        seen.append(env.goals)
    path = torch.stack(seen)  # (steps, N, E, 3)
    velocity = path.diff(dim=0) / env.period
    fastest = velocity.norm(dim=-1).amax(dim=(0, 2))  # (N,)
    moving = fastest > 0
    assert 0.4 < moving.float().mean() < 0.6
    assert torch.equal(path[:, ~moving], starts[~moving].expand(len(path), -1, -1, -1))
    # chords of the path underestimate its length a little
    assert fastest.max() < 0.2 * 1.05 and fastest[moving].quantile(0.8) > 0.1
    # without jumps of the velocity
    change = velocity.diff(dim=0).norm(dim=-1).amax()
    assert change < 0.2 * 0.1
    # at any time the goals are where one configuration puts the effectors
    state = env.state_dict()
    share = 0.5 - 0.5 * torch.cos(state["goal_phase"])[:, None]
    index = state["goal_index"]
    following = env.configurations[(index + 1) % len(env.configurations)]
    place = torch.lerp(env.configurations[index], following, share)
    expected = env.kinematics(place).effector
    assert torch.allclose(env.goals[moving], expected[moving], atol=1e-6)


def test_the_error_is_that_to_the_goal_where_it_is_now() -> None:
    env = make(moving_goals=1.0)
    env.reset(seed=1)
    for _ in range(30):
        obs, *_, infos = env.step(torch.zeros(100, 8))
    parts = env.layout.split(obs)
    expected = (env.kinematics(parts.joint_pos).effector - parts.goals).norm(dim=-1)
    assert torch.allclose(infos["error"], expected, atol=1e-6)


def test_given_goals_stand_still() -> None:
    env = make(moving_goals=1.0)
    env.reset(seed=1)
    env.step(torch.zeros(100, 8))
    goals = env.goals
    env.reset_to(env.joint_pos, goals, env.active)
    for _ in range(5):
        env.step(torch.zeros(100, 8))
    assert torch.equal(env.goals, goals)


def test_fresh_goals_are_put_in_the_chosen_rows() -> None:
    old = Observation(torch.zeros(2, 8), torch.zeros(2, 3, 3), torch.zeros(2, 3))
    fresh = Goals(torch.ones(2, 3, 3), torch.ones(2, 3))
    parts = fresh.put(old, torch.tensor([False, True]))
    assert not parts.goals[0].any() and parts.goals[1].all()
    assert not parts.active[0].any() and parts.active[1].all()
    assert parts.joint_pos is old.joint_pos
