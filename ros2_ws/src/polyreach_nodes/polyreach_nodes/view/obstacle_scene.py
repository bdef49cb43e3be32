"""Obstacles in the three-dimensional part of the page: translucent, the page's own with handles."""

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
import viser

from polyreach_nodes.control.obstacle import Obstacle, Point, Shape
from polyreach_nodes.view.events import MoveObstacle, Post
from polyreach_nodes.view.scene import pose_of
from polyreach_nodes.view.shapes import Colour

OWN_COLOUR, OTHER_COLOUR = (219, 39, 119), (107, 114, 128)
DIM, BRIGHT = 0.2, 0.5  # opacity of one that the controller does not have, and of one that it has
HANDLE_REACH = 1.6  # length of a handle's arrows, of the obstacle's radius

Drawn = tuple[Obstacle, viser.SceneNodeHandle]


class ObstacleScene:
    """Draws obstacles in all browsers. Dragging the handle of an own one posts events."""

    def __init__(
        self, server: viser.ViserServer, base: str, least_handle: float, post: Post
    ) -> None:
        """base: name of the base frame in the scene. least_handle: size of a handle [m]."""
        self._server = server
        self._base = f"{base}/obstacles"
        self._least_handle = least_handle
        self._post = post
        self._count = 0  # of names: a name that was removed is not used again
        self._own: dict[int, tuple[viser.TransformControlsHandle, Any]] = {}
        self._others: dict[str, Drawn] = {}

    def show_own(self, own: Mapping[int, Obstacle], present: Mapping[str, Obstacle]) -> None:
        """Show the page's obstacles by number, those bright that are present."""
        for number in self._own.keys() - own.keys():
            for node in reversed(self._own.pop(number)):
                node.remove()
        for number, obstacle in own.items():
            if number not in self._own:
                self._own[number] = self._add_own(number, obstacle)
            surface = self._own[number][1]
            opacity = BRIGHT if obstacle.name in present else DIM
            if surface.opacity != opacity:
                surface.opacity = opacity

    def show_others(self, others: Mapping[str, Obstacle]) -> None:
        """Show obstacles that cannot be dragged, by name."""
        for name, (drawn, node) in list(self._others.items()):
            other = others.get(name)
            if other is None or _form(other) != _form(drawn):
                node.remove()
                del self._others[name]
        for name, obstacle in others.items():
            if name not in self._others:
                node = self._add_surface(self._name(), obstacle, OTHER_COLOUR, BRIGHT)
            else:
                drawn, node = self._others[name]
                if obstacle == drawn:
                    continue
            node.position, node.wxyz = obstacle.position, np.roll(obstacle.orientation, 1)
            self._others[name] = obstacle, node

    def _name(self) -> str:
        self._count += 1
        return f"{self._base}/{self._count}"

    def _add_own(
        self, number: int, obstacle: Obstacle
    ) -> tuple[viser.TransformControlsHandle, Any]:
        handle = self._server.scene.add_transform_controls(
            self._name(),
            scale=max(self._least_handle, HANDLE_REACH * obstacle.bounding_radius),
            disable_rotations=obstacle.shape is Shape.SPHERE,
            depth_test=False,
            position=obstacle.position,
            wxyz=np.roll(obstacle.orientation, 1),
        )
        handle.on_update(partial(self._on_drag, number))
        return handle, self._add_surface(f"{handle.name}/surface", obstacle, OWN_COLOUR, DIM)

    def _add_surface(self, name: str, obstacle: Obstacle, colour: Colour, opacity: float) -> Any:
        scene, size = self._server.scene, obstacle.size
        options: dict[str, Any] = {"opacity": opacity, "cast_shadow": False}
        match obstacle.shape:
            case Shape.SPHERE:
                return scene.add_icosphere(name, size[0], colour, **options)
            case Shape.CYLINDER:
                return scene.add_cylinder(name, size[0], 2.0 * size[1], colour, **options)
        return scene.add_box(name, colour, obstacle.scale, **options)

    async def _on_drag(self, number: int, event: Any) -> None:
        if event.phase == "update" and (pose := pose_of(event.target)) is not None:
            self._post(MoveObstacle(number, *pose))


def _form(obstacle: Obstacle) -> tuple[Shape, Point]:
    return obstacle.shape, obstacle.size
