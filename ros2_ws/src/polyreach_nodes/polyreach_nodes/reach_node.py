"""Node `polyreach_reach`: serves the action `<controller>/reach` by a controller's topics.

When a signal ends the node, it clears the goals of the running action. When the node is killed, the
controller moves to the goals it has and holds there until its `goal_timeout`. When a client goes
away, the action goes on until it succeeds or its timeout is over.
"""

import sys
from dataclasses import dataclass
from functools import partial
from time import monotonic
from typing import Any

from rclpy.action import ActionServer, CancelResponse, GoalResponse
from rclpy.action.server import ServerGoalHandle
from rclpy.clock import Clock, ClockType
from rclpy.node import Node
from rclpy.task import Future
from rclpy.time import Time

from polyreach_nodes.client.controller_client import ControllerClient
from polyreach_nodes.client.reach_queue import ReachQueue
from polyreach_nodes.client.reach_request import ReachRequest
from polyreach_nodes.client.reach_task import Outcome, Phase, ReachTask
from polyreach_nodes.client.topics import HOLD, clear_goal_service
from polyreach_nodes.parameters import ReachParameters
from polyreach_nodes.ros.declare_parameters import declare_parameters, read_parameters
from polyreach_nodes.ros.spin import run_node

FEEDBACK_PERIOD_S = 0.1
CLOSE_S = 2.5  # [s] to clear the goals of the running action when the node ends
FLUSH_S = 0.1  # [s] for the result to leave


@dataclass
class Goal:
    """An accepted goal: its task, and its result once there is one."""

    handle: ServerGoalHandle
    task: ReachTask
    result: Future
    executing: bool = False  # in terms of the action; before, it is in the queue


class ReachNode(Node):
    """Serves one goal at a time; a newer one takes over from an older one, or waits for it."""

    def __init__(self, action: Any) -> None:
        super().__init__("polyreach_reach")
        self._action = action
        controller = declare_parameters(self, ReachParameters).controller
        self._closing = False
        self._goals: dict[bytes, Goal] = {}  # until their result is known
        self._accepted: dict[bytes, Goal] = {}  # until executed; a status may end one before
        self._client = ControllerClient(self, controller, on_status=self._step)
        self._queue = ReachQueue(self._client)
        self._client.follow_policy(self._on_policy)
        wall = Clock(clock_type=ClockType.STEADY_TIME)
        self.create_timer(FEEDBACK_PERIOD_S, self._on_feedback, clock=wall)
        self._server = ActionServer(
            self,
            action,
            f"{controller}/reach",
            self._execute,
            goal_callback=lambda _: GoalResponse.REJECT if self._closing else GoalResponse.ACCEPT,
            handle_accepted_callback=self._accept,
            cancel_callback=self._cancel,
        )

    def _on_policy(self) -> None:
        effectors = self._client.effectors
        self._client.advertise_goals(effectors)
        self._client.use_services([HOLD, *map(clear_goal_service, effectors)])
        self._step()

    def _request(self, goal: Any) -> ReachRequest:
        parameters = read_parameters(self, ReachParameters)
        points = [pose.pose.position for pose in goal.poses]
        turns = [pose.pose.orientation for pose in goal.poses]
        return ReachRequest(
            effectors=tuple(goal.effectors),
            frames=tuple(pose.header.frame_id for pose in goal.poses),
            positions=tuple((point.x, point.y, point.z) for point in points),
            orientations=tuple((q.x, q.y, q.z, q.w) for q in turns),
            tolerance=goal.tolerance or parameters.tolerance,
            angle_tolerance=goal.angle_tolerance or parameters.angle_tolerance,
            timeout_s=goal.timeout or parameters.timeout,
            stamps_ns=tuple(Time.from_msg(pose.header.stamp).nanoseconds for pose in goal.poses),
            hold=goal.hold,
        )

    def _accept(self, handle: ServerGoalHandle) -> None:
        """Add an accepted goal to the queue; it executes from its begin, or its end, on."""
        now_s = monotonic()
        settle_s = read_parameters(self, ReachParameters).settle_time
        task = ReachTask(self._client, self._request(handle.request), settle_s, now_s)
        goal = Goal(handle, task, Future())
        key = bytes(handle.goal_id.uuid)
        self._goals[key] = self._accepted[key] = goal
        self._queue.add(task, handle.request.queue, now_s)
        self._step()

    async def _execute(self, handle: ServerGoalHandle) -> Any:
        goal = self._accepted.pop(bytes(handle.goal_id.uuid))
        self._step()
        return await goal.result

    def _cancel(self, handle: ServerGoalHandle) -> CancelResponse:
        goal = self._goals.get(bytes(handle.goal_id.uuid))
        if goal is None:
            return CancelResponse.REJECT
        now_s = monotonic()
        goal.task.end(Outcome.CANCELED, "canceled by the client", now_s)
        goal.task.step(now_s)
        return CancelResponse.ACCEPT

    def _step(self) -> None:
        """Let every task do what is due, and give the results of those that have one."""
        now_s = monotonic()
        self._queue.step(now_s)
        for key, goal in list(self._goals.items()):
            if goal.task.phase is not Phase.QUEUED and not goal.executing:
                goal.executing = True
                goal.handle.execute()
            if goal.task.has_result and goal.handle.is_active:
                del self._goals[key]
                self._finish(goal, now_s)

    def _finish(self, goal: Goal, now_s: float) -> None:
        task = goal.task
        finish = {
            Outcome.SUCCEEDED: goal.handle.succeed,
            Outcome.ABORTED: goal.handle.abort,
            Outcome.CANCELED: goal.handle.canceled,
        }
        finish[task.outcome]()
        goal.result.set_result(
            self._action.Result(
                success=task.outcome is Outcome.SUCCEEDED,
                message=task.message,
                errors=task.errors,
                angle_errors=task.angle_errors,
                elapsed=task.elapsed_s(now_s),
            )
        )
        self.get_logger().info(f"{task.outcome.name}: {task.message}")

    def _on_feedback(self) -> None:
        self._step()
        running = self._queue.running
        for goal in self._goals.values():
            if (task := goal.task) is running:
                goal.handle.publish_feedback(
                    self._action.Feedback(
                        errors=task.errors,
                        angle_errors=task.angle_errors,
                        reached=task.reached,
                        elapsed=task.elapsed_s(monotonic()),
                    )
                )

    def close(self) -> None:
        """Clear the goals of the running action and give its result; takes CLOSE_S at most."""
        self._closing = True
        now_s = monotonic()
        for goal in self._goals.values():
            goal.task.end(Outcome.ABORTED, "the action server ends", now_s)
        while self._goals and monotonic() - now_s < CLOSE_S:
            self._step()
            self.executor.spin_once(timeout_sec=0.02)
        flush_s = monotonic() + FLUSH_S
        while monotonic() < flush_s:
            self.executor.spin_once(timeout_sec=0.02)
        self._server.destroy()


def main(argv: list[str] | None = None) -> int:
    """Serve the action until SIGINT or SIGTERM; returns the exit status."""
    try:
        from polyreach_interfaces.action import ReachGoals
    except ImportError as error:
        if (error.name or "").partition(".")[0] != "polyreach_interfaces":
            raise
        print(
            "reach_node: the package polyreach_interfaces is not built or not sourced: "
            "`make interfaces` builds it, or `colcon build` in ros2_ws",
            file=sys.stderr,
        )
        return 1
    return run_node(partial(ReachNode, ReachGoals), ReachNode.close, argv)


if __name__ == "__main__":
    sys.exit(main())
