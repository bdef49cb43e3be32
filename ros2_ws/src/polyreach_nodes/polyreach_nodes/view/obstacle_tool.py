"""Obstacles of the page: events of browsers in, markers out, scene and panel up to date."""

import mujoco
import numpy as np
import viser
from numpy.typing import NDArray
from rclpy.node import Node

from polyreach_description import Robot
from polyreach_nodes.client.status import ControllerStatus
from polyreach_nodes.view.events import (
    AddObstacle,
    MoveObstacle,
    ObstacleEvent,
    Post,
    RemoveObstacle,
)
from polyreach_nodes.view.obstacle_link import ObstacleLink
from polyreach_nodes.view.obstacle_panel import ObstaclePanel
from polyreach_nodes.view.obstacle_scene import ObstacleScene
from polyreach_nodes.view.obstacles import OwnObstacles, free_place
from polyreach_nodes.view.scene import Scene
from polyreach_nodes.view.shapes import effector_samples

Vector = NDArray[np.float64]


class ObstacleTool:
    """Adds, moves and removes the page's own obstacles; shows these and all others."""

    def __init__(
        self,
        node: Node,
        server: viser.ViserServer,
        scene: Scene,
        robot: Robot,
        controller: str,
        post: Post,
    ) -> None:
        self.own = OwnObstacles(node.get_fully_qualified_name().strip("/"))
        self._robot = robot
        self._link = ObstacleLink(node, controller)
        self._scene = ObstacleScene(server, scene.base, scene.handle_size, post)
        self._panel = ObstaclePanel(server, post)
        self._viewer = scene.viewer
        self._reached = effector_samples(robot).reshape(-1, 3)  # [m, base frame]

    def handle(self, event: ObstacleEvent, data: mujoco.MjData) -> None:
        """Do what a browser requests; data: the robot as it is shown. Raises ValueError."""
        match event:
            case AddObstacle(shape, size):
                self.own.add(shape, size, self._free_place(size, data))
            case MoveObstacle(number, position, orientation):
                self.own.move(number, position, orientation)
            case RemoveObstacle(number):
                if (obstacle := self.own.remove(number)) is not None:
                    self._link.delete(obstacle)

    def _free_place(self, size: float, data: mujoco.MjData) -> Vector:
        """Where a new obstacle does not slow the robot that rests, (3,) [m, base frame]."""
        robot, listed = self._robot, self.own.by_number.values()
        origin, base = data.xpos[robot.base_body], data.xmat[robot.base_body].reshape(3, 3)
        bounded = robot.model.geom_rbound > 0.0  # without planes
        centres = [*((data.geom_xpos[bounded] - origin) @ base), *(o.position for o in listed)]
        radii = [*robot.model.geom_rbound[bounded], *(o.bounding_radius for o in listed)]
        clear = robot.slow_distance + np.sqrt(3.0) / 2.0 * size
        return free_place(
            self._reached,
            np.array(centres),
            np.array(radii),
            float(clear),
            robot.effector_pos(data),
            (self._viewer - origin) @ base,
        )

    def update(self, now_s: float, status: ControllerStatus) -> None:
        """Publish what is due at now_s [s, monotonic], and show what there is."""
        for obstacle in self.own.due(now_s):
            self._link.send(obstacle)
        own, present = self.own.by_number, self._link.present(status.obstacles)
        names = {obstacle.name for obstacle in own.values()}
        others = {name: obstacle for name, obstacle in present.items() if name not in names}
        self._scene.show_own(own, present)
        self._scene.show_others(others)
        self._panel.show(own, len(others), status.avoids_obstacles)
