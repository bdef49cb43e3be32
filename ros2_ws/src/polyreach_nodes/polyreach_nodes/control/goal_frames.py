"""Frames of goals: links and effectors of the robot by its own kinematics, and frames of TF.

A goal in a frame that moves with its own effector runs away, since every step towards it moves it
on. So does a goal of the left hand in front of the right one together with one of the right hand in
front of the left one. Which effectors move a frame is read off the kinematic tree.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

import mujoco
import numpy as np
from numpy.typing import NDArray

from polyreach_description import Robot
from polyreach_description.kinematic_tree import joints_above
from polyreach_description.orientation import Quaternion
from polyreach_nodes.control.frame_names import MAX_NAME, shortened

Vector = NDArray[np.float64]
Point = tuple[float, float, float]
Pose = tuple[Vector, Vector]  # position (3,) [m] and rotation matrix (3, 3), base frame
_BODY, _SITE = mujoco.mjtObj.mjOBJ_BODY, mujoco.mjtObj.mjOBJ_SITE


class FrameError(ValueError):
    """A frame whose pose is not known; the message says why."""


class Transforms(Protocol):
    """Frames that others publish, such as those of TF."""

    def pose(self, frame: str, stamp_ns: int) -> Pose:
        """The frame's pose in the base frame at a time of the node's clock; 0: the latest.

        Raises FrameError if it is unknown, not known at that time, or, for the latest, too old.
        """

    def links_above(self, frame: str) -> list[str]:
        """Frames that carry the frame, nearest first."""


@dataclass(frozen=True)
class FramedGoal:
    """A goal as it was given: a pose in a frame that is not the base frame."""

    frame: str
    position: Point  # [m]
    orientation: Quaternion | None  # unit, x y z w; None for goals without an orientation
    stamp_ns: int = 0  # at which a frame of TF counts; 0: the latest


class LinkFrames:
    """Poses of a robot's links and effectors in the base frame.

    A name is that of a link (a body of the model), of an effector's site, or of an effector, in
    this order where names are equal, so that a frame has the pose that TF gives it.
    """

    def __init__(self, robot: Robot, qpos: Callable[[], Vector]) -> None:
        """qpos: the model's configuration (nq,), of which the joints that are held count."""
        model = robot.model
        self._robot, self._qpos = robot, qpos
        self._data = mujoco.MjData(model)
        self._ids: dict[str, tuple[mujoco.mjtObj, int]] = {}
        for name, site in zip(robot.effector_names, robot.site_ids.tolist(), strict=True):
            self._ids[name] = self._ids[model.site(site).name] = _SITE, site
        for body in range(1, model.nbody):
            if model.body(body).name:
                self._ids[model.body(body).name] = _BODY, body
        self._ids.pop(robot.base_frame, None)
        private = robot.action_sets & (robot.action_sets.sum(axis=0) == 1)
        self._movers: Mapping[str, frozenset[int]] = {}
        for name, (kind, index) in self._ids.items():
            body = index if kind == _BODY else int(model.site_bodyid[index])
            moving = self._joints_moving(body)
            own = (private & moving).any(axis=1) | (moving | ~robot.action_sets).all(axis=1)
            self._movers |= {name: frozenset(np.flatnonzero(own).tolist())}

    def __contains__(self, frame: str) -> bool:
        return frame in self._ids

    @property
    def names(self) -> tuple[str, ...]:
        """All frames but the base frame, effectors first."""
        return tuple(self._ids)

    def movers(self, frame: str) -> frozenset[int]:
        """Effectors whose own motion moves the frame.

        These are the effectors that have a joint to themselves which moves the frame, and those of
        which every joint moves it: a frame on their own chain or behind it. Links that only shared
        joints move, such as a torso, have none.
        """
        return self._movers[frame]

    def _joints_moving(self, body: int) -> NDArray[np.bool_]:
        """The controlled joints that move a body, (nu,)."""
        moved = self._robot.moved
        above = np.isin(moved.ids, joints_above(self._robot.model, body))
        moving: NDArray[np.bool_] = (moved.ratios[above] != 0.0).any(axis=0)
        return moving

    def update(self, joint_pos: Vector) -> None:
        """Compute the poses at joint_pos (nu,) [rad or m]."""
        self._data.qpos[:] = self._qpos()
        self._robot.write_qpos(self._data.qpos, joint_pos)
        mujoco.mj_kinematics(self._robot.model, self._data)

    def pose(self, frame: str) -> Pose:
        """The frame's pose at the last update."""
        data, base = self._data, self._robot.base_body
        kind, index = self._ids[frame]
        position, matrix = (
            (data.xpos[index], data.xmat[index])
            if kind == _BODY
            else (data.site_xpos[index], data.site_xmat[index])
        )
        rotation = data.xmat[base].reshape(3, 3)
        return (position - data.xpos[base]) @ rotation, rotation.T @ matrix.reshape(3, 3)


