"""Slow down before the robot touches itself or an effector leaves the workspace; no ROS here."""

import math
from collections.abc import Iterator

import mujoco
import numpy as np
from numpy.typing import ArrayLike, NDArray

from polyreach_description import Robot
from polyreach_nodes.limits import REACTION_PERIODS

SLOW_DISTANCE = 0.025  # [m] default
STOP_DISTANCE = 0.01  # [m] default
NO_WORKSPACE = (-100.0, -100.0, -100.0, 100.0, 100.0, 100.0)  # [m]
NEGLIGIBLE = 1e-9  # [m] of approach
MAX_LOOKS = 16
SETTLED = 1e-3  # [rad or m] below which a joint that is not controlled counts as standing
EXTRA_PERIODS = 2.0  # for the next command, and for joints that do not brake in a straight line
FAR = 10.0  # [m], beyond any distance of interest

Vector = NDArray[np.float64]


class Proximity:
    """Scales a command by one factor in [0, 1], so that its direction is kept.

    Looked at are the configuration now and some on the way to q + v (h + max |v| / a), where the
    joints would stand if they went on for a reaction time h and then braked at half of what they
    may. For a pair of bodies (MuJoCo's collision filters say which) with distance d now and d'
    there, w = slow - stop distance:

        factor <= (d - stop) / (w + d - d')    where they come near, d' < d and d' < slow distance

    It is 1 as long as d' >= slow distance and falls to 0 at d = stop distance. A command that
    leads apart is never slowed, so a robot that is too near can always back out. The walls of the
    workspace, a box in the base frame, act on the effectors in the same way with stop distance 0.
    """

    def __init__(
        self,
        robot: Robot,
        slow_distance: float = SLOW_DISTANCE,
        stop_distance: float = STOP_DISTANCE,
        workspace: ArrayLike = NO_WORKSPACE,
    ) -> None:
        """Distances in [m]; workspace: (6,) x, y, z lowest, then x, y, z highest [m, base frame].

        Raises ValueError that names the value and what is legal.
        """
        self._robot = robot
        self._now, *self._looks = (mujoco.MjData(robot.model) for _ in range(1 + MAX_LOOKS))
        for data in (self._now, *self._looks):
            data.qpos[:] = robot.qpos(robot.home)
        # views of MuJoCo's memory: asking for them again takes longer than the collisions
        self._qpos = {id(data): data.qpos for data in (self._now, *self._looks)}
        self._places = [(data.geom_xpos, data.geom_xmat) for data in (self._now, self._looks[0])]
        self._radius = robot.model.geom_rbound
        first, last = int(robot.qpos_adr[0]), int(robot.qpos_adr[-1])
        in_a_row = last - first + 1 == len(robot.qpos_adr)
        self._adr = slice(first, last + 1) if in_a_row else robot.qpos_adr
        self._period_s = 1.0 / robot.control_rate
        self.reaction_s = REACTION_PERIODS * self._period_s
        self._low, self._high = robot.joint_pos_limits.T
        self._acceleration: list[float] = robot.joint_acc_limits.tolist()
        self.reason = ""
        self.set_distances(slow_distance, stop_distance)
        self.set_workspace(workspace)

    def hold(self, qpos_adr: int, value: float) -> None:
        """Take the position [rad or m] of a joint that is not controlled; home at first."""
        if abs(value - self._qpos[id(self._now)][qpos_adr]) > SETTLED:
            for qpos in self._qpos.values():
                qpos[qpos_adr] = value

    def set_distances(self, slow_distance: float, stop_distance: float) -> None:
        """Distances [m] between bodies from which on the motion slows, and at which it stops.

        Raises ValueError unless 0 <= stop_distance < slow_distance.
        """
        check_distances(slow_distance, stop_distance)
        self.slow_distance, self.stop_distance = slow_distance, stop_distance
        self._model = self._robot.proximity_model(slow_distance)

    def set_workspace(self, workspace: ArrayLike) -> None:
        """Set the box (6,) [m, base frame]. Raises ValueError."""
        self.workspace = read_workspace(workspace)
        self._walled = bool((np.abs(self.workspace) < NO_WORKSPACE[-1]).any())

    def slow(
        self, command: Vector, previous: Vector, joint_pos: Vector, change: Vector
    ) -> tuple[Vector, float]:
        """The command (nu,) for `command` (nu,) [rad/s or m/s], and the factor that was used.

        The change from `previous` (nu,) is kept within `change` (nu,), what acceleration limits
        allow in a period, unless braking at the limits would end below the stop distance: then
        distance wins. `reason` says what the motion is slowed for.
        """
        factor = self.factor(command, joint_pos)
        if factor >= 1.0:
            return command, factor
        slowed = factor * command
        # position limits may have asked for more than `change` already: then `command` is the bound
        low, high = np.minimum(previous - change, command), np.maximum(previous + change, command)
        gentle = np.minimum(np.maximum(slowed, low), high)
        return (gentle if self._can_stop(gentle, joint_pos) else slowed), factor

    def factor(self, command: Vector, joint_pos: Vector) -> float:
        """The factor for `command` (nu,) [rad/s or m/s] at `joint_pos` (nu,) [rad or m].

        `reason` then says what it is slowed for, or is empty.
        """
        self.reason = ""
        if not command.any():
            return 1.0
        factor, width = 1.0, self.slow_distance - self.stop_distance
        looks = self._look_ahead(command, joint_pos, braking=1.0)
        for pair, distance, approach in self._pairs(looks):
            own = _factor(distance - self.stop_distance, approach, width)
            if own < factor:
                factor = own
                names = " and ".join(self._robot.geom_label(geom) for geom in pair)
                self.reason = f"{names} are {1e3 * distance:.0f} mm apart"
        for effector, axis, wall, room, approach in self._walls(width):
            own = _factor(room, approach, width)
            if own < factor:
                factor = own
                name = self._robot.effector_names[effector]
                self.reason = f"'{name}' is at the workspace's {'xyz'[axis]} = {wall:g} m"
        return factor

    def _can_stop(self, command: Vector, joint_pos: Vector) -> bool:
        """Whether braking at the limits, after the reaction time, ends at the stop distances."""
        looks = self._look_ahead(command, joint_pos, braking=0.5)
        bodies = all(
            approach <= max(0.0, distance - self.stop_distance)
            for _, distance, approach in self._pairs(looks)
        )
        return bodies and all(room >= approach for *_, room, approach in self._walls(0.0))

    def _look_ahead(
        self, command: Vector, joint_pos: Vector, braking: float
    ) -> list[mujoco.MjData]:
        """Configurations on the way to the one at which the joints could stand."""
        reaction_s = self.reaction_s + EXTRA_PERIODS * self._period_s
        braking_s = max(
            abs(v) / a for v, a in zip(command.tolist(), self._acceleration, strict=True)
        )
        ahead_s = reaction_s + braking * braking_s
        end = np.minimum(np.maximum(joint_pos + command * ahead_s, self._low), self._high)
        self._qpos[id(self._now)][self._adr] = joint_pos
        mujoco.mj_kinematics(self._model, self._now)
        self._look(self._looks[0], end)
        # between two looks no point of a body moves farther than it is seen on both sides, so that
        # two of them do not pass through each other unseen
        count = math.ceil(self._moved() / self.slow_distance)
        looks = self._looks[: max(1, min(count, MAX_LOOKS))]
        way = (end - joint_pos) / len(looks)
        for number, data in enumerate(looks[1:], start=1):
            self._look(data, joint_pos + number * way)
        return looks

    def _moved(self) -> float:
        """How far a point of a geom moves at most, from now to the end of the way [m]."""
        (here, turned_here), (there, turned_there) = self._places
        moved = np.sqrt(np.square(there - here).sum(axis=1))
        # a turn by an angle moves a point at radius r by 2 r sin(angle / 2) = r sqrt(3 - trace)
        trace = (turned_here * turned_there).sum(axis=1)
        moved += self._radius * np.sqrt(np.maximum(3.0 - trace, 0.0))
        return float(moved.max())

    def _look(self, data: mujoco.MjData, joint_pos: Vector) -> None:
        self._qpos[id(data)][self._adr] = joint_pos
        mujoco.mj_kinematics(self._model, data)
        mujoco.mj_collision(self._model, data)

    def _pairs(self, looks: list[mujoco.MjData]) -> Iterator[tuple[tuple[int, int], float, float]]:
        """Pairs of geoms that will be near: distance now, and approach on the whole way [m].

        Seen at a part of the way, the approach is what the whole way would bring at that rate.
        """
        for number, data in enumerate(looks):
            share = number / len(looks) or 1.0
            for pair, after in _distances(data, self._robot.geom_movers) if data.ncon else ():
                distance = float(mujoco.mj_geomDistance(self._model, self._now, *pair, FAR, None))
                yield pair, distance, (distance - after) / share

    def _walls(self, width: float) -> Iterator[tuple[int, int, float, float, float]]:
        """Effector, axis, wall, distance to it and approach [m], where less than width is left."""
        if not self._walled:
            return
        low, high = self.workspace
        now, end = (self._robot.effector_pos(data) for data in (self._now, self._looks[0]))
        room = np.stack([now - low, high - now])  # (2, E, 3)
        approach = np.stack([now - end, end - now])
        for index in np.argwhere((room - approach < width) & (approach > NEGLIGIBLE)):
            side, effector, axis = index.tolist()
            at = side, effector, axis
            yield effector, axis, self.workspace[side, axis], float(room[at]), float(approach[at])


