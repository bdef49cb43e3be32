"""What the name of an environment means: the kinds of environments that there are."""

from importlib import import_module
from typing import Any

from polyreach.envs.env_spec import AnyEnvSpec, EnvSpec
from polyreach.envs.reach.spec import EffectorReachSpec, TaskReachSpec
from polyreach.errors import UserError
from polyreach_description import is_robot_file, list_robots

MODULES = (
    "metaworld.spec",
    "cheetahs",
    "legged.spec",
)
"""Modules of polyreach.envs, one for each kind of environments that are no robots; SPEC in each
describes it.
"""


def list_envs() -> dict[str, type[EnvSpec[Any, Any]]]:
    """Every environment that is not a robot, by name, and its kind."""
    specs: list[type[EnvSpec[Any, Any]]] = [
        import_module(f"polyreach.envs.{module}").SPEC for module in MODULES
    ]
    return {env: spec for spec in specs for env in spec.envs}


def is_env(word: str) -> bool:
    """Whether `word` is the name of an environment, or looks like the path of a robot.yaml."""
    return word in list_envs() or word in list_robots() or is_robot_file(word)


def find_env_spec(env: str, task_conditioned: bool) -> AnyEnvSpec:
    """The environments that `env` names, for a method that is or is not conditioned on the task.

    Raises UserError for a name that the method cannot have; a robot is read later.
    """
    envs, robots = list_envs(), f"{', '.join(list_robots())}, or the path of a robot.yaml"
    if task_conditioned and is_env(env):
        return envs.get(env, TaskReachSpec)(env)
    if task_conditioned:
        raise UserError(f"unknown environment '{env}' (legal: {', '.join(envs)}, {robots})")
    if env in envs:
        raise UserError(
            f"environment '{env}' is not a robot, and this method needs one (legal: {robots})"
        )
    spec: type[EnvSpec[Any, Any]] = EffectorReachSpec
    if not is_env(env):
        raise UserError(f"unknown robot '{env}' (legal: {robots})")
    return spec(env)
