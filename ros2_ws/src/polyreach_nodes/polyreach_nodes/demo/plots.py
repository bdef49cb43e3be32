"""Plot of a demo: robot at start and end of every goal set, paths of the effectors, goals."""

from collections.abc import Sequence
from pathlib import Path

import mujoco
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from polyreach_description import Robot
from polyreach_description.orientation import matrices
from polyreach_nodes.demo.result import DemoResult

MAX_SETS = 6  # goal sets shown
PANEL, LEGEND = 3.9, 0.9  # [inch]
AXIS_LENGTH = 0.08  # [m]
AXIS_COLOURS = ("#d62728", "#2ca02c", "#1f77b4")  # x, y, z
LINK_COLOUR, START_COLOUR = "#3c4048", "#c9ccd3"
EFFECTOR_COLOURS = ("#1f77b4", "#d62728", "#2ca02c", "#ff7f0e", "#9467bd", "#8c564b")

Points = NDArray[np.float64]
View = tuple[int, int, str]
TOP: tuple[View, ...] = ((0, 1, "from above"),)
FRONT_AND_SIDE: tuple[View, ...] = ((1, 2, "from the front"), (0, 2, "from the side"))


def draw_motion(
    path: Path,
    robot: Robot,
    joint_paths: Sequence[Points],
    goal_sets: Points,
    orientations: Points,
    result: DemoResult,
) -> None:
    """Write a PNG of joint_paths, per goal set (T, nu) [rad or m], to goal_sets (S, E, 3) [m] with
    orientations (S, E, 4) [unit quaternion x y z w].
    """
    shown = min(len(joint_paths), MAX_SETS)
    views = TOP if _is_planar(robot) else FRONT_AND_SIDE
    columns = min(shown, 3) if len(views) == 1 else shown
    rows = -(-shown // columns) * len(views)
    figure = Figure(figsize=(PANEL * columns, PANEL * rows + LEGEND))
    axes = figure.subplots(rows, columns, squeeze=False)
    turned = matrices(orientations)  # (S, E, 3, 3)
    centre, half = _extent(robot, joint_paths[:shown], goal_sets[:shown])
    for axis in axes.flat[shown * len(views) :]:
        axis.set_visible(False)
    for number in range(shown):
        for row, view in enumerate(views):
            axis = axes[row, number] if len(views) > 1 else axes.flat[number]
            _draw_set(axis, robot, joint_paths[number], goal_sets[number], view)
            _draw_axes(axis, robot, joint_paths[number], goal_sets[number], turned[number], view)
            axis.set_xlim(centre[view[0]] - half, centre[view[0]] + half)
            axis.set_ylim(centre[view[1]] - half, centre[view[1]] + half)
            if row == 0:
                worst = f"{max(result.errors_mm[number]):.1f} mm"
                if robot.oriented.any():
                    worst += f", {max(result.angles_deg[number]):.1f} deg"
                axis.set_title(f"goal set {number + 1}: worst error {worst}", fontsize=10)
    handles = [Line2D([], [], color=START_COLOUR, linewidth=4, label="start")]
    handles.append(Line2D([], [], color=LINK_COLOUR, linewidth=4, label="end"))
    for index, effector in enumerate(robot.effector_names):
        colour = EFFECTOR_COLOURS[index % len(EFFECTOR_COLOURS)]
        handles.append(Line2D([], [], color=colour, linewidth=1.8, label=effector))
    handles.append(Line2D([], [], color="black", marker="x", linestyle="none", label="goal"))
    figure.suptitle(f"{robot.name}: {result.line()}", fontsize=11)
    figure.legend(
        handles=handles, loc="lower center", ncols=len(handles), frameon=False, fontsize=9
    )
    figure.tight_layout(rect=(0, 0.5 * LEGEND / (PANEL * rows + LEGEND), 1, 1))
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=130)


def _extent(robot: Robot, joint_paths: Sequence[Points], goal_sets: Points) -> tuple[Points, float]:
    """Centre (3,) and half width [m] of the cube that holds everything that is drawn."""
    ends = [
        link
        for path in joint_paths
        for joint_pos in (path[0], path[-1])
        for link in _links(robot, joint_pos)
    ]
    traces = [_trace(robot, path) for path in joint_paths]
    points = np.concatenate([goal_sets.reshape(-1, 3), *ends, *traces])
    low, high = points.min(axis=0), points.max(axis=0)
    return (low + high) / 2, 0.56 * float((high - low).max())


