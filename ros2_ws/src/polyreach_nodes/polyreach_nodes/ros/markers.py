"""What the controller shows in RViz and Foxglove: effectors, goals, obstacles, distances."""

import numpy as np
from builtin_interfaces.msg import Duration
from geometry_msgs.msg import Point
from numpy.typing import NDArray
from std_msgs.msg import ColorRGBA
from visualization_msgs.msg import Marker, MarkerArray

from polyreach_description import Robot
from polyreach_nodes.client.obstacles import SHOWN
from polyreach_nodes.client.status import error_text
from polyreach_nodes.control.obstacle import Obstacle
from polyreach_nodes.control.obstacle_markers import MARKER_TYPES
from polyreach_nodes.control.reach_control import ReachControl

MARKER_DIAMETER = 0.04  # [m]
AXIS_LENGTH, LINE_WIDTH = 0.1, 0.004  # [m]
OBSTACLE_OPACITY = 0.5
LIFETIME = Duration(nanosec=600_000_000)  # three times the period of the markers
Vector = NDArray[np.float64]
Colour = tuple[float, float, float]
GREY: Colour = (0.5, 0.5, 0.5)
MAGENTA: Colour = (0.9, 0.0, 0.7)
_COLOURS: tuple[Colour, ...] = (
    (0.12, 0.47, 0.71),
    (0.84, 0.15, 0.16),
    (0.17, 0.63, 0.17),
    (1.0, 0.5, 0.05),
    (0.58, 0.4, 0.74),
)


def markers(control: ReachControl) -> MarkerArray:
    """Effectors as spheres, their goals as larger translucent ones; for effectors whose goals have
    an orientation, the axes that count at both: the one of an `axis` in the effector's colour, x
    red, y green and z blue of a `pose`. The errors stand beside the goals, after "held" where the
    effector is held. Obstacles are grey. A magenta line shows the distance that slows the motion
    most, and the share of its speed.
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
    array.markers += _slowing_distance(control)
    return array


def _slowing_distance(control: ReachControl) -> list[Marker]:
    """A line between the two bodies that slow the motion most, with distance and speed."""
    pipeline, joint_pos = control.pipeline, control.joint_states.joint_pos
    if pipeline.slowed >= 1.0 or (ends := pipeline.proximity.slowing_points(joint_pos)) is None:
        return []
    robot, size = control.robot, MARKER_DIAMETER
    line = _marker(robot, "distances", 0, Marker.LINE_LIST, np.zeros(3), 2.0 * LINE_WIDTH, MAGENTA)
    line.points = [Point(x=x, y=y, z=z) for x, y, z in ends.tolist()]
    text = _marker(robot, "distances", 1, Marker.TEXT_VIEW_FACING, ends.mean(0), size, MAGENTA)
    text.pose.position.z += size
    distance = float(np.linalg.norm(ends[1] - ends[0]))
    text.text = f"{1e3 * distance:.0f} mm, {100 * pipeline.slowed:.0f} %"
    for marker in (line, text):
        marker.lifetime = LIFETIME
    return [line, text]


def _obstacle(robot: Robot, number: int, obstacle: Obstacle) -> Marker:
    """An obstacle, which disappears when it is no longer published."""
    kind, position = MARKER_TYPES[obstacle.shape], np.array(obstacle.position)
    marker = _marker(robot, SHOWN, number, kind, position, 0.0, GREY, OBSTACLE_OPACITY)
    marker.text = obstacle.name
    q, size = marker.pose.orientation, marker.scale
    q.x, q.y, q.z, q.w = obstacle.orientation
    size.x, size.y, size.z = obstacle.scale
    marker.lifetime = LIFETIME
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
