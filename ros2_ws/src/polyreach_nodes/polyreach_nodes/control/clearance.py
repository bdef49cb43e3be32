"""Distances between the bodies of a robot on the way to another configuration."""

from collections.abc import Iterable

import mujoco
import numpy as np
from numpy.typing import NDArray

from polyreach_description import Robot
from polyreach_description.geom_pairs import EVERYTHING, BoxDistances, Pair, moving_pairs
from polyreach_description.kinematic_tree import joints_above

MAX_CHECKS = 15  # collision checks on one way, 2^k - 1
SETTLED = 1e-3  # [rad or m] below which a joint that is not controlled counts as at rest
FAR = 10.0  # [m], beyond any distance of interest
PARALLEL = 1e-9  # [rad] between two axes
TOUCHING = 1e-6  # [m], below which there is no direction between two geoms

Vector = NDArray[np.float64]


class Clearance:
    """Finds the pairs of geoms that are near on a straight way of the joints.

    The pairs are those that MuJoCo's collision filters leave and that controlled joints move
    relative to each other. Up to MAX_CHECKS configurations on the way are checked. On a part of it,
    no point of a geom moves farther relative to the other geom than

        sum over the joints between them of reach |change|,  reach: from a joint to that point

    so with a margin larger by as much, a check in the middle shows whether the part needs others.
    Where geoms are meshes, margins cost more than checks, and all configurations are checked.
    Distances of two boxes are computed apart from MuJoCo's contacts, see BoxDistances.
    """

    def __init__(self, robot: Robot, distance: float | Vector) -> None:
        """distance: [m] below which a pair is near; of all, or (pairs,) as for set_distance."""
        self._robot = robot
        self._model = self._pair_model()
        geoms = self._model.pair_geom1.tolist(), self._model.pair_geom2.tolist()
        self.pairs: list[Pair] = [(min(pair), max(pair)) for pair in zip(*geoms, strict=True)]
        self._now, self._there = mujoco.MjData(self._model), mujoco.MjData(self._model)
        # views of MuJoCo's memory: asking for them again takes longer than the collisions
        self._qpos = [self._now.qpos, self._there.qpos]
        for qpos in self._qpos:
            qpos[:] = robot.qpos(robot.home)
        adr = robot.moved.qpos_adr
        first, last = int(adr[0]), int(adr[-1])
        in_a_row = last - first + 1 == len(adr)
        self._adr = slice(first, last + 1) if in_a_row else adr
        self._margin = self._model.pair_margin
        kinds = self._model.geom_type[self.pairs]
        self._has_meshes = bool((kinds == mujoco.mjtGeom.mjGEOM_MESH).any())
        self.reach = _reach(robot, self._model, self.pairs)  # (pairs, nu) [m/rad or 1]
        self._gaps = self._constant_gaps()  # (pairs,) [m]
        self._boxes = BoxDistances(self._model, self.pairs)
        self._box_margin = np.zeros(len(self._boxes.rows))  # in place of that of the contacts
        self._jacobians = np.zeros((2, 3, self._model.nv))
        self._segment = np.zeros(6)
        self.checks = 0  # on the last way
        self.set_distance(distance)

    def set_distance(self, distance: float | Vector) -> None:
        """Set the distance [m] below which a pair is near: of all, or (pairs,) as in `pairs`."""
        self.distance, self._wide = np.broadcast_to(distance, len(self.pairs)), True
        self._step = self.distance  # (pairs,) [m] of travel between two checks
        self._limits = dict(zip(self.pairs, self.distance.tolist(), strict=True))
        self._greatest = max(self._limits.values(), default=0.0)
        # a pair with a wider gap is never near, whatever way it goes
        self._travel = np.where((self._gaps < self.distance)[:, None], self.reach, 0.0)

    def _pair_model(self) -> mujoco.MjModel:
        name, pairs = self._robot.model.geom, moving_pairs(self._robot)
        named = ((name(first).name, name(second).name) for first, second in pairs)
        return pair_model(self._robot.spec(), named)

    def _constant_gaps(self) -> Vector:
        return _constant_gaps(self._robot, self.pairs)

    def hold(self, qpos_adr: int, value: float) -> bool:
        """Take the position [rad or m] of a joint that is not controlled, home at first; returns
        whether it moved.
        """
        moved = abs(value - self._qpos[0][qpos_adr]) > SETTLED
        if moved:
            for qpos in self._qpos:
                qpos[qpos_adr] = value
        return moved

    @property
    def qpos(self) -> Vector:
        """The model's configuration (nq,) at the last look, with the joints that are held."""
        return self._qpos[0]

    def joints_between(self, pair: Pair) -> NDArray[np.bool_]:
        """The controlled joints that move one geom of the pair relative to the other, (nu,)."""
        joints: NDArray[np.bool_] = self.reach[self.pairs.index(pair)] > 0.0
        return joints

    def approaches(self, joint_pos: Vector, way: Vector) -> list[tuple[Pair, float, float]]:
        """Pairs that are near at a check between joint_pos (nu,) and joint_pos + way [rad or m].

        Of each, its distance now [m], and the decrease of that on the whole way, at the greatest
        rate measured [m]; negative where the bodies separate.
        """
        if (travel := self._travels(joint_pos, way)) is None:
            return []
        parts = check_count(float(np.maximum.reduce(travel / self._step, initial=0.0)))
        model, data, qpos, adr = self._model, self._there, self._qpos[1], self._adr
        positions = self._robot.moved.positions
        now: dict[Pair, float] = {}
        most: dict[Pair, float] = {}
        half = (parts + 1) // 2
        middles, self.checks = [half], 0
        if self._has_meshes:
            half, middles = 1, list(range(1, parts + 1))
        while middles:
            # not near in the middle is not near at the half - 1 checks on both sides
            self._set_margins(travel, (half - 1) / parts)
            half //= 2
            following: list[int] = []
            for number in middles:
                qpos[adr] = positions(joint_pos + (number / parts) * way)
                mujoco.mj_kinematics(model, data)
                mujoco.mj_collision(model, data)
                boxes = self._boxes.nearer_than(data, self._box_margin)
                if not data.ncon and not boxes:
                    continue
                if half:
                    following += (number - half, number + half)
                for pair, after in self._near(boxes):
                    if pair not in now:
                        now[pair] = self._distance_now(pair, None if now else joint_pos)
                    approach = (now[pair] - after) * parts / number
                    most[pair] = max(approach, most.get(pair, approach))
            self.checks += len(middles)
            middles = following
        return [(pair, now[pair], most[pair]) for pair in now]

    def _travels(self, joint_pos: Vector, way: Vector) -> Vector | None:
        """Bounds of how far the pairs travel on the way, (pairs,) [m]; None if none comes near."""
        travel: Vector = self._travel.dot(np.abs(way))
        return travel

    def _set_margins(self, travel: Vector, share: float) -> None:
        """Detect each pair below `distance`, plus a share of its travel."""
        if share:
            np.multiply(travel, share, out=self._margin)
            self._margin += self.distance
        elif self._wide:
            self._margin[:] = self.distance
        if share or self._wide:
            self._box_margin = self._margin[self._boxes.rows]
            self._margin[self._boxes.rows] = -FAR
        self._wide = bool(share)

    def gradient(self, pair: Pair) -> Vector:
        """Change of the pair's distance now with each controlled joint, (nu,) [m/rad or 1].

        At the joint_pos of the last call of `approaches`, which must have named the pair; zero
        where the geoms touch.
        """
        distance, points = self._nearest_points(pair)
        if abs(distance) < TOUCHING:
            return np.zeros(len(self._robot.dof_adr))
        mujoco.mj_comPos(self._model, self._now)
        for jacobian, point, geom in zip(self._jacobians, points, pair, strict=True):
            body = int(self._model.geom_bodyid[geom])
            mujoco.mj_jac(self._model, self._now, jacobian, None, point, body)
        # d = n . (p2 - p1)
        normal = (points[1] - points[0]) / distance
        moved = self._robot.moved
        jacobian = (self._jacobians[1] - self._jacobians[0])[:, moved.dof_adr]
        change: Vector = normal @ jacobian @ moved.ratios
        return change

    def nearest_points(self, pair: Pair, joint_pos: Vector) -> Vector | None:
        """The points (2, 3) [m, world frame] of a pair's geoms that are nearest to each other at
        joint_pos (nu,); None for geoms that are FAR apart.
        """
        self._go_to(joint_pos)
        distance, points = self._nearest_points(pair)
        return points.copy() if distance < FAR else None

    def _nearest_points(self, pair: Pair) -> tuple[float, Vector]:
        # MuJoCo exchanges the points of some geoms that are not in the order of their types
        first, second = pair
        turned = self._model.geom_type[first] > self._model.geom_type[second]
        ordered = (second, first) if turned else pair
        distance = mujoco.mj_geomDistance(self._model, self._now, *ordered, FAR, self._segment)
        return distance, self._segment.reshape(2, 3)[:: -1 if turned else 1]

    def _near(self, boxes: list[tuple[Pair, float]]) -> list[tuple[Pair, float]]:
        """Contacts, and distances of `boxes`, below the distance of their pair."""
        contacts = self._there.contact
        near = [(pair, after) for pair, after in boxes if after < self._limits[pair]]
        distances = contacts.dist.tolist()
        if min(distances, default=FAR) >= self._greatest:
            return near
        geoms = contacts.geom.tolist()
        pairs = [(first, second) if first < second else (second, first) for first, second in geoms]
        return near + [
            (pair, after)
            for pair, after in zip(pairs, distances, strict=True)
            if after < self._limits[pair]
        ]

    def _distance_now(self, pair: Pair, joint_pos: Vector | None) -> float:
        """At joint_pos (nu,), if that is not where the last one was."""
        if joint_pos is not None:
            self._go_to(joint_pos)
        return float(mujoco.mj_geomDistance(self._model, self._now, *pair, FAR, None))

    def _go_to(self, joint_pos: Vector) -> None:
        self._qpos[0][self._adr] = self._robot.moved.positions(joint_pos)
        mujoco.mj_kinematics(self._model, self._now)


