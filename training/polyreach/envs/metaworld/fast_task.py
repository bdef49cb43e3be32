"""The tasks of task.py, stepped faster, with the same numbers.

The package's own classes compute every observation, reward and success. What is replaced around
them: look-ups by name, observations built from many small arrays, tolerance functions and rotations
that pass a float through array code, contacts examined one by one, and forces that nobody reads.
The package's functions are bound to faster versions of the modules they use.
"""

import importlib
import inspect
import math
from collections.abc import Callable
from functools import cached_property
from types import FunctionType, SimpleNamespace
from typing import Any

import mujoco
import numpy as np
from numpy.typing import NDArray

from polyreach.envs.metaworld.task import OBS_SIZE, Array, task_class, with_goal

FRAME_SIZE = 18
GRIPPER_OPEN = 0.1  # [m], finger distance of an observed opening of 1


def make_fast_task(name: str, reward: str) -> Any:
    """Task `name` as make_task returns it, but faster.

    Raises UserError for a task that the package does not have.
    """
    plain = task_class(name)
    rebound = type(plain.__name__, (plain,), _rebind(plain))
    return with_goal(type(plain.__name__, (_FastTask, rebound), {})(reward_function_version=reward))


class _Positions(dict[str, Array]):
    """Positions (3,) [m] of bodies or of sites by name; they follow the simulation."""

    def __init__(self, find: Callable[[str], Any]) -> None:
        super().__init__()
        self._find = find

    def __missing__(self, name: str) -> Array:
        self[name] = self._find(name).xpos
        return self[name]


