"""The page's connection to a controller: goals, services, speed scale, policy, loop times."""

from collections.abc import Sequence
from time import monotonic

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from rcl_interfaces.msg import ParameterEvent
from rcl_interfaces.srv import GetParameters, SetParameters
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.task import Future

from polyreach_nodes.client.controller_client import ControllerClient
from polyreach_nodes.client.status import ControllerStatus, GoalPose, read_timing
from polyreach_nodes.client.topics import (
    CLEAR_GOALS,
    HALT,
    RESUME,
    SPEED_SCALE,
    clear_goal_service,
)
from polyreach_nodes.control.watchdog import State

POLICY = "policy"  # parameter of the controller
ANSWER_S = 2.0  # [s] for a service to answer
LOAD_S = 30.0  # [s] for the controller to load a policy
SILENCE_S = 1.5  # [s] without status or joint states, after which the page reports it
PERIODIC = tuple(State)  # states that are published at 5 Hz


class PageLink:
    """Requests to one controller with their failures, and what the panel shows of it."""

    def __init__(
        self, node: Node, effectors: Sequence[str], base_frame: str, controller: str
    ) -> None:
        self.timing: dict[str, float] = {}  # [ms] by name
        self.speed_scale: float | None = None
        self.policy: str | None = None  # file, as the parameter names it; '': the default one
        self.failure = ""  # of the last request that failed
        self._base_frame = base_frame
        self._client = ControllerClient(node, controller)
        self._client.advertise_goals(effectors)
        self._client.use_services([HALT, RESUME, CLEAR_GOALS, *map(clear_goal_service, effectors)])
        self._set = node.create_client(SetParameters, f"{controller}/set_parameters")
        self._get = node.create_client(GetParameters, f"{controller}/get_parameters")
        self._change_state = node.create_client(ChangeState, f"{controller}/change_state")
        self._node = node
        self._loading_s = -np.inf  # [s, monotonic] since when a policy is loaded
        self._calls: list[tuple[str, float, Future]] = []  # name, when called [s, monotonic]
        self._speed_call: Future | None = None
        self._speed_to_set: float | None = None
        node.create_subscription(DiagnosticArray, "/diagnostics", self._on_diagnostics, 10)
        node.create_subscription(ParameterEvent, "/parameter_events", self._on_parameters, 10)

    @property
    def status(self) -> ControllerStatus:
        """The controller's last status."""
        return self._client.status

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        for status in message.status:
            if status.name == self._client.name:
                self.timing = read_timing({pair.key: pair.value for pair in status.values})

    def _on_parameters(self, message: ParameterEvent) -> None:
        is_setting = self._speed_to_set is not None or self._speed_call is not None
        if message.node == self._client.name and not is_setting:
            for parameter in (*message.new_parameters, *message.changed_parameters):
                if parameter.name == SPEED_SCALE:
                    self.speed_scale = parameter.value.double_value
                elif parameter.name == POLICY:
                    self.policy = parameter.value.string_value

    def state(self) -> tuple[str, str]:
        """The controller's state and its reason; NO CONTROLLER or SILENT without a status."""
        name, status = self._client.name, self._client.status
        silent_s = monotonic() - status.received_s
        if not self._client.has_publisher or not status.state:
            return "NO CONTROLLER", f"no node publishes {name}/status"
        if status.state in PERIODIC and silent_s > SILENCE_S:
            return "SILENT", f"no status of {name} for {silent_s:.0f} s (last: {status.state})"
        return status.state, status.reason

    def send_goal(self, effector: str, pose: GoalPose) -> None:
        """Publish a goal [m, base frame]."""
        position, orientation = pose
        self._client.send_goal(effector, position, self._base_frame, orientation)

    def call(self, service: str) -> None:
        """Call ~/halt, ~/resume, ~/clear_goals or ~/clear_goal/<effector>."""
        self.failure = ""
        if not self._client.offers(service):
            self._fail(service, f"{self._client.name} does not offer it")
            return
        self._calls.append((service, monotonic(), self._client.call(service)))

    def set_speed(self, scale: float) -> None:
        """Set the controller's speed scale; of many values in a row the last one counts."""
        self._speed_to_set = self.speed_scale = scale

    def use_policy(self, path: str) -> None:
        """Let the controller use another policy file, which it loads at rest; goals are cleared."""
        executor = self._node.executor
        if monotonic() - self._loading_s < LOAD_S or executor is None:
            self.failure = f"{POLICY} NOT SET: the last one is still being loaded"
            return
        self._loading_s, self.failure = monotonic(), ""
        executor.create_task(self._use_policy(path))

    async def _use_policy(self, path: str) -> None:
        try:
            clients = (self._change_state, self._set)
            if not all(client.service_is_ready() for client in clients):
                self._fail(POLICY, f"{self._client.name} does not offer it")
                return
            was_active = self.status.state in PERIODIC
            if was_active:
                await self._change(Transition.TRANSITION_DEACTIVATE)
            value = Parameter(POLICY, value=path).to_parameter_msg()
            answer = await self._set.call_async(SetParameters.Request(parameters=[value]))
            if not answer.results[0].successful:
                self.failure = f"{POLICY} NOT SET: {answer.results[0].reason}"
            if was_active and not await self._change(Transition.TRANSITION_ACTIVATE):
                self._fail("activate", f"refused by {self._client.name}")
        finally:
            self._loading_s = -np.inf

    async def _change(self, transition: int) -> bool:
        request = ChangeState.Request(transition=Transition(id=transition))
        answer = await self._change_state.call_async(request)
        return bool(answer.success)

    def update(self) -> None:
        """Take answers; set or read the speed scale. To be called often, in the node's thread."""
        now_s = monotonic()
        for call in list(self._calls):
            name, called_s, future = call
            if future.done():
                self._calls.remove(call)
                self._take_answer(name, future)
            elif now_s - called_s > ANSWER_S:
                self._calls.remove(call)
                future.cancel()
                if future is self._speed_call:
                    self._speed_call = None  # what is cancelled is never done
                self._fail(name, f"no answer of {self._client.name} in {ANSWER_S:g} s")
        if self._speed_call is not None and self._speed_call.done():
            self._speed_call = None
        if self._speed_call is None:
            self._update_speed()

    def _update_speed(self) -> None:
        if (scale := self._speed_to_set) is not None:
            self._speed_to_set = None
            if not self._set.service_is_ready():
                self._fail(SPEED_SCALE, f"{self._client.name} does not offer it")
                return
            value = Parameter(SPEED_SCALE, value=scale).to_parameter_msg()
            self._speed_call = self._set.call_async(SetParameters.Request(parameters=[value]))
        elif self.speed_scale is None and self._get.service_is_ready() and self.status.state:
            names = [SPEED_SCALE, POLICY]
            self._speed_call = self._get.call_async(GetParameters.Request(names=names))
        else:
            return
        self._calls.append((SPEED_SCALE, monotonic(), self._speed_call))

    def _take_answer(self, name: str, future: Future) -> None:
        if (error := future.exception()) is not None:
            self._fail(name, str(error))
            return
        if self.failure.startswith(f"{name} NOT"):
            self.failure = ""  # it was slow, or has been asked again
        answer = future.result()
        if isinstance(answer, GetParameters.Response):
            if len(answer.values) == 2:
                self.speed_scale = answer.values[0].double_value
                self.policy = answer.values[1].string_value
        elif isinstance(answer, SetParameters.Response):
            if not answer.results[0].successful:
                self.failure = f"{name} NOT SET: {answer.results[0].reason}"
                self.speed_scale = None  # read again
        elif not answer.success:
            self._fail(name, answer.message)

    def _fail(self, name: str, reason: str) -> None:
        self.failure = f"{name} NOT DONE: {reason}"
