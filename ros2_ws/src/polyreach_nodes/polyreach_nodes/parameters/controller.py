"""Parameters of the nodes: each is a field, which carries its default, range, unit and text.

From these classes come the declaration in ROS (ros/declare_parameters.py), the launch arguments
(launch_arguments.py), and the parameter files and tables of the documentation (parameter_docs.py).
Launch files read them too, so nothing here needs more than the standard library.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any, Self

from polyreach_description.limits import REACTION_PERIODS
from polyreach_nodes.parameter_spec import Settable, parameter, specs

TIMEOUT_PERIODS = 1.5  # default age limit of the joint state, in control periods
COMMAND_PERIODS = 2.0  # default of the command watchdog's timeout, in control periods
MAX_COMMAND_TIMEOUT_S = 10.0
ANGLE_TOLERANCE = 0.05  # [rad], default: 2.9 degrees
NO_WORKSPACE = (-100.0, -100.0, -100.0, 100.0, 100.0, 100.0)  # [m]
MIN_STATE_RATE = 125.0  # [Hz] of the simulator's joint states by default
MIN_STATES = 3  # joint states per control period by default; fewer might count as stale
DESCRIPTION_CHECKS = ("off", "warn", "refuse")
LEAST_PERIODS = 0.5  # control periods that a time in `periods` must have: sampling takes as long


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


@dataclass(frozen=True)
class ControllerParameters:
    """Parameters of controller_node."""

    robot: str = robot_parameter(settable=Settable.UNCONFIGURED, launch=True)
    policy: str = parameter(
        "",
        "Path of a policy file (.onnx); empty: the shipped models/<robot>-apg.onnx.",
        settable=Settable.INACTIVE,
        launch=True,
    )
    command_interface: str = interface_parameter(settable=Settable.UNCONFIGURED, launch=True)
    autostart: bool = parameter(
        False,
        "Configure and activate the controller at start.",
        settable=Settable.START,
        launch=True,
        launch_default="true",
    )
    joint_state_timeout: float = parameter(
        0.0,
        "Age of the joint state at which zero is published at once; 0: "
        f"{TIMEOUT_PERIODS:g} control periods, so that the stop comes within two periods after "
        "joint states end. For a slow simulator, divide it by the real-time factor.",
        unit="s of wall time",
        range=(0.0, 5.0),
        periods=TIMEOUT_PERIODS,
    )
    tolerance: float = parameter(
        0.02, "Error below which a goal counts as reached.", unit="m", range=(1e-4, 1.0)
    )
    angle_tolerance: float = angle_tolerance_parameter()
    speed_scale: float = parameter(
        1.0,
        "Share of the policy's speed that is commanded. First motions of hardware: 0.1.",
        range=(0.0, 1.0),
        launch=True,
    )
    reaction_time: float = parameter(
        0.0,
        "Time from a command until the joints follow it, for braking before limits, walls and the "
        f"robot's own bodies; 0: {REACTION_PERIODS:g} control periods.",
        unit="s",
        range=(0.0, 1.0),
        periods=REACTION_PERIODS,
    )
    collision_slow_distance: float = parameter(
        0.0,
        "Distance between two bodies of the robot, or a body and an obstacle, below which their "
        "approach slows; 0: that of the robot.yaml.",
        unit="m",
        range=(0.0, 1.0),
    )
    collision_stop_distance: float = parameter(
        0.0,
        "Distance between two bodies of the robot, or a body and an obstacle, at which their "
        "approach stops; 0: that of the robot.yaml. Pairs of bodies with a smaller distance there "
        "keep it.",
        unit="m",
        range=(0.0, 1.0),
    )
    workspace: tuple[float, ...] = parameter(
        NO_WORKSPACE,
        "Box of goals and effectors: lowest x, y, z, then highest x, y, z. Goals outside are "
        "rejected, and effectors stop at the walls.",
        unit="m, base frame",
        example="[-1.0, -1.0, 0.0, 1.0, 1.0, 1.5]",
    )
    goal_timeout: float = parameter(
        0.0,
        "Time after which a goal that is not sent again is dropped; 0: never.",
        unit="s of wall time",
        range=(0.0, 3600.0),
    )
    predict_goals: bool = parameter(
        True,
        "Estimate the velocity of goals that are sent at 5 to 200 Hz, and lead effectors to where "
        "the goal is between two messages.",
    )
    twist_timeout: float = parameter(
        0.2,
        "Time after which a twist or a joint jog that is not sent again ends, and goal or joints "
        "stand still.",
        unit="s of wall time",
        range=(0.01, 2.0),
    )
    twist_linear_limit: float = parameter(
        0.25, "Speed to which faster twists are scaled.", unit="m/s", range=(1e-3, 10.0)
    )
    twist_angular_limit: float = parameter(
        1.0, "Angular speed to which faster twists are scaled.", unit="rad/s", range=(1e-3, 10.0)
    )
    use_tf: bool = parameter(
        False,
        "Take goals in any frame of TF, not only in those of the robot; needs tf2_ros.",
        settable=Settable.UNCONFIGURED,
    )
    follow_frame: bool = parameter(
        False,
        "Goals in a frame of TF follow it; by default they stay where it was at their stamp. Goals "
        "in a frame of the robot always follow it.",
    )
    transform_timeout: float = parameter(
        0.5,
        "Age at which the latest transform of TF is too old for a goal; 0: never.",
        unit="s",
        range=(0.0, 3600.0),
    )
    following_timeout: float = parameter(
        2.0,
        "Time for which a joint may fail to track its command before that is a fault; discovery of "
        "a robot that has just started may take as long. 0: no limit.",
        unit="s",
        range=(0.0, 60.0),
    )
    outage_timeout: float = parameter(
        0.5,
        "Time without valid joint states after which motion waits for ~/resume; 0: motion always "
        "continues by itself.",
        unit="s of wall time",
        range=(0.0, 3600.0),
    )
    outage_keeps_goals: bool = parameter(
        False,
        "Keep the goals in an outage longer than outage_timeout; by default they are dropped.",
    )
    progress_timeout: float = parameter(
        5.0,
        "Time at full speed without progress of any effector towards its goal, after which the "
        "state is BLOCKED or OSCILLATING; 0: never.",
        unit="s",
        range=(0.0, 60.0),
    )
    description_check: str = parameter(
        "warn",
        "What happens if the URDF on `robot_description` differs from the robot's model: off, warn "
        "(in the status and in /diagnostics) or refuse (no motion before it is received and "
        "agrees).",
        settable=Settable.INACTIVE,
    )
    record_folder: str = parameter(
        "", "Folder of all recordings; empty: recording is off.", settable=Settable.START
    )
    record: str = parameter(
        "",
        "Name of a new .mcap file in record_folder, which records observation and action of every "
        "period; a new file starts every hour. Empty: no recording.",
    )

    def check(self) -> None:
        """Raise ValueError for values that contradict each other."""
        if self.collision_slow_distance and self.collision_stop_distance:
            check_distances(self.collision_slow_distance, self.collision_stop_distance)
        check_workspace(self.workspace)
        if self.description_check not in DESCRIPTION_CHECKS:
            raise ValueError(
                f"description_check is '{self.description_check}', but must be one of "
                f"{', '.join(DESCRIPTION_CHECKS)}"
            )
        CommandInterface.of(self.command_interface)

    def in_seconds(self, period_s: float) -> Self:
        """The same, with times of 0 replaced by their number of control periods of period_s [s].

        Raises ValueError for a time of less than half a control period.
        """
        least_s = LEAST_PERIODS * period_s
        times: dict[str, Any] = {}
        for spec in specs(type(self)):
            if spec.periods:
                time_s = getattr(self, spec.name) or spec.periods * period_s
                if not time_s >= least_s:
                    raise ValueError(
                        f"{spec.name} is {time_s:g}, but must be 0 or at least {least_s:g} [s]"
                    )
                times[spec.name] = time_s
        return replace(self, **times)

    def with_distances(self, slow_distance: float, stop_distance: float) -> Self:
        """The same, with distances of 0 replaced by these of a robot [m].

        Raises ValueError unless 0 < stop < slow then.
        """
        slow = self.collision_slow_distance or slow_distance
        stop = self.collision_stop_distance or stop_distance
        check_distances(slow, stop)
        return replace(self, collision_slow_distance=slow, collision_stop_distance=stop)


def check_distances(slow_distance: float, stop_distance: float) -> None:
    """Raise ValueError unless 0 < stop_distance < slow_distance [m]."""
    if not 0.0 < stop_distance < slow_distance < math.inf:
        raise ValueError(
            f"collision_stop_distance is {stop_distance:g} and collision_slow_distance is "
            f"{slow_distance:g}, but they must be 0 < stop < slow [m]"
        )


def check_workspace(workspace: Iterable[float]) -> None:
    """Raise ValueError unless these are the lowest, then the highest x, y and z of a box [m]."""
    box = [float(value) for value in workspace]
    finite = len(box) == 6 and all(map(math.isfinite, box))
    if not finite or any(low >= high for low, high in zip(box[:3], box[3:], strict=True)):
        raise ValueError(
            f"workspace is {box}, but must be six numbers: x, y, z lowest, then x, y, z highest "
            "[m, base frame], each lowest < highest"
        )


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