class _FastTask:
    """The methods of the package's base class that every step goes through."""

    model: Any
    data: Any
    _prev_obs: Array

    @cached_property
    def _bodies(self) -> _Positions:
        return _Positions(self.data.body)

    @cached_property
    def _sites(self) -> _Positions:
        return _Positions(self.data.site)

    def get_body_com(self, name: str) -> Array:
        """Position of a body (3,) [m]; it follows the simulation."""
        return self._bodies[name]

    def _get_site_pos(self, name: str) -> Array:
        return self._sites[name].copy()

    def get_endeff_pos(self) -> Array:
        """Position of the hand (3,) [m]; it follows the simulation."""
        return self._bodies["hand"]

    @property
    def tcp_center(self) -> Array:
        """Middle of the two fingers (3,) [m]."""
        return (self._sites["rightEndEffector"] + self._sites["leftEndEffector"]) / 2.0

    def touching_object(self, object_geom_id: int) -> bool:
        """Whether both pads of the gripper press on a geom."""
        contact = self.data.contact
        pairs = contact.geom  # (contacts, 2)
        on_object = (pairs == object_geom_id).any(axis=1)
        if not on_object.any():
            return False
        for pad in ("leftpad_geom", "rightpad_geom"):
            on_pad = (pairs == self.data.geom(pad).id).any(axis=1)
            if not self.data.efc_force[contact.efc_address[on_object & on_pad]].sum() > 0:
                return False
        return True

    def _get_curr_obs_combined_no_goal(self) -> Array:
        frame = np.zeros(FRAME_SIZE)
        frame[:3] = self._bodies["hand"]
        gap = self._bodies["rightclaw"] - self._bodies["leftclaw"]
        frame[3] = min(max(math.sqrt(gap.dot(gap)) / GRIPPER_OPEN, 0.0), 1.0)
        pos, quat = self._get_pos_objects(), self._get_quat_objects()  # type: ignore[attr-defined]
        for k in range(len(pos) // 3):
            frame[4 + 7 * k : 7 + 7 * k] = pos[3 * k : 3 * k + 3]
            frame[7 + 7 * k : 11 + 7 * k] = quat[4 * k : 4 * k + 4]
        return frame

    def _get_obs(self) -> Array:
        obs = np.empty(OBS_SIZE)
        obs[FRAME_SIZE : 2 * FRAME_SIZE] = self._prev_obs
        self._prev_obs = self._get_curr_obs_combined_no_goal()
        obs[:FRAME_SIZE] = self._prev_obs
        obs[2 * FRAME_SIZE :] = self._get_pos_goal()  # type: ignore[attr-defined]
        return obs

    def step(self, action: NDArray[np.float32]) -> tuple[Array, float, bool]:
        """action: (4,) in [-1, 1]. Returns observation (39,), reward and success."""
        env: Any = self
        data = self.data
        target = data.mocap_pos[0] + action[:3] * env.action_scale
        data.mocap_pos[0] = np.minimum(np.maximum(target, env.mocap_low), env.mocap_high)
        data.mocap_quat[0] = (1.0, 0.0, 1.0, 0.0)
        data.ctrl[0], data.ctrl[1] = action[3], -action[3]
        mujoco.mj_step(self.model, data, nstep=env.frame_skip)
        # poses at the end of the step; the next step starts its solver from this one's forces
        mujoco.mj_forward(self.model, data)
        env.curr_path_length += 1
        obs = np.minimum(np.maximum(self._get_obs(), env.obs_low), env.obs_high)
        reward, info = env.evaluate_state(obs, action)
        return obs, float(reward), bool(info["success"])


def _rebind(plain: type) -> dict[str, FunctionType]:
    """The package's methods of `plain`, with np, Rotation and reward_utils replaced."""
    replacements = {"np": _NUMPY, "Rotation": _Rotation, "reward_utils": _reward_utils()}
    methods: dict[str, FunctionType] = {}
    for name in dir(plain):
        method = inspect.getattr_static(plain, name)
        if not isinstance(method, FunctionType) or not method.__module__.startswith("metaworld."):
            continue
        closure = dict(zip(method.__code__.co_freevars, method.__closure__ or (), strict=True))
        if set(closure) == {"func"}:
            # a decorator that asks at every call whether the goal has been set
            method = closure["func"].cell_contents
        elif closure:
            continue
        replaced = {key: new for key, new in replacements.items() if key in method.__globals__}
        copy = FunctionType(
            method.__code__, {**method.__globals__, **replaced}, name, method.__defaults__
        )
        copy.__kwdefaults__ = method.__kwdefaults__
        methods[name] = copy
    return methods


def _norm(x: Any, ord: Any = None, axis: Any = None, keepdims: bool = False) -> Any:
    if type(x) is np.ndarray and x.ndim == 1 and ord in (None, 2) and axis is None and not keepdims:
        return np.sqrt(x.dot(x))
    return np.linalg.norm(x, ord, axis, keepdims)


class _Numpy(SimpleNamespace):
    """numpy with another norm."""

    def __getattr__(self, name: str) -> Any:
        return getattr(np, name)  # what numpy itself loads when it is first asked for


_NUMPY = _Numpy(**{**vars(np), "linalg": SimpleNamespace(**{**vars(np.linalg), "norm": _norm})})


def _reward_utils() -> SimpleNamespace:
    plain = importlib.import_module("metaworld.utils.reward_utils")

    def tolerance(
        x: Any,
        bounds: tuple[float, float] = (0.0, 0.0),
        margin: float = 0.0,
        sigmoid: str = "gaussian",
        value_at_margin: float = 0.1,
    ) -> Any:
        low, high = bounds
        if not isinstance(x, float) or low > high or margin < 0:
            return plain.tolerance(x, bounds, margin, sigmoid, value_at_margin)
        if low <= x <= high:
            return 1.0
        if margin == 0:
            return 0.0
        d = float(low - x if x < low else x - high) / float(margin)
        if sigmoid == "long_tail":
            # 1 / ((s d)^2 + 1), s^2 = 1 / v - 1
            return 1.0 / ((d * math.sqrt(1.0 / value_at_margin - 1.0)) ** 2 + 1.0)
        return float(plain._sigmoids(np.float64(d), value_at_margin, sigmoid))

    return SimpleNamespace(**{**vars(plain), "tolerance": tolerance})


class _Rotation:
    """Quaternion (x, y, z, w) of a rotation matrix; Markley, Unit quaternion from rotation matrix,
    2008.
    """

    def __init__(self, quat: Array) -> None:
        self._quat = quat

    @staticmethod
    def from_matrix(matrix: Array) -> "_Rotation":
        """matrix: (3, 3), orthogonal, as MuJoCo's are."""
        (a, b, c), (d, e, f), (g, h, i) = matrix.tolist()
        trace = a + e + i
        # row k of 4 q_k q, for the q_k that is largest
        largest = max(a, e, i, trace)
        if a == largest:
            x, y, z, w = 1 - trace + 2 * a, d + b, g + c, h - f
        elif e == largest:
            x, y, z, w = d + b, 1 - trace + 2 * e, h + f, c - g
        elif i == largest:
            x, y, z, w = g + c, h + f, 1 - trace + 2 * i, d - b
        else:
            x, y, z, w = h - f, c - g, d - b, 1 + trace
        norm = math.sqrt(x * x + y * y + z * z + w * w)
        return _Rotation(np.array((x / norm, y / norm, z / norm, w / norm)))

    def as_quat(self) -> Array:
        """(4,)."""
        return self._quat