def check_distances(slow_distance: float, stop_distance: float) -> None:
    """Raise ValueError unless 0 <= stop_distance < slow_distance [m]."""
    if not 0.0 <= stop_distance < slow_distance < np.inf:
        raise ValueError(
            f"collision_stop_distance is {stop_distance:g} and collision_slow_distance is "
            f"{slow_distance:g}, but they must be 0 <= stop < slow [m]"
        )


def read_workspace(workspace: ArrayLike) -> Vector:
    """A box (2, 3), lowest and highest corner [m, base frame], from its six numbers.

    Raises ValueError that names the value and what is legal.
    """
    box = np.asarray(workspace, dtype=np.float64)
    if box.shape != (6,) or not np.isfinite(box).all() or (box[:3] >= box[3:]).any():
        raise ValueError(
            f"workspace is {box.tolist()}, but must be six numbers: x, y, z lowest, then x, y, z "
            "highest [m, base frame], each lowest < highest"
        )
    return box.reshape(2, 3)


def _factor(room: float, approach: float, width: float) -> float:
    if approach <= NEGLIGIBLE:
        return 1.0
    return min(1.0, max(0.0, room) / (width + approach))


def _distances(
    data: mujoco.MjData, movers: NDArray[np.int64]
) -> Iterator[tuple[tuple[int, int], float]]:
    """Pairs of geoms that are near and can move relative to each other, and their distances [m]."""
    contacts = data.contact
    for (first, second), distance in zip(contacts.geom.tolist(), contacts.dist, strict=True):
        if movers[first] != movers[second]:
            yield (first, second), float(distance)
