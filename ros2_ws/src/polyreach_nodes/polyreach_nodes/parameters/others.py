"""Parameters of the nodes around the controller: watchdog, simulator, demo, action server, page."""

from dataclasses import dataclass

from polyreach_nodes.parameter_spec import Settable, parameter
from polyreach_nodes.parameters.shared import (
    angle_tolerance_parameter,
    interface_parameter,
    robot_parameter,
)

COMMAND_PERIODS = 2.0  # default of the command watchdog's timeout, in control periods
MAX_COMMAND_TIMEOUT_S = 10.0
MIN_STATE_RATE = 125.0  # [Hz] of the simulator's joint states by default
MIN_STATES = 3  # joint states per control period by default; fewer might count as stale


@dataclass(frozen=True)
class WatchdogParameters:
    """Parameters of command_watchdog_node; it has no services, so they are given at start."""

    controller: str = parameter(
        "polyreach_controller",
        "Name of the controller whose commands pass.",
        settable=Settable.START,
    )
    velocity_limits: tuple[float, ...] = parameter(
        (),
        "Limits of every joint in the order of the commands; unset: those of the first message on "
        "the controller's ~/policy_metadata. Set them if other nodes can publish metadata.",
        unit="rad/s or m/s",
        settable=Settable.START,
        example="[1.0, 1.0]",
    )
    timeout: float = parameter(
        0.0,
        "Maximum time from a nonzero command to the next command, after which zero is published; "
        f"0: {COMMAND_PERIODS:g} control periods of the metadata. For a slow simulator, divide it "
        "by the real-time factor.",
        unit="s of wall time",
        range=(0.0, MAX_COMMAND_TIMEOUT_S),
        settable=Settable.START,
    )


@dataclass(frozen=True)
class SimParameters:
    """Parameters of sim_node."""

    robot: str = robot_parameter(settable=Settable.START, launch=True)
    command_interface: str = interface_parameter(settable=Settable.START, launch=True)
    rate_factor: float = parameter(
        1.0,
        "Simulated seconds per second of wall time; other than 1 needs use_sim_time everywhere.",
        range=(0.01, 100.0),
        settable=Settable.START,
        launch=True,
    )
    publish_rate: float = parameter(
        0.0,
        "Rate of joint_states; 0: the least multiple of the control rate that is at least "
        f"{MIN_STATE_RATE:g} Hz and {MIN_STATES} times the control rate.",
        unit="Hz of simulated time",
        range=(0.0, 5000.0),
        settable=Settable.START,
    )
    command_timeout: float = parameter(
        0.1,
        "Time without commands after which the joints stop, if these are velocities; positions and "
        "trajectories end by themselves.",
        unit="s of simulated time",
        range=(0.01, 10.0),
        settable=Settable.START,
    )


@dataclass(frozen=True)
class DemoParameters:
    """Parameters of demo_node."""

    robot: str = robot_parameter(settable=Settable.START, launch=True)
    controller: str = parameter(
        "polyreach_controller", "Name of the controller.", settable=Settable.START
    )
    seconds: float = parameter(
        60.0, "Time for all goals together.", unit="s", settable=Settable.START, launch=True
    )
    goal_sets: int = parameter(
        5, "Goal sets, each one goal per effector.", settable=Settable.START, launch=True
    )
    seed: int = parameter(0, "Seed of the goals.", settable=Settable.START, launch=True)
    tolerance: float = parameter(
        0.02,
        "Error below which a goal counts as reached.",
        unit="m",
        settable=Settable.START,
    )
    angle_tolerance: float = angle_tolerance_parameter(settable=Settable.START)
    picture: str = parameter(
        "", "Path of a PNG of the motion; empty: none.", settable=Settable.START, launch=True
    )
    json: str = parameter("", "Path of the result as JSON; empty: none.", settable=Settable.START)
    watchdog: bool = parameter(
        False,
        "Send the commands through the command watchdog, a separate process that publishes zero "
        "when they stop.",
        settable=Settable.START,
        launch=True,
    )
    live: bool = parameter(True, "Show errors and result on the terminal.", settable=Settable.START)


@dataclass(frozen=True)
class ReachParameters:
    """Parameters of reach_node."""

    controller: str = parameter(
        "polyreach_controller",
        "Name of the controller; the action is <controller>/reach.",
        settable=Settable.START,
    )
    tolerance: float = parameter(
        0.02, "Tolerance of action goals that set 0.", unit="m", range=(1e-4, 1.0)
    )
    angle_tolerance: float = angle_tolerance_parameter()
    timeout: float = parameter(
        30.0, "Timeout of action goals that set 0.", unit="s of wall time", range=(0.1, 3600.0)
    )
    settle_time: float = parameter(
        0.3,
        "Time for which all effectors must stay within the tolerance.",
        unit="s of wall time",
        range=(0.0, 10.0),
    )


@dataclass(frozen=True)
class ViewParameters:
    """Parameters of view_node."""

    robot: str = robot_parameter(settable=Settable.START)
    controller: str = parameter(
        "polyreach_controller", "Name of the controller.", settable=Settable.START
    )
    host: str = parameter(
        "127.0.0.1",
        "Address to listen on; anyone who can reach it can move the robot.",
        settable=Settable.START,
    )
    port: int = parameter(
        8080, "Port to listen on; 0: any free port.", range=(0, 65535), settable=Settable.START
    )
    goals: str = parameter(
        "by hand",
        "Who sets the goals at first: by hand, random goals or moving goals.",
        settable=Settable.START,
    )
    shadows: bool = parameter(
        True, "Draw shadows; false for a browser without a GPU.", settable=Settable.START
    )
