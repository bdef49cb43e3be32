"""Lifecycle node `polyreach_controller`: parameters and transitions around a ReachLoop."""

import gc
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

from diagnostic_msgs.msg import DiagnosticStatus
from lifecycle_msgs.srv import ChangeState
from rcl_interfaces.msg import FloatingPointRange, ParameterDescriptor, SetParametersResult
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.parameter import Parameter

from polyreach_description import Robot, load_robot
from polyreach_nodes.client.topics import LATCHED, STATUS
from polyreach_nodes.control.control import TIMEOUT_PERIODS, ReachControl
from polyreach_nodes.control.limits import REACTION_PERIODS
from polyreach_nodes.control.policy import Policy, find_policy
from polyreach_nodes.control.proximity import (
    NO_WORKSPACE,
    SLOW_DISTANCE,
    STOP_DISTANCE,
    check_distances,
    read_workspace,
)
from polyreach_nodes.recording.path import recording_path
from polyreach_nodes.ros.reach_loop import ReachLoop
from polyreach_nodes.ros.reports import plain_status
from polyreach_nodes.ros.spin import run_node

LOOP_PARAMETERS = (
    "joint_state_timeout",
    "tolerance",
    "speed_scale",
    "reaction_time",
    "collision_slow_distance",
    "collision_stop_distance",
    "workspace",
    "goal_timeout",
    "following_timeout",
    "outage_timeout",
    "outage_keeps_goals",
    "progress_timeout",
    "record",
)
SUCCESS, FAILURE = TransitionCallbackReturn.SUCCESS, TransitionCallbackReturn.FAILURE


