"""Forward kinematics in torch against MuJoCo and finite differences."""

from pathlib import Path

import mujoco
import numpy as np
import pytest
import torch

from polyreach.robot.fast_least_squares import FastLeastSquares
from polyreach.robot.features import KinematicFeatures, Observation
from polyreach.robot.fk_constants import Segments, moving_axes
from polyreach.robot.kinematics import ForwardKinematics
from polyreach.robot.least_squares import LIMIT_MARGIN, damped_least_squares
from polyreach_description import Robot, load_robot
from polyreach_description.orientation import matrices

GANTRY = Path(__file__).parents[1] / "robots" / "gantry" / "robot.yaml"
HAND = GANTRY.parents[1] / "hand" / "robot.yaml"  # joints that follow others


@pytest.fixture(
    params=["planar8", "humanoid27", "dual7", str(GANTRY), str(HAND)],
    ids=["planar8", "humanoid27", "dual7", "gantry", "hand"],
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


def test_effector_positions_in_the_base_frame_do_not_depend_on_held_joints() -> None:
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
            expected = (forward - backward) / (2 * step)  # (E, 3)
            assert np.allclose(found[joint].numpy(), expected.ravel(), atol=1e-7)


def test_jacobian_has_the_requested_units(robot: Robot) -> None:
    joint_pos = torch.tensor(random_configurations(robot, 4))
    scale = np.linspace(0.5, 3.0, len(robot.joint_names))
    plain = ForwardKinematics(robot.tree, torch.float64)(joint_pos).jacobian
    scaled = ForwardKinematics(robot.tree, torch.float64, scale)(joint_pos).jacobian
    assert torch.allclose(scaled, plain * torch.tensor(scale)[:, None], atol=1e-12)
    assert plain.abs().max() > 0.1


def rotations(robot: Robot, joint_pos: np.ndarray) -> np.ndarray:
    """Rotation matrices (E, 3, 3) of the effectors, from MuJoCo."""
    return matrices(robot.effector_poses(joint_pos)[1])


def test_rotations_equal_mujoco_and_turn_with_the_angular_jacobian(robot: Robot) -> None:
    scale = np.linspace(0.5, 3.0, len(robot.joint_names))
    kinematics, step = ForwardKinematics(robot.tree, torch.float64, scale), 1e-6
    for joint_pos in random_configurations(robot, 5):
        frames = kinematics.frames_at(torch.tensor(joint_pos)[None])
        now = kinematics.rotations_of(frames)[0].numpy()
        assert np.allclose(now, rotations(robot, joint_pos), atol=1e-9)
        turns = kinematics.angular_jacobian(frames)[0].numpy().reshape(len(joint_pos), -1, 3)
        for joint, unit in enumerate(np.diag(scale)):
            forward, backward = (rotations(robot, joint_pos + s * step * unit) for s in (1, -1))
            # dR/dq R^T = [w], a skew matrix
            skew = (forward - backward) / (2 * step) @ now.transpose(0, 2, 1)
            expected = np.stack([skew[:, 2, 1], skew[:, 0, 2], skew[:, 1, 0]], axis=1)
            assert np.allclose(turns[joint], expected, atol=1e-7)


def test_parallel_hinges_in_a_row_are_one_segment() -> None:
    # planar8 is one run; the humanoid's deepest chain has nine joints, two of them in one run
    assert Segments(load_robot("planar8").tree).rounds() == []
    assert len(Segments(load_robot("humanoid27").tree).rounds()) == 3


def test_axes_along_which_no_effector_moves_are_left_out(robot: Robot) -> None:
    axes = moving_axes(robot.tree)
    assert axes == ([0, 1] if robot.name == "planar8" else [0, 1, 2])
    positions = np.stack(
        [robot.forward_kinematics(row) for row in random_configurations(robot, 50)]
    )
    still = np.ptp(positions, axis=0).max(axis=0) < 1e-9
    assert [axis for axis in range(3) if not still[axis]] == axes


def test_joint_points_lie_on_the_axes(robot: Robot) -> None:
    joint_pos = random_configurations(robot, 1)[0]
    data = mujoco.MjData(robot.model)
    data.qpos[:] = robot.qpos(joint_pos)
    mujoco.mj_kinematics(robot.model, data)
    rotation, origin = data.xmat[robot.base_body].reshape(3, 3), data.xpos[robot.base_body]
    found = (
        ForwardKinematics(robot.tree, torch.float64)(torch.tensor(joint_pos)[None]).joint[0].numpy()
    )
    slides = robot.tree.is_slide[robot.tree.controlled]
    for joint, point, is_slide in zip(robot.joint_ids, found, slides, strict=True):
        anchor, axis = rotation.T @ (data.xanchor[joint] - origin), rotation.T @ data.xaxis[joint]
        # a slide's anchor moves along with it, and so stays on its line
        assert np.linalg.norm(np.cross(point - anchor, axis)) < 1e-9, is_slide


def solved(jacobian: torch.Tensor, error: torch.Tensor, damping: float) -> torch.Tensor:
    """min |J x - e|^2 + damping^2 |x|^2 for J (rows, nu), as an ordinary least-squares problem."""
    joints = jacobian.shape[1]
    stacked = torch.cat([jacobian, damping * torch.eye(joints, dtype=torch.float64)])
    target = torch.cat([error, torch.zeros(joints, dtype=torch.float64)])
    return torch.linalg.lstsq(stacked, target[:, None], driver="gelsd").solution[:, 0]


@pytest.mark.parametrize("fast", [True, False])
@pytest.mark.parametrize("effectors", [1, 2, 3, 5])
def test_least_squares_step_solves_the_damped_normal_equations(effectors: int, fast: bool) -> None:
    generator = torch.Generator().manual_seed(effectors)
    jacobian = torch.randn(32, 7, 3 * effectors, generator=generator, dtype=torch.float64)
    error = torch.randn(32, effectors, 3, generator=generator, dtype=torch.float64)
    scale = torch.rand(7, generator=generator, dtype=torch.float64) + 0.5
    active = torch.randint(2, (32, effectors), generator=generator).double()
    active[0], active[1] = 0.0, 1.0
    scaled = jacobian * scale[:, None]
    found = (
        FastLeastSquares(effectors, 0.1)(scaled, error, active)
        if fast
        else damped_least_squares(scaled, error, active, 0.1)
    )
    for row in range(32):
        chosen = active[row].bool()
        matrix = (jacobian[row] * scale[:, None]).unflatten(1, (effectors, 3))[:, chosen]
        expected = solved(matrix.flatten(1).T, error[row, chosen].flatten(), 0.1)
        assert torch.allclose(found[row], expected, atol=1e-9)
    assert (found[0] == 0).all() and found[1].abs().max() > 0.1


def singular_cases(robot: Robot, count: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Joint positions, goals and active effectors: anywhere, with joints at their limits, and
    stretched out; goals near and far.
    """
    rng = np.random.default_rng(7)
    low, high = robot.joint_pos_limits.T
    joint_pos = rng.uniform(low, high, (count, len(low)))
    at_limit = np.where(rng.random(joint_pos.shape) < 0.5, low, high)
    joint_pos[::4] = np.where(rng.random(joint_pos.shape) < 0.7, at_limit, joint_pos)[::4]
    joint_pos[1::4] = np.where(rng.random(joint_pos.shape) < 0.8, 0.0, joint_pos)[1::4]
    effector = np.stack([robot.forward_kinematics(row) for row in joint_pos])
    distance = 10 ** rng.uniform(-6, 0.3, (count, 1, 1))
    goals = effector + distance * rng.normal(size=effector.shape)
    active = rng.integers(0, 2, effector.shape[:2]) | (rng.random((count, 1)) < 0.5)
    return torch.tensor(joint_pos), torch.tensor(goals), torch.tensor(active).double()


def test_joints_that_the_gradient_pushes_against_a_limit_are_left_out(robot: Robot) -> None:
    features = KinematicFeatures(robot, torch.float64)
    damping, axes = 0.05, moving_axes(robot.tree)
    controller = FastLeastSquares(len(robot.effector_names), damping, axes)
    joint_pos, goals, active = singular_cases(robot, 400)
    pose = features.kinematics(joint_pos)
    error = (goals - pose.effector) * active[..., None]
    low, high = torch.tensor(robot.joint_pos_limits).T
    place = (2 * joint_pos - low - high) / (high - low)
    found = controller(pose.jacobian, error, active, place)
    left_out = 0
    for row in range(len(joint_pos)):
        matrix = pose.jacobian[row].T * active[row].repeat_interleave(3)[:, None]
        gradient = matrix.T @ error[row].flatten()
        pushed = place[row] * gradient.sign()
        if ((pushed > 0.9) & (gradient.abs() < 1e-12)).any():
            continue  # it is a matter of rounding whether this joint is pushed at all
        free = (pushed < 1.0 - LIMIT_MARGIN).double()
        left_out += int((free == 0).sum())
        expected = solved(matrix * free, error[row].flatten(), damping) * free
        assert torch.allclose(found[row], expected, rtol=1e-7, atol=1e-7)
    assert left_out > 50


def test_fast_least_squares_equals_the_plain_one(robot: Robot) -> None:
    features = KinematicFeatures(robot, torch.float64)
    joint_pos, goals, active = singular_cases(robot, 400)
    pose = features.kinematics(joint_pos)
    error = (goals - pose.effector) * active[..., None]
    low, high = torch.tensor(robot.joint_pos_limits).T
    place = (2 * joint_pos - low - high) / (high - low)
    fast = FastLeastSquares(len(robot.effector_names), 0.05, moving_axes(robot.tree), gain=4.0)
    plain = damped_least_squares(pose.jacobian, error, active, 0.05, gain=4.0)
    assert torch.allclose(fast(pose.jacobian, error, active), plain, rtol=1e-7, atol=1e-7)
    # with limits, but for joints of which it is a matter of rounding whether they are pushed
    gradient = (pose.jacobian @ error.flatten(1)[..., None]).squeeze(-1)
    clear = ((place.abs() < 0.9) | (gradient.abs() > 1e-12)).all(dim=1)
    assert clear.sum() > 100
    result = fast(pose.jacobian, error, active, place)
    expected = damped_least_squares(pose.jacobian, error, active, 0.05, place, gain=4.0)
    assert torch.allclose(result[clear], expected[clear], rtol=1e-7, atol=1e-7)
    assert (expected[clear] - plain[clear]).abs().max() > 0.1


def test_least_squares_is_as_good_in_single_precision_features(robot: Robot) -> None:
    joint_pos, goals, active = singular_cases(robot, 400)
    orientations = torch.tensor([0.0, 0.0, 0.0, 1.0]).expand(*active.shape, 4)
    parts = Observation(joint_pos, goals, active, None, orientations, torch.zeros_like(active))
    obs = KinematicFeatures(robot).layout.flat(parts).float()
    single, double = KinematicFeatures(robot), KinematicFeatures(robot, torch.float64)
    ours = single.least_squares(single(obs)[0]).double()
    theirs = double.least_squares(double(obs.double())[0])
    assert (ours - theirs).abs().median() < 1e-6
    assert torch.quantile((ours - theirs).abs().amax(dim=1), 0.95) < 2e-3


def test_checkpoints_that_hold_constants_of_the_robot_still_load() -> None:
    robot = load_robot("planar8")
    features = KinematicFeatures(robot)
    assert features.state_dict() == {}
    older = {"centre": torch.zeros(8), "kinematics.axis": torch.zeros(8, 3)}
    features.load_state_dict(older)
    expected = KinematicFeatures(robot).kinematics.frames
    assert torch.equal(features.kinematics.frames, expected)
