"""Distances between the bodies of a robot and obstacles, on the way to another configuration."""

from collections.abc import Mapping

import mujoco
import numpy as np
from numpy.typing import NDArray

from polyreach_description import Robot
from polyreach_description.geom_pairs import BoxDistances, Pair
from polyreach_description.orientation import matrices, quaternions
from polyreach_nodes.control.clearance import Clearance, pair_model
from polyreach_nodes.control.obstacle import Obstacle, Shape

MAX_OBSTACLES = 32
AWAY = 1e4  # [m], where geoms without an obstacle are
CONTACT_MEMORY = 2**24  # [bytes]; MuJoCo drops contacts that do not fit
STEPS = 4  # in which the motion of an obstacle is predicted

Vector = NDArray[np.float64]


class ObstacleClearance(Clearance):
    """Finds the pairs of a robot's geom and an obstacle that are near on a straight way of joints.

    Those geoms count that controlled joints move, and that may collide by MuJoCo's filters. Pairs
    of them with MAX_OBSTACLES geoms are compiled once; an obstacle gets one of these, with its
    type, size and place. Their ids follow those of the robot's geoms.

    An obstacle that moves is near below a distance that is larger by its way in a time `horizon_s`.
    """

    def __init__(self, robot: Robot, distance: float) -> None:
        """distance: [m] below which an obstacle at rest is near."""
        model = robot.model
        collides = (model.geom_contype | model.geom_conaffinity) > 0
        self._geoms = np.flatnonzero((robot.geom_movers >= 0) & collides)  # (G,)
        self._first = int(model.ngeom)
        super().__init__(robot, distance)
        row_of = {pair: row for row, pair in enumerate(self.pairs)}
        slots = range(self._first, self._first + MAX_OBSTACLES)
        rows = [[row_of[geom, slot] for slot in slots] for geom in self._geoms.tolist()]
        self._rows = np.array(rows, dtype=np.int64).reshape(-1, MAX_OBSTACLES)  # (G, slots)
        self._geom_reach = self.reach[self._rows[:, 0]]  # (G, nu)
        self._geom_radii = model.geom_rbound[self._geoms]
        self._near_m, self._horizon_s = distance, 0.0
        self._free_at: Vector = np.empty(0)  # (nu,) at which _free was computed; empty: none
        self._obstacles: dict[int, Obstacle] = {}  # by the id of its geom
        self.any = False  # whether there is an obstacle
        mujoco.mj_kinematics(self._model, self._now)

    def approaches(self, joint_pos: Vector, way: Vector) -> list[tuple[Pair, float, float]]:
        """As Clearance.approaches."""
        return super().approaches(joint_pos, way) if self.any else []

    def _pair_model(self) -> mujoco.MjModel:
        spec, name = self._robot.spec(), self._robot.model.geom
        spec.memory = max(spec.memory, CONTACT_MEMORY)
        slots = [f"polyreach_obstacle_{slot}" for slot in range(MAX_OBSTACLES)]
        for slot in slots:
            body = spec.worldbody.add_body(name=slot)
            body.add_geom(
                name=slot, type=Shape.SPHERE.value, size=[1.0, 0.0, 0.0], pos=[AWAY, 0.0, 0.0]
            )
        model = pair_model(
            spec, ((name(geom).name, slot) for geom in self._geoms.tolist() for slot in slots)
        )
        assert model.geom(slots[0]).id == self._first
        # the place of a geom in its body is not the one that was compiled
        model.geom_sameframe[self._first :] = 0
        return model

    def _constant_gaps(self) -> Vector:
        return np.zeros(len(self.pairs))

    def name(self, geom: int) -> str:
        """Name of the obstacle that has a geom."""
        return self._obstacles[geom].name

    def hold(self, qpos_adr: int, value: float) -> bool:
        """As Clearance.hold; obstacles move with the base frame."""
        moved = super().hold(qpos_adr, value)
        if moved and self.any:
            self._place()
        elif moved:
            mujoco.mj_kinematics(self._model, self._now)
        return moved

    def set_near_distance(self, distance: float) -> None:
        """Set the distance [m] below which an obstacle at rest is near."""
        self._near_m = distance
        if self.any:
            self._place()

    def set_obstacles(self, obstacles: Mapping[int, Obstacle], horizon_s: float) -> None:
        """Replace all obstacles; keys are from 0 to MAX_OBSTACLES - 1. horizon_s: [s]."""
        self._obstacles = {self._first + slot: obstacles[slot] for slot in sorted(obstacles)}
        self.any, self._horizon_s = bool(obstacles), horizon_s
        self._place()

    def _place(self) -> None:
        model, listed = self._model, list(self._obstacles.values())
        geoms = np.array(list(self._obstacles), dtype=np.int64)  # (K,)
        mujoco.mj_kinematics(model, self._now)
        origin, base = self.base_pose()
        model.geom_type[self._first :] = Shape.SPHERE.value
        model.geom_pos[self._first :] = AWAY
        model.geom_rbound[self._first :] = 1.0
        positions = np.array([obstacle.position for obstacle in listed]).reshape(-1, 3)
        turns = matrices(np.array([obstacle.orientation for obstacle in listed]).reshape(-1, 4))
        velocities = np.array([obstacle.velocity for obstacle in listed]).reshape(-1, 3)
        self._places = positions @ base.T + origin  # (K, 3) [m, world frame]
        self._turns = base @ turns  # (K, 3, 3)
        model.geom_type[geoms] = [obstacle.shape.value for obstacle in listed]
        model.geom_size[geoms] = np.array([o.size for o in listed]).reshape(-1, 3)
        model.geom_rbound[geoms] = [obstacle.bounding_radius for obstacle in listed]
        model.geom_pos[geoms] = self._places
        model.geom_quat[geoms] = np.roll(quaternions(self._turns), 1, axis=-1)
        mujoco.mj_kinematics(model, self._now)
        # geoms that move, [m/s, world frame]
        moving = zip(geoms.tolist(), velocities @ base.T, listed, strict=True)
        self._velocities = {geom: v for geom, v, obstacle in moving if obstacle.speed}
        hulls = [obstacle.hull for obstacle in listed]
        self._half_sides = np.array([half for half, _ in hulls]).reshape(-1, 3)
        self._radii = self._geom_radii[:, None] + np.array([margin for _, margin in hulls])
        self._active = self._rows[:, geoms - self._first]  # (G, K)
        self._boxes = BoxDistances(model, self.pairs)
        self._box_margin = np.zeros(len(self._boxes.rows))
        distance = np.full(len(self.pairs), self._near_m)
        distance[self._active] += self._horizon_s * np.linalg.norm(velocities, axis=-1)
        self.set_distance(distance)
        self._step = np.full(len(self.pairs), self._near_m)
        self._free_at = np.empty(0)

    def _travels(self, joint_pos: Vector, way: Vector) -> Vector | None:
        """As in Clearance; zero for pairs that do not come near, by the hulls of the obstacles."""
        self._find_free(joint_pos)
        geom_travel = self._geom_reach.dot(np.abs(way))  # (G,)
        come_near = self._free < geom_travel[:, None]
        if not come_near.any():
            return None
        travel = np.zeros(len(self.pairs))
        travel[self._active] = geom_travel[:, None] * come_near
        return travel

    def spheres(self, joint_pos: Vector) -> tuple[Vector, Vector]:
        """Centres (G, 3) [m, base frame] and radii (G,) [m] of spheres about the geoms that
        obstacles act on, at joint_pos (nu,) [rad or m].
        """
        self._find_free(joint_pos)
        origin, base = self.base_pose()
        return (self._now.geom_xpos[self._geoms] - origin) @ base, self._geom_radii

    def _find_free(self, joint_pos: Vector) -> None:
        """Compute _free at joint_pos (nu,), once in a control period."""
        if not np.array_equal(joint_pos, self._free_at):
            self._go_to(joint_pos)
            self._free, self._free_at = self._hull_gaps(), joint_pos.copy()

    def _hull_gaps(self) -> Vector:
        """Distances of the hulls of obstacles from spheres about the geoms, less those below which
        a pair is near, (G, K) [m].
        """
        apart = self._now.geom_xpos[self._geoms][:, None] - self._places  # (G, K, 3)
        outside = np.abs(np.einsum("gki,kij->gkj", apart, self._turns)) - self._half_sides
        np.maximum(outside, 0.0, out=outside)
        gaps: Vector = np.sqrt(np.einsum("gki,gki->gk", outside, outside))
        return gaps - self._radii - self.distance[self._active]

    def predicted_approach(self, pair: Pair, ahead_s: float) -> float:
        """How much the distance of a pair decreases at most in the next ahead_s [s] by the motion
        of the obstacle alone [m].

        At the joint_pos of the last call of `approaches`, which must have named the pair.
        """
        obstacle = pair[1]
        if (velocity := self._velocities.get(obstacle)) is None:
            return 0.0
        place, step_s = self._now.geom_xpos[obstacle], ahead_s / STEPS
        start, step_m = place.copy(), float(np.linalg.norm(velocity)) * step_s
        first = before = least = self._distance_now(pair, None)
        for step in range(1, STEPS + 1):
            place[:] = start + velocity * (step * step_s)
            after = self._distance_now(pair, None)
            # a distance changes at most as fast as the obstacle moves
            least, before = min(least, (before + after - step_m) / 2.0), after
        place[:] = start
        return first - least

    def base_pose(self) -> tuple[Vector, Vector]:
        """Position (3,) [m] and rotation (3, 3) of the base frame, which no controlled joint moves,
        in the world frame.
        """
        base = self._robot.base_body
        return self._now.xpos[base].copy(), self._now.xmat[base].reshape(3, 3).copy()
