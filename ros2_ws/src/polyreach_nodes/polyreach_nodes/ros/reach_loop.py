"""Topics and services of one configured controller."""

import json
from functools import partial
from time import monotonic

from geometry_msgs.msg import PoseStamped, TwistStamped
from rclpy.node import Node
from rclpy.publisher import Publisher
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import JointState
from std_msgs.msg import Empty, String
from visualization_msgs.msg import MarkerArray

from polyreach_nodes.client.topics import (
    CLEAR_GOALS,
    FRAMES,
    HALT,
    HOLD,
    JOINT_JOG,
    LATCHED,
    OBSTACLE_QUEUE,
    OBSTACLES,
    POLICY_METADATA,
    RESUME,
    RESUMED,
    TAKES_TF,
    clear_goal_service,
    goal_topic,
    twist_topic,
)
from polyreach_nodes.control.policy import Policy
from polyreach_nodes.control.reach_control import ReachControl
from polyreach_nodes.parameters import ControllerParameters
from polyreach_nodes.ros.control_loop import ControlLoop
from polyreach_nodes.ros.description_check import DescriptionCheck
from polyreach_nodes.ros.entities import Entities, Refusal
from polyreach_nodes.ros.obstacle_messages import marker_fields
from polyreach_nodes.ros.status_publisher import StatusPublisher
from polyreach_nodes.ros.transforms import TransformBuffer

# a robot's joint states may come from several publishers at the same moment
NEWEST = QoSProfile(depth=4, reliability=ReliabilityPolicy.BEST_EFFORT)


class ReachLoop:
    """Exists from configure to cleanup; commands flow between start() and stop().

    Every exception in a callback becomes a fault: zero at once, the reason in the status.
    """

    def __init__(
        self, node: Node, control: ReachControl, status: Publisher, use_tf: bool = False
    ) -> None:
        """status: publisher of the status, which outlives this object. use_tf: take goals in frames
        of TF. Raises ValueError if tf2_ros is missing for that.
        """
        self.control = control
        self._transforms = TransformBuffer(node, control.robot.base_frame) if use_tf else None
        control.goals.frames.transforms = self._transforms
        self._entities = Entities(node, self._fail)
        self.control_loop = ControlLoop(node, self._entities, control)
        self._description = DescriptionCheck(node, self._entities, control)
        self._status = StatusPublisher(
            node, self._entities, self.control_loop, status, self._description, self._fail
        )
        self._resumed_pub = self._entities.publisher(Empty, f"~/{RESUMED}", 1)
        self._metadata_pub = self._entities.publisher(String, f"~/{POLICY_METADATA}", LATCHED)
        self._entities.subscribe(
            JointState, "joint_states", self.control_loop.on_joint_state, NEWEST
        )
        self._entities.subscribe(JointState, f"~/{JOINT_JOG}", self._on_joint_jog, 1)
        self._entities.serve(f"~/{HALT}", self._halt)
        self._entities.serve(f"~/{RESUME}", self._resume)
        self._entities.serve(f"~/{CLEAR_GOALS}", self._clear_goals)
        self._entities.serve(f"~/{HOLD}", self._hold)
        self._entities.subscribe(MarkerArray, f"~/{OBSTACLES}", self._on_obstacles, OBSTACLE_QUEUE)
        for effector in control.robot.effector_names:
            on_goal = partial(self._on_goal, effector)
            self._entities.subscribe(PoseStamped, f"~/{goal_topic(effector)}", on_goal, 1)
            on_twist = partial(self._on_twist, effector)
            self._entities.subscribe(TwistStamped, f"~/{twist_topic(effector)}", on_twist, 1)
            self._entities.serve(
                f"~/{clear_goal_service(effector)}", partial(self._clear_goal, effector)
            )
        self.use_policy(control.pipeline.policy)
        self._status.announce()

    def use_policy(self, policy: Policy) -> None:
        """Drive with another policy, already checked against the robot."""
        self.control.pipeline.policy = policy
        frames = self.control.goals.frames
        metadata = {
            **policy.contract.metadata,
            FRAMES: frames.links.names,
            TAKES_TF: frames.transforms is not None,
        }
        self._metadata_pub.publish(String(data=json.dumps(metadata, sort_keys=True)))

    def configure(self, parameters: ControllerParameters) -> None:
        """Take the parameters, at rest or in motion. Raises ValueError for times that are short."""
        self.control_loop.configure(parameters)
        self._description.configure(parameters.description_check)
        self.control.goals.frames.follow_transforms = parameters.follow_frame
        if self._transforms is not None:
            self._transforms.timeout_s = parameters.transform_timeout

    def start(self) -> None:
        """Start the control periods from rest, without joint state or goals."""
        self.control_loop.start()
        self._status.announce()

    def stop(self) -> None:
        """Publish zero, wait for its receipt, and end the control periods."""
        if self.control_loop.running:
            self.control_loop.stop()
            self._status.announce()

    def destroy(self) -> None:
        """Give back all topics, services and timers."""
        self.control_loop.record(None)
        self.control_loop.conflicts.close()
        self._entities.destroy()
        if self._transforms is not None:
            self._transforms.close()

    def _fail(self, error: Exception) -> None:
        self.control.fail(error)
        self.control_loop.publish_zero()
        self._status.announce()

    def _on_goal(self, effector: str, message: PoseStamped) -> None:
        point, q, goals = message.pose.position, message.pose.orientation, self.control.goals
        if self.control_loop.running:
            position, orientation = (point.x, point.y, point.z), (q.x, q.y, q.z, q.w)
            frame, stamp = message.header.frame_id, message.header.stamp
            stamp_ns = 10**9 * stamp.sec + stamp.nanosec
            goals.set(effector, frame, position, monotonic(), orientation, stamp_ns)
        else:
            goals.reject(effector, "the controller is not active")
        self._status.announce_soon()

    def _on_obstacles(self, message: MarkerArray) -> None:
        self.control.take_obstacles(marker_fields(message), monotonic())
        self._status.announce_soon()

    def _on_twist(self, effector: str, message: TwistStamped) -> None:
        v, w, twists = message.twist.linear, message.twist.angular, self.control.goals.twists
        if self.control_loop.running:
            linear, angular = (v.x, v.y, v.z), (w.x, w.y, w.z)
            twists.set(effector, message.header.frame_id, linear, angular, monotonic())
        else:
            twists.reject(effector, "the controller is not active")
        self._status.announce_soon()

    def _on_joint_jog(self, message: JointState) -> None:
        if self.control_loop.running:
            self.control.jog_joints(message.name, message.velocity, monotonic())
        else:
            self.control.jog.reject("the controller is not active")
        self._status.announce_soon()

    def _halt(self) -> str:
        self.control.watchdog.halted = True
        self.control_loop.publish_zero()
        self._status.announce()
        return "halted"

    def _resume(self) -> str:
        self._resumed_pub.publish(Empty())  # before the next command, for the command watchdog
        self.control.resume()
        self._status.announce()
        return "resumed"

    def _hold(self) -> str:
        if not self.control_loop.running:
            raise Refusal("hold refused: the controller is not active")
        try:
            held = self.control.hold(monotonic())
        except ValueError as error:
            raise Refusal(f"hold refused: {error}") from None
        self._status.announce()
        return f"holding {', '.join(held)}" if held else "every effector has a goal"

    def _clear_goals(self) -> str:
        self.control.goals.clear_all()
        self.control.jog.forget()
        self._status.announce()
        return "goals cleared"

    def _clear_goal(self, effector: str) -> str:
        self.control.goals.clear(effector)
        self._status.announce()
        return f"goal of '{effector}' cleared"
