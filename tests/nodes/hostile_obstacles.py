"""Obstacles in the way of a robot whose commands drive it at them, with joints that respond with a
delay.

Distances are those of mujoco.mj_geomDistance in a model of robot and obstacles that is compiled for
the test.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import mujoco
import numpy as np
from numpy.typing import NDArray
from velocity_servos import VelocityServos

from polyreach_description import Robot
from polyreach_nodes.control.limits import JointLimits
from polyreach_nodes.control.obstacle import Obstacle, Shape
from polyreach_nodes.control.proximity import Proximity

FAR = 10.0  # [m]
Vector = NDArray[np.float64]
Wanted = Callable[[Vector, Vector], Vector]


class Scene:
    """A robot among obstacles that may move; independent of the code that is tested."""

    def __init__(self, robot: Robot, obstacles: list[Obstacle]) -> None:
        self.robot, self.obstacles = robot, obstacles
        model, spec = robot.model, robot.spec()
        base = robot.data_at_home()
        self._origin = base.xpos[robot.base_body].copy()
        self._base = base.xmat[robot.base_body].reshape(3, 3).copy()
        for obstacle in obstacles:
            body = spec.worldbody.add_body(name=obstacle.name, mocap=True)
            size = [max(length, 1e-9) for length in obstacle.size]
            body.add_geom(name=obstacle.name, type=obstacle.shape.value, size=size)
        self.model = spec.compile()
        self.data = mujoco.MjData(self.model)
        self.data.qpos[:] = robot.qpos(robot.home)
        collides = (model.geom_contype | model.geom_conaffinity) > 0
        self.geoms = np.flatnonzero(collides & (robot.geom_movers >= 0)).tolist()
        self.ids = [self.model.geom(obstacle.name).id for obstacle in obstacles]
        self._jacobian = np.zeros((3, self.model.nv))

    def at(self, joint_pos: Vector, now_s: float) -> None:
        """Move robot and obstacles."""
        data = self.data
        data.qpos[: self.robot.model.nq] = self.robot.qpos(joint_pos)
        for number, obstacle in enumerate(self.obstacles):
            place = np.add(obstacle.position, np.multiply(obstacle.velocity, now_s))
            data.mocap_pos[number] = self._base @ place + self._origin
            turn = np.empty(4)
            mujoco.mju_mat2Quat(turn, self._base.ravel())
            mujoco.mju_mulQuat(
                data.mocap_quat[number], turn, np.roll(np.array(obstacle.orientation), 1)
            )
        mujoco.mj_kinematics(self.model, data)

    def distances(self) -> Vector:
        """Of all geoms from all obstacles, (G, K) [m]."""
        return np.array(
            [[self._distance(geom, other) for other in self.ids] for geom in self.geoms]
        )

    def _distance(self, geom: int, other: int, segment: Vector | None = None) -> float:
        return mujoco.mj_geomDistance(self.model, self.data, geom, other, FAR, segment)

    def towards(self) -> Vector:
        """Direction of the joints (nu,) in which the least distance decreases fastest."""
        distances = self.distances()
        row, column = np.unravel_index(distances.argmin(), distances.shape)
        geom, segment = self.geoms[row], np.zeros(6)
        # MuJoCo exchanges the points of geoms that are not in the order of their types
        pair, types = [geom, self.ids[column]], self.model.geom_type
        turned = types[pair[0]] > types[pair[1]]
        distance = self._distance(*(pair[::-1] if turned else pair), segment)
        points = segment.reshape(2, 3)[:: -1 if turned else 1]
        mujoco.mj_comPos(self.model, self.data)
        body = int(self.model.geom_bodyid[geom])
        mujoco.mj_jac(self.model, self.data, self._jacobian, None, points[0], body)
        gap = (points[1] - points[0]) / (distance or 1.0)
        moved = self.robot.moved
        direction: Vector = gap @ self._jacobian[:, moved.dof_adr] @ moved.ratios
        return direction


@dataclass(frozen=True)
class Outcome:
    """nearest: least distance [m]. slowed: number of slowed periods. approach: largest decrease of
    a distance in a control period by the joints alone [m], while it was below a limit and no body
    was inside of an obstacle, from where no way out is known.
    """

    nearest: float
    slowed: int
    approach: float


def draw(
    robot: Robot, rng: np.random.Generator, count: int, clear_m: float, speed: float = 0.0
) -> tuple[Vector, Scene]:
    """A start (nu,) and obstacles that are further away than clear_m, most of them near a point of
    the robot in another configuration; speed: [m/s] at most.
    """
    start, *others = robot.sample_configuration(rng, 1 + count)
    data, model = mujoco.MjData(robot.model), robot.model
    listed: list[Obstacle] = []
    for number, other in enumerate(others):
        while True:
            data.qpos[:] = robot.qpos(start + rng.uniform() * (other - start))
            mujoco.mj_kinematics(model, data)
            geom = rng.choice(np.flatnonzero(robot.geom_movers >= 0))
            base = data.xmat[robot.base_body].reshape(3, 3)
            place = (data.geom_xpos[geom] - data.xpos[robot.base_body]) @ base
            place += rng.normal(0.0, 0.1, 3)
            drawn = obstacle(f"hostile/{number}", place, rng)
            velocity = rng.normal(size=3)
            velocity *= speed * rng.uniform() / np.linalg.norm(velocity)
            scene = Scene(robot, [drawn])
            scene.at(start, 0.0)
            if scene.distances().min() > clear_m:
                listed.append(replace(drawn, velocity=tuple(velocity.tolist())))
                break
    return start, Scene(robot, listed)


def obstacle(name: str, place: Vector, rng: np.random.Generator) -> Obstacle:
    """An obstacle of any shape, 5 mm to 0.2 m large, at a place (3,) [m, base frame]."""
    shape = list(Shape)[rng.integers(3)]
    sides = 10.0 ** rng.uniform(-2.3, -0.7, 3)  # 5 mm to 0.2 m
    used = {Shape.SPHERE: [1, 0, 0], Shape.CUBE: [1, 1, 1], Shape.CYLINDER: [1, 1, 0]}[shape]
    turn = rng.normal(size=4)
    turn /= np.linalg.norm(turn)
    return Obstacle(name, shape, tuple((sides * used).tolist()), tuple(place), tuple(turn.tolist()))


def policy(scene: Scene, rng: np.random.Generator) -> Wanted:
    """Velocities (nu,) that are wanted at a position (nu,), after a command (nu,): always at the
    nearest obstacle, at random, or both.
    """
    top, kind = scene.robot.joint_vel_limits, rng.integers(3)
    random, left = np.zeros_like(top), [0]

    def at_nearest() -> Vector:
        direction = scene.towards()
        return top * direction / max(1e-9, float(np.abs(direction).max()))

    def wanted(joint_pos: Vector, command: Vector) -> Vector:
        left[0] -= 1
        if left[0] < 0:
            left[0] = int(rng.integers(5, 60))
            random[:] = top * rng.uniform(-2.0, 2.0, len(top)).clip(-1.0, 1.0)
        if kind == 0:
            return at_nearest()
        return random.copy() if kind == 1 else 0.5 * (random + at_nearest())

    return wanted


def run(
    proximity: Proximity,
    robot: Robot,
    scene: Scene,
    start: Vector,
    rng: np.random.Generator,
    seconds: float,
    receive: Callable[[Mapping[int, Obstacle], float], None],
    limit_m: float = 0.0,
) -> Outcome:
    """Drive the robot for some time; joints respond within the reaction time.

    receive: called every control period with the obstacles where they are, and the time [s].
    """
    period_s = 1.0 / robot.control_rate
    response_s = proximity.reaction_s * rng.uniform()
    lag_s = response_s * rng.uniform()
    servos = VelocityServos(start, response_s - lag_s, lag_s)
    limits = JointLimits(
        robot.joint_pos_limits, robot.joint_vel_limits, robot.joint_acc_limits, period_s
    )
    wanted, command = policy(scene, rng), np.zeros(len(start))
    nearest, slowed, approach, before = np.inf, 0, 0.0, None
    for period in range(round(seconds / period_s)):
        now_s = period * period_s
        servos.advance(now_s)
        scene.at(servos.position, now_s)
        distances = scene.distances()
        nearest = min(nearest, float(distances.min()))
        if before is not None:
            # by the joints alone: obstacles as they are now, joints as they were
            scene.at(before, now_s)
            near = (distances.min() > 0.0) & (distances < limit_m)
            approach = max(approach, float((scene.distances() - distances)[near].max(initial=0.0)))
            scene.at(servos.position, now_s)
        before = servos.position.copy()
        receive(_placed(scene.obstacles, now_s), now_s)
        aim = wanted(servos.position, command)
        aim = limits.apply(aim, command, servos.position, 1.0, period_s)
        change = limits.change(period_s)
        command, factor = proximity.scale_command(aim, command, servos.position, change)
        slowed += factor < 1.0
        servos.command(command, now_s)
    return Outcome(nearest, slowed, approach)


def _placed(obstacles: list[Obstacle], now_s: float) -> dict[int, Obstacle]:
    return {
        number: replace(
            obstacle,
            position=tuple(np.add(obstacle.position, np.multiply(obstacle.velocity, now_s))),
        )
        for number, obstacle in enumerate(obstacles)
    }
