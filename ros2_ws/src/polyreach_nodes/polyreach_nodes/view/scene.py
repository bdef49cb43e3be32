"""The three-dimensional part of the page: the robot, its effectors, goals with drag handles."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import viser
from numpy.typing import NDArray

from polyreach_description import Robot
from polyreach_nodes.view.events import Drag, Grab, Post
from polyreach_nodes.view.goals import GoalHandle
from polyreach_nodes.view.shapes import (
    Colour,
    effector_samples,
    first_camera,
    floor_height,
    free_axes,
    robot_shapes,
)

EFFECTOR_SHARE, GOAL_SHARE, HANDLE_SHARE = 0.009, 0.015, 0.1  # sizes, of the first view's height
AXIS_SHARE = 0.06  # length of an axis, of the first view's height
DIM, BRIGHT = 0.3, 0.85  # opacity of a goal that is off, or on
MOVED = 1e-5  # [m], and of a quaternion: smaller changes are not sent
CELL, SECTION = 0.1, 0.5  # [m] of the grid on the floor
FLOOR_COLOUR = (238, 240, 244)

Vector = NDArray[np.float64]


class Scene:
    """Draws one robot in all browsers; E effectors. Dragging a handle posts events."""

    def __init__(
        self,
        server: viser.ViserServer,
        robot: Robot,
        colours: Sequence[Colour],
        shadows: bool,
        post: Post,
    ) -> None:
        self._server = server
        self._post = post
        self.base = f"/robot/{robot.base_body}"  # name of the base frame
        samples = effector_samples(robot)
        camera = first_camera(robot, samples)
        self.viewer = camera.position  # (3,) of the first view [m, world frame]
        first = server.initial_camera
        first.position, first.look_at = camera.position, camera.look_at
        first.fov = camera.field_of_view
        distance = float(np.linalg.norm(camera.position - camera.look_at))
        self._height = 2 * distance * float(np.tan(camera.field_of_view / 2))  # [m] in view
        self.handle_size = HANDLE_SHARE * self._height  # [m]
        self._add_surroundings(floor_height(robot), shadows)
        self._bodies = [
            server.scene.add_frame(f"/robot/{body}", show_axes=False)
            for body in range(robot.model.nbody)
        ]
        self._poses = np.full((robot.model.nbody, 7), np.nan)
        self._add_robot(robot, colours)
        self._handles = [
            self._add_handle(index, name, axes, bool(robot.oriented[index]))
            for index, (name, axes) in enumerate(
                zip(robot.effector_names, free_axes(samples), strict=True)
            )
        ]
        self._add_axes(robot, colours)
        self._goals = [
            server.scene.add_icosphere(
                f"{handle.name}/goal",
                GOAL_SHARE * self._height,
                colour,
                opacity=DIM,
                cast_shadow=False,
            )
            for handle, colour in zip(self._handles, colours, strict=True)
        ]
        self._lines = [
            server.scene.add_line_segments(
                f"{self.base}/to_goal/{name}",
                np.zeros((1, 2, 3)),
                colour,
                thickness=2.0,
                thickness_units="screen",
                visible=False,
            )
            for name, colour in zip(robot.effector_names, colours, strict=True)
        ]
        self._ends = np.full((len(colours), 2, 3), np.nan)

    def _add_surroundings(self, floor: float, shadows: bool) -> None:
        scene = self._server.scene
        scene.add_grid(
            "/floor",
            infinite_grid=True,
            cell_size=CELL,
            section_size=SECTION,
            cell_color=(214, 218, 224),
            section_color=(176, 182, 192),
            plane_color=FLOOR_COLOUR,
            plane_opacity=1.0,
            shadow_opacity=0.25,
            fade_distance=4.0 * self._height,
            position=(0.0, 0.0, floor - 1e-3),
        )
        scene.configure_environment_map("studio", environment_intensity=0.55)
        scene.configure_default_lights(enabled=True, cast_shadow=shadows)

    def _add_robot(self, robot: Robot, colours: Sequence[Colour]) -> None:
        scene = self._server.scene
        for number, shape in enumerate(robot_shapes(robot)):
            scene.add_mesh_simple(
                f"{self._bodies[shape.body].name}/shape_{number}",
                shape.vertices,
                shape.faces,
                color=shape.colour,
                opacity=None if shape.opacity >= 1.0 else shape.opacity,
                flat_shading=shape.flat,
            )
        scene.add_frame(
            f"{self.base}/axes",
            axes_length=0.05 * self._height,
            axes_radius=0.0025 * self._height,
        )
        for name, site, colour in zip(robot.effector_names, robot.site_ids, colours, strict=True):
            body = self._bodies[robot.model.site_bodyid[site]].name
            scene.add_icosphere(
                f"{body}/effector_{name}",
                EFFECTOR_SHARE * self._height,
                colour,
                position=robot.model.site_pos[site],
            )

    def _add_axes(self, robot: Robot, colours: Sequence[Colour]) -> None:
        """The axes that goals align, at effectors and goals: one line, or a frame for a pose."""
        scene, length = self._server.scene, AXIS_SHARE * self._height
        for index in np.flatnonzero(robot.oriented).tolist():
            name, site = robot.effector_names[index], robot.site_ids[index]
            body = self._bodies[robot.model.site_bodyid[site]].name
            place = scene.add_frame(
                f"{body}/effector_axes_{name}",
                show_axes=False,
                position=robot.model.site_pos[site],
                wxyz=robot.model.site_quat[site],
            )
            for parent in (place.name, f"{self._handles[index].name}/goal_axes"):
                if robot.effector_goals[index] == "pose":
                    scene.add_frame(f"{parent}/pose", axes_length=length, axes_radius=0.03 * length)
                    continue
                ends = np.stack([np.zeros(3), length * robot.effector_axes[index]])
                scene.add_line_segments(
                    f"{parent}/axis",
                    ends[None].astype(np.float32),
                    colours[index],
                    thickness=4.0,
                    thickness_units="screen",
                )

    def _add_handle(
        self, index: int, name: str, axes: NDArray[np.bool_], oriented: bool
    ) -> viser.TransformControlsHandle:
        handle = self._server.scene.add_transform_controls(
            f"{self.base}/goals/{name}",
            scale=self.handle_size,
            disable_rotations=not oriented,
            active_axes=(bool(axes[0]), bool(axes[1]), bool(axes[2])),
            depth_test=False,
        )
        handle.on_update(partial(self._on_drag, index))
        return handle

    async def _on_drag(self, index: int, event: Any) -> None:
        client = -1 if event.client_id is None else event.client_id
        if event.phase == "update":
            if (pose := pose_of(event.target)) is not None:
                self._post(Drag(index, *pose))
        else:
            self._post(Grab(index, client, dragging=event.phase == "start"))

    def show_robot(self, poses: Vector) -> None:
        """Move the bodies to poses (nbody, 7) [m, unit quaternion w x y z; world frame]."""
        moved = ~(np.abs(poses - self._poses) < MOVED)
        with self._server.atomic():
            for body in np.flatnonzero(moved.any(axis=1)):
                frame = self._bodies[body]
                if moved[body, :3].any():
                    frame.position = poses[body, :3]
                if moved[body, 3:].any():
                    frame.wxyz = poses[body, 3:]
                self._poses[body] = poses[body]

    def show_goals(self, handles: Sequence[GoalHandle], effector_pos: Vector) -> None:
        """Show the goals, and lines to them from effector_pos (E, 3) [m, base frame]."""
        ends = np.stack([effector_pos, [handle.position for handle in handles]], axis=1)
        moved = ~(np.abs(ends - self._ends) < MOVED).all(axis=(1, 2))
        for index, handle in enumerate(handles):
            if not handle.dragged:
                self._handles[index].position = handle.position
                if handle.oriented:
                    self._handles[index].wxyz = np.roll(handle.orientation, 1)
            opacity = BRIGHT if handle.on else DIM
            if self._goals[index].opacity != opacity:
                self._goals[index].opacity = opacity
            line = self._lines[index]
            if handle.on and moved[index]:
                line.points = ends[index : index + 1].astype(np.float32)
                self._ends[index] = ends[index]
            line.visible = handle.on


def pose_of(handle: Any) -> tuple[Vector, Vector] | None:
    """Position (3,) [m] and orientation (4,) [unit quaternion x y z w] of a handle; None if it is
    not a pose: a browser may send anything.
    """
    position = np.array(handle.position, dtype=np.float64)
    w_x_y_z = np.array(handle.wxyz, dtype=np.float64)
    shapes = position.shape == (3,) and w_x_y_z.shape == (4,)
    if not (shapes and np.isfinite([*position, *w_x_y_z]).all() and w_x_y_z.any()):
        return None
    return position, np.roll(w_x_y_z, -1) / np.linalg.norm(w_x_y_z)
