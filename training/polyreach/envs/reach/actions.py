"""What an action of a robot means: functions to the velocities that it commands."""

from collections.abc import Callable
from typing import Literal

from torch import Tensor

from polyreach.networks.actor_critic import blend_into_least_squares

ActionName = Literal["velocity", "configuration"]


def velocity(features: Tensor, action: Tensor) -> Tensor:
    """The action itself."""
    return action


ACTIONS: dict[ActionName, Callable[[Tensor, Tensor], Tensor]] = {
    "velocity": velocity,
    "configuration": blend_into_least_squares,
}
"""From features (B, F) and a policy's action (B, nu) to velocities (B, nu), in units of the
largest action.
"""
