"""Messages of the controller about itself: status, diagnostics, markers."""

import numpy as np
from diagnostic_msgs.msg import DiagnosticStatus, KeyValue
from numpy.typing import NDArray
from visualization_msgs.msg import Marker, MarkerArray

from polyreach_nodes.client.status import ControllerStatus, EffectorStatus, encode
from polyreach_nodes.control.reach_control import ReachControl
from polyreach_nodes.control.watchdog import State

LEVELS: dict[str, bytes] = {
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
    """Status message of a controller that is not configured."""
    return DiagnosticStatus(
        level=level,
        name=name,
        message=f"{state}: {text}" if text else state,
        values=[KeyValue(key="state", value=state)],
    )


def controller_status(
    control: ReachControl,
    state: str,
    reason: str,
    tolerance: float,
    has_valid_state: bool,
    recording: str = "",
) -> ControllerStatus:
    """The status of a configured controller.

    reason: of the state, or ''; tolerance: [m] within which a goal is reached; has_valid_state:
    whether there is a valid joint state, without which there are no errors; recording: what is
    wrong with the recording, or ''.
    """
    goals, pipeline, joint_states = control.goals, control.pipeline, control.joint_states
    errors = np.linalg.norm(goals.positions - control.effector_pos(), axis=-1).tolist()
    effectors = {}
    for index, name in enumerate(control.robot.effector_names):
        active = bool(goals.active[index])
        effectors[name] = EffectorStatus(
            goal=tuple(goals.positions[index].tolist()) if active else None,
            error=errors[index] if active and has_valid_state else None,
            goals_received=goals.received[name],
        )
    known = [effector.error for effector in effectors.values() if effector.error is not None]
    notes = (goals.rejection, goals.expiry, pipeline.slowed_reason)
    message = f"{state}: {reason}" if reason else state
    return ControllerStatus(
        state=state,
        message=" ".join((message, *(f"({note})" for note in notes if note))),
        reached=bool(known) and max(known) <= tolerance,
        effectors=effectors,
        rejected=goals.rejection,
        rejected_effector=goals.rejected_effector,
        expired=goals.expiry,
        slowed=pipeline.slowed_reason,
        no_progress=pipeline.progress.reason,
        refused_joint_states=joint_states.refused_count,
        refused_joint_state=joint_states.refused_reason,
        late_joint_states=joint_states.late_count,
        goal_timeout_s=goals.timeout_s,
        compute_max_ms=1e3 * pipeline.policy.worst_compute_s,
        recording=recording,
    )


def status_message(name: str, robot: str, status: ControllerStatus) -> DiagnosticStatus:
    """The message of a status. Its level is that of the state, at least WARN if there is a reason.

    name: of the controller's node.
    """
    warn = DiagnosticStatus.OK if status.message == status.state else DiagnosticStatus.WARN
    return DiagnosticStatus(
        level=max(LEVELS.get(status.state, DiagnosticStatus.OK), warn),
        name=name,
        hardware_id=robot,
        message=status.message,
        values=[KeyValue(key=key, value=value) for key, value in encode(status).items()],
    )


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
        goal = _sphere(
            frame, "goals", index, control.goals.positions[index], 1.5 * size, (*colour, 0.4)
        )
        goal.action = Marker.ADD if control.goals.active[index] else Marker.DELETE
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
