"""Simulator, controller and page on one machine: the robot is moved by dragging its goals."""

import math
import tempfile
from dataclasses import dataclass
from pathlib import Path
from time import monotonic

from polyreach_description import load_robot
from polyreach_nodes.control.policy import Policy, find_policy
from polyreach_nodes.demo.demo import DemoError, Processes, start_robot, terminate_as_interrupt


@dataclass(frozen=True)
class ViewConfig:
    """What is shown, and where."""

    robot: str = "planar8"
    """Shipped robot name or path of a robot.yaml."""
    policy: Path | None = None
    """Policy file; None: the robot's shipped one."""
    seconds: float | None = None
    """Time after which it ends [s]; None: when it is interrupted."""
    host: str = "127.0.0.1"
    """Address to listen on; who can reach it can move the robot."""
    port: int = 8080
    """To listen on; 0: any free one."""
    watchdog: bool = False
    """Send the commands through the command watchdog."""


def run_view(config: ViewConfig) -> None:
    """Run simulator, controller and page in their own ROS domain, until Ctrl-C or the time is up.

    The page prints its address. Raises RobotError or ContractError for a wrong robot or policy,
    DemoError if a process failed.
    """
    robot = load_robot(config.robot)
    policy = Path(config.policy or find_policy(robot.name)).resolve()
    Policy.load(policy, robot)
    seconds = math.inf if config.seconds is None else config.seconds
    sim_parameters = {"robot": config.robot}
    controller_parameters = {"robot": config.robot, "policy": str(policy), "autostart": True}
    view_parameters = {"robot": config.robot, "host": config.host, "port": config.port}
    with tempfile.TemporaryDirectory(prefix="polyreach-view-") as folder:
        try:
            with terminate_as_interrupt(), Processes(Path(folder)) as processes:
                start_robot(processes, sim_parameters, controller_parameters, config.watchdog)
                view = processes.start("view_node", view_parameters, on_terminal=True)
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