def check_count(steps: float) -> int:
    """Checks (2^k - 1) between which no pair moves more than its distance, on `steps` times it."""
    count = 1
    while count < MAX_CHECKS and count < steps:
        count = 2 * count + 1
    return count


def pair_model(spec: mujoco.MjSpec, pairs: Iterable[tuple[str, str]]) -> mujoco.MjModel:
    """The model in which these pairs of named geoms, and no others, are contacts within
    `pair_margin`.
    """
    for pair in list(spec.pairs):
        pair.delete()
    for first, second in pairs:
        spec.add_pair(geomname1=first, geomname2=second)
    model = spec.compile()
    for filters in (model.geom_contype, model.geom_conaffinity):
        filters[:] = 0
    for filters in (model.body_contype, model.body_conaffinity):
        filters[:] = 0
    return model


def _reach(robot: Robot, model: mujoco.MjModel, pairs: list[Pair]) -> NDArray[np.float64]:
    """How far a point of one geom moves at most relative to the other, for each controlled joint:
    (pairs, nu) [m/rad or 1]; zero for joints that are not between them.
    """
    data = robot.data_at_home(model)
    spans = np.where(model.jnt_limited, model.jnt_range[:, 1] - model.jnt_range[:, 0], EVERYTHING)
    slides = model.jnt_type == mujoco.mjtJoint.mjJNT_SLIDE

    def of_geom(geom: int) -> dict[int, float]:
        """By joint above the geom; what lies between two joints of the chain has a fixed length."""
        reached, point, length = {}, data.geom_xpos[geom], float(model.geom_rbound[geom])
        for joint in joints_above(model, int(model.geom_bodyid[geom])):
            length += float(np.linalg.norm(data.xanchor[joint] - point))
            reached[joint], point = 1.0 if slides[joint] else length, data.xanchor[joint]
            length += spans[joint] if slides[joint] else 0.0
        return reached

    columns = {int(joint): column for column, joint in enumerate(robot.moved.ids)}
    reach = np.zeros((len(pairs), len(columns)))
    for row, pair in enumerate(pairs):
        first, second = map(of_geom, pair)
        for joint in (first.keys() ^ second.keys()) & columns.keys():
            reach[row, columns[joint]] = {**first, **second}[joint]
    by_controlled: NDArray[np.float64] = reach @ np.abs(robot.moved.ratios)
    return by_controlled


