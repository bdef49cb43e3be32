"""Spheres that cover bodies, and their distances from rounded boxes, against plain computations."""

from pathlib import Path

import mujoco
import numpy as np
import pytest
import torch
from torch import Tensor

from polyreach.robot.kinematics import ForwardKinematics
from polyreach.robot.obstacle_clearance import ObstacleClearance, are_none, read_obstacles
from polyreach.robot.obstacle_spheres import MAX_SPHERES, Spheres, cover_bodies
from polyreach_description import Robot, load_robot
from polyreach_description.policy_tensors import NO_OBSTACLE, OBSTACLES

ROBOTS = Path(__file__).parents[1] / "robots"
NAMES = ["planar8", "humanoid27", "dual7", str(ROBOTS / "hand" / "robot.yaml")]
ROBOT = load_robot("planar8")


def random_obstacles(generator: torch.Generator, count: int) -> Tensor:
    """(count, 8, 11), with some that are none."""
    rows = torch.tensor(NO_OBSTACLE).repeat(count, OBSTACLES, 1)
    quaternion = torch.randn(count, 5, 4, generator=generator)
    rows[:, 1:6] = torch.cat(
        [
            torch.randn(count, 5, 3, generator=generator),
            quaternion / quaternion.norm(dim=-1, keepdim=True),
            0.3 * torch.rand(count, 5, 3, generator=generator),
            0.1 * torch.rand(count, 5, 1, generator=generator),
        ],
        dim=-1,
    )
    return rows


def plain_distance(points: np.ndarray, row: np.ndarray) -> np.ndarray:
    """Distances (N,) [m] of points (N, 3) from a rounded box (11,), by MuJoCo's rotations."""
    rotation = np.zeros(9)
    mujoco.mju_quat2Mat(rotation, row[[6, 3, 4, 5]].astype(np.float64))
    local = (points - row[:3]) @ rotation.reshape(3, 3)
    beyond = np.maximum(np.abs(local) - row[7:10], 0.0)
    return np.linalg.norm(beyond, axis=1) - row[10]


def surface(robot: Robot, geom: int, rng: np.random.Generator) -> np.ndarray:
    """Points (N, 3) of a geom [m, base frame] at its present pose, those farthest out in random
    directions.
    """
    model, data = robot.model, robot.data_at_home()
    size, kind = model.geom_size[geom], mujoco.mjtGeom(model.geom_type[geom])
    direction = rng.standard_normal((300, 3))
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    if kind == mujoco.mjtGeom.mjGEOM_MESH:
        mesh = int(model.geom_dataid[geom])
        first, count = int(model.mesh_vertadr[mesh]), int(model.mesh_vertnum[mesh])
        points = model.mesh_vert[first : first + count].astype(np.float64)
    elif kind == mujoco.mjtGeom.mjGEOM_BOX:
        points = np.sign(direction) * size
    elif kind == mujoco.mjtGeom.mjGEOM_CYLINDER:
        across = direction[:, :2] / np.linalg.norm(direction[:, :2], axis=1, keepdims=True)
        points = np.column_stack([size[0] * across, size[1] * np.sign(direction[:, 2])])
    elif kind == mujoco.mjtGeom.mjGEOM_ELLIPSOID:
        points = direction * size
    else:  # a sphere, or a capsule
        half = size[1] if kind == mujoco.mjtGeom.mjGEOM_CAPSULE else 0.0
        points = size[0] * direction + [0.0, 0.0, half] * np.sign(direction[:, 2:])
    place = points @ data.geom_xmat[geom].reshape(3, 3).T + data.geom_xpos[geom]
    base = robot.base_body
    return (place - data.xpos[base]) @ data.xmat[base].reshape(3, 3)


