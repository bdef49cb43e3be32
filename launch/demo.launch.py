"""Simulator, controller and goals; the exit code reports whether all goals were reached."""

from launch import LaunchContext, LaunchDescription
from launch.action import Action
from launch.actions import GroupAction, LogInfo, RegisterEventHandler, Shutdown
from launch.conditions import IfCondition
from launch.event_handlers import OnProcessExit
from launch.events.process import ProcessExited
from launch.substitutions import IfElseSubstitution, LaunchConfiguration

from polyreach_nodes.launch_arguments import (
    COMMON,
    CONTROLLER,
    declare,
    include,
    launch_specs,
    node,
    parameter_values,
    text,
)
from polyreach_nodes.launch_robot import is_viewer
from polyreach_nodes.parameters import ControllerParameters, DemoParameters


def generate_launch_description() -> LaunchDescription:
    """The launch ends when any process ends, with exit code 1 unless all goals were reached; with
    RViz, which may be closed before, not until it is closed.

    With autostart:=false, configure and activate the controller within 30 s.
    """
    names = [spec.name for spec in launch_specs(DemoParameters)]
    scenario = node("demo_node", parameters=[parameter_values(DemoParameters)])
    commands = IfElseSubstitution(
        LaunchConfiguration("watchdog"), "commands", "polyreach_controller/commands"
    )
    viewer = GroupAction(
        [include("rviz.launch.py", "robot", "urdf", *COMMON)],
        condition=IfCondition(LaunchConfiguration("rviz")),
    )
    ended: list[str] = []  # of scenario and viewer

    def on_process_exit(event: ProcessExited, context: LaunchContext) -> Action | None:
        """Raise an exception, which makes `ros2 launch` exit with 1."""
        if event.returncode and not is_viewer(event):
            raise RuntimeError(f"'{event.process_name}' ended with exit code {event.returncode}")
        if context.is_shutdown:
            return None
        if event.action is not scenario and not is_viewer(event):
            raise RuntimeError(f"'{event.process_name}' ended before the scenario")
        ended.append(event.process_name)
        if len(ended) == 1 + (text(context, "rviz").lower() == "true"):
            return Shutdown(reason="the scenario succeeded")
        return LogInfo(msg="close RViz to end") if event.action is scenario else None

    return LaunchDescription(
        [
            *declare(
                *(*CONTROLLER, *names, "rviz", "urdf"),
                robot=DemoParameters.robot,
                command_interface=ControllerParameters.command_interface,
            ),
            # handlers run last first: this one after those that write what a process printed
            RegisterEventHandler(OnProcessExit(on_exit=on_process_exit)),
            viewer,  # first: a missing RViz must show before the robot starts
            include("sim.launch.py", "robot", "command_interface", *COMMON, commands=commands),
            include("controller.launch.py", *CONTROLLER, "watchdog"),
            scenario,
        ]
    )
