"""Messages of the controller about itself: status, diagnostics, markers."""

import math

import numpy as np
from builtin_interfaces.msg import Duration
from diagnostic_msgs.msg import DiagnosticStatus, KeyValue
from geometry_msgs.msg import Point
from numpy.typing import NDArray
from std_msgs.msg import ColorRGBA
from visualization_msgs.msg import Marker, MarkerArray

from polyreach_description import Robot
from polyreach_nodes.client.obstacles import SHOWN
from polyreach_nodes.client.status import (
    ControllerStatus,
    EffectorStatus,
    encode,
    error_text,
)
from polyreach_nodes.control.obstacle import Obstacle
from polyreach_nodes.control.obstacle_markers import MARKER_TYPES
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
AXIS_LENGTH, LINE_WIDTH = 0.1, 0.004  # [m]
OBSTACLE_OPACITY = 0.5
OBSTACLE_LIFETIME_NS = 600_000_000  # three times the period of the markers
Vector = NDArray[np.float64]
Colour = tuple[float, float, float]
GREY: Colour = (0.5, 0.5, 0.5)
_COLOURS: tuple[Colour, ...] = (
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


def markers(control: ReachControl) -> MarkerArray:
    """Effectors as spheres, their goals as larger translucent ones; for effectors whose goals have
    an orientation, the axes that count at both: the one of an `axis` in the effector's colour, x
    red, y green and z blue of a `pose`. The errors stand beside the goals, after "held" where the
    effector is held. Obstacles are grey.
    """
    robot, goals = control.robot, control.goals
    joint_pos = control.joint_states.joint_pos
    positions, orientations = robot.effector_poses(joint_pos)
    distances, angles = goals.errors(joint_pos)
    array = MarkerArray()
    size = MARKER_DIAMETER
    for index, (position, goal) in enumerate(zip(positions, goals.positions, strict=True)):
        colour = _COLOURS[index % len(_COLOURS)]
        text = _marker(robot, "errors", index, Marker.TEXT_VIEW_FACING, goal, size, colour)
        text.pose.position.z += 2.0 * size
        text.text = error_text(distances[index], angles[index] if robot.oriented[index] else None)
        if index in goals.held:
            text.text = f"held: {text.text}"
        at_effector = [_marker(robot, "effectors", index, Marker.SPHERE, position, size, colour)]
        at_goal = [_marker(robot, "goals", index, Marker.SPHERE, goal, 1.5 * size, colour, 0.4)]
        at_goal.append(text)
        if robot.oriented[index]:
            turned, wanted = orientations[index], goals.orientations[index]
            at_effector.append(_axes(robot, "effector_axes", index, position, turned, colour, 1.0))
            at_goal.append(_axes(robot, "goal_axes", index, goal, wanted, colour, 0.5))
        for marker in at_goal:
            marker.action = Marker.ADD if goals.active[index] else Marker.DELETE
        array.markers += [*at_effector, *at_goal]
    array.markers += [_obstacle(robot, *numbered) for numbered in control.obstacles.by_slot.items()]
    return array


def _obstacle(robot: Robot, number: int, obstacle: Obstacle) -> Marker:
    """An obstacle, which disappears when it is no longer published."""
    kind, position = MARKER_TYPES[obstacle.shape], np.array(obstacle.position)
    marker = _marker(robot, SHOWN, number, kind, position, 0.0, GREY, OBSTACLE_OPACITY)
    marker.text = obstacle.name
    q, size = marker.pose.orientation, marker.scale
    q.x, q.y, q.z, q.w = obstacle.orientation
    size.x, size.y, size.z = obstacle.scale
    marker.lifetime = Duration(nanosec=OBSTACLE_LIFETIME_NS)
    return marker


def _axes(
    robot: Robot,
    namespace: str,
    number: int,
    position: Vector,
    orientation: Vector,
    colour: Colour,
    opacity: float,
) -> Marker:
    """The axes of an effector's frame that its goals align, from a position [m, base frame]."""
    lines = _marker(robot, namespace, number, Marker.LINE_LIST, position, LINE_WIDTH, colour)
    q = lines.pose.orientation
    q.x, q.y, q.z, q.w = orientation.tolist()
    all_of_them = robot.effector_goals[number] == "pose"
    for axis in np.eye(3) if all_of_them else robot.effector_axes[number : number + 1]:
        x, y, z = axis.tolist()
        end = Point(x=AXIS_LENGTH * x, y=AXIS_LENGTH * y, z=AXIS_LENGTH * z)
        lines.points += [Point(), end]
        lines.colors += [_rgba((x, y, z) if all_of_them else colour, opacity)] * 2
    return lines


def _marker(
    robot: Robot,
    namespace: str,
    number: int,
    kind: int,
    position: Vector,
    size: float,
    colour: Colour,
    opacity: float = 1.0,
) -> Marker:
    marker = Marker(ns=namespace, id=number, type=kind, action=Marker.ADD)
    marker.header.frame_id = robot.base_frame
    marker.pose.position.x, marker.pose.position.y, marker.pose.position.z = position.tolist()
    marker.pose.orientation.w = 1.0
    marker.scale.x = marker.scale.y = marker.scale.z = size
    marker.color = _rgba(colour, opacity)
    return marker


def _rgba(colour: Colour, opacity: float) -> ColorRGBA:
    red, green, blue = colour
    return ColorRGBA(r=red, g=green, b=blue, a=opacity)
