"""Node `polyreach_view`: serves a page that shows the robot and goals to drag."""

import sys
from importlib.util import find_spec
from pathlib import Path
from queue import Empty, SimpleQueue
from time import monotonic

import mujoco
import numpy as np
from numpy.typing import NDArray
from rclpy.clock import Clock, ClockType
from rclpy.node import Node
from sensor_msgs.msg import JointState

from polyreach_description import load_robot
from polyreach_description.closed_output import outlast_output
from polyreach_description.orientation import orientation_errors
from polyreach_description.policy_search import DEFAULT_METHOD, list_policies
from polyreach_nodes.client.status import ControllerStatus
from polyreach_nodes.client.topics import NEWEST, clear_goal_service
from polyreach_nodes.control.watchdog import MOVING_STATES, State
from polyreach_nodes.parameters import ViewParameters
from polyreach_nodes.ros.declare_parameters import declare_parameters
from polyreach_nodes.ros.spin import run_node
from polyreach_nodes.view.events import (
    AddObstacle,
    Choose,
    Drag,
    Event,
    Grab,
    MoveObstacle,
    Press,
    RemoveObstacle,
    Speed,
    Switch,
    UsePolicy,
)
from polyreach_nodes.view.goals import GoalHandle
from polyreach_nodes.view.joints import JointPositions
from polyreach_nodes.view.link import SILENCE_S, PageLink
from polyreach_nodes.view.program import BY_HAND, GoalProgram
from polyreach_nodes.view.shapes import effector_colours

GOING = (State.IDLE, *MOVING_STATES)  # in which a controller goes to goals
FRAME_S = 1.0 / 30.0  # [s] between two updates of the scene
PANEL_S = 0.2  # [s] between two updates of the panel
MISSING = "the page needs viser, which is not installed: pip install 'viser>=1.1,<1.2'"

Vector = NDArray[np.float64]


