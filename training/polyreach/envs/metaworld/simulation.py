"""One simulation of a Meta-World task, which any number of environments play in turns.

A model takes 35 MB, the state of an episode 5 kB: so environments of one task share a model, and a
state is put in place before it is stepped. That is also how an episode starts, and how it resumes.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import mujoco
import numpy as np
from numpy.typing import NDArray

from polyreach.envs.metaworld.fast_task import make_fast_task
from polyreach.envs.metaworld.task import Array

GOALS = 50
GOAL_SEED = 0
INTEGRATION = int(mujoco.mjtState.mjSTATE_INTEGRATION)


class Transition(NamedTuple):
    """What one step gave."""

    obs: Array  # (39,)
    reward: float
    success: bool


@dataclass
class _Episode:
    """Everything that the rest of an episode depends on."""

    goal: int
    physics: Array  # MuJoCo's integration state: qpos, qvel, warm start, mocap, controls, time
    body_pos: Array  # resets move bodies and sites of the model
    site_pos: Array
    attributes: dict[str, Any]  # of the Python object: initial positions, last frame, counters

    def copy(self) -> "_Episode":
        """Share no array but those that look into the simulation."""
        return _Episode(
            self.goal,
            self.physics.copy(),
            self.body_pos.copy(),
            self.site_pos.copy(),
            _copy(self.attributes),
        )


class Simulation:
    """Task `name`, its 50 goals, and the episodes that its environments are in.

    The goals are those of metaworld.MT1(name, seed=0).train_tasks, in that order, so that a task
    has the same goals in every set of tasks; `goals` (50, k) holds them as that package encodes
    them (positions of the object and of the goal, k depends on the task). An episode starts in the
    state in which the package's reset leaves a new environment with this goal.
    """

    def __init__(self, name: str, reward: str) -> None:
        self._env = make_fast_task(name, reward)
        self._new = self._capture(-1)
        self.goals = self._draw_goals()
        self._starts: dict[int, tuple[Array, _Episode]] = {}
        self._episodes: dict[int, _Episode] = {}
        self._playing = -1

    def start(self, environment: int, goal: int) -> Array:
        """Begin an episode with goal `goal`; returns the observation (39,)."""
        self._put_away()
        obs, start = self._start(goal)
        self._episodes[environment] = start.copy()
        self._play(environment)
        return obs.copy()

    def step(self, environment: int, action: NDArray[np.float32]) -> Transition:
        """action: (4,) in [-1, 1]."""
        if self._playing != environment:
            self._put_away()
            self._play(environment)
        return Transition(*self._env.step(action))

    def state(self, environment: int) -> dict[str, Any]:
        """The episode that `environment` is in, in numbers and arrays."""
        self._put_away()
        self._playing = -1
        episode = self._episodes[environment]
        start = self._start(episode.goal)[1].attributes
        changed = {
            name: value
            for name, value in _copy(episode.attributes).items()
            if name not in start or not _same(value, start[name])
        }
        looking_in = [k for k, v in changed.items() if isinstance(v, np.ndarray) and _is_view(v)]
        assert not looking_in, f"views into the simulation cannot be saved: {looking_in}"
        return {**vars(episode.copy()), "attributes": changed}

    def load_state(self, environment: int, state: dict[str, Any]) -> None:
        """Put `environment` into the episode that `state` returned, of this or another object."""
        self._put_away()
        self._playing = -1
        start = self._start(state["goal"])[1]
        attributes = {**start.attributes, **state["attributes"]}
        self._episodes[environment] = _Episode(**{**state, "attributes": attributes}).copy()

    def _draw_goals(self) -> Array:
        env = self._env
        before = np.random.get_state()  # noqa: NPY002
        # the package draws goals from NumPy's global generator
        np.random.seed(GOAL_SEED)  # noqa: NPY002
        env._freeze_rand_vec = False
        # draws do not depend on where the hand is, so it need not be moved there
        env._reset_hand = lambda steps=50: setattr(env, "init_tcp", env.tcp_center)
        goals = []
        for _ in range(GOALS):
            env.reset()
            goals.append(env._last_rand_vec.copy())
        np.random.set_state(before)  # noqa: NPY002
        return np.array(goals)

    def _start(self, goal: int) -> tuple[Array, _Episode]:
        if goal not in self._starts:
            env = self._env
            self._install(self._new.copy())
            env._last_rand_vec = self.goals[goal].copy()

            def stay(steps: int = 50) -> None:
                # the package places objects twice; only the second time does the hand's way matter
                del env._reset_hand
                env.init_tcp = env.tcp_center

            env._reset_hand = stay
            obs, _ = env.reset()
            self._starts[goal] = obs, self._capture(goal)
        return self._starts[goal]

    def _play(self, environment: int) -> None:
        self._install(self._episodes[environment])
        self._playing = environment

    def _put_away(self) -> None:
        if self._playing >= 0:
            self._episodes[self._playing] = self._capture(self._episodes[self._playing].goal)

    def _capture(self, goal: int) -> _Episode:
        model, data = self._env.model, self._env.data
        physics = np.empty(mujoco.mj_stateSize(model, INTEGRATION))
        mujoco.mj_getState(model, data, physics, INTEGRATION)
        attributes = dict(vars(self._env))
        return _Episode(goal, physics, model.body_pos.copy(), model.site_pos.copy(), attributes)

    def _install(self, episode: _Episode) -> None:
        attributes = vars(self._env)
        attributes.clear()
        attributes.update(episode.attributes)
        model = self._env.model
        model.body_pos[:] = episode.body_pos
        model.site_pos[:] = episode.site_pos
        mujoco.mj_setState(model, self._env.data, episode.physics, INTEGRATION)


def _is_view(array: NDArray[Any]) -> bool:
    """Whether an array looks into MuJoCo's memory, as the package's `init_left_pad` does."""
    base: Any = array
    while isinstance(base, np.ndarray):
        base = base.base
    return base is not None and not isinstance(base, bytes)


def _copy(attributes: dict[str, Any]) -> dict[str, Any]:
    return {
        name: value.copy() if isinstance(value, np.ndarray) and not _is_view(value) else value
        for name, value in attributes.items()
    }


def _same(one: Any, other: Any) -> bool:
    if one is other:
        return True
    if not isinstance(one, np.ndarray):
        return type(one) is type(other) and bool(one == other)
    if (
        type(other) is not np.ndarray
        or one.dtype != other.dtype
        or _is_view(one) != _is_view(other)
    ):
        return False
    if _is_view(one):
        return bool(one.__array_interface__["data"] == other.__array_interface__["data"])
    return np.array_equal(one, other)
