"""What nearness costs: hand arithmetic with distances that are given, and MuJoCo's distances."""

from dataclasses import replace

import mujoco
import numpy as np
import pytest
import torch
from torch import Tensor

from polyreach.envs.reach.config import ReachConfig
from polyreach.envs.reach.nearness import LARGEST, Nearness, pair_joints
from polyreach.envs.reach.reach import ReachEnv
from polyreach.envs.reach.reward import REWARDS
from polyreach_description import Robot, load_robot

CPU = torch.device("cpu")
ROBOT = load_robot("planar8")  # joints: 2 shared, 1 left, 2 middle, 3 right
NAMES = ROBOT.joint_names
SMALL = ReachConfig(configurations=200, action_repeat=1, nearness_cost=0.5)


def of(*joints: str) -> list[int]:
    return [NAMES.index(joint) for joint in joints]


def clearance(joint_pos: Tensor) -> Tensor:
    """Three pairs: left with middle, right with itself, the shared part with the world."""
    left, middle = joint_pos[:, of("left_1")[0]], joint_pos[:, of("middle_1")[0]]
    right, shared = joint_pos[:, of("right_2")[0]], joint_pos[:, of("shared_2")[0]]
    return torch.stack([left - middle, right, shared], dim=1)


def test_the_joints_that_change_a_distance() -> None:
    changing = pair_joints(clearance, ROBOT, CPU)
    expected = np.zeros((3, 8), dtype=bool)
    for pair, joints in enumerate((("left_1", "middle_1"), ("right_2",), ("shared_2",))):
        expected[pair, of(*joints)] = True
    assert np.array_equal(changing.numpy(), expected)


def test_costs_by_hand() -> None:
    stop, slow = ROBOT.stop_distance, ROBOT.slow_distance
    assert (stop, slow) == pytest.approx((0.01, 0.025))
    nearness = Nearness(clearance, ROBOT, CPU)
    joint_pos = torch.zeros(5, 8)
    joint_pos[:, of("right_2", "shared_2")] = 1.0  # far
    joint_pos[:, of("left_1")] = torch.tensor([[1.0], [slow], [stop], [(stop + slow) / 2], [-1.0]])
    # a shared joint concerns everyone; here the pair of left and middle concerns these two
    one = torch.tensor([0.0, 0.0, 1.0, 0.5, LARGEST])
    expected = torch.stack([one, one, torch.zeros(5)], dim=1)
    assert torch.allclose(nearness(joint_pos), expected, atol=1e-5)
    # the dearest pair counts: the right effector its own, the others the shared one
    joint_pos[:, of("left_1")] = 1.0
    joint_pos[:, of("shared_2")], joint_pos[:, of("right_2")] = (stop + slow) / 2, stop
    assert torch.allclose(nearness(joint_pos), torch.tensor([0.5, 0.5, 1.0]), atol=1e-5)


@pytest.mark.parametrize("reward", REWARDS)
def test_every_reward_bears_the_cost_of_its_tasks(reward: str) -> None:
    free = ReachEnv(ROBOT, 4, replace(SMALL, nearness_cost=0.0, reward=reward))  # type: ignore[arg-type]
    env = ReachEnv(ROBOT, 4, replace(SMALL, reward=reward))  # type: ignore[arg-type]
    env._nearness = lambda joint_pos: torch.tensor([[1.0, 0.4, 0.2]]).expand(4, 3)  # type: ignore[assignment]
    env.reset(seed=0), free.reset(seed=0)  # type: ignore[func-returns-value]
    active = torch.tensor([[1.0, 1, 1], [1, 0, 0], [0, 1, 1], [0, 0, 1]])
    parts, error = env.parts._replace(active=active), env.error()
    cost = free.task_reward(error, parts) - env.task_reward(error, parts)
    each = active * torch.tensor([0.5, 0.2, 0.1])
    expected = each if cost.shape[1] == 3 else each.sum(dim=1, keepdim=True)
    assert torch.allclose(cost, expected, atol=1e-5)


def exact(robot: Robot, joint_pos: np.ndarray) -> np.ndarray:
    """Smallest distances [m] between bodies that controlled joints move, by MuJoCo."""
    model = robot.proximity_model(0.1)
    data, nearest = robot.data_at_home(model), np.full(len(joint_pos), 0.1)
    for row, place in enumerate(joint_pos):
        data.qpos[robot.qpos_adr] = place
        mujoco.mj_kinematics(model, data)
        mujoco.mj_collision(model, data)
        geoms = data.contact.geom.reshape(-1, 2)
        parts = robot.geom_movers[geoms[:, 0]] != robot.geom_movers[geoms[:, 1]]
        nearest[row] = min([0.1, *data.contact.dist[parts]])
    return nearest


def test_costs_agree_with_the_distances_of_mujoco() -> None:
    robot = load_robot("humanoid27")
    env = ReachEnv(robot, 1, SMALL)
    assert env._nearness is not None
    low, high = robot.joint_pos_limits.T
    joint_pos = np.random.default_rng(1).uniform(low, high, (1500, len(low)))
    cost = env._nearness(torch.tensor(joint_pos).float()).amax(dim=1).numpy()
    distance = exact(robot, joint_pos)
    touching, far = distance < robot.stop_distance, distance > robot.slow_distance + 0.02
    assert touching.sum() > 5 and far.sum() > 100
    assert (cost[touching] > 0.5).mean() > 0.9
    assert (cost[far] == 0).mean() > 0.9
