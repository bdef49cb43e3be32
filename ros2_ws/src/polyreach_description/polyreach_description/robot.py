"""A robot: a MuJoCo model together with what its `robot.yaml` says is controlled."""

import copy
from functools import cached_property
from hashlib import sha256
from pathlib import Path

import mujoco
import numpy as np
from numpy.typing import ArrayLike, NDArray

from polyreach_description import distances
from polyreach_description import robot_checks as checks
from polyreach_description.config_file import AXES, RobotError, RobotFile, read_robot_file
from polyreach_description.coupling import read_couplings, read_moved_joints
from polyreach_description.driven_model import driven_model
from polyreach_description.home import HeldJoint, read_held_joints, read_home
from polyreach_description.kinematic_tree import KinematicTree, last_movers, read_tree
from polyreach_description.model_check import check_model
from polyreach_description.model_file import UNNAMED_GEOM, load_model
from polyreach_description.orientation import quaternions
from polyreach_description.self_collision import often_touching

ROBOTS_DIR = Path(__file__).parent / "robots"
SAMPLING_MARGIN = 0.05  # share of a joint's range kept clear at both ends when goals are drawn
TOUCH_SAMPLES = 100  # configurations, to find the links that touch
INERTIA_SAMPLES = 64  # configurations, to find a joint's largest inertia
SPEED_UP_S = 0.15  # [s] from rest to the speeds that policies use


def list_robots() -> tuple[str, ...]:
    """Names of the robots that ship with the package."""
    return tuple(sorted(path.parent.name for path in ROBOTS_DIR.glob("*/robot.yaml")))


def is_robot_file(name: str) -> bool:
    """Whether `name` is the path of a robot.yaml, and not a shipped robot's name."""
    return name.endswith((".yaml", ".yml"))


def load_robot(name_or_path: str | Path) -> "Robot":
    """Load a shipped robot by name, or any other by the path of its yaml.

    Raises RobotError with one sentence that names what is wrong and what is legal.
    """
    file = robot_file(name_or_path)
    check_model(file)
    return Robot(file)


def robot_file(name_or_path: str | Path) -> RobotFile:
    """The yaml of a robot, without its model. Raises RobotError, as load_robot."""
    text = str(name_or_path)
    if text in list_robots():
        return read_robot_file(ROBOTS_DIR / text / "robot.yaml")
    if is_robot_file(text):
        return read_robot_file(Path(text))
    raise RobotError(
        f"unknown robot '{text}' (shipped: {', '.join(list_robots())}; or give the path of a "
        "robot.yaml)"
    )


