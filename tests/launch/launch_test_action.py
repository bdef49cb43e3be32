"""bringup.launch.py with action:=true: the action reaches goals and succeeds."""

# ruff: noqa: PT009 (unittest runs this, and its assertions say what they saw)

import sys
import unittest
from importlib.util import find_spec
from pathlib import Path
from time import sleep

import launch_testing
from geometry_msgs.msg import PoseStamped
from launch import LaunchDescription
from launch.actions import IncludeLaunchDescription
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import PathJoinSubstitution
from launch_ros.substitutions import FindPackageShare
from launch_testing.actions import ReadyToTest
from rclpy.action import ActionClient

from polyreach_description import load_robot

sys.path.insert(0, str(Path(__file__).parents[1]))
from scenarios import DISCOVERY_S, WAIT_S, Probe, reachable_goals

BUILT = find_spec("polyreach_interfaces") is not None


def generate_test_description() -> LaunchDescription:
    """Simulator, controller and action server."""
    path = PathJoinSubstitution([FindPackageShare("polyreach"), "launch", "bringup.launch.py"])
    arguments = {"robot": "planar8", "action": str(BUILT).lower()}
    bringup = IncludeLaunchDescription(
        PythonLaunchDescriptionSource(path), launch_arguments=arguments.items()
    )
    return LaunchDescription([bringup, ReadyToTest()])


@unittest.skipUnless(BUILT, "polyreach_interfaces is not built")
class ActionTest(unittest.TestCase):
    """While all three run."""

    def test_all_effectors_reach_their_goals(self) -> None:
        """Feedback comes, and the result is a success with small errors."""
        from polyreach_interfaces.action import ReachGoals

        robot = load_robot("planar8")
        wanted = reachable_goals(robot, 3, 1)[0]
        goal = ReachGoals.Goal(effectors=list(wanted), tolerance=0.02, timeout=20.0)
        for position in wanted.values():
            pose = PoseStamped()
            point = pose.pose.position
            point.x, point.y, point.z = (float(value) for value in position)
            goal.poses.append(pose)
        feedback: list[object] = []
        with Probe(robot) as probe:
            client = ActionClient(probe.node, ReachGoals, "polyreach_controller/reach")
            self.assertTrue(client.wait_for_server(WAIT_S))
            probe.wait_state("IDLE")
            sleep(DISCOVERY_S)
            sent = client.send_goal_async(goal, feedback_callback=feedback.append)
            probe.wait(sent.done, "the answer to the goal")
            answer = sent.result().get_result_async()
            probe.wait(answer.done, "the result")
        result = answer.result().result
        self.assertTrue(result.success, result.message)
        self.assertLess(max(result.errors), 0.02)
        self.assertGreater(len(feedback), 2)


@launch_testing.post_shutdown_test()
class ActionExitTest(unittest.TestCase):
    """After SIGINT."""

    def test_exit_codes(self, proc_info: launch_testing.ProcInfoHandler) -> None:
        """Exit code 0 of all."""
        self.assertEqual(len(proc_info.process_names()), 2 + BUILT)
        launch_testing.asserts.assertExitCodes(proc_info, allowable_exit_codes=[0])