@pytest.mark.parametrize("name", NAMES, ids=[Path(name).parent.name or name for name in NAMES])
def test_spheres_contain_the_bodies_that_joints_move(name: str) -> None:
    robot, rng = load_robot(name), np.random.default_rng(0)
    spheres = cover_bodies(robot)
    assert 0 < len(spheres.radius) <= MAX_SPHERES
    clearance = ObstacleClearance(robot, spheres)
    kinematics = ForwardKinematics(robot.tree)
    frames = kinematics.frames_at(torch.tensor(robot.home).float()[None])
    centres = clearance.centres(frames)[..., 0].T.numpy()  # (S, 3)
    collides = (robot.model.geom_contype | robot.model.geom_conaffinity) > 0
    for geom in np.flatnonzero((robot.geom_movers >= 0) & collides).tolist():
        points = surface(robot, geom, rng)
        apart = np.linalg.norm(points[:, None] - centres, axis=-1) - spheres.radius
        assert apart.min(axis=1).max() < 4e-3, robot.model.geom(geom).name


def test_distances_at_points_are_those_of_rounded_boxes() -> None:
    generator = torch.Generator().manual_seed(0)
    spheres = cover_bodies(ROBOT)
    clearance, kinematics = ObstacleClearance(ROBOT, spheres), ForwardKinematics(ROBOT.tree)
    rows = random_obstacles(generator, 2)
    joint_pos = torch.randn(2 * 3 * 4, 8, generator=generator)  # 2 robots, 3 ways of 4 points
    frames = kinematics.frames_at(joint_pos)
    found = clearance.on_ways(frames, read_obstacles(rows), 3, 4)
    centres = clearance.centres(frames).reshape(3, -1, 2, 3, 4).numpy()
    assert found.here.shape == (2, 8, 1, len(spheres.radius), 3)
    for robot, obstacle, way in ((0, 1, 0), (1, 2, 2), (1, 5, 1)):
        row = rows[robot, obstacle].numpy()
        for part, point in ((found.here, 0), (found.there, 3)):
            expected = plain_distance(centres[:, :, robot, way, point].T, row) - spheres.radius
            assert np.allclose(part[robot, obstacle, 0, :, way].numpy(), expected, atol=1e-5)
    assert (found.pieces[:, 0] > 900.0).all()  # no obstacle is far away


def test_the_distance_of_a_piece_is_a_close_lower_bound() -> None:
    generator = torch.Generator().manual_seed(1)
    single = Spheres(np.array([7]), np.array([[1.0, 0.0, 0.3]]), np.array([0.02]))
    clearance, kinematics = ObstacleClearance(ROBOT, single), ForwardKinematics(ROBOT.tree)
    rows = random_obstacles(generator, 300)
    joint_pos = torch.randn(300, 1, 8, generator=generator)
    joint_pos = joint_pos + torch.linspace(0, 1, 2)[:, None] * torch.randn(300, 1, 8)
    frames = kinematics.frames_at(joint_pos.reshape(-1, 8))
    found = clearance.on_ways(frames, read_obstacles(rows), 1, 2).pieces[:, 1:6, 0, 0, 0].numpy()
    ends = clearance.centres(frames)[:, 0].reshape(3, 300, 2).permute(1, 2, 0).numpy()
    share = np.linspace(0.0, 1.0, 401)[:, None]
    exact = np.array(
        [
            [
                plain_distance(way[:1] + share * (way[1:] - way[:1]), row.numpy()).min() - 0.02
                for row in obstacles[1:6]
            ]
            for way, obstacles in zip(ends, rows, strict=True)
        ]
    )
    assert (found <= exact + 1e-3).all()
    # where it passes no corner, the bound is the distance itself
    assert np.quantile(exact - found, 0.5) < 2e-3 and np.quantile(exact - found, 0.9) < 0.15


def test_rows_that_are_no_obstacle() -> None:
    rows = torch.tensor(NO_OBSTACLE).repeat(3, OBSTACLES, 1)
    assert are_none(rows)
    rows[1, 7, 2] = -3.0
    assert not are_none(rows)