def _constant_gaps(robot: Robot, pairs: list[Pair]) -> Vector:
    """Gap of each pair along an axis about which all joints between its geoms turn, (pairs,) [m].

    No motion changes it, so the pair is never nearer: links of a planar arm in two layers. Zero
    where there is no such axis, or no gap.
    """
    model, data = robot.model, robot.data_at_home()
    gaps = np.zeros(len(pairs))
    for row, pair in enumerate(pairs):
        first, second = (set(joints_above(model, int(model.geom_bodyid[geom]))) for geom in pair)
        between = sorted(first ^ second)
        axis = data.xaxis[between[0]]
        parallel = np.linalg.norm(np.cross(axis, data.xaxis[between]), axis=-1) < PARALLEL
        if parallel.all() and (model.jnt_type[between] == mujoco.mjtJoint.mjJNT_HINGE).all():
            low, high = np.array([_extent(model, data, geom, axis) for geom in pair]).T
            gaps[row] = max(low[0] - high[1], low[1] - high[0], 0.0)
    return gaps


def _extent(
    model: mujoco.MjModel, data: mujoco.MjData, geom: int, axis: Vector
) -> tuple[float, float]:
    """Lowest and highest coordinate [m] of a geom's bounding box along a unit vector."""
    if model.geom_type[geom] == mujoco.mjtGeom.mjGEOM_PLANE:
        return -np.inf, np.inf
    along = axis @ data.geom_xmat[geom].reshape(3, 3)
    middle = axis @ data.geom_xpos[geom] + along @ model.geom_aabb[geom, :3]
    half = np.abs(along) @ model.geom_aabb[geom, 3:]
    return float(middle - half), float(middle + half)
