"""Quaternions and pose errors in torch by hand and against polyreach_description.orientation."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from polyreach.robot.goals import (
    METRES_PER_RADIAN,
    GoalErrors,
    Goals,
    quaternions,
    repeat,
    rotation_matrices,
)
from polyreach.robot.kinematics import ForwardKinematics
from polyreach_description import Robot, load_robot, orientation
from polyreach_description.policy_tensors import PolicyInputs

WELDER = Path(__file__).parents[1] / "robots" / "welder" / "robot.yaml"
HALF = 0.5**0.5


@pytest.fixture(scope="module")
def welder() -> Robot:
    """Effector 0 has poses as goals, effector 1 the x axis of its site."""
    return load_robot(WELDER)


@pytest.fixture(scope="module")
def errors(welder: Robot) -> GoalErrors:
    return GoalErrors(welder, ForwardKinematics(welder.tree, torch.float64))


def random_quaternions(count: int) -> Tensor:
    drawn = torch.randn(count, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return drawn / drawn.norm(dim=-1, keepdim=True)


def about(axis: list[float], angle: float) -> Tensor:
    """The rotation matrix (3, 3) of a turn."""
    half = angle / 2
    parts = [*(np.sin(half) * np.array(axis) / np.linalg.norm(axis)), np.cos(half)]
    return rotation_matrices(torch.tensor(parts, dtype=torch.float64)[None])[0]


def turn(errors: GoalErrors, now: Tensor, there: Tensor) -> Tensor:
    """Rotation vectors (2, 3) of both effectors from `now` to `there` (3, 3)."""
    screws = errors.kinematics.joints
    frames = torch.zeros(1, screws + 2, 4, 3, dtype=torch.float64)
    frames[:, screws:, :3] = now.T
    position = torch.zeros(1, 2, 3, dtype=torch.float64)
    ones = torch.ones(1, 2, dtype=torch.float64)
    return errors.turn(frames, Goals(position, ones, there.expand(1, 2, 3, 3), ones))[0]


def test_rows_are_repeated_in_a_row() -> None:
    rows = torch.arange(4.0).reshape(2, 2)
    assert repeat(rows, 2).tolist() == [[0, 1], [0, 1], [2, 3], [2, 3]]


def test_a_quarter_turn_by_hand() -> None:
    about_z = rotation_matrices(torch.tensor([[0.0, 0.0, HALF, HALF]]))[0]
    expected = torch.tensor([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
    assert torch.allclose(about_z, expected, atol=1e-6)


def test_quaternions_and_matrices_equal_those_of_the_description() -> None:
    drawn = random_quaternions(200)
    matrices = rotation_matrices(drawn)
    assert np.allclose(matrices, orientation.matrices(drawn.numpy()), atol=1e-12)
    again = quaternions(matrices)
    assert torch.allclose((again * drawn).sum(dim=-1).abs(), torch.ones(200).double(), atol=1e-12)


@pytest.mark.parametrize("sign", [-1.0, 1.0])
@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("angle", [0.0, np.pi / 2, np.pi])
def test_quaternions_whose_elements_are_of_equal_size(axis: int, angle: float, sign: float) -> None:
    expected = np.zeros(4)
    expected[axis], expected[3] = sign * np.sin(angle / 2), np.cos(angle / 2)
    # as exact as a pose by hand: elements of 0 and 1
    matrix = rotation_matrices(torch.tensor(expected)[None]).round()
    assert abs(float(quaternions(matrix)[0] @ torch.tensor(expected))) == pytest.approx(1.0)


@pytest.mark.parametrize("angle", [0.0, 1e-3, 0.4, np.pi / 2, 3.0, 3.14])
@pytest.mark.parametrize("axis", [[1, 0, 0], [0, 0, -1], [1, 2, -2]])
def test_the_turn_of_a_pose_is_the_rotation_vector(
    errors: GoalErrors, axis: list[float], angle: float
) -> None:
    now = about([0.3, -1.0, 0.5], 1.1)
    found = turn(errors, now, about(axis, angle) @ now)[0]
    expected = angle * torch.tensor(axis, dtype=torch.float64) / np.linalg.norm(axis)
    # near half a turn the axis has fewer digits
    assert torch.allclose(found, expected, atol=1e-5 if angle < 3 else 0.4)
    assert float(found.norm()) == pytest.approx(angle, abs=1e-9 + 5e-4 * angle)


def test_the_turn_of_an_axis_is_the_shortest_and_ignores_spin(errors: GoalErrors) -> None:
    now = about([0.0, 0.0, 1.0], 0.3)
    spin = about([1.0, 0.0, 0.0], 2.0)  # about the axis itself
    assert float(turn(errors, now, now @ spin)[1].norm()) < 1e-6
    tilted = about([0.0, 0.0, 1.0], 0.5) @ now @ spin
    expected = torch.tensor([0.0, 0.0, 0.5], dtype=torch.float64)
    assert torch.allclose(turn(errors, now, tilted)[1], expected, atol=1e-5)


def test_angles_are_those_of_the_description(errors: GoalErrors, welder: Robot) -> None:
    drawn = random_quaternions(40).reshape(20, 2, 4)
    for now, there in drawn:
        matrices = rotation_matrices(torch.stack([now, there]))
        found = turn(errors, *matrices).norm(dim=-1)
        expected = orientation.orientation_errors(
            welder.effector_goals, welder.effector_axes, [now.numpy()] * 2, [there.numpy()] * 2
        )
        assert np.allclose(found, expected, atol=2e-3)


@pytest.mark.parametrize("axis", [[1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 0]])
def test_half_a_turn_is_missing_as_a_whole_and_has_a_gradient(
    errors: GoalErrors, axis: list[float]
) -> None:
    now = torch.eye(3, dtype=torch.float64, requires_grad=True)
    there = about(axis, np.pi).round(decimals=9)
    found = turn(errors, now, there)
    between = np.arccos(float(there[0, 0]))  # of the x axes
    expected = pytest.approx([np.pi, between], rel=0.03, abs=1e-6)
    assert found.norm(dim=-1).tolist() == expected
    found.square().sum().backward()
    assert now.grad is not None and bool(now.grad.isfinite().all())


def test_the_gradient_of_the_error_is_that_of_finite_differences(
    errors: GoalErrors, welder: Robot
) -> None:
    generator = torch.Generator().manual_seed(2)
    low, high = torch.tensor(welder.joint_pos_limits).T
    start, end = low + (high - low) * torch.rand(2, 3, len(low), generator=generator).double()
    kinematics = errors.kinematics
    there = kinematics.frames_at(end)
    ones = torch.ones(3, 2, dtype=torch.float64)
    goals = Goals(kinematics.effectors_of(there), ones, kinematics.rotations_of(there), ones)

    def size(joint_pos: Tensor) -> Tensor:
        return errors.size(errors(kinematics.frames_at(joint_pos), goals))

    assert torch.autograd.gradcheck(size, (start.requires_grad_(),), eps=1e-6, atol=1e-5)


def test_sizes_by_hand(errors: GoalErrors, welder: Robot) -> None:
    frames = errors.kinematics.frames_at(torch.tensor(welder.home)[None])
    now = errors.kinematics.rotations_of(frames)
    position = errors.kinematics.effectors_of(frames) + torch.tensor([0.03, 0.0, 0.0])
    turned = about([0.0, 0.0, 1.0], 0.2) @ now
    active = torch.tensor([[1.0, 0.0]]).double()
    goals = Goals(position, active, turned, torch.ones_like(active))
    found = errors.size(errors(frames, goals))[0]
    expected = (0.03**2 + (METRES_PER_RADIAN * 0.2) ** 2) ** 0.5
    assert found.tolist() == pytest.approx([expected, 0.0], abs=1e-6)
    without = goals._replace(oriented=torch.zeros_like(active))
    assert errors.size(errors(frames, without))[0].tolist() == pytest.approx([0.03, 0.0], abs=1e-6)


def test_orientations_count_only_where_they_are_given_and_the_effector_has_them() -> None:
    robot = load_robot("planar8")
    plain = GoalErrors(robot, ForwardKinematics(robot.tree))
    inputs = PolicyInputs(torch.zeros(2, 8), torch.zeros(2, 3, 3), torch.ones(2, 3))
    goals = plain.goals_of(inputs)
    assert goals.rotation is None and goals.mask.shape == (2, 3)


def test_inputs_of_an_oriented_robot(errors: GoalErrors) -> None:
    inputs = PolicyInputs(torch.zeros(1, 12), torch.zeros(1, 2, 3), torch.ones(1, 2))
    without = errors.goals_of(inputs)
    assert without.mask.tolist() == [[1.0, 1.0, 0.0, 0.0]]
    quarter = torch.tensor([0.0, 0.0, HALF, HALF]).expand(1, 2, 4)
    given = inputs._replace(goal_orientations=quarter, oriented=torch.tensor([[0.0, 1.0]]))
    goals = errors.goals_of(given)
    assert goals.rotation is not None and goals.mask.tolist() == [[1.0, 1.0, 0.0, 1.0]]
    assert torch.allclose(goals.rotation[0, 0, :, 0], torch.tensor([0.0, 1.0, 0.0]), atol=1e-6)
