"""sim.launch.py: the robot moves as commanded, stops when commands stop, exits cleanly."""

# ruff: noqa: PT009 (unittest runs this, and its assertions say what they saw)

import sys
import unittest
from pathlib import Path
from time import sleep

import launch_testing
import numpy as np
from launch import LaunchDescription
from launch.actions import IncludeLaunchDescription
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import PathJoinSubstitution
from launch_ros.substitutions import FindPackageShare
from launch_testing.actions import ReadyToTest
from sensor_msgs.msg import JointState
from std_msgs.msg import Float64MultiArray

from polyreach_description import load_robot

sys.path.insert(0, str(Path(__file__).parents[1]))
from scenarios import Probe

SPEED = 0.08  # [rad/s or m/s]; the lift of dual7 has 0.2 m


@launch_testing.parametrize("robot", ["planar8", "humanoid27", "dual7"])
def generate_test_description(robot: str) -> LaunchDescription:
    """The simulator alone."""
    path = PathJoinSubstitution([FindPackageShare("polyreach"), "launch", "sim.launch.py"])
    arguments = {"robot": robot}
    simulator = IncludeLaunchDescription(
        PythonLaunchDescriptionSource(path), launch_arguments=arguments.items()
    )
    return LaunchDescription([simulator, ReadyToTest()])


class SimTest(unittest.TestCase):
    """While the simulator runs."""

    def test_all_joint_states_are_published(self, robot: str) -> None:
        """All joints of the model are published, the controlled ones at home."""
        wanted = load_robot(robot)
        messages: list[JointState] = []
        with Probe(wanted) as probe:
            probe.node.create_subscription(JointState, "joint_states", messages.append, 10)
            probe.wait(lambda: len(messages) > 10 and probe.joint_pos is not None, "joint states")
            np.testing.assert_allclose(probe.joint_pos, wanted.home, atol=0.01)
        self.assertEqual(len(set(messages[-1].name)), wanted.model.njnt)
        self.assertEqual(len(messages[-1].position), wanted.model.njnt)

    def test_the_first_joint_moves_and_stops(self, robot: str) -> None:
        """The first joint follows its command, alone, and holds when commands end."""
        with Probe(load_robot(robot)) as probe:
            publisher = probe.node.create_publisher(
                Float64MultiArray, "polyreach_controller/commands", 1
            )
            probe.wait(lambda: probe.joint_pos is not None, "joint states")
            start = probe.joint_pos
            assert start is not None
            command = Float64MultiArray(data=[SPEED] + [0.0] * (len(start) - 1))
            for _ in range(100):
                publisher.publish(command)
                sleep(0.02)
            sleep(0.5)
            stopped = probe.joint_pos
            sleep(0.5)
            later = probe.joint_pos
        assert stopped is not None and later is not None
        moved = stopped - start
        self.assertGreater(moved[0], 0.12)
        self.assertLess(moved[0], 0.24)
        np.testing.assert_allclose(moved[1:], 0.0, atol=0.02)
        np.testing.assert_allclose(later, stopped, atol=0.005)


@launch_testing.post_shutdown_test()
class SimExitTest(unittest.TestCase):
    """After SIGINT."""

    def test_exit_code(self, proc_info: launch_testing.ProcInfoHandler) -> None:
        """Exit code 0."""
        self.assertEqual(len(proc_info.process_names()), 1)
        launch_testing.asserts.assertExitCodes(proc_info, allowable_exit_codes=[0])
