"""sim.launch.py and controller.launch.py: goals are reached with every effector at once."""

# ruff: noqa: PT009 (unittest runs this, and its assertions say what they saw)

import sys
import unittest
from pathlib import Path

import launch_testing
import numpy as np
from launch import LaunchDescription
from launch.actions import IncludeLaunchDescription
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import PathJoinSubstitution
from launch_ros.substitutions import FindPackageShare
from launch_testing.actions import ReadyToTest
from sensor_msgs.msg import JointState

from polyreach_description import load_robot

sys.path.insert(0, str(Path(__file__).parents[1]))
from scenarios import Probe, assert_reaches, assert_within_limits, reachable_goals

SEED = 3
GOAL_SETS = 2


@launch_testing.parametrize(
    "robot, namespace, use_sim_time",
    [("planar8", "", "false"), ("planar8", "/arm", "true"), ("humanoid27", "", "false")],
)
def generate_test_description(robot: str, namespace: str, use_sim_time: str) -> LaunchDescription:
    """Simulator and controller with the shipped policy."""
    arguments = {"robot": robot, "namespace": namespace, "use_sim_time": use_sim_time}
    folder = PathJoinSubstitution([FindPackageShare("polyreach"), "launch"])
    included = [
        IncludeLaunchDescription(
            PythonLaunchDescriptionSource(PathJoinSubstitution([folder, name])),
            launch_arguments=arguments.items(),
        )
        for name in ("sim.launch.py", "controller.launch.py")
    ]
    return LaunchDescription([*included, ReadyToTest()])


class ReachTest(unittest.TestCase):
    """While both run."""

    def test_goals_are_reached(self, robot: str, namespace: str, use_sim_time: str) -> None:
        """Two sets, one goal per effector each, with all commands within the limits."""
        wanted = load_robot(robot)
        with Probe(wanted, controller=f"{namespace}/polyreach_controller") as probe:

            def on_joint_state(message: JointState) -> None:
                position = dict(zip(message.name, message.position, strict=True))
                probe.joint_pos = np.array([position[name] for name in wanted.joint_names])

            probe.node.create_subscription(
                JointState, f"{namespace}/joint_states", on_joint_state, 10
            )
            probe.wait(lambda: probe.joint_pos is not None, "joint states")
            probe.wait_state("IDLE")
            probe.wait_goals_subscribed()
            for goals in reachable_goals(wanted, SEED, GOAL_SETS):
                assert_reaches(probe, goals)
            assert_within_limits(wanted, probe.commands)


@launch_testing.post_shutdown_test()
class ReachExitTest(unittest.TestCase):
    """After SIGINT."""

    def test_exit_codes(self, proc_info: launch_testing.ProcInfoHandler) -> None:
        """Exit code 0 of both."""
        self.assertEqual(len(proc_info.process_names()), 2)
        launch_testing.asserts.assertExitCodes(proc_info, allowable_exit_codes=[0])
