"""Parameters of controller_node, and the checks of values that belong together."""

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, Self

from polyreach_description.limits import REACTION_PERIODS
from polyreach_nodes.parameter_spec import Settable, parameter, specs
from polyreach_nodes.parameters.shared import (
    CommandInterface,
    angle_tolerance_parameter,
    interface_parameter,
    robot_parameter,
)

TIMEOUT_PERIODS = 1.5  # default age limit of the joint state, in control periods
NO_WORKSPACE = (-100.0, -100.0, -100.0, 100.0, 100.0, 100.0)  # [m]
DESCRIPTION_CHECKS = ("off", "warn", "refuse")
LEAST_PERIODS = 0.5  # control periods that a time in `periods` must have: sampling takes as long


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