class ViewNode(Node):
    """Connects the page, whose threads post events, to the controller, in the thread of ROS."""

    def __init__(self) -> None:
        super().__init__("polyreach_view")
        if find_spec("viser") is None:
            raise RuntimeError(MISSING)
        from polyreach_nodes.view.obstacle_tool import ObstacleTool
        from polyreach_nodes.view.panel import Panel
        from polyreach_nodes.view.scene import Scene
        from polyreach_nodes.view.server import PageServer, listen

        parameters = declare_parameters(self, ViewParameters)
        robot, host = load_robot(parameters.robot), parameters.host
        self.robot = robot
        self._data = mujoco.MjData(robot.model)
        self._drawn_qpos = np.full(robot.model.nq, np.nan)
        self._positions, self._orientations = robot.effector_poses(robot.home)  # of effectors
        self._handles = [
            GoalHandle(effector, oriented)
            for effector, oriented in zip(
                robot.effector_names, robot.oriented.tolist(), strict=True
            )
        ]
        self._program = GoalProgram(robot)
        self._policies = {
            path.stem.removeprefix(f"{robot.name}-"): path
            for path in list_policies()
            if path.stem.startswith(f"{robot.name}-")
        }
        self._status = ControllerStatus()
        self._panel_s = -np.inf
        self._events: SimpleQueue[Event] = SimpleQueue()
        self._wake = self.create_guard_condition(self._on_events)
        self._link = PageLink(self, robot.effector_names, robot.base_frame, parameters.controller)
        self._joints = JointPositions(robot)
        self.create_subscription(JointState, "joint_states", self._on_joint_state, NEWEST)
        colours = effector_colours(robot)
        self._server = PageServer(listen(host, parameters.port), f"polyreach: {robot.name}")
        self._scene = Scene(self._server, robot, colours, parameters.shadows, self._post)
        self._panel = Panel(
            self._server,
            robot.effector_names,
            colours,
            robot.base_frame,
            self._post,
            bool(robot.oriented.any()),
            tuple(self._policies),
        )
        self._obstacles = ObstacleTool(
            self, self._server, self._scene, robot, parameters.controller, self._post
        )
        self._program.start(parameters.goals, robot.home)
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self.create_timer(FRAME_S, self._on_frame, clock=steady)
        name = f"[{host}]" if ":" in host else host
        print(f"polyreach view: http://{name}:{self._server.get_port()}", flush=True)
        if not self._server.loopback:
            self.get_logger().warning(
                f"listening on {host}: anyone who can reach it can move the robot"
            )

    def close(self) -> None:
        """End the server and free its port."""
        self._server.stop()

    def _post(self, event: Event) -> None:
        """Queue an event for the thread of ROS; called in threads of the server."""
        self._events.put(event)
        self._wake.trigger()

    def _on_joint_state(self, message: JointState) -> None:
        self._joints.take(message.name, message.position, monotonic())

    def _on_events(self) -> None:
        while True:
            try:
                event = self._events.get_nowait()
            except Empty:
                break
            try:
                self._handle(event)
            except (TypeError, ValueError) as error:  # no request of a browser ends the page
                self.get_logger().error(f"{event} cannot be done: {error}")
        self._send_goals(monotonic())

    def _handle(self, event: Event) -> None:
        match event:
            case Grab(effector, client, dragging):
                handle = self._handles[effector]
                handle.grab(client) if dragging else handle.release(client)
                self._start(BY_HAND)
            case Drag(effector, position, orientation):
                self._handles[effector].drag(position, orientation)
            case Switch(effector, True):
                self._start(BY_HAND)
                self._handles[effector].switch_on()
            case Switch(effector, False):
                self._start(BY_HAND)
                self._handles[effector].switch_off(monotonic())
                self._link.call(clear_goal_service(self._handles[effector].effector))
            case Press(name):
                self._start(BY_HAND)  # whoever resumes expects no other goals
                self._link.call(name)
            case Speed(scale):
                self._link.set_speed(scale)
            case Choose(program):
                self._start(program)
            case AddObstacle() | MoveObstacle() | RemoveObstacle():
                self._obstacles.handle(event, self._data)
            case UsePolicy(method) if method in self._policies:
                self._link.use_policy(str(self._policies[method]))

    def _start(self, program: str) -> None:
        if program != BY_HAND or self._program.kind != BY_HAND:
            self._program.start(program, self._joints.qpos[self.robot.qpos_adr])

    def _send_goals(self, now_s: float) -> None:
        for handle in self._handles:
            if (pose := handle.due(now_s)) is not None:
                self._link.send_goal(handle.effector, pose)

    def _follow_program(self, now_s: float) -> None:
        may_move = self._link.state()[0] in GOING
        goals = self._program.update(now_s, may_move, (self._positions, self._orientations))
        if goals is not None:
            for handle, position, orientation in zip(self._handles, *goals, strict=True):
                handle.drag(position, orientation)

    def _on_frame(self) -> None:
        now_s = monotonic()
        self._follow_program(now_s)
        self._send_goals(now_s)
        self._link.update()
        self._take_status(now_s)
        self._move()
        poses = zip(self._positions, self._orientations, strict=True)
        for handle, (position, orientation) in zip(self._handles, poses, strict=True):
            handle.follow(position, orientation)
        self._scene.show_goals(self._handles, self._positions)
        self._obstacles.update(now_s, self._status)
        if now_s - self._panel_s >= PANEL_S - FRAME_S / 2:
            self._panel_s = now_s
            self._show_figures(now_s)

    def _take_status(self, now_s: float) -> None:
        if (status := self._link.status) is self._status:
            return
        self._status = status
        for handle in self._handles:
            is_rejected = status.rejected_effector == handle.effector
            handle.update(status.effector(handle.effector), is_rejected, now_s)

    def _move(self) -> None:
        qpos = self._joints.qpos
        if np.array_equal(qpos, self._drawn_qpos):
            return
        self._drawn_qpos = qpos.copy()
        data = self._data
        data.qpos[:] = qpos
        mujoco.mj_kinematics(self.robot.model, data)
        self._positions = self.robot.effector_pos(data)
        self._orientations = self.robot.effector_orientation(data)
        self._scene.show_robot(np.concatenate([data.xpos, data.xquat], axis=1))

    def _show_figures(self, now_s: float) -> None:
        silent_s = now_s - self._joints.received_s
        known = [handle.goal is not None and silent_s < SILENCE_S for handle in self._handles]
        errors = [
            float(np.linalg.norm(position - handle.goal)) if is_known else np.nan
            for handle, position, is_known in zip(
                self._handles, self._positions, known, strict=True
            )
        ]
        robot, goals = self.robot, [handle.goal_orientation for handle in self._handles]
        angles = orientation_errors(
            robot.effector_goals, robot.effector_axes, self._orientations, goals
        )
        angles[~(robot.oriented & known)] = np.nan
        status = self._status
        notes = [self._link.failure, status.rejected, status.refused_obstacles, status.slowed]
        if silent_s > SILENCE_S:
            notes.append("no joint states: the page shows the last position of the robot")
        state, reason = self._link.state()
        self._panel.show_state(state, reason, [note for note in notes if note not in reason])
        self._panel.show_goals(
            [handle.on for handle in self._handles],
            [status.effector(handle.effector).held for handle in self._handles],
            [handle.goal for handle in self._handles],
            errors,
            angles.tolist(),
        )
        self._panel.show_program(self._program.kind, self._program.score.line())
        if (policy := self._link.policy) is not None:
            default = f"{self.robot.name}-{DEFAULT_METHOD}"
            stem = Path(policy).stem if policy else default
            self._panel.show_method(stem.removeprefix(f"{self.robot.name}-"))
        self._panel.plot(now_s, errors)
        self._panel.show_timing(self._link.timing)
        if self._link.speed_scale is not None:
            self._panel.show_speed(self._link.speed_scale)


def main(argv: list[str] | None = None) -> int:
    """Serve the page until SIGINT or SIGTERM; returns the exit status."""
    with outlast_output():  # the page stays when the terminal with its address is closed
        return run_node(ViewNode, ViewNode.close, argv)


if __name__ == "__main__":
    sys.exit(main())
