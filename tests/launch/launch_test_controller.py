"""controller.launch.py: starts as set by autostart, accepts transitions, exits cleanly."""

# ruff: noqa: PT009 (unittest runs this, and its assertions say what they saw)

import sys
import unittest
from pathlib import Path

import launch_testing
from launch import LaunchDescription
from launch.actions import IncludeLaunchDescription
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import PathJoinSubstitution
from launch_ros.substitutions import FindPackageShare
from launch_testing.actions import ReadyToTest
from rcl_interfaces.srv import GetParameters

from polyreach_description import load_robot

sys.path.insert(0, str(Path(__file__).parents[1]))
from scenarios import WAIT_S, Probe

NAMESPACE = "arm"
CONTROLLER = f"/{NAMESPACE}/polyreach_controller"


@launch_testing.parametrize("robot, autostart", [("planar8", "true"), ("humanoid27", "false")])
def generate_test_description(robot: str, autostart: str) -> LaunchDescription:
    """The controller in a namespace, without joint states."""
    path = PathJoinSubstitution([FindPackageShare("polyreach"), "launch", "controller.launch.py"])
    arguments = {"robot": robot, "autostart": autostart, "namespace": NAMESPACE}
    controller = IncludeLaunchDescription(
        PythonLaunchDescriptionSource(path), launch_arguments=arguments.items()
    )
    return LaunchDescription([controller, ReadyToTest()])


class ControllerTest(unittest.TestCase):
    """While the controller runs."""

    def test_lifecycle(self, robot: str, autostart: str) -> None:
        """Reaches the state asked for, then goes through all others and back to active."""
        with Probe(load_robot(robot), controller=CONTROLLER) as probe:
            if autostart == "false":
                self.assertEqual(probe.lifecycle_state(), "unconfigured")
                self.assertTrue(probe.transition("configure"))
                self.assertEqual(probe.lifecycle_state(), "inactive")
                self.assertTrue(probe.transition("activate"))
            self.assertEqual(probe.lifecycle_state(), "active")
            for transition, state in (
                ("deactivate", "inactive"),
                ("cleanup", "unconfigured"),
                ("configure", "inactive"),
                ("activate", "active"),
            ):
                self.assertTrue(probe.transition(transition))
                self.assertEqual(probe.lifecycle_state(), state)

    def test_zero_without_joint_states(self, robot: str, autostart: str) -> None:
        """Commands every control period, all zero."""
        with Probe(load_robot(robot), controller=CONTROLLER) as probe:
            probe.wait(lambda: len(probe.commands) >= 20, "20 commands")
            self.assertTrue(all(command.is_zero for command in probe.commands))
            self.assertEqual(probe.value("state"), "WAITING")

    def test_parameters(self, robot: str, autostart: str) -> None:
        """The launch arguments reach the node, the shipped parameter file too."""
        with Probe(load_robot(robot), controller=CONTROLLER) as probe:
            client = probe.node.create_client(GetParameters, f"{CONTROLLER}/get_parameters")
            self.assertTrue(client.wait_for_service(WAIT_S))
            names = ["robot", "autostart", "use_sim_time", "tolerance"]
            future = client.call_async(GetParameters.Request(names=names))
            probe.wait(future.done, "parameters")
            values = future.result().values
        self.assertEqual(values[0].string_value, robot)
        self.assertEqual(values[1].bool_value, autostart == "true")
        self.assertFalse(values[2].bool_value)
        self.assertAlmostEqual(values[3].double_value, 0.02)


@launch_testing.post_shutdown_test()
class ControllerExitTest(unittest.TestCase):
    """After SIGINT."""

    def test_exit_code(self, proc_info: launch_testing.ProcInfoHandler) -> None:
        """Exit code 0 in the active state."""
        self.assertEqual(len(proc_info.process_names()), 1)
        launch_testing.asserts.assertExitCodes(proc_info, allowable_exit_codes=[0])
