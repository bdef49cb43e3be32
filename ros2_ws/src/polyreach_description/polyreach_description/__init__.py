"""Branched robots: MJCF or URDF models, and the `robot.yaml` that names what is controlled."""

from polyreach_description.config_file import RobotError
from polyreach_description.kinematic_tree import KinematicTree
from polyreach_description.robot import (
    HeldJoint,
    Robot,
    is_robot_file,
    list_robots,
    load_robot,
)

__all__ = [
    "HeldJoint",
    "KinematicTree",
    "Robot",
    "RobotError",
    "is_robot_file",
    "list_robots",
    "load_robot",
]
