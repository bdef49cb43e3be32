"""One controller that many tests use in turn; each finds it as if it had just been started."""

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from time import sleep
from typing import Any

import pytest
from domains import reserved_domain
from rcl_interfaces.srv import GetParameters, ListParameters
from rclpy.parameter import parameter_value_to_python
from rig import FakeHardware, Launcher, Process, launching, set_parameters
from scenarios import DISCOVERY_S, Probe

from polyreach_description import Robot

SHARED = ("shared", "shared_simulation")  # the fixtures that give one


class SharedController:
    """A controller, a probe, and the simulator or a FakeHardware, in a ROS domain of their own.

    They start when first asked for, and anew after a test that failed and when one has ended.
    """

    probe: Probe
    hardware: FakeHardware | None
    start: Launcher
    domain: int
    controller: Process

    def __init__(self, robot: Robot, folder: Path, simulated: bool) -> None:
        self.healthy = False
        self._robot, self._folder, self._simulated = robot, folder, simulated
        self._stack = ExitStack()
        self._extras: dict[str, Any] = {}
        self._defaults: dict[str, object] = {}
        self._topics: set[Any] = set()

    def ensure(self) -> None:
        """Start everything, unless it runs and the last test left it well."""
        if self.healthy and all(process.popen.poll() is None for process in self._processes):
            return
        self.close()
        self.domain = self._stack.enter_context(reserved_domain())
        self.start = self._stack.enter_context(launching(self._folder, self.domain))
        # recordings may go to the folder of any test
        parameters = {"autostart": True, "record_folder": str(self._folder.parent)}
        self.controller = self.start("controller_node", parameters)
        self._processes = [self.controller]
        if self._simulated:
            remap = "commands:=polyreach_controller/commands"
            self._processes.append(self.start("sim_node", None, "--ros-args", "-r", remap))
        self.probe = self._stack.enter_context(Probe(self._robot, self.domain))
        self.hardware = None if self._simulated else FakeHardware(self.probe)
        listed = self._ask(ListParameters, "list_parameters", ListParameters.Request())
        self._defaults = self._values(listed.result.names)
        self._topics = set(self.probe.node.subscriptions)

    def close(self) -> None:
        """End everything; to be started anew by the next ensure()."""
        self.healthy = False
        self._stack.close()
        self._extras.clear()

    def extra(self, name: str, make: Callable[[], Any]) -> Any:
        """What make() returns: once for each start of the controller, an ended process anew."""
        made = self._extras.get(name)
        if made is None or (isinstance(made, Process) and made.popen.poll() is not None):
            made = self._extras[name] = make()
        return made

    def reset(self, parameters: dict[str, object], joint_states: bool = True) -> Process:
        """Make the controller active, at rest, without goals, and its parameters as at the start
        but for these; the robot of messages stands at home. Without joint states, it has seen none.
        """
        probe = self.probe
        for topic in set(probe.node.subscriptions) - self._topics:
            probe.node.destroy_subscription(topic)
        if self.hardware is not None:
            self.hardware.stop()
        if probe.lifecycle_state() == "active":
            assert probe.transition("deactivate")
        wanted = self._defaults | parameters
        current = self._values(list(wanted))
        changes = {name: wanted[name] for name in wanted if str(current[name]) != str(wanted[name])}
        if changes:
            assert set_parameters(probe, **changes) == (True, "")
        if probe.lifecycle_state() == "unconfigured":
            assert probe.transition("configure")
            sleep(DISCOVERY_S)
        probe.wait_goals_heard()
        probe.call("resume")
        probe.call("clear_goals")
        probe.statuses.clear()
        probe.commands.clear()
        if self.hardware is not None:
            self.hardware.fault, self.hardware.position = None, self._robot.home.copy()
            if joint_states:
                self.hardware.resume()
        assert probe.transition("activate")
        probe.wait_state("IDLE" if joint_states else "WAITING")
        return self.controller

    def _values(self, names: list[str]) -> dict[str, object]:
        answer = self._ask(GetParameters, "get_parameters", GetParameters.Request(names=names))
        values = map(parameter_value_to_python, answer.values)
        return {name: as_plain(value) for name, value in zip(names, values, strict=True)}

    def _ask(self, kind: Any, name: str, request: Any) -> Any:
        future = self.probe.client(kind, name).call_async(request)
        self.probe.wait(future.done, f"answer of {name}")
        return future.result()


def shared_by(request: pytest.FixtureRequest) -> SharedController | None:
    """The controller that this test shares with others, if it does."""
    names = [name for name in SHARED if name in request.fixturenames]
    return request.getfixturevalue(names[0]) if names else None


def as_plain(value: object) -> object:
    """Arrays of parameters as lists."""
    return value if isinstance(value, str) or not hasattr(value, "__iter__") else list(value)