class ControllerNode(LifecycleNode):
    """Moves effectors to their goals; ReachControl decides what happens every control period."""

    def __init__(self) -> None:
        super().__init__("polyreach_controller")
        self._declare()
        self._status_pub = self.create_publisher(DiagnosticStatus, f"~/{STATUS}", LATCHED)
        self._loop: ReachLoop | None = None
        self._halted = False  # outlives cleanup: only ~/resume ends a halt
        self.add_on_set_parameters_callback(self._check_parameters)
        self._service_change_state.callback = partial(
            self._change_state, self._service_change_state.callback
        )
        self._announce("UNCONFIGURED")
        if self._value("autostart") and self.trigger_configure() == SUCCESS:
            self.trigger_activate()

    def _declare(self) -> None:
        def declare(
            name: str,
            default: Any,
            text: str,
            limits: tuple[float, float] | None = None,
            **how: bool,
        ) -> None:
            ranges = (
                [FloatingPointRange(from_value=limits[0], to_value=limits[1])] if limits else []
            )
            descriptor = ParameterDescriptor(description=text, floating_point_range=ranges, **how)
            self.declare_parameter(name, default, descriptor)

        declare(
            "robot",
            "planar8",
            "shipped robot name or path of a robot.yaml; changes while unconfigured only",
        )
        declare(
            "policy",
            "",
            "path of the policy file (.onnx), empty: the robot's shipped one; not while active",
        )
        declare("autostart", False, "configure and activate at start", read_only=True)
        declare(
            "joint_state_timeout",
            0.0,
            "[s of wall time] age of the joint state at which zero is published at once; 0: "
            f"{TIMEOUT_PERIODS:g} control periods, so that the stop comes within two periods "
            "after joint states end. For a slow simulator, divide it by the real-time factor",
            (0.0, 5.0),
        )
        declare("tolerance", 0.02, "[m] error below which a goal counts as reached", (1e-4, 1.0))
        declare("speed_scale", 1.0, "share of the policy's speed that is commanded", (0.0, 1.0))
        declare(
            "reaction_time",
            0.0,
            "[s] from a command until the joints follow, for braking before limits, walls and the "
            f"robot's own bodies; 0: {REACTION_PERIODS:g} control periods",
            (0.0, 1.0),
        )
        declare(
            "collision_slow_distance",
            SLOW_DISTANCE,
            "[m] between two bodies of the robot from which on their approach slows",
            (0.0, 1.0),
        )
        declare(
            "collision_stop_distance",
            STOP_DISTANCE,
            "[m] between two bodies of the robot at which their approach stops",
            (0.0, 1.0),
        )
        declare(
            "workspace",
            list(NO_WORKSPACE),
            "[m, base frame] lowest x, y, z, then highest x, y, z: goals outside are rejected, and "
            "effectors stop at the walls",
        )
        declare(
            "goal_timeout",
            0.0,
            "[s of wall time] after which a goal that is not sent again is dropped; 0: never",
            (0.0, 3600.0),
        )
        declare(
            "following_timeout",
            2.0,
            "[s] for which a joint may stand although it is told to move, before that is a fault; "
            "ROS may take as long to bring commands to a robot that has just started. 0: for ever",
            (0.0, 60.0),
        )
        declare(
            "outage_timeout",
            0.5,
            "[s of wall time] without valid joint states after which motion does not go on by "
            "itself when they come again, but waits for ~/resume; 0: it goes on after any outage",
            (0.0, 3600.0),
        )
        declare(
            "outage_keeps_goals",
            False,
            "whether goals outlast an outage longer than outage_timeout; by default they are "
            "dropped",
        )
        declare(
            "progress_timeout",
            5.0,
            "[s] at full speed without an effector that comes nearer to its goal, after which the "
            "state is BLOCKED or OSCILLATING; 0: never",
            (0.0, 60.0),
        )
        declare(
            "record_folder",
            "",
            "folder of all recordings; empty: nothing is recorded, whoever asks for it",
            read_only=True,
        )
        declare(
            "record",
            "",
            "name of a new .mcap file in record_folder that records observation and action of "
            "every period, every hour in another one; empty: none",
        )

    def _change_state(
        self,
        change_state: Callable[[ChangeState.Request, ChangeState.Response], ChangeState.Response],
        request: ChangeState.Request,
        response: ChangeState.Response,
    ) -> ChangeState.Response:
        """Answer ~/change_state; rclpy's `change_state` raises for an illegal transition."""
        try:
            return change_state(request, response)
        except Exception as error:
            self.get_logger().error(f"transition {request.transition.id} refused: {error}")
            response.success = False
            return response

    def _value(self, name: str) -> Any:
        return self.get_parameter(name).value

    def _check_parameters(self, parameters: list[Parameter]) -> SetParametersResult:
        values = {parameter.name: parameter.value for parameter in parameters}
        try:
            policy = self._checked(values)
            if self._loop is not None:
                self._apply(self._loop, values)
                if policy is not None:
                    self._loop.use_policy(policy)
        except Exception as error:  # a request must not end the node
            return SetParametersResult(successful=False, reason=_sentence(error))
        return SetParametersResult(successful=True)

    def _checked(self, values: dict[str, Any]) -> Policy | None:
        """Raise an error for values that cannot be taken; return the policy they name."""
        check_distances(
            values.get("collision_slow_distance", self._value("collision_slow_distance")),
            values.get("collision_stop_distance", self._value("collision_stop_distance")),
        )
        read_workspace(values.get("workspace", NO_WORKSPACE))
        if values.get("record"):
            recording_path(self._value("record_folder"), values["record"])
        if "robot" in values:
            if self._loop is not None:
                raise ValueError("robot cannot change while configured: clean up first")
            load_robot(values["robot"])
        if self._loop is not None:
            self._loop.control.check_times(
                values.get("reaction_time", 0.0), values.get("joint_state_timeout", 0.0)
            )
        if "policy" in values and self._loop is not None:
            if self._loop.running:
                raise ValueError("policy cannot change while active: deactivate first")
            return _load_policy(values["policy"], self._loop.control.robot)
        return None

    def _apply(self, loop: ReachLoop, values: dict[str, Any]) -> None:
        """Give checked values to the loop; those that are missing stay as they are."""
        control = loop.control
        if "record" in values:  # before all else, for it may fail
            name = values["record"]
            loop.record(recording_path(self._value("record_folder"), name) if name else None)
        loop.tolerance = values.get("tolerance", loop.tolerance)
        control.speed_scale = values.get("speed_scale", control.speed_scale)
        control.goal_timeout_s = values.get("goal_timeout", control.goal_timeout_s)
        control.following.timeout_s = values.get("following_timeout", control.following.timeout_s)
        dog = control.watchdog
        dog.outage_timeout_s = values.get("outage_timeout", dog.outage_timeout_s)
        control.keep_goals = values.get("outage_keeps_goals", control.keep_goals)
        control.progress.tolerance = loop.tolerance
        control.progress.set_timeout(values.get("progress_timeout", control.progress.timeout_s))
        slow = values.get("collision_slow_distance", control.proximity.slow_distance)
        stop = values.get("collision_stop_distance", control.proximity.stop_distance)
        if (slow, stop) != (control.proximity.slow_distance, control.proximity.stop_distance):
            control.proximity.set_distances(slow, stop)
        if "reaction_time" in values:
            control.set_reaction(values["reaction_time"])
        if "workspace" in values:
            control.proximity.set_workspace(values["workspace"])
        if "joint_state_timeout" in values:
            loop.set_timeout(values["joint_state_timeout"])

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Load robot and policy, make topics and timers; refuse a policy that does not fit."""
        try:
            robot = load_robot(self._value("robot"))
            control = ReachControl(robot, _load_policy(self._value("policy"), robot))
            control.watchdog.halted = self._halted
            self._loop = ReachLoop(self, control, self._status_pub)
            self._apply(self._loop, {name: self._value(name) for name in LOOP_PARAMETERS})
        except Exception as error:
            self._release()
            text = _sentence(error)
            self.get_logger().error(f"configure refused: {text}")
            self._announce("UNCONFIGURED", text, DiagnosticStatus.ERROR)
            return FAILURE
        # what lives from here on is no garbage: the collector need not visit it in the loop
        gc.collect()
        gc.freeze()
        return SUCCESS

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Start the control periods from rest, without joint state or goals; a halt stays."""
        assert self._loop is not None
        self._loop.start()
        return SUCCESS

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Publish zero and end the control periods."""
        assert self._loop is not None
        self._loop.stop()
        return SUCCESS

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Give back everything that configure made."""
        self._release()
        self._announce("UNCONFIGURED")
        return SUCCESS

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Publish zero, then give everything back."""
        self._release()
        self._announce("FINALIZED")
        return SUCCESS

    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Publish zero after an exception in a transition and go back to unconfigured."""
        self._release()
        self._announce("UNCONFIGURED", "a transition failed", DiagnosticStatus.ERROR)
        return SUCCESS

    def close(self) -> None:
        """Stop the robot and end, from any lifecycle state."""
        if self._state_machine.current_state[1] != "finalized":
            self.trigger_shutdown()

    def stop_robot(self) -> None:
        """Publish zero from another thread, for one that is stuck."""
        if (loop := self._loop) is not None and loop.running:
            loop.publish_last_zero()

    def _release(self) -> None:
        loop, self._loop = self._loop, None
        if loop is not None:
            loop.stop()
            self._halted = loop.control.watchdog.halted
            loop.destroy()
            gc.unfreeze()

    def _announce(self, state: str, text: str = "", level: bytes = DiagnosticStatus.OK) -> None:
        self._status_pub.publish(plain_status(self.get_fully_qualified_name(), state, level, text))


def _sentence(error: Exception) -> str:
    """What is wrong, with the type of an error that nobody foresaw."""
    known = isinstance(error, ValueError | OSError)  # RobotError and ContractError, too
    return str(error) if known else f"{type(error).__name__}: {error}"


def _load_policy(path: str, robot: Robot) -> Policy:
    return Policy.load(path or find_policy(robot.name), robot)


def main(argv: list[str] | None = None) -> int:
    """Run the controller until SIGINT or SIGTERM; returns the exit status."""
    return run_node(ControllerNode, ControllerNode.close, argv, ControllerNode.stop_robot)


if __name__ == "__main__":
    sys.exit(main())
