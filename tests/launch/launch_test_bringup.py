"""bringup.launch.py with sim:=true: goals are reached at the requested speed."""

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

from polyreach_description import load_robot

sys.path.insert(0, str(Path(__file__).parents[1]))
from scenarios import Probe, assert_reaches, assert_within_limits

SPEED_SCALE = 0.4


@launch_testing.parametrize("robot, watchdog", [("planar8", ""), ("humanoid27", "true")])
def generate_test_description(robot: str, watchdog: str) -> LaunchDescription:
    """The default of sim, at reduced speed."""
    path = PathJoinSubstitution([FindPackageShare("polyreach"), "launch", "bringup.launch.py"])
    arguments = {
        "robot": robot,
        "speed_scale": str(SPEED_SCALE),
        "watchdog": watchdog,
        "params_file": str(Path(__file__).with_name("patient.yaml")),
    }
    bringup = IncludeLaunchDescription(
        PythonLaunchDescriptionSource(path), launch_arguments=arguments.items()
    )
    return LaunchDescription([bringup, ReadyToTest()])


class BringupTest(unittest.TestCase):
    """While simulator and controller run, with the command watchdog between them or without."""

    def test_goals_are_reached_slowly(self, robot: str, watchdog: str) -> None:
        """All effectors at once; no command is faster than speed_scale allows."""
        wanted = load_robot(robot)
        with Probe(wanted) as probe:
            probe.wait_state("IDLE")
            probe.wait_goals_subscribed()
            goals = wanted.forward_kinematics(wanted.home + 0.2 * np.sign(0.01 - wanted.home))
            assert_reaches(probe, dict(zip(wanted.effector_names, goals, strict=True)))
            assert_within_limits(wanted, probe.commands)
            share = max(np.max(abs(c.joint_vel) / wanted.joint_vel_limits) for c in probe.commands)
        self.assertGreater(share, 0.1)
        self.assertLessEqual(share, SPEED_SCALE + 1e-9)


@launch_testing.post_shutdown_test()
class BringupExitTest(unittest.TestCase):
    """After SIGINT."""

    def test_exit_codes(
        self, proc_info: launch_testing.ProcInfoHandler, robot: str, watchdog: str
    ) -> None:
        """Exit code 0 of all."""
        self.assertEqual(len(proc_info.process_names()), 2 + (watchdog == "true"))
        launch_testing.asserts.assertExitCodes(proc_info, allowable_exit_codes=[0])
