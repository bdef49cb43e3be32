"""Slow down before the robot touches itself or an obstacle, or an effector leaves the workspace."""

import math
from collections.abc import Iterator, Mapping

import numpy as np
from numpy.typing import ArrayLike, NDArray

from polyreach_description import Robot
from polyreach_description.distances import scaled_distances
from polyreach_description.limits import REACTION_PERIODS
from polyreach_nodes.control.approach_limits import NEGLIGIBLE, Closing, Limit, joint_factors
from polyreach_nodes.control.clearance import Clearance
from polyreach_nodes.control.obstacle import Obstacle
from polyreach_nodes.control.obstacle_clearance import ObstacleClearance
from polyreach_nodes.parameters import NO_WORKSPACE, check_distances, check_workspace

EXTRA_PERIODS = 2.0  # for the next command, and for joints that do not brake in a straight line
BEND = 0.25  # share of the room that a changed direction may use on the whole way
MIXTURES = (1.0, 0.5, 0.25, 0.0)  # tried in turn, see Proximity
MONOTONE = math.e  # reaction times in which the room is used up; with more, no overshoot
WALLS = 6  # of the workspace

Vector = NDArray[np.float64]
Names = tuple[str, str]


class Proximity:
    """Scales the joint velocities of a command by factors in [0, 1], to keep bodies apart.

    Distances are computed on the way to q + v (h + max |v| / a), where the joints would come to
    rest if they continued for a reaction time h and then braked at half of their limit. For a pair
    of bodies that may collide by MuJoCo's filters, with distance d now and d' there, and
    w = slow - stop distance:

        factor <= (d - stop) / (w + d - d')    where they approach, d' < d and d' < slow distance

    It is 1 for d' >= slow distance and falls to 0 at d = stop distance. A command that moves bodies
    apart is never slowed, so a robot that is too near can always back out. A pair with a smaller
    stop distance in the robot.yaml has a slow distance smaller in the same proportion. The walls of
    the workspace, a box in the base frame, act on the effectors in the same way, stop distance 0.

    An obstacle acts on every geom that controlled joints move, with the same distances. Where it
    moves, d is less by what its motion at constant velocity can take away until the joints would
    come to rest, so that they are at rest, or retreat, before it comes within the stop distance;
    this is the protective separation of ISO/TS 15066. d - d' is the approach by the joints alone:
    they may retreat from an obstacle at any distance and speed.

    Only joints between the two bodies change their distance. Of these, only those whose own motion
    decreases it are slowed, until the distance decreases as slowly as with that factor for all.
    The other joints continue, with

        clip((d - stop) / w, CREEP, 1)    and the others with a stop distance w |v| / v_max wider

    because their accelerations push joints that are held by a velocity servo. Factors that differ
    change the direction of the motion, so distances are computed again. If a pair still approaches
    too fast, MIXTURES of these factors and one factor per pair are tried, then one for all joints.
    """

    def __init__(
        self,
        robot: Robot,
        slow_distance: float,
        stop_distance: float,
        workspace: ArrayLike = NO_WORKSPACE,
    ) -> None:
        """Distances in [m]; workspace: (6,) x, y, z lowest, then x, y, z highest [m, base frame].

        Raises ValueError that names the value and what is legal.
        """
        check_distances(slow_distance, stop_distance)
        self._robot = robot
        self._clearance = Clearance(robot, slow_distance)
        self._obstacles = ObstacleClearance(robot, slow_distance)
        self.obstacle_age_s = 0.0  # [s] since the places of those that move were received
        bodies = robot.model.geom_bodyid[np.reshape(self._clearance.pairs, (-1, 2))]
        self._pair_distances = robot.pair_distances[bodies[:, 0], bodies[:, 1]]
        self._period_s = 1.0 / robot.control_rate
        self.reaction_s = REACTION_PERIODS * self._period_s
        self._low, self._high = robot.joint_pos_limits.T.copy()
        self._braking_s_per_speed = 1.0 / robot.joint_acc_limits
        self._ones = np.ones(len(robot.joint_names))
        self.reason = ""
        self.blocking: Names = ("", "")
        self._slowing: Closing | None = None  # the one that slows the last command most
        self.set_distances(slow_distance, stop_distance)
        self.set_workspace(workspace)

    def hold(self, qpos_adr: int, value: float) -> None:
        """Take the position [rad or m] of a joint that is not controlled; home at first."""
        if self._clearance.hold(qpos_adr, value):
            self._obstacles.hold(qpos_adr, value)

    def set_obstacles(self, obstacles: Mapping[int, Obstacle], age_s: float) -> None:
        """Replace the obstacles; keys are from 0 to MAX_OBSTACLES - 1. age_s: largest
        `obstacle_age_s` for which they count as they are.
        """
        slowest_s = float((self._robot.joint_vel_limits * self._braking_s_per_speed).max())
        reaction_s = self.reaction_s + EXTRA_PERIODS * self._period_s
        self._obstacles.set_obstacles(obstacles, reaction_s + slowest_s + age_s)

    def spheres(self, joint_pos: Vector) -> tuple[Vector, Vector]:
        """See ObstacleClearance.spheres."""
        return self._obstacles.spheres(joint_pos)

    @property
    def qpos(self) -> Vector:
        """The model's configuration (nq,), with the joints that are held where they were last."""
        return self._clearance.qpos

    def set_distances(self, slow_distance: float, stop_distance: float) -> None:
        """Distances [m] between bodies below which the motion slows, and at which it stops.

        Less for pairs with a distance of their own in the robot.yaml, see stop_distances.

        Raises ValueError unless 0 < stop_distance < slow_distance.
        """
        check_distances(slow_distance, stop_distance)
        self.slow_distance, self.stop_distance = slow_distance, stop_distance
        distances = self._pair_distances, stop_distance
        self.stop_distances = scaled_distances(*distances, stop_distance)
        slow = scaled_distances(*distances, slow_distance)
        self._width = slow_distance - stop_distance  # of a wall
        stop_and_width = zip(
            self.stop_distances.tolist(), (slow - self.stop_distances).tolist(), strict=True
        )
        self._of_pair = dict(zip(self._clearance.pairs, stop_and_width, strict=True))
        self._clearance.set_distance(slow)
        self._obstacles.set_near_distance(slow_distance)

    def set_workspace(self, workspace: ArrayLike) -> None:
        """Set the box (6,) [m, base frame]. Raises ValueError."""
        box = np.asarray(workspace, dtype=np.float64)
        check_workspace(box.ravel())
        self.workspace = box.reshape(2, 3)  # lowest, highest corner
        self._walled = bool((np.abs(self.workspace) < NO_WORKSPACE[-1]).any())

    def scale_command(
        self, command: Vector, previous: Vector, joint_pos: Vector, change: Vector
    ) -> tuple[Vector, float]:
        """The command (nu,) for `command` (nu,) [rad/s or m/s], and the least factor in it.

        The change from `previous` (nu,) is kept within `change` (nu,), what acceleration limits
        allow in a period, unless braking at the limits would end below the stop distance: then the
        distance has priority. `reason` says why the motion is slowed, `blocking` names the two
        bodies, or an effector and a wall.
        """
        factors = self.factors(command, joint_pos)
        if factors is self._ones:
            return command, 1.0
        slowed, least = factors * command, float(factors.min())
        # position limits may already require more than `change`: then `command` is the bound
        low, high = np.minimum(previous - change, command), np.maximum(previous + change, command)
        gentle = np.minimum(np.maximum(slowed, low), high)
        gently = bool((gentle == slowed).all()) or self._can_stop(gentle, joint_pos)
        return (gentle if gently else slowed), least

    def factors(self, command: Vector, joint_pos: Vector) -> Vector:
        """Factors (nu,) for `command` (nu,) [rad/s or m/s] at `joint_pos` (nu,) [rad or m]."""
        self.reason, self.blocking, self._slowing = "", ("", ""), None
        way, ahead_s = self._way(command, joint_pos, braking=1.0)
        limits = [
            self._limit(closing, factor, way)
            for closing in self._closings(joint_pos, way, ahead_s)
            if (factor := closing.factor()) < 1.0
        ]
        if not limits:
            return self._ones
        nearest = min(limits, key=lambda limit: limit.factor)
        self._explain(nearest.closing)
        joints = joint_factors(limits, np.abs(command) / self._robot.joint_vel_limits)
        together, alone = joints.together, joints.alone
        allowed = {key: approach / ahead_s for key, approach in joints.approaches.items()}  # [m/s]
        for mixture in MIXTURES:
            factors: Vector = together + mixture * (alone - together)
            if self._is_safe(factors * command, joint_pos, allowed):
                return factors
        return np.full(len(command), nearest.factor)

    def nearest(self, joint_pos: Vector) -> str:
        """The two bodies with the least room below the slow distance at joint_pos (nu,)
        [rad or m], moving or not; '' without any.
        """
        still = np.zeros(len(joint_pos))
        apart = [
            (distance - self._of_pair[pair][0], distance, pair)
            for pair, distance, _ in self._clearance.approaches(joint_pos, still)
        ]
        apart += [
            (distance - self.stop_distance, distance, pair)
            for pair, distance, _ in self._obstacles.approaches(joint_pos, still)
            if distance < self.slow_distance
        ]
        return self._bodies(*min(apart)[1:]) if apart else ""

    def slowing_points(self, joint_pos: Vector) -> Vector | None:
        """Where at joint_pos (nu,) [rad or m] the distance is that slows the last command most.

        The points (2, 3) [m, base frame] of the two bodies that are nearest to each other, or of an
        effector and the workspace's wall; None if nothing slows the command.
        """
        if (closing := self._slowing) is None:
            return None
        if closing.clearance is None:
            effector, side, axis = closing.key[0], *divmod(closing.key[1] + WALLS, 3)
            ends = np.tile(self._robot.forward_kinematics(joint_pos)[effector], (2, 1))
            ends[1, axis] = self.workspace[side, axis]
            return ends
        points = closing.clearance.nearest_points(closing.key, joint_pos)
        origin, base = self._obstacles.base_pose()
        return None if points is None else (points - origin) @ base

    def _bodies(self, distance: float, pair: tuple[int, int]) -> str:
        labels = " and ".join(map(self._label, pair))
        return f"{labels} are {1e3 * distance:.0f} mm apart"

    def _label(self, geom: int) -> str:
        if geom < self._robot.model.ngeom:
            return self._robot.geom_label(geom)
        return f"obstacle '{self._obstacles.name(geom)}'"

    def _limit(self, closing: Closing, factor: float, way: Vector) -> Limit:
        if closing.clearance is not None:
            return Limit.of_geoms(closing, factor, closing.clearance, way)
        return Limit.of_wall(closing, factor, self._robot.action_sets[closing.key[0]], way)

    def _is_safe(
        self, command: Vector, joint_pos: Vector, allowed: dict[tuple[int, int], float]
    ) -> bool:
        """Whether nothing approaches too fast; allowed: [m/s] of limited closings."""
        way, ahead_s = self._way(command, joint_pos, braking=1.0)
        return all(
            closing.factor() >= 1.0
            or closing.approach <= BEND * closing.room
            or closing.approach <= allowed.get(closing.key, 0.0) * ahead_s
            for closing in self._closings(joint_pos, way, ahead_s)
        )

    def _can_stop(self, command: Vector, joint_pos: Vector) -> bool:
        """Whether braking at the limits, after the reaction time, keeps the stop distances."""
        way, ahead_s = self._way(command, joint_pos, braking=0.5)
        closings = self._closings(joint_pos, way, ahead_s)
        return all(closing.approach <= max(0.0, closing.room) for closing in closings)

    def _way(self, command: Vector, joint_pos: Vector, braking: float) -> tuple[Vector, float]:
        """Way (nu,) to where the joints can come to rest, and its time [s] at this speed."""
        reaction_s = self.reaction_s + EXTRA_PERIODS * self._period_s
        ahead_s = reaction_s + braking * float((np.abs(command) * self._braking_s_per_speed).max())
        # a joint beyond a limit does not return to it by itself
        low, high = np.minimum(self._low, joint_pos), np.maximum(self._high, joint_pos)
        end = np.minimum(np.maximum(joint_pos + command * ahead_s, low), high)
        return end - joint_pos, ahead_s

    def _closings(self, joint_pos: Vector, way: Vector, ahead_s: float) -> Iterator[Closing]:
        """Closings below the slow distance somewhere on the way, which takes ahead_s [s]."""
        own, obstacles = self._clearance, self._obstacles
        for pair, distance, approach in own.approaches(joint_pos, way):
            if approach > NEGLIGIBLE:
                stop, width = self._of_pair[pair]
                span = width + approach
                yield Closing(pair, own, distance, distance - stop, width, approach, span)
        if obstacles.any:
            yield from self._obstacle_closings(joint_pos, way, ahead_s)
        if self._walled:
            yield from self._wall_closings(joint_pos, way)

    def _obstacle_closings(
        self, joint_pos: Vector, way: Vector, ahead_s: float
    ) -> Iterator[Closing]:
        obstacles, width = self._obstacles, self._width
        reaction_s = self.reaction_s + EXTRA_PERIODS * self._period_s
        for pair, distance, approach in obstacles.approaches(joint_pos, way):
            if 0.0 < distance < self.slow_distance:
                # between two checks, a body may pass an edge: nearer first, then farther
                approach = max(approach, -float(obstacles.gradient(pair).dot(way)))
            if approach <= NEGLIGIBLE:
                continue
            room = distance - self.stop_distance
            room -= obstacles.predicted_approach(pair, ahead_s + self.obstacle_age_s)
            span = max(width + approach, MONOTONE * approach * reaction_s / ahead_s)
            yield Closing(pair, obstacles, distance, room, width, approach, span)

    def _wall_closings(self, joint_pos: Vector, way: Vector) -> Iterator[Closing]:
        low, high = self.workspace
        now, end = (self._robot.forward_kinematics(at) for at in (joint_pos, joint_pos + way))
        rooms = np.stack([now - low, high - now])  # (2, E, 3)
        taken = np.stack([now - end, end - now])
        near = (rooms - taken < self._width) & (taken > NEGLIGIBLE)
        for side, effector, axis in np.argwhere(near).tolist():
            at = side, effector, axis
            room, key = float(rooms[at]), (effector, 3 * side + axis - WALLS)
            approach, width = float(taken[at]), self._width
            yield Closing(key, None, room, room, width, approach, width + approach)

    def _explain(self, closing: Closing) -> None:
        self._slowing = closing
        first, second = closing.key
        if closing.clearance is None:
            effector, side, axis = self._robot.effector_names[first], *divmod(second + WALLS, 3)
            wall = f"{'xyz'[axis]} = {self.workspace[side, axis]:g} m"
            self.blocking = effector, f"workspace {wall}"
            self.reason = f"'{effector}' is at the workspace's {wall}"
        else:
            first_label, second_label = (self._label(geom).replace("'", "") for geom in closing.key)
            self.blocking = first_label, second_label
            self.reason = self._bodies(closing.distance, closing.key)
