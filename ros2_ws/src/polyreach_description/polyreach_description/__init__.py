"""Branched robots: MJCF or URDF models, and the `robot.yaml` that names what is controlled.

A name of `__all__` is imported when it is first used. Launch files and the command watchdog thus
read constants of this package without MuJoCo or NumPy, which their interpreter may lack.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from polyreach_description.config_file import RobotError
    from polyreach_description.home import HeldJoint
    from polyreach_description.kinematic_tree import KinematicTree
    from polyreach_description.robot import (
        Robot,
        is_robot_file,
        list_robots,
        load_robot,
        robot_file,
    )

__all__ = [
    "HeldJoint",
    "KinematicTree",
    "Robot",
    "RobotError",
    "is_robot_file",
    "list_robots",
    "load_robot",
    "robot_file",
]
_MODULES = {"RobotError": "config_file", "HeldJoint": "home", "KinematicTree": "kinematic_tree"}


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    module = import_module(f"{__name__}.{_MODULES.get(name, 'robot')}")
    globals()[name] = value = getattr(module, name)
    return value
