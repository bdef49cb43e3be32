"""Run simulator, controller and demo node on one machine, and return what the demo measured."""

import tempfile
from dataclasses import dataclass
from pathlib import Path

from polyreach_description.closed_output import CLOSED_OUTPUT, OutputClosed
from polyreach_description.printable import printable
from polyreach_nodes.demo.processes import (
    READY_S,
    DemoError,
    Processes,
    checked_policy,
    start_robot,
    terminate_as_interrupt,
)
from polyreach_nodes.demo.result import DemoResult
from polyreach_nodes.parameters import CommandInterface


@dataclass(frozen=True)
class DemoConfig:
    """Settings of a demo."""

    robot: str = "planar8"
    """Shipped robot name or path of a robot.yaml."""
    policy: Path | None = None
    """Policy file; None: the robot's shipped one."""
    seconds: float = 60.0
    """Time for all goals together [s]."""
    goal_sets: int = 5
    """Number of goal sets; a set has one goal per effector, all sent at once."""
    seed: int = 0
    """Seed of the goals."""
    tolerance: float = 0.02
    """Error below which a goal counts as reached [m]."""
    picture: Path | None = None
    """Where to write a PNG of the motion."""
    json: Path | None = None
    """Where to write the result as JSON."""
    live: bool = True
    """Show errors and the result on the terminal."""
    watchdog: bool = False
    """Send the commands through the command watchdog."""
    command_interface: str = CommandInterface.VELOCITY
    """What is commanded: velocity, position or trajectory."""


def run_demo(config: DemoConfig) -> DemoResult:
    """Run the processes in a ROS domain of their own on this host, and end them all.

    Raises RobotError or ContractError for a wrong robot or policy, ValueError for a wrong command
    interface, DemoError if a process failed, OutputClosed if the terminal was closed.
    """
    policy = checked_policy(config.robot, config.policy)
    if config.live:
        print(f"starting simulator and controller of {printable(config.robot)}", flush=True)
    with tempfile.TemporaryDirectory(prefix="polyreach-demo-") as folder, terminate_as_interrupt():
        result_path = Path(folder) / "result.json"
        parameters = {
            "robot": config.robot,
            "seconds": float(config.seconds),
            "goal_sets": config.goal_sets,
            "seed": config.seed,
            "tolerance": float(config.tolerance),
            "picture": str(config.picture or ""),
            "json": str(result_path),
            "live": config.live,
            "watchdog": config.watchdog,
        }
        with Processes(Path(folder)) as processes:
            start_robot(processes, config.robot, policy, config.watchdog, config.command_interface)
            demo = processes.start("demo_node", parameters, on_terminal=config.live)
            processes.wait(demo, timeout_s=READY_S + config.seconds + 30.0)
            if demo.returncode == CLOSED_OUTPUT:
                raise OutputClosed
            if not result_path.is_file():
                raise DemoError(f"the demo ended without a result\n{processes.tail()}")
        result = DemoResult.read(result_path)
    if config.json is not None:
        result.write(config.json)
    return result
