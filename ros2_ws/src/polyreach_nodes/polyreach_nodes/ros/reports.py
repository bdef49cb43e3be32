"""Messages of the controller about itself: status and diagnostics."""

import math

import numpy as np
from diagnostic_msgs.msg import DiagnosticStatus, KeyValue

from polyreach_nodes.client.status import (
    ControllerStatus,
    EffectorStatus,
    encode,
)
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
    has_valid_state: bool,
    recording: str = "",
    description: str = "",
) -> ControllerStatus:
    """The status of a configured controller.

    reason: of the state, or ''; has_valid_state: whether there is a valid joint state, without
    which there are no errors; recording: what is wrong with the recording, or ''; description: how
    robot_description differs from the model, or ''.
    """
    goals, pipeline, joint_states = control.goals, control.pipeline, control.joint_states
    distances, angles = goals.errors(joint_states.joint_pos)
    effectors = {}
    for index, name in enumerate(control.robot.effector_names):
        active, oriented = bool(goals.active[index]), bool(goals.oriented[index])
        has_error = has_valid_state and index not in goals.not_followed
        framed = goals.framed.get(index)
        effectors[name] = EffectorStatus(
            goal=tuple(goals.positions[index].tolist()) if active else None,
            goal_orientation=tuple(goals.orientations[index].tolist()) if oriented else None,
            error=float(distances[index]) if active and has_error else None,
            angle_deg=math.degrees(angles[index]) if oriented and has_error else None,
            goals_received=goals.received[name],
            frame=framed.frame if framed else "",
            goal_in_frame=(framed.position, framed.orientation) if framed else None,
            held=index in goals.held,
        )
    progress = pipeline.progress
    within = (distances <= progress.tolerance) & (angles <= progress.angle_tolerance)
    known = has_valid_state and goals.any_active and not goals.not_followed
    reached = known and bool(within[goals.active > 0].all())
    not_followed = "; ".join(goals.not_followed.values())
    obstacles = control.obstacles
    notes = [
        goals.rejection,
        not_followed,
        goals.twists.notes,
        control.jog.note,
        goals.expiry,
        obstacles.refusal,
        pipeline.slowed_reason,
    ]
    notes += [description] if description != reason else []
    message = f"{state}: {reason}" if reason else state
    return ControllerStatus(
        state=state,
        message=" ".join((message, *(f"({note})" for note in notes if note))),
        reached=reached,
        effectors=effectors,
        rejected=goals.rejection,
        rejected_effector=goals.rejected_effector,
        not_followed=not_followed,
        expired=goals.expiry,
        twists=goals.twists.notes,
        joint_jog=control.jog.note,
        slowed=pipeline.slowed_reason,
        no_progress=progress.reason,
        refused_joint_states=joint_states.refused_count,
        refused_joint_state=joint_states.refused_reason,
        late_joint_states=joint_states.late_count,
        obstacles=len(obstacles),
        avoids_obstacles=pipeline.policy.takes_obstacles,
        refused_obstacles=obstacles.refusal,
        goal_timeout_s=goals.timeout_s,
        compute_max_ms=1e3 * pipeline.policy.worst_compute_s,
        recording=recording,
        description=description,
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
