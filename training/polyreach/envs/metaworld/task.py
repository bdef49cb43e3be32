"""One Meta-World task (Yu et al., Meta-World, 2019; package metaworld 3.1.1), as the package steps
it. Training uses the variant of fast_task.py, which computes the same numbers.
"""

import importlib
from importlib.metadata import version
from typing import Any

import numpy as np
from numpy.typing import NDArray

from polyreach.errors import UserError

Array = NDArray[np.float64]

VERSION = "3.1.1"
OBS_SIZE = 39  # hand, gripper and two objects now (18) and one step before (18), goal (3)


def import_metaworld() -> Any:
    """The package metaworld. Raises UserError if it is not installed, or in another version."""
    install = f"pip install metaworld=={VERSION} packaging"
    try:
        package = importlib.import_module("metaworld")
    except ModuleNotFoundError as error:
        raise UserError(
            f"Meta-World needs the package '{error.name}', which is not installed: {install}"
        ) from error
    installed = version("metaworld")
    if installed != VERSION:
        raise UserError(
            f"metaworld {installed} is installed, but the methods replaced here are those of "
            f"{VERSION}: {install}"
        )
    return package


def make_task(name: str, reward: str) -> Any:
    """Task `name` of the package, with the goal in the observation.

    Raises UserError for a task that the package does not have.
    """
    plain = task_class(name)
    return with_goal(type(plain.__name__, (_Task, plain), {})(reward_function_version=reward))


def task_class(name: str) -> type:
    """The package's class of a task. Raises UserError for a task that the package does not have."""
    import_metaworld()
    classes: dict[str, type] = importlib.import_module("metaworld.env_dict").ALL_V3_ENVIRONMENTS
    if name not in classes:
        raise UserError(f"unknown Meta-World task '{name}' (there are: {', '.join(classes)})")
    return classes[name]


def with_goal(task: Any) -> Any:
    """`task` with the goal in its observation."""
    task._set_task_called = True
    task._partially_observable = False
    # a cached property, made for the hidden goal
    del task.sawyer_observation_space
    task.obs_low = task.sawyer_observation_space.low
    task.obs_high = task.sawyer_observation_space.high
    return task


class _Task:
    """The package's step, without what environments of polyreach do not use."""

    def step(self, action: NDArray[np.float32]) -> tuple[Array, float, bool]:
        """action: (4,) in [-1, 1]. Returns observation (39,), reward and success."""
        obs, reward, _, _, info = super().step(action)  # type: ignore[misc]
        return obs, float(reward), bool(info["success"])
