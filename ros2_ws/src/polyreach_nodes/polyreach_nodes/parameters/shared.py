"""Fields that parameters of several nodes have in common."""

import math
from enum import StrEnum
from typing import Any, Self

from polyreach_nodes.parameter_spec import parameter

ANGLE_TOLERANCE = 0.05  # [rad], default: 2.9 degrees


class CommandInterface(StrEnum):
    """What the controller commands, as the hardware takes it."""

    VELOCITY = "velocity"
    POSITION = "position"
    TRAJECTORY = "trajectory"

    @classmethod
    def of(cls, name: str) -> Self:
        """The interface of a name. Raises ValueError that lists the legal ones."""
        if name not in tuple(cls):
            raise ValueError(f"unknown command_interface '{name}' (legal: {', '.join(cls)})")
        return cls(name)

    def check_watchdog(self) -> None:
        """Raise ValueError where the command watchdog cannot be used: its zero is a velocity."""
        if self is not CommandInterface.VELOCITY:
            raise ValueError(
                f"the command watchdog relays velocities, not command_interface '{self}', whose "
                "commands end by themselves at a position: leave the watchdog out"
            )


def interface_parameter(**details: Any) -> str:
    """The field of a command interface; details: as of `parameter`."""
    text = (
        "What is commanded: velocity (topic commands), position (position_commands) or trajectory "
        "(joint_trajectory, of one or two points)."
    )
    choices = tuple(interface.value for interface in CommandInterface)
    return parameter(CommandInterface.VELOCITY.value, text, choices=choices, **details)


def robot_parameter(**details: Any) -> str:
    """The field of a robot; details: as of `parameter`."""
    text = "Shipped robot (planar8, humanoid27, dual7) or path of a robot.yaml."
    return parameter("planar8", text, **details)


def angle_tolerance_parameter(**details: Any) -> float:
    """The field of the largest angle of a goal that is reached; details: as of `parameter`."""
    text = "Angle below which a goal with an orientation counts as reached."
    return parameter(ANGLE_TOLERANCE, text, unit="rad", range=(1e-3, math.pi), **details)
