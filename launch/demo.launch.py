"""Simulator, controller and goals; the exit code reports whether all goals were reached."""

from launch import LaunchContext, LaunchDescription
from launch.actions import RegisterEventHandler, Shutdown
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
)
from polyreach_nodes.parameters import ControllerParameters, DemoParameters


def generate_launch_description() -> LaunchDescription:
    """The launch ends when any process ends, with exit code 1 unless all goals were reached.

    With autostart:=false, configure and activate the controller within 30 s.
    """
    names = [spec.name for spec in launch_specs(DemoParameters)]
    scenario = node("demo_node", parameters=[parameter_values(DemoParameters)])
    commands = IfElseSubstitution(
        LaunchConfiguration("watchdog"), "commands", "polyreach_controller/commands"
    )

    def on_process_exit(event: ProcessExited, context: LaunchContext) -> Shutdown | None:
        """Raise an exception, which makes `ros2 launch` exit with 1."""
        if event.returncode:
            raise RuntimeError(f"'{event.process_name}' ended with exit code {event.returncode}")
        if context.is_shutdown:
            return None
        if event.action is not scenario:
            raise RuntimeError(f"'{event.process_name}' ended before the scenario")
        return Shutdown(reason="the scenario succeeded")

    return LaunchDescription(
        [
            *declare(
                *(*CONTROLLER, *names),
                robot=DemoParameters.robot,
                command_interface=ControllerParameters.command_interface,
            ),
            # handlers run last first: this one after those that write what a process printed
            RegisterEventHandler(OnProcessExit(on_exit=on_process_exit)),
            include("sim.launch.py", "robot", "command_interface", *COMMON, commands=commands),
            include("controller.launch.py", *CONTROLLER, "watchdog"),
            scenario,
        ]
    )
