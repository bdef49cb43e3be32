"""Orientations in the training environments: goals, errors, features and export."""

import numpy as np
import pytest
import torch

from polyreach.deploy.export import ExportedPolicy
from polyreach.envs.reach.config import ReachConfig
from polyreach.envs.reach.effector_reach import EffectorReachEnv
from polyreach.envs.reach.reach import ReachEnv
from polyreach.methods.ddpg import DDPG, DDPGConfig
from polyreach.robot.features import FEATURES, ObservationLayout
from polyreach.robot.goals import METRES_PER_RADIAN, quaternions
from polyreach_description import load_robot
from polyreach_description.orientation import orientation_errors
from polyreach_description.policy_tensors import ORIENTED_INPUTS

ROBOT = load_robot("dual7")


def make(**changes: object) -> ReachEnv:
    return ReachEnv(ROBOT, 20, ReachConfig(configurations=30, **changes))  # type: ignore[arg-type]


def test_the_error_has_the_distance_and_the_angle() -> None:
    env = make()
    env.reset(seed=1)
    frames = env.kinematics.frames_at(env.joint_pos)
    distance = (env.kinematics.effectors_of(frames) - env.goals).norm(dim=-1).double()
    now = quaternions(env.kinematics.rotations_of(frames)).double().numpy()
    assert env.goal_orientations is not None and env.oriented is not None
    kinds, axes = ROBOT.effector_goals, ROBOT.effector_axes
    angle = orientation_errors(kinds, axes, now, env.goal_orientations.double().numpy())
    expected = np.hypot(distance.numpy(), METRES_PER_RADIAN * angle)
    assert np.allclose(env.error().numpy(), expected, atol=1e-3)
    assert env.oriented.bool().tolist() == [ROBOT.oriented.tolist()] * 20
    # without orientations only the distance is left
    env.reset_to(env.joint_pos, env.goals, env.active)
    assert torch.allclose(env.error(), distance.float(), atol=1e-6)


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_goals_are_poses_of_one_configuration(share: float) -> None:
    env = make(moving_goals=share)
    env.reset(seed=1)
    for _ in range(5):
        env.step(torch.zeros(20, env.joints))
    if share:
        state = env.state_dict()
        part = 0.5 - 0.5 * torch.cos(state["goal_phase"])[:, None]
        index = state["goal_index"]
        bank = env.configurations
        there = torch.lerp(bank[index], bank[(index + 1) % len(bank)], part)
    else:
        distance = (env.goals[:, None] - env.bank.goals).norm(dim=-1).amax(dim=-1)
        there = env.configurations[distance.argmin(dim=1)]
    env.joint_pos = there
    assert env.error().max() < 1e-3


@pytest.mark.parametrize("name", ["paper", "kinematic", "goals"])
def test_features_see_the_orientation_of_an_active_goal(name: str) -> None:
    env = make()
    env.reset(seed=1)
    features = FEATURES[name](ROBOT)  # type: ignore[index]
    before, _ = features(env.observation)
    assert before.shape == (20, features.size)
    assert env.goal_orientations is not None
    env.goal_orientations = env.goal_orientations.roll(1, 0)
    after, _ = features(env.observation)
    assert (before != after).any(dim=1).all()
    env.active = torch.zeros_like(env.active)
    without, _ = features(env.observation)
    env.goal_orientations = env.goal_orientations.roll(1, 0)
    assert torch.equal(without, features(env.observation)[0])


def test_the_exported_policy_has_orientations_as_inputs() -> None:
    assert {*ORIENTED_INPUTS} <= {*ObservationLayout.of(ROBOT).inputs}
    env = EffectorReachEnv(ROBOT, 4, ReachConfig(configurations=30, reward="precise_sum"))
    learner = DDPG(DDPGConfig(), env, 100_000, 0)
    exported = ExportedPolicy(learner.robot_policy(), ROBOT)
    assert exported.inputs == ("joint_pos", "goals", "active", *ORIENTED_INPUTS)
