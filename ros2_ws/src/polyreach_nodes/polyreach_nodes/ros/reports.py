"""Messages that tell people and tools what the controller does: status, diagnostics, markers."""

import numpy as np
from diagnostic_msgs.msg import DiagnosticStatus, KeyValue
from numpy.typing import NDArray
from visualization_msgs.msg import Marker, MarkerArray

from polyreach_nodes.control.control import ReachControl
from polyreach_nodes.control.watchdog import State

LEVELS: dict[State, bytes] = {
    State.WAITING: DiagnosticStatus.WARN,
    State.IDLE: DiagnosticStatus.OK,
    State.ACTIVE: DiagnosticStatus.OK,
    State.BLOCKED: DiagnosticStatus.WARN,
    State.OSCILLATING: DiagnosticStatus.WARN,
    State.STALE: DiagnosticStatus.STALE,
    State.HALTED: DiagnosticStatus.WARN,
    State.FAULT: DiagnosticStatus.ERROR,
}
MARKER_DIAMETER = 0.04  # [m]
_COLOURS = (
    (0.12, 0.47, 0.71),
    (0.84, 0.15, 0.16),
    (0.17, 0.63, 0.17),
    (1.0, 0.5, 0.05),
    (0.58, 0.4, 0.74),
)


class TickStatistics:
    """Loop periods, compute times and ages of the joint state of the last `length` ticks [s]."""

    def __init__(self, length: int = 3000) -> None:
        self._length = length
        self._times = {name: np.zeros(length) for name in ("loop period", "compute", "state age")}
        self._count = 0
        self._last_s = -1.0

    def restart(self) -> None:
        """Forget all; the next tick starts the first period."""
        self._count, self._last_s = 0, -1.0

    def add(self, start_s: float, published_s: float, age_s: float) -> None:
        """Note a tick that started and published at these times, at this age of the state."""
        if self._last_s >= 0.0:
            index = self._count % self._length
            self._times["loop period"][index] = published_s - self._last_s
            self._times["compute"][index] = published_s - start_s
            self._times["state age"][index] = age_s
            self._count += 1
        self._last_s = published_s

    def values(self) -> dict[str, float]:
        """Quantiles in milliseconds by name; empty before the second tick.

        Ticks before the first joint state count for all but its age.
        """
        count = min(self._count, self._length)
        known = {
            name: times[:count][np.isfinite(times[:count])] for name, times in self._times.items()
        }
        return {
            f"{name} {label} [ms]": 1e3 * float(np.quantile(times, share, method="lower"))
            for name, times in known.items()
            if len(times)
            for label, share in (("p50", 0.5), ("p99", 0.99), ("max", 1.0))
        }


def plain_status(name: str, state: str, level: bytes, text: str = "") -> DiagnosticStatus:
    """Status of a controller that has no robot at work."""
    message = f"{state}: {text}" if text else state
    return DiagnosticStatus(
        level=level,
        name=name,
        hardware_id="",
        message=message,
        values=[KeyValue(key="state", value=state)],
    )


def with_goals(
    status: DiagnosticStatus, control: ReachControl, tolerance: float, sees: bool
) -> DiagnosticStatus:
    """The status with goal and error of every effector, goals it was sent, and what went wrong.

    sees: whether there is a valid joint state; without one there are no errors to tell.
    """
    robot = control.robot
    errors = np.linalg.norm(control.goals - control.effector_pos(), axis=-1)
    active = control.active > 0
    known = active & sees
    reached = bool(known.any() and (errors[known] <= tolerance).all())
    status.hardware_id = robot.name
    notes = {
        "rejected": control.rejected_goal,
        "expired": control.expired_goal,
        "slowed": control.slowed_reason,
    }
    for note in filter(None, notes.values()):
        status.message += f" ({note})"
        status.level = max(status.level, DiagnosticStatus.WARN)
    values = {
        "reached": str(reached).lower(),
        **notes,
        "no progress": control.progress.reason,
        "refused joint states": str(control.refused_states),
        "refused joint state": control.refused_state,
        "late joint states": str(control.late_states),
        "goal_timeout": f"{control.goal_timeout_s:g}",
        "policy compute max [ms]": f"{1e3 * control.policy.worst_compute_s:.3f}",
    }
    for index, effector in enumerate(robot.effector_names):
        goal = " ".join(f"{value:.6f}" for value in control.goals[index])
        values[f"goal/{effector}"] = goal if active[index] else ""
        values[f"heard/{effector}"] = str(control.goals_heard[effector])
        values[f"error/{effector}"] = f"{errors[index]:.6f}" if known[index] else ""
    status.values += [KeyValue(key=key, value=value) for key, value in values.items()]
    return status


def diagnostics_status(status: DiagnosticStatus, statistics: dict[str, float]) -> DiagnosticStatus:
    """The status together with loop and compute times."""
    times = [KeyValue(key=key, value=f"{value:.3f}") for key, value in statistics.items()]
    return DiagnosticStatus(
        level=status.level,
        name=status.name,
        hardware_id=status.hardware_id,
        message=status.message,
        values=[*status.values, *times],
    )


def markers(control: ReachControl) -> MarkerArray:
    """Effectors as spheres, their goals as larger translucent ones."""
    frame, effector_pos = control.robot.base_frame, control.effector_pos()
    array = MarkerArray()
    for index in range(len(effector_pos)):
        colour = _COLOURS[index % len(_COLOURS)]
        size = MARKER_DIAMETER
        effector = _sphere(frame, "effectors", index, effector_pos[index], size, (*colour, 1.0))
        goal = _sphere(frame, "goals", index, control.goals[index], 1.5 * size, (*colour, 0.4))
        goal.action = Marker.ADD if control.active[index] else Marker.DELETE
        array.markers += [effector, goal]
    return array


def _sphere(
    frame: str,
    namespace: str,
    number: int,
    position: NDArray[np.float64],
    diameter: float,
    colour: tuple[float, float, float, float],
) -> Marker:
    marker = Marker(ns=namespace, id=number, type=Marker.SPHERE, action=Marker.ADD)
    marker.header.frame_id = frame
    marker.pose.position.x, marker.pose.position.y, marker.pose.position.z = position.tolist()
    marker.pose.orientation.w = 1.0
    marker.scale.x = marker.scale.y = marker.scale.z = diameter
    marker.color.r, marker.color.g, marker.color.b, marker.color.a = colour
    return marker