class GoalFrames:
    """Places goals that were given in a frame into the base frame."""

    def __init__(
        self, robot: Robot, qpos: Callable[[], Vector], joint_pos: Callable[[], Vector | None]
    ) -> None:
        """qpos: see LinkFrames. joint_pos: the joint positions (nu,) now, None if unknown."""
        self.links = LinkFrames(robot, qpos)
        self.transforms: Transforms | None = None  # None: frames are those of the robot
        self.follow_transforms = False  # whether goals in frames of TF follow these
        self._robot = robot
        self._joint_pos = joint_pos
        # NumPy takes 100 us for what MuJoCo does in 3
        self._frame_wxyz, self._wxyz = np.zeros(4), np.zeros(4)

    def follows(self, frame: str) -> bool:
        """Whether a goal in this frame moves with it."""
        return frame in self.links or self.follow_transforms

    def movers(self, frame: str) -> frozenset[int]:
        """Effectors whose own motion moves the frame, as far as is known: a frame of TF moves with
        the first link of the robot that carries it.
        """
        if frame in self.links:
            return self.links.movers(frame)
        above = [] if self.transforms is None else self.transforms.links_above(frame)
        link = next((name for name in above if name in self.links), "")
        return self.links.movers(link) if link else frozenset()

    def update(self, joint_pos: Vector | None = None) -> None:
        """Compute the poses of links at joint_pos (nu,) [rad or m]; None: as they are known now.

        Raises FrameError if they are not.
        """
        joint_pos = self._joint_pos() if joint_pos is None else joint_pos
        if joint_pos is None:
            raise FrameError("no joint state yet")
        self.links.update(joint_pos)

    def place(self, goal: FramedGoal) -> tuple[Point, Quaternion | None]:
        """Position [m] and orientation of a goal in the base frame, links as at the last
        update. Raises FrameError if the frame's pose is not known.
        """
        if goal.frame in self.links:
            origin, rotation = self.links.pose(goal.frame)
        else:
            assert self.transforms is not None  # see check
            origin, rotation = self.transforms.pose(goal.frame, goal.stamp_ns)
        x, y, z = (origin + rotation @ np.array(goal.position)).tolist()
        position = x, y, z
        if goal.orientation is None:
            return position, None
        mujoco.mju_mat2Quat(self._frame_wxyz, rotation.ravel())
        qx, qy, qz, qw = goal.orientation
        mujoco.mju_mulQuat(self._wxyz, self._frame_wxyz, np.array([qw, qx, qy, qz]))
        qw, qx, qy, qz = self._wxyz.tolist()
        return position, (qx, qy, qz, qw)

    def check(self, frame: str) -> None:
        """Raise FrameError, which lists the legal choices, for a frame that cannot be known."""
        tf = self.transforms is not None
        if len(frame) > MAX_NAME or not (frame in self.links or tf):
            base, listed = self._robot.base_frame, shortened(self.links.names)
            more = f", or a frame of TF of at most {MAX_NAME} characters" if tf else ""
            hint = "" if tf else "; frames of TF need the parameter use_tf"
            raise FrameError(
                f"frame is '{frame[:MAX_NAME]}', but must be '{base}' or empty, or of the robot: "
                f"{listed}{more}{hint}"
            )


def loop_through(
    effector: int, frame: frozenset[int], frames: Mapping[int, frozenset[int]]
) -> list[int]:
    """Effectors, from the first that moves the frame to `effector`, each of whose goals moves the
    next one's frame on; empty if a goal of `effector` in the frame does not run away.

    frame: the effectors that move it; frames: the same of the frames of goals there are, by the
    effector of the goal.
    """
    paths = [[mover] for mover in sorted(frame)]
    visited: set[int] = set()
    while paths:
        path = paths.pop(0)
        if path[-1] == effector:
            return path
        if path[-1] not in visited:
            visited.add(path[-1])
            paths += [[*path, mover] for mover in sorted(frames.get(path[-1], frozenset()))]
    return []
