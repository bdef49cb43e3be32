"""Lifecycle node `polyreach_controller`: parameters and transitions around a ReachLoop."""

import gc
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

from diagnostic_msgs.msg import DiagnosticStatus
from lifecycle_msgs.srv import ChangeState
from rcl_interfaces.msg import SetParametersResult
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.parameter import Parameter

from polyreach_description import Robot, load_robot
from polyreach_description.policy_search import find_policy
from polyreach_nodes.client.topics import LATCHED, STATUS
from polyreach_nodes.control.policy import Policy
from polyreach_nodes.control.reach_control import ReachControl
from polyreach_nodes.parameter_spec import Settable, specs
from polyreach_nodes.parameters import CommandInterface, ControllerParameters
from polyreach_nodes.recording.path import recording_path
from polyreach_nodes.ros.declare_parameters import declare_parameters, read_parameters
from polyreach_nodes.ros.reach_loop import ReachLoop
from polyreach_nodes.ros.reports import plain_status
from polyreach_nodes.ros.spin import run_node

SUCCESS, FAILURE = TransitionCallbackReturn.SUCCESS, TransitionCallbackReturn.FAILURE


class ControllerNode(LifecycleNode):
    """Moves effectors to their goals; ReachControl decides what happens every control period."""

    def __init__(self) -> None:
        super().__init__("polyreach_controller")
        parameters = declare_parameters(self, ControllerParameters)
        self._status_pub = self.create_publisher(DiagnosticStatus, f"~/{STATUS}", LATCHED)
        self._loop: ReachLoop | None = None
        self._halted = False  # outlives cleanup: only ~/resume ends a halt
        self.add_on_set_parameters_callback(self._on_set_parameters)
        self._service_change_state.callback = partial(
            self._change_state, self._service_change_state.callback
        )
        self._announce("UNCONFIGURED")
        if parameters.autostart and self.trigger_configure() == SUCCESS:
            self.trigger_activate()

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

    def _on_set_parameters(self, changed: list[Parameter]) -> SetParametersResult:
        changes = {parameter.name: parameter.value for parameter in changed}
        try:
            parameters = read_parameters(self, ControllerParameters, **changes)
            policy = self._check(parameters, changes)
            if self._loop is not None:
                if "record" in changes:  # before all else, for it may fail
                    self._record(self._loop, parameters)
                self._loop.configure(parameters)
                if policy is not None:
                    self._loop.use_policy(policy)
        except Exception as error:  # a request must not end the node
            return SetParametersResult(successful=False, reason=_sentence(error))
        return SetParametersResult(successful=True)

    def _check(self, parameters: ControllerParameters, changes: dict[str, Any]) -> Policy | None:
        """Raise an error for changes that cannot be made; return the policy that they name.

        The parameters include the changes.
        """
        parameters.check()
        if "record" in changes and parameters.record:
            recording_path(parameters.record_folder, parameters.record)
        loop = self._loop
        for spec in specs(ControllerParameters):
            if spec.name not in changes or loop is None:
                continue
            if spec.settable is Settable.UNCONFIGURED:
                raise ValueError(f"{spec.name} cannot change while configured: clean up first")
            if spec.settable is Settable.INACTIVE and loop.control_loop.running:
                raise ValueError(f"{spec.name} cannot change while active: deactivate first")
        if "robot" in changes:
            load_robot(parameters.robot)
        if loop is None:
            return None
        loop.control.resolved(parameters)
        return _load_policy(parameters.policy, loop.control.robot) if "policy" in changes else None

    def _record(self, loop: ReachLoop, parameters: ControllerParameters) -> None:
        name = parameters.record
        loop.control_loop.record(recording_path(parameters.record_folder, name) if name else None)

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Load robot and policy, make topics and timers; refuse a policy that does not fit."""
        try:
            parameters = read_parameters(self, ControllerParameters)
            robot = load_robot(parameters.robot)
            interface = CommandInterface.of(parameters.command_interface)
            control = ReachControl(robot, _load_policy(parameters.policy, robot), interface)
            control.watchdog.halted = self._halted
            self._loop = ReachLoop(self, control, self._status_pub, parameters.use_tf)
            self._record(self._loop, parameters)
            self._loop.configure(parameters)
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
        if (loop := self._loop) is not None and loop.control_loop.running:
            loop.control_loop.publish_last_zero()

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
    """What is wrong, with the type of an unexpected error."""
    known = isinstance(error, ValueError | OSError)  # RobotError and ContractError, too
    return str(error) if known else f"{type(error).__name__}: {error}"


def _load_policy(path: str, robot: Robot) -> Policy:
    return Policy.load(path or find_policy(robot.name), robot)


def main(argv: list[str] | None = None) -> int:
    """Run the controller until SIGINT or SIGTERM; returns the exit status."""
    return run_node(ControllerNode, ControllerNode.close, argv, ControllerNode.stop_robot)


if __name__ == "__main__":
    sys.exit(main())