def _draw_set(axis: Axes, robot: Robot, joint_path: Points, goals: Points, view: View) -> None:
    u, v, name = view
    for joint_pos, colour, width in (
        (joint_path[0], START_COLOUR, 3.0),
        (joint_path[-1], LINK_COLOUR, 3.5),
    ):
        for link in _links(robot, joint_pos):
            axis.plot(
                link[:, u],
                link[:, v],
                color=colour,
                linewidth=width,
                solid_capstyle="round",
                zorder=2,
            )
            axis.plot(
                link[:1, u],
                link[:1, v],
                "o",
                color="white",
                markeredgecolor=colour,
                markersize=4,
                zorder=3,
            )
    trace = _trace(robot, joint_path).reshape(len(joint_path), -1, 3)
    for index in range(trace.shape[1]):
        colour = EFFECTOR_COLOURS[index % len(EFFECTOR_COLOURS)]
        axis.plot(trace[:, index, u], trace[:, index, v], color=colour, linewidth=1.6, zorder=4)
        axis.plot(
            trace[-1, index, u], trace[-1, index, v], "o", color=colour, markersize=6, zorder=5
        )
        axis.plot(
            goals[index, u],
            goals[index, v],
            "x",
            color=colour,
            markersize=11,
            markeredgewidth=2.2,
            zorder=6,
        )
    axis.set_aspect("equal", adjustable="box")
    axis.grid(color="#e8e8ec", linewidth=0.7)
    axis.set_axisbelow(True)
    axis.spines[["top", "right"]].set_visible(False)
    axis.tick_params(labelsize=8)
    axis.set_xlabel(f"{'xyz'[u]} [m], {name}", fontsize=8)
    axis.set_ylabel(f"{'xyz'[v]} [m]", fontsize=8)


def _draw_axes(
    axis: Axes, robot: Robot, joint_path: Points, goals: Points, turned: Points, view: View
) -> None:
    """The axes that goals align, of the goals dashed, of the effectors at the end solid.

    goals: (E, 3) [m]; turned: (E, 3, 3) rotation matrices.
    """
    u, v, _ = view
    positions, orientations = robot.effector_poses(joint_path[-1])
    for index in np.flatnonzero(robot.oriented):
        pose = robot.effector_goals[index] == "pose"
        axes = np.eye(3) if pose else robot.effector_axes[index : index + 1]
        own = EFFECTOR_COLOURS[index % len(EFFECTOR_COLOURS)]
        for place, matrix, style in (
            (goals[index], turned[index], ":"),
            (positions[index], matrices(orientations[index]), "-"),
        ):
            for direction, colour in zip(axes, AXIS_COLOURS if pose else (own,), strict=True):
                ends = np.stack([place, place + AXIS_LENGTH * matrix @ direction])
                axis.plot(ends[:, u], ends[:, v], style, color=colour, linewidth=1.4, zorder=7)


def _trace(robot: Robot, joint_path: Points) -> Points:
    """Effector positions (T E, 3) [m, base frame] along a path (T, nu)."""
    return np.concatenate([robot.forward_kinematics(joint_pos) for joint_pos in joint_path])


def _links(robot: Robot, joint_pos: Points) -> list[Points]:
    """Segments (2, 3) [m, base frame] from every body to its parent and its effector sites."""
    data = mujoco.MjData(robot.model)
    data.qpos[:] = robot.qpos(joint_pos)
    mujoco.mj_kinematics(robot.model, data)
    segments = [
        np.stack([data.xpos[parent], data.xpos[body]])
        for body, parent in enumerate(robot.model.body_parentid)
        if body and parent and not np.allclose(data.xpos[parent], data.xpos[body])
    ]
    bodies = robot.model.site_bodyid[robot.site_ids]
    segments += [
        np.stack([data.xpos[body], data.site_xpos[site]])
        for body, site in zip(bodies, robot.site_ids, strict=True)
    ]
    rotation = data.xmat[robot.base_body].reshape(3, 3)
    return [(segment - data.xpos[robot.base_body]) @ rotation for segment in segments]


def _is_planar(robot: Robot) -> bool:
    """Whether every joint turns about the vertical."""
    return not robot.tree.is_slide.any() and bool(np.allclose(np.abs(robot.tree.axis[:, 2]), 1.0))
