"""Requests that no node expects, and policies that do not return: the process survives or ends."""

import signal
import sys
from pathlib import Path
from time import monotonic

import pytest
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from rcl_interfaces.msg import Parameter, ParameterValue
from rcl_interfaces.srv import SetParameters
from rig import (
    SLOW_GOAL,
    FakeHardware,
    Launcher,
    Process,
    move,
    set_parameter,
    slow_controller,
)
from scenarios import Probe, assert_within_limits

pytestmark = pytest.mark.fault
SCHEDULING_S = 0.5  # what a busy machine may add


def change_state(probe: Probe, transition: int, label: str = "") -> bool:
    """The answer to ~/change_state."""
    client = probe.node.create_client(ChangeState, f"{probe.controller}/change_state")
    request = ChangeState.Request(transition=Transition(id=transition, label=label))
    future = probe._ready(client).call_async(request)
    probe.wait(future.done, f"answer to transition {transition}")
    return future.result().success


@pytest.mark.parametrize(
    ("transition", "label"),
    [
        (Transition.TRANSITION_CREATE, ""),
        (Transition.TRANSITION_CONFIGURE, ""),
        (Transition.TRANSITION_CLEANUP, ""),
        (Transition.TRANSITION_ACTIVATE, ""),
        (99, ""),
        (255, ""),
        (0, "nonsense"),
        (0, "configure"),
    ],
)
def test_an_illegal_transition_is_rejected_and_the_motion_continues(
    controller: Process, hardware: FakeHardware, probe: Probe, transition: int, label: str
) -> None:
    move(probe, 0.5)
    assert not change_state(probe, transition, label)
    assert probe.lifecycle_state() == "active"
    move(probe, -0.5)
    assert controller.popen.poll() is None
    assert_within_limits(probe.robot, probe.commands)


def test_a_parameter_of_a_type_that_ros_does_not_know(
    controller: Process, hardware: FakeHardware, probe: Probe
) -> None:
    """rclpy 7.1.6 raises in its own service; there is no answer, but the motion continues."""
    move(probe, 0.5)
    client = probe.node.create_client(SetParameters, f"{probe.controller}/set_parameters")
    wrong = Parameter(name="tolerance", value=ParameterValue(type=77))
    probe._ready(client).call_async(SetParameters.Request(parameters=[wrong]))
    probe.wait(lambda: "77 is not a valid" in controller.output, "the error in the log")
    move(probe, -0.5)
    assert set_parameter(probe, "tolerance", 0.01) == (True, "")
    assert controller.popen.poll() is None


@pytest.mark.parametrize("name", ["robot", "policy"])
def test_a_file_that_fails_unexpectedly_is_a_rejected_parameter(
    start: Launcher, probe: Probe, tmp_path: Path, name: str
) -> None:
    """An unexpected exception while loading."""
    script = tmp_path / "controller"
    script.write_text(
        f"#!{sys.executable}\n"
        "import sys\n"
        "from polyreach_nodes import controller_node\n"
        "def fail(*_):\n"
        "    raise RecursionError('nested too deeply')\n"
        "configured = controller_node.ControllerNode.on_configure\n"
        "def on_configure(self, state):\n"
        "    result = configured(self, state)\n"
        "    controller_node._load_policy = fail\n"
        "    return result\n"
        "controller_node.ControllerNode.on_configure = on_configure\n"
        f"if {name == 'robot'}:\n"
        "    controller_node.load_robot = fail\n"
        "sys.exit(controller_node.main())\n"
    )
    script.chmod(0o755)
    process = start(str(script), {})
    if name == "policy":
        assert probe.transition("configure")
    taken, reason = set_parameter(probe, name, "/tmp/any.yaml")
    assert not taken
    assert reason == "RecursionError: nested too deeply"
    assert process.popen.poll() is None


def test_a_policy_that_never_returns_does_not_survive_a_signal(
    start: Launcher, hardware: FakeHardware, probe: Probe, tmp_path: Path
) -> None:
    process = start(slow_controller(tmp_path, 3600.0), {"autostart": True})
    move(probe, 0.8)
    probe.send_goal("left", SLOW_GOAL)
    probe.wait(
        lambda: monotonic() - probe.commands[-1].time_s > 0.3, "no more commands", timeout_s=10.0
    )
    assert not probe.commands[-1].is_zero, "the last command moves the robot"
    signalled_s = monotonic()
    assert process.stop(signal.SIGTERM, timeout_s=10.0) == 1
    assert monotonic() - signalled_s < 2.0 + 0.2 + SCHEDULING_S
    assert "did not react" in process.output
    probe.wait(lambda: probe.commands[-1].is_zero, "a last zero from another thread", timeout_s=2.0)


def test_an_idle_node_ends_at_a_signal(start: Launcher, probe: Probe) -> None:
    """An unconfigured controller has no timers that would wake it."""
    process = start("controller_node", {})
    probe.wait_state("UNCONFIGURED")
    assert process.stop(signal.SIGTERM, timeout_s=10.0) == 0
    assert "did not react" not in process.output
