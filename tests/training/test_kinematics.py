"""Forward kinematics in torch against MuJoCo and finite differences."""

from pathlib import Path

import mujoco
import numpy as np
import pytest
import torch

from polyreach.kinematics import (
    ForwardKinematics,
    Pose,
    damped_least_squares,
    solve_positive_definite,
)
from polyreach_description import Robot, load_robot

GANTRY = Path(__file__).parents[1] / "robots" / "gantry" / "robot.yaml"


@pytest.fixture(
    params=["planar8", "humanoid27", str(GANTRY)], ids=["planar8", "humanoid27", "gantry"]
)
def robot(request: pytest.FixtureRequest) -> Robot:
    return load_robot(request.param)


def random_configurations(robot: Robot, count: int) -> np.ndarray:
    low, high = robot.joint_pos_limits.T
    return np.random.default_rng(3).uniform(low, high, (count, len(low)))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_effectors_equal_mujoco_to_a_micrometre(robot: Robot, dtype: torch.dtype) -> None:
    joint_pos = random_configurations(robot, 300)
    expected = np.stack([robot.forward_kinematics(row) for row in joint_pos])
    found = ForwardKinematics(robot.tree, dtype)(torch.tensor(joint_pos, dtype=dtype)).effector
    assert np.abs(found.numpy() - expected).max() < 1e-6
    assert expected.std(axis=0).max() > 0.05


def test_effectors_are_in_the_base_frame_whatever_the_other_joints_are_held_at() -> None:
    robot = load_robot(GANTRY)
    data = mujoco.MjData(robot.model)
    data.qpos[:] = robot.qpos(robot.home)
    mujoco.mj_kinematics(robot.model, data)
    base = robot.model.body("base").id
    rotation = data.xmat[base].reshape(3, 3)
    expected = rotation.T @ (data.site("left_tip").xpos - data.xpos[base])
    found = ForwardKinematics(robot.tree)(
        torch.tensor(robot.home, dtype=torch.float32)[None]
    ).effector[0, 0]
    assert np.allclose(found.numpy(), expected, atol=1e-6)


def test_jacobian_equals_finite_differences_of_mujoco(robot: Robot) -> None:
    step = 1e-6
    for joint_pos in random_configurations(robot, 5):
        found = ForwardKinematics(robot.tree, torch.float64)(
            torch.tensor(joint_pos)[None]
        ).jacobian[0]
        for joint in range(len(joint_pos)):
            offset = step * np.eye(len(joint_pos))[joint]
            forward, backward = (robot.forward_kinematics(joint_pos + s * offset) for s in (1, -1))
            assert np.allclose(
                found[:, :, joint].numpy(), (forward - backward) / (2 * step), atol=1e-7
            )


def test_joint_points_lie_on_the_axes(robot: Robot) -> None:
    joint_pos = random_configurations(robot, 1)[0]
    data = mujoco.MjData(robot.model)
    data.qpos[:] = robot.qpos(joint_pos)
    mujoco.mj_kinematics(robot.model, data)
    rotation, origin = data.xmat[robot.base_body].reshape(3, 3), data.xpos[robot.base_body]
    found = (
        ForwardKinematics(robot.tree, torch.float64)(torch.tensor(joint_pos)[None]).joint[0].numpy()
    )
    for joint, point, slides in zip(robot.joint_ids, found, robot.tree.is_slide, strict=True):
        anchor, axis = rotation.T @ (data.xanchor[joint] - origin), rotation.T @ data.xaxis[joint]
        # a slide's anchor moves along with it, and so stays on its line
        assert np.linalg.norm(np.cross(point - anchor, axis)) < 1e-9, slides


def test_least_squares_step_solves_the_damped_normal_equations() -> None:
    generator = torch.Generator().manual_seed(0)
    jacobian = torch.randn(4, 2, 3, 5, generator=generator, dtype=torch.float64)
    error = torch.randn(4, 2, 3, generator=generator, dtype=torch.float64)
    scale = torch.rand(5, generator=generator, dtype=torch.float64) + 0.5
    active = torch.tensor([[1.0, 1.0], [1.0, 0.0], [0.0, 1.0], [0.0, 0.0]], dtype=torch.float64)
    pose = Pose(torch.zeros(4, 2, 3), torch.zeros(4, 5, 3), jacobian)
    found = damped_least_squares(pose, error, active, scale, 0.1)
    for row in range(4):
        chosen = active[row].bool()
        matrix = jacobian[row, chosen].reshape(-1, 5) * scale
        wanted = error[row, chosen].reshape(-1)
        # min |J x - e|^2 + damping^2 |x|^2, as an ordinary least-squares problem
        stacked = torch.cat([matrix, 0.1 * torch.eye(5, dtype=torch.float64)])
        target = torch.cat([wanted, torch.zeros(5, dtype=torch.float64)])
        assert torch.allclose(
            found[row], torch.linalg.lstsq(stacked, target[:, None]).solution[:, 0], atol=1e-10
        )


def test_elimination_equals_the_library_solver() -> None:
    generator = torch.Generator().manual_seed(1)
    factor = torch.randn(10, 9, 9, generator=generator, dtype=torch.float64)
    matrix = factor @ factor.mT + 0.01 * torch.eye(9, dtype=torch.float64)
    rhs = torch.randn(10, 9, 2, generator=generator, dtype=torch.float64)
    assert torch.allclose(
        solve_positive_definite(matrix, rhs), torch.linalg.solve(matrix, rhs), rtol=1e-8, atol=1e-8
    )
