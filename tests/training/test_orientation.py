"""Quaternions and orientation errors against SciPy; oriented effectors of a robot.yaml."""

from pathlib import Path

import mujoco
import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from polyreach.robot import goals
from polyreach_description import RobotError, load_robot
from polyreach_description.orientation import (
    axis_error,
    matrices,
    orientation_errors,
    quaternions,
    rotation_error,
    unit_quaternion,
)

PLANAR8 = Path(load_robot("planar8").file.path)


def drawn(count: int, seed: int = 0) -> Rotation:
    return Rotation.random(count, random_state=seed)


def test_quaternions_and_matrices_equal_scipy() -> None:
    turns = drawn(200)
    q = quaternions(turns.as_matrix())
    assert np.allclose(q * np.sign(q[:, 3:]), turns.as_quat(canonical=True), atol=1e-9)
    assert np.allclose(matrices(q), turns.as_matrix(), atol=1e-9)
    assert quaternions(turns.as_matrix().reshape(20, 10, 3, 3)).shape == (20, 10, 4)


def test_quaternions_of_a_policy_equal_scipy_for_quarter_turns_too() -> None:
    """Quarter turns have several elements of one size, with either sign."""
    turns = Rotation.concatenate([drawn(200), Rotation.create_group("O")])
    q = goals.quaternions(torch.tensor(turns.as_matrix())).numpy()
    assert np.allclose(Rotation.from_quat(q).as_matrix(), turns.as_matrix(), atol=1e-9)
    exact = np.array(np.meshgrid(*[(0.5, -0.5)] * 4)).reshape(4, -1).T  # (16, 4)
    matrix = goals.rotation_matrices(torch.tensor(exact)[:, None])
    back = goals.quaternions(matrix)[:, 0].numpy()
    assert np.allclose(np.abs((back * exact).sum(axis=1)), 1.0)


def test_the_error_of_a_pose_is_the_angle_of_the_rotation() -> None:
    a, b = drawn(200, 1), drawn(200, 2)
    expected = (a.inv() * b).magnitude()
    assert np.allclose(rotation_error(a.as_quat(), b.as_quat()), expected, atol=1e-9)
    assert np.allclose(rotation_error(a.as_quat(), -b.as_quat()), expected, atol=1e-9)


@pytest.mark.parametrize("angle", [0.0, 1e-9, 1e-4, 0.3, np.pi - 1e-9, np.pi])
def test_small_and_straight_angles_keep_their_digits(angle: float) -> None:
    a = drawn(1, 3)[0]
    b = a * Rotation.from_rotvec([angle, 0.0, 0.0])
    assert float(rotation_error(a.as_quat(), b.as_quat())) == pytest.approx(angle, abs=1e-12)
    assert float(axis_error(a.as_quat(), b.as_quat(), [0, 0, 1])) == pytest.approx(angle, abs=1e-12)
    assert float(axis_error(a.as_quat(), b.as_quat(), [1, 0, 0])) == pytest.approx(0.0, abs=1e-12)


def test_each_effector_has_the_error_of_its_kind() -> None:
    quarter = Rotation.from_rotvec([0.0, 0.0, np.pi / 2]).as_quat()
    orientation, goal = np.tile([0.0, 0.0, 0.0, 1.0], (4, 1)), np.tile(quarter, (4, 1))
    kinds, axes = ("position", "axis", "axis", "pose"), np.eye(3)[[2, 2, 0, 2]]
    errors = orientation_errors(kinds, axes, orientation, goal)
    assert np.allclose(errors, [0.0, 0.0, np.pi / 2, np.pi / 2])
    assert orientation_errors(kinds, axes, [orientation] * 5, [goal] * 5).shape == (5, 4)


def test_a_quaternion_is_of_unit_length_or_refused_with_its_norm() -> None:
    assert unit_quaternion((0.0, 0.0, 0.0, 1.005)) == (0.0, 0.0, 0.0, 1.0)
    for quaternion, norm in (((0, 0, 0, 0), "0"), ((1, 1, 1, 1), "2"), ((np.nan, 0, 0, 1), "nan")):
        with pytest.raises(ValueError, match=f"norm {norm}, expected a unit quaternion"):
            unit_quaternion(quaternion)


def planar8_with(folder: Path, left: str) -> Path:
    text = PLANAR8.read_text().replace("left: {site: left_tip}", f"left: {{site: left_tip{left}}}")
    text = text.replace("robot.xml", str(PLANAR8.with_name("robot.xml")))
    (folder / "robot.yaml").write_text(text)
    return folder / "robot.yaml"


def test_a_robot_yaml_names_the_kind_of_goal(tmp_path: Path) -> None:
    plain = load_robot("planar8")
    assert plain.effector_goals == ("position",) * 3
    assert not plain.oriented.any()
    robot = load_robot(planar8_with(tmp_path, ", goal: axis, axis: x"))
    assert robot.effector_goals == ("axis", "position", "position")
    assert robot.effector_axes.tolist() == [[1, 0, 0], [0, 0, 1], [0, 0, 1]]
    assert robot.oriented.tolist() == [True, False, False]
    pose = load_robot(planar8_with(tmp_path, ", goal: pose"))
    other = load_robot(planar8_with(tmp_path, ", goal: axis, axis: y"))
    same = load_robot(planar8_with(tmp_path, ", goal: position"))
    assert same.sha256 == plain.sha256
    assert len({plain.sha256, robot.sha256, other.sha256, pose.sha256}) == 4


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        (", goal: line", "goal of effector 'left' is 'line', but must be one of position, axis"),
        (", goal: [axis]", "goal of effector 'left' is .'axis'., but must be one of"),
        (", goal: axis, axis: w", "axis of effector 'left' is 'w', but must be one of x, y, z"),
        (", goal: pose, axis: x", "'axis' goes with 'goal: axis', but its goal is pose"),
    ],
)
def test_another_kind_of_goal_is_refused(keys: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(RobotError, match=message):
        load_robot(planar8_with(tmp_path, keys))


def test_the_tree_has_the_effectors_orientations() -> None:
    robot = load_robot("humanoid27")
    joint_pos = robot.tree.reference
    positions, orientations = robot.effector_poses(joint_pos)
    assert np.allclose(positions, robot.tree.effector, atol=1e-9)
    assert np.allclose(matrices(orientations), robot.tree.effector_rotation, atol=1e-9)
    moved = robot.home + 0.1
    data = robot.data_at_home()
    data.qpos[:] = robot.qpos(moved)
    mujoco.mj_kinematics(robot.model, data)
    base = Rotation.from_matrix(data.xmat[robot.base_body].reshape(3, 3))
    sites = Rotation.from_matrix(data.site_xmat[robot.site_ids].reshape(-1, 3, 3))
    found = Rotation.from_quat(robot.effector_poses(moved)[1])
    assert ((base.inv() * sites).inv() * found).magnitude().max() < 1e-6