class Robot:
    """A checked robot; nu controlled joints in the order of the yaml's model, E effectors.

    Arrays: joint_pos_limits (nu, 2) [rad or m], joint_vel_limits (nu,) [rad/s or m/s],
    joint_acc_limits (nu,) [rad/s^2 or m/s^2], home (nu,) [rad or m], action_sets (E, nu) bool.
    effector_goals (E,): "position", "axis" or "pose"; effector_axes (E, 3): the unit vector in the
    effector's frame that a goal of kind "axis" aligns; oriented (E,) bool: whether a goal of the
    effector has an orientation.
    action_speeds (nu,) [rad/s or m/s] are those of the largest actions of a policy that does not
    observe its last command: the velocity limit, or the speed that the joint reaches from rest in
    SPEED_UP_S, where that is less. With higher speeds the joints would oscillate about the goals.

    reach [m] is an upper bound of an effector's distance from the first joint of its chain.
    slow_distance and stop_distance [m] are those between two bodies at which their approach slows,
    and stops; pair_distances (nbody, nbody) [m] has the stop distances of single pairs, else inf.
    """

    def __init__(self, file: RobotFile) -> None:
        self.file = file
        self.name = file.name
        self.base_frame = file.base_frame
        self.control_rate = file.control_rate
        self.effector_names = tuple(file.effectors)
        self.effector_goals = tuple(entry.goal for entry in file.effectors.values())
        self.effector_axes = np.array([AXES[entry.axis] for entry in file.effectors.values()])
        self.oriented = np.array([goal != "position" for goal in self.effector_goals])
        try:
            self._build(file)
        except RobotError as error:
            raise RobotError(f"{file.path}: {error}") from None

    def _build(self, file: RobotFile) -> None:
        self._spec, self.model = load_model(file)
        model = self.model
        checks.check_names(model)
        site_of = {name: entry.site or f"{name}_effector" for name, entry in file.effectors.items()}
        self.site_ids = np.array([model.site(site).id for site in site_of.values()], dtype=np.int64)
        self.joint_ids = np.array(
            sorted(checks.joint_id(model, name) for name in file.joints), dtype=np.int64
        )
        self.joint_names = tuple(model.joint(int(joint)).name for joint in self.joint_ids)
        self.qpos_adr = model.jnt_qposadr[self.joint_ids].astype(np.int64)
        self.dof_adr = model.jnt_dofadr[self.joint_ids].astype(np.int64)
        entries = [file.joints[name] for name in self.joint_names]
        self.joint_vel_limits = np.array([entry.velocity for entry in entries])
        self.joint_acc_limits = np.array([entry.acceleration for entry in entries])
        self.action_speeds = np.minimum(self.joint_vel_limits, SPEED_UP_S * self.joint_acc_limits)
        checks.check_collision_options(model)
        checks.check_joints(file, model, self.joint_ids)
        self.couplings = read_couplings(file, model)
        self.moved = read_moved_joints(model, self.joint_ids, self.couplings)
        self.joint_pos_limits = self.moved.position_limits(model)
        checks.check_loops(model, last_movers(model, self.moved.ids), self.joint_ids)
        limits = dict(zip(self.joint_ids.tolist(), self.joint_pos_limits, strict=True))
        self._home_qpos = read_home(file, model, limits, self.couplings)
        self.home = self._home_qpos[self.qpos_adr]
        self.base_body = checks.base_body(file, model, self.moved.ids)
        self.tree: KinematicTree = read_tree(
            model, self.moved, self.site_ids, self.base_body, self._home_qpos
        )
        self.action_sets = self.tree.action_sets
        checks.check_action_sets(self.action_sets, self.joint_names, self.effector_names)
        checks.check_effector_points(model, self.effector_names, self.site_ids)
        self.reach = distances.reach(self.tree, self.joint_pos_limits)
        self.stop_distance, self.slow_distance = distances.stop_and_slow_distance(file, self.reach)
        self.pair_distances = distances.pair_distances(file, model, self.stop_distance)
        self._data = mujoco.MjData(model)

    @cached_property
    def sha256(self) -> str:
        """Digest of what a policy depends on: names, limits, rate and the kinematic tree."""
        parts = [
            self.name,
            self.base_frame,
            repr((self.joint_names, self.effector_names, round(self.control_rate, 6))),
            *(_digits(values) for values in self._limits),
            self.tree.digest(),
        ]
        if self.oriented.any():  # other robots keep the digest of earlier versions
            parts.append(repr(self.effector_goals))
            parts.append(_digits(self.effector_axes))
            parts.append(_digits(self.tree.effector_rotation[self.oriented]))
        return sha256("\n".join(parts).encode()).hexdigest()

    @property
    def _limits(self) -> tuple[NDArray[np.float64], ...]:
        return self.joint_pos_limits, self.joint_vel_limits, self.joint_acc_limits

    @property
    def is_slide(self) -> NDArray[np.bool_]:
        """Which of the controlled joints are slides, (nu,)."""
        slides: NDArray[np.bool_] = self.tree.is_slide[self.tree.controlled]
        return slides

    @property
    def shared_joints(self) -> tuple[str, ...]:
        """Joints that move more than one effector."""
        return tuple(
            n for n, k in zip(self.joint_names, self.action_sets.sum(0), strict=True) if k > 1
        )

    @cached_property
    def held_joints(self) -> tuple[HeldJoint, ...]:
        """Joints that controlled joints do not move, in the model's order."""
        return read_held_joints(
            self.model, self.moved.ids, self.base_body, self.site_ids, self._home_qpos
        )

    @cached_property
    def held_home(self) -> NDArray[np.float64]:
        """Values at which the other joints are held, (number of them,) [rad or m]."""
        return np.array([joint.value for joint in self.held_joints])

    def qpos(self, joint_pos: ArrayLike) -> NDArray[np.float64]:
        """Full configuration (..., model.nq) for controlled joints at joint_pos (..., nu) [rad or
        m].
        """
        joint_pos = np.asarray(joint_pos, dtype=np.float64)
        qpos = np.broadcast_to(self._home_qpos, (*joint_pos.shape[:-1], self.model.nq)).copy()
        self.write_qpos(qpos, joint_pos)
        return qpos

    def write_qpos(self, qpos: NDArray[np.float64], joint_pos: ArrayLike) -> None:
        """Write joint_pos (..., nu) [rad or m] into a full configuration (..., model.nq): the
        controlled joints and those that follow them.
        """
        qpos[..., self.moved.qpos_adr] = self.moved.positions(joint_pos)

    def forward_kinematics(self, joint_pos: ArrayLike) -> NDArray[np.float64]:
        """Effector positions (E, 3) [m, base frame] at joint_pos (nu,), by MuJoCo."""
        self._data.qpos[:] = self.qpos(joint_pos)
        mujoco.mj_kinematics(self.model, self._data)
        return self.effector_pos(self._data)

    def effector_pos(self, data: mujoco.MjData) -> NDArray[np.float64]:
        """Effector positions (E, 3) [m, base frame] in `data`, after mujoco.mj_kinematics."""
        rotation = data.xmat[self.base_body].reshape(3, 3)
        return (data.site_xpos[self.site_ids] - data.xpos[self.base_body]) @ rotation

    def effector_orientation(self, data: mujoco.MjData) -> NDArray[np.float64]:
        """Effector orientations (E, 4) [unit quaternion x y z w, base frame] in `data`, after
        mujoco.mj_kinematics.
        """
        base = data.xmat[self.base_body].reshape(3, 3)
        return quaternions(base.T @ data.site_xmat[self.site_ids].reshape(-1, 3, 3))

    def effector_poses(self, joint_pos: ArrayLike) -> tuple[NDArray[np.float64], ...]:
        """Effector positions (E, 3) [m] and orientations (E, 4) [unit quaternion x y z w], both in
        the base frame, at joint_pos (nu,), by MuJoCo.
        """
        self._data.qpos[:] = self.qpos(joint_pos)
        mujoco.mj_kinematics(self.model, self._data)
        return self.effector_pos(self._data), self.effector_orientation(self._data)

    def in_self_collision(self, joint_pos: ArrayLike) -> bool:
        """Whether geoms of the model touch at joint_pos (nu,)."""
        self._data.qpos[:] = self._home_qpos
        self.write_qpos(self._data.qpos, joint_pos)
        mujoco.mj_kinematics(self.model, self._data)
        mujoco.mj_collision(self.model, self._data)
        return bool(self._data.ncon)

    def spec(self) -> mujoco.MjSpec:
        """A copy of the specification of the robot's model, to be changed and compiled."""
        return self._spec.copy()

    def data_at_home(self, model: mujoco.MjModel | None = None) -> mujoco.MjData:
        """New simulation data at home, kinematics computed; of the robot's model, or a copy."""
        model = self.model if model is None else model
        data = mujoco.MjData(model)
        data.qpos[:] = self.qpos(self.home)
        mujoco.mj_kinematics(model, data)
        return data

    def proximity_model(self, distance: float) -> mujoco.MjModel:
        """A copy of the model that counts as contact what is nearer than `distance` [m]."""
        model = copy.copy(self.model)
        for margin in (model.geom_margin, model.body_margin, model.pair_margin):
            margin[:] = distance
        return model

    @cached_property
    def geom_movers(self) -> NDArray[np.int64]:
        """The moved joint (controlled, or a follower) that moves each geom last, or -1; (ngeom,).

        Two geoms that the same joint moves last keep their distance.
        """
        return last_movers(self.model, self.moved.ids)[self.model.geom_bodyid]

    def sample_configuration(self, rng: np.random.Generator, count: int) -> NDArray[np.float64]:
        """Draw (count, nu) configurations, uniform in the limits less a margin, none in self-
        collision.
        """
        low, high = self.joint_pos_limits.T
        margin = SAMPLING_MARGIN * (high - low)
        drawn = np.empty((count, len(low)))
        tries, index = 0, 0
        while index < count:
            candidate = rng.uniform(low + margin, high - margin)
            tries += 1
            if not self.in_self_collision(candidate):
                drawn[index] = candidate
                index += 1
            elif tries > 1000 and index < tries / 1000:
                sample = rng.uniform(low, high, (TOUCH_SAMPLES, len(low)))
                often = often_touching(self.model, self.qpos(sample))
                raise RobotError(
                    f"robot '{self.name}' collides with itself in almost every configuration; in "
                    f"most of them {often} touch: shrink their geoms, or write "
                    "those that may always touch as pairs under 'no_collision' in the robot.yaml"
                )
        return drawn

    def geom_label(self, geom: int) -> str:
        """How messages name a geom."""
        name = self.model.geom(geom).name
        if not name.startswith(UNNAMED_GEOM):
            return f"'{name}'"
        return f"a geom of body '{self.model.body(self.model.geom_bodyid[geom]).name}'"

    def simulation_model(self) -> mujoco.MjModel:
        """The robot as driven hardware: gravity compensated, a velocity servo per controlled joint.

        ctrl[:nu] are joint velocities [rad/s or m/s]; ctrl[nu:] hold the other joints (see
        held_home). The gain of a servo is set by the largest inertia of its joint, at home and in a
        fixed sample of configurations: that of a joint along a straight arm grows many times when
        the arm bends.
        """
        low, high = self.joint_pos_limits.T
        sample = np.random.default_rng(0).uniform(low, high, (INERTIA_SAMPLES, len(low)))
        try:
            return driven_model(
                self.spec(),
                self.model,
                self.moved,
                [self.model.joint(held.name).id for held in self.held_joints],
                [self.file.joints[name].effort for name in self.joint_names],
                self.qpos(np.vstack([self.home, sample])),
            )
        except RobotError:
            raise
        except ValueError as error:
            reason = " ".join(str(error).split())
            raise RobotError(f"robot '{self.name}' cannot be simulated: {reason}") from None

    def simulation_ctrl(self, joint_vel: ArrayLike) -> NDArray[np.float64]:
        """Controls (..., simulation model's nu) for joint_vel (..., nu) [rad/s or m/s]."""
        joint_vel = np.asarray(joint_vel, dtype=np.float64)
        held = np.broadcast_to(self.held_home, (*joint_vel.shape[:-1], len(self.held_joints)))
        return np.concatenate([joint_vel, held], axis=-1)


def _digits(values: NDArray[np.float64]) -> str:
    """Digits that do not depend on the print options of the program."""
    with np.printoptions(precision=8, suppress=False, linewidth=75, floatmode="maxprec", sign="-"):
        return np.array2string(np.round(values, 6) + 0.0, threshold=10**6)
