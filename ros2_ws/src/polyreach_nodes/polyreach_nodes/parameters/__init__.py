"""Parameters of the nodes: each is a field, which carries its default, range, unit and text.

From these classes come the declaration in ROS (ros/declare_parameters.py), the launch arguments
(launch_arguments.py), and the parameter files and tables of the documentation (parameter_docs.py).
Launch files read them too, so nothing here needs more than the standard library.
"""

from polyreach_nodes.parameters.controller import (
    NO_WORKSPACE,
    TIMEOUT_PERIODS,
    ControllerParameters,
    check_distances,
    check_workspace,
)
from polyreach_nodes.parameters.others import (
    COMMAND_PERIODS,
    MAX_COMMAND_TIMEOUT_S,
    MIN_STATE_RATE,
    MIN_STATES,
    DemoParameters,
    ReachParameters,
    SimParameters,
    ViewParameters,
    WatchdogParameters,
)
from polyreach_nodes.parameters.shared import (
    ANGLE_TOLERANCE,
    CommandInterface,
)

__all__ = [
    "ANGLE_TOLERANCE",
    "COMMAND_PERIODS",
    "MAX_COMMAND_TIMEOUT_S",
    "MIN_STATES",
    "MIN_STATE_RATE",
    "NO_WORKSPACE",
    "TIMEOUT_PERIODS",
    "CommandInterface",
    "ControllerParameters",
    "DemoParameters",
    "ReachParameters",
    "SimParameters",
    "ViewParameters",
    "WatchdogParameters",
    "check_distances",
    "check_workspace",
]
