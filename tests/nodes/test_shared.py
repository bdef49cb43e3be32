"""The controller shared by tests is in its initial state for each of them."""

import signal

import numpy as np
from rig import FakeHardware, move, set_parameters
from scenarios import Probe
from sensor_msgs.msg import JointState
from shared import SharedController

from polyreach_description import Robot


def test_the_shared_controller_is_reset_between_tests(
    shared: SharedController, probe: Probe, hardware: FakeHardware, planar8: Robot
) -> None:
    shared.reset({})
    probe.node.create_subscription(JointState, "joint_states", lambda _: None, 10)
    topics = len(list(probe.node.subscriptions))
    workspace = [-3.0, -3.0, -1.0, 3.0, 3.0, 1.0]
    assert set_parameters(probe, speed_scale=0.0, workspace=workspace) == (True, "")
    probe.send_goal("left", planar8.forward_kinematics(planar8.home + 0.3)[0])
    probe.wait(lambda: probe.value("goal/left") != "", "the goal")
    probe.call("halt")
    hardware.fault = lambda message: None
    for transitions in ((), ("deactivate",), ("deactivate", "cleanup")):
        for name in transitions:
            assert probe.transition(name)
        shared.reset({"tolerance": 0.01})
        assert len(list(probe.node.subscriptions)) < topics
        assert probe.value("state") == "IDLE" and probe.value("goal/left") == ""
        assert np.array_equal(hardware.position, planar8.home)
        assert all(command.is_zero for command in probe.commands)
        move(probe, 0.3)


def test_a_controller_that_ended_is_restarted(
    shared: SharedController, hardware: FakeHardware
) -> None:
    shared.controller.stop(signal.SIGKILL)
    shared.healthy = True
    shared.ensure()
    assert shared.controller.popen.poll() is None
    shared.reset({})
    move(shared.probe, 0.3)
