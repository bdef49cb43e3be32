"""Run simulator, controller and page on one machine: dragging the goals moves the robot."""

import math
import tempfile
from dataclasses import dataclass
from pathlib import Path
from time import monotonic

from polyreach_nodes.demo.processes import (
    DemoError,
    Parameters,
    Processes,
    checked_policy,
    start_robot,
    terminate_as_interrupt,
)
from polyreach_nodes.parameters import CommandInterface
from polyreach_nodes.view.program import RANDOM


@dataclass(frozen=True)
class ViewConfig:
    """Robot, policy and address of a page."""

    robot: str = "planar8"
    """Shipped robot name or path of a robot.yaml."""
    policy: Path | None = None
    """Policy file; None: the robot's shipped one."""
    seconds: float | None = None
    """Time after which the page ends [s]; None: at Ctrl-C."""
    host: str = "127.0.0.1"
    """Address that the page listens on; anyone who can reach it can move the robot."""
    port: int = 8080
    """Port of the page; 0: any free port."""
    goals: str = RANDOM
    """Who sets the goals at first: by hand, random goals or moving goals."""
    watchdog: bool = False
    """Send the commands through the command watchdog."""
    command_interface: str = CommandInterface.VELOCITY
    """What is commanded: velocity, position or trajectory."""


def run_view(config: ViewConfig) -> None:
    """Run the processes in a ROS domain of their own, until Ctrl-C or the time is up.

    The page prints its address. Raises RobotError or ContractError for a wrong robot or policy,
    ValueError for a wrong command interface, DemoError if a process failed.
    """
    policy = checked_policy(config.robot, config.policy)
    seconds = math.inf if config.seconds is None else config.seconds
    parameters: Parameters = {
        "robot": config.robot,
        "host": config.host,
        "port": config.port,
        "goals": config.goals,
    }
    with tempfile.TemporaryDirectory(prefix="polyreach-view-") as folder:
        try:
            with terminate_as_interrupt(), Processes(Path(folder)) as processes:
                start_robot(
                    processes, config.robot, policy, config.watchdog, config.command_interface
                )
                view = processes.start("view_node", parameters, on_terminal=True)
                end_s = monotonic() + seconds
                try:
                    processes.wait(view, timeout_s=seconds)
                except DemoError:
                    if monotonic() < end_s:
                        raise
                    return
                if view.returncode != 0:
                    raise DemoError(f"the page ended\n{processes.tail()}")
        except KeyboardInterrupt:
            return
