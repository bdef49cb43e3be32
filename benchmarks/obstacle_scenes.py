"""Scenes of the obstacle benchmark: a start, goals and obstacles, and exact distances to these."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import mujoco
import numpy as np
from numpy.typing import ArrayLike, NDArray

from polyreach.deploy.goal_sets import GoalErrors, Goals, draw_configurations
from polyreach.robot.self_distance import SelfDistance
from polyreach_description import Robot
from polyreach_description.orientation import matrices, quaternions
from polyreach_description.policy_tensors import NO_OBSTACLE, OBSTACLES
from polyreach_nodes.control.obstacle import Obstacle, Shape

CLEAR = 2.0  # stop distances that start and goal configuration keep
SIZES = (0.03, 0.12)  # half sides, radii and half heights, as shares of the robot's reach
JITTER = 0.05  # share of the reach: rms distance of an obstacle from a place of the robot's bodies
MIDDLE = (0.2, 0.8)  # shares of the straight way at which obstacles in the way are placed
WAY_POINTS = 50  # at which the straight way is checked
TRIES = 300

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Scene:
    """A start and a goal configuration (nu,) [rad or m], the goals (one row) that the effectors
    reach in the latter, and obstacles in the base frame.
    """

    start: Array
    end: Array
    goals: Goals
    obstacles: tuple[Obstacle, ...]

    def with_first(self, count: int) -> "Scene":
        """The same with the first `count` obstacles alone."""
        return replace(self, obstacles=self.obstacles[:count])


def draw_scenes(robot: Robot, count: int, seed: int) -> list[Scene]:
    """Scenes with OBSTACLES obstacles each: boxes, spheres and cylinders near places that bodies of
    the robot can take. The first scenes do not depend on the count.

    Start and goal configuration keep CLEAR stop distances, from obstacles and between bodies. In
    every second scene, the first obstacle is placed in the way; see `is_in_way`. Whether the robot
    has a clear way is not known. Raises ValueError where there is no room.
    """
    starts, ends = draw_configurations(robot, 2 * count + 10, seed)
    clear = SelfDistance(robot, CLEAR * robot.stop_distance)
    scenes: list[Scene] = []
    for start, end in zip(starts, ends, strict=True):
        if min(clear.least_share(start), clear.least_share(end)) >= 1.0:
            rng = np.random.default_rng((seed, len(scenes), OBSTACLES))
            obstacles = _draw_obstacles(robot, start, end, rng, len(scenes) % 2 == 0)
            scenes.append(Scene(start, end, GoalErrors(robot).goals(end[None]), obstacles))
        if len(scenes) == count:
            return scenes
    raise ValueError(f"robot '{robot.name}' is near itself in most configurations")


def _draw_obstacles(
    robot: Robot, start: Array, end: Array, rng: np.random.Generator, in_way: bool
) -> tuple[Obstacle, ...]:
    obstacles: list[Obstacle] = []
    for _ in range(TRIES):
        wants_way = in_way and not obstacles
        if wants_way:
            joint_pos = start + rng.uniform(*MIDDLE) * (end - start)
        else:
            joint_pos = robot.sample_configuration(rng, 1)[0]
        obstacle = _draw_obstacle(robot, joint_pos, rng, f"obstacle/{len(obstacles)}")
        distance = SceneDistance(robot, CLEAR * robot.stop_distance, [obstacle])
        if min(distance.clearance(start), distance.clearance(end)) < distance.distance:
            continue
        if wants_way and not is_in_way(robot, start, end, [obstacle]):
            continue
        obstacles.append(obstacle)
        if len(obstacles) == OBSTACLES:
            return tuple(obstacles)
    raise ValueError(f"robot '{robot.name}': no room for {OBSTACLES} obstacles in {TRIES} tries")


def _draw_obstacle(robot: Robot, joint_pos: Array, rng: np.random.Generator, name: str) -> Obstacle:
    """An obstacle of random shape, size and orientation near a body of the robot at joint_pos."""
    data = mujoco.MjData(robot.model)
    data.qpos[:] = robot.qpos(joint_pos)
    mujoco.mj_kinematics(robot.model, data)
    base = data.xmat[robot.base_body].reshape(3, 3)
    near = data.geom_xpos[rng.choice(moving_geoms(robot))]
    place = (near - data.xpos[robot.base_body]) @ base + rng.normal(0.0, JITTER * robot.reach, 3)
    shape = list(Shape)[rng.integers(len(Shape))]
    a, b, c = (robot.reach * rng.uniform(*SIZES, 3)).tolist()
    size = {Shape.SPHERE: (a, 0.0, 0.0), Shape.CUBE: (a, b, c), Shape.CYLINDER: (a, b, 0.0)}[shape]
    x, y, z = place.tolist()
    turn = rng.normal(size=4)
    qx, qy, qz, qw = (turn / np.linalg.norm(turn)).tolist()
    return Obstacle(name, shape, size, (x, y, z), (qx, qy, qz, qw))


def is_in_way(robot: Robot, start: Array, end: Array, obstacles: Sequence[Obstacle]) -> bool:
    """Whether the straight joint way comes nearer than the stop distance to an obstacle."""
    distance = SceneDistance(robot, robot.stop_distance, obstacles)
    shares = np.linspace(0.0, 1.0, WAY_POINTS + 1)
    return any(
        distance.clearance(start + share * (end - start)) < robot.stop_distance for share in shares
    )


def rounded_boxes(obstacles: Sequence[Obstacle]) -> Array:
    """The policy input `obstacles` (OBSTACLES, 11); a cylinder becomes the box around it."""
    rows = np.tile(NO_OBSTACLE, (OBSTACLES, 1))
    for row, obstacle in zip(rows, obstacles, strict=False):
        half_sides, radius = obstacle.hull
        row[:] = *obstacle.position, *obstacle.orientation, *half_sides, radius
    return rows


def moving_geoms(robot: Robot) -> NDArray[np.int64]:
    """Geoms that controlled joints move and that may collide, (G,)."""
    collides = (robot.model.geom_contype | robot.model.geom_conaffinity) > 0
    return np.flatnonzero((robot.geom_movers >= 0) & collides)


def world_poses(robot: Robot, obstacles: Sequence[Obstacle]) -> list[tuple[Array, Array]]:
    """Position (3,) [m] and unit quaternion w x y z (4,) of each obstacle in the world frame."""
    data = robot.data_at_home()
    base = data.xmat[robot.base_body].reshape(3, 3)
    poses = []
    for obstacle in obstacles:
        turn = quaternions(base @ matrices(np.array(obstacle.orientation)))
        place = base @ np.array(obstacle.position) + data.xpos[robot.base_body]
        poses.append((place, np.roll(turn, 1)))
    return poses


def scene_spec(robot: Robot, obstacles: Sequence[Obstacle]) -> mujoco.MjSpec:
    """The robot's model with a body and a geom for each obstacle, whose ids follow those of the
    robot.
    """
    spec = robot.spec()
    for number, (place, turn) in enumerate(world_poses(robot, obstacles)):
        obstacle, name = obstacles[number], f"benchmark_obstacle_{number}"
        body = spec.worldbody.add_body(name=name, pos=place, quat=turn)
        body.add_geom(name=name, type=obstacle.shape.value, size=obstacle.size)
    return spec


class SceneDistance(SelfDistance):
    """Finds the pairs of bodies closer than a distance [m] and, with the same distance, the pairs
    of a moving body and an obstacle. The body id of an obstacle is that in `scene_spec`.

    Distances to obstacles are those of mujoco.mj_geomDistance, exact for their shapes.
    """

    def __init__(self, robot: Robot, distance: float, obstacles: Sequence[Obstacle]) -> None:
        super().__init__(robot, distance)
        self.distance = distance
        self._scene = scene_spec(robot, obstacles).compile()
        self._scene_data = robot.data_at_home(self._scene)
        self._geoms = moving_geoms(robot)
        self._obstacles = np.arange(robot.model.ngeom, self._scene.ngeom)
        radii = self._scene.geom_rbound
        self._radii = radii[self._geoms, None] + radii[self._obstacles]  # (G, K)

    def clearance(self, joint_pos: ArrayLike) -> float:
        """Least distance [m] of a moving body from an obstacle at joint_pos (nu,), negative inside
        of it; `distance` where none is nearer.
        """
        near = self.obstacle_distances(joint_pos)
        return min((distance for _, _, distance in near), default=self.distance)

    def obstacle_distances(self, joint_pos: ArrayLike) -> list[tuple[int, int, float]]:
        """Geom, geom of the obstacle, and distance [m] of the pairs nearer than `distance`."""
        data = self._scene_data
        self._robot.write_qpos(data.qpos, joint_pos)
        mujoco.mj_kinematics(self._scene, data)
        apart = data.geom_xpos[self._geoms, None] - data.geom_xpos[self._obstacles]  # (G, K, 3)
        gaps = np.sqrt(np.einsum("gki,gki->gk", apart, apart)) - self._radii
        near = []
        for row, column in np.argwhere(gaps < self.distance).tolist():
            pair = int(self._geoms[row]), int(self._obstacles[column])
            distance = mujoco.mj_geomDistance(self._scene, data, *pair, self.distance, None)
            if distance < self.distance:
                near.append((*pair, float(distance)))
        return near

    def within(self, joint_pos: ArrayLike) -> tuple[NDArray[np.int64], Array]:
        """As SelfDistance.within, obstacles included."""
        bodies, shares = super().within(joint_pos)
        near = self.obstacle_distances(joint_pos)
        if not near:
            return bodies, shares
        first, second, distances = zip(*near, strict=True)
        others = self._scene.geom_bodyid[np.array([first, second]).T]
        return (
            np.concatenate([bodies, others.astype(np.int64)]),
            np.concatenate([shares, np.array(distances) / self.distance]),
        )
