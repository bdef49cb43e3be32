"""A controller that many tests use in turn, reset to its initial state for each."""

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

SHARED = ("shared", "shared_simulation")  # fixtures that provide one


class SharedController:
    """A controller, a probe, and the simulator or a FakeHardware, in a separate ROS domain.

    They start on first use, and restart after a failed test or when a process has ended.
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
        """Start everything, unless it is running and the last test passed."""
        if self.healthy and all(process.popen.poll() is None for process in self._processes):
            return
        self.close()
        self.domain = self._stack.enter_context(reserved_domain())
        self.start = self._stack.enter_context(launching(self._folder, self.domain))
        # any test may record to its folder
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
        """End everything; the next ensure() starts it again."""
        self.healthy = False
        self._stack.close()
        self._extras.clear()

    def extra(self, name: str, make: Callable[[], Any]) -> Any:
        """Result of make(), cached until the controller restarts or the process it started ends."""
        extra = self._extras.get(name)
        if extra is None or (isinstance(extra, Process) and extra.popen.poll() is not None):
            extra = self._extras[name] = make()
        return extra

    def reset(self, parameters: dict[str, object], joint_states: bool = True) -> Process:
        """Make the controller active, at rest and without goals, with its initial parameters and
        these changes. FakeHardware is at home; with joint_states False it publishes none.
        """
        probe = self.probe
        for topic in set(probe.node.subscriptions) - self._topics:
            probe.node.destroy_subscription(topic)
        if self.hardware is not None:
            self.hardware.stop()
        if probe.lifecycle_state() == "active":
            assert probe.transition("deactivate")
        target = self._defaults | parameters
        current = self._values(list(target))
        changes = {name: target[name] for name in target if str(current[name]) != str(target[name])}
        if changes:
            assert set_parameters(probe, **changes) == (True, "")
        if probe.lifecycle_state() == "unconfigured":
            assert probe.transition("configure")
            sleep(DISCOVERY_S)
        probe.wait_goals_subscribed()
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
    """The shared controller that this test uses; None if it has its own."""
    names = [name for name in SHARED if name in request.fixturenames]
    return request.getfixturevalue(names[0]) if names else None


def as_plain(value: object) -> object:
    """Convert array parameters to lists."""
    return value if isinstance(value, str) or not hasattr(value, "__iter__") else list(value)
