"""The main job on one machine: simulator, controller and goals, three processes over ROS 2."""

import ctypes
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from time import monotonic, sleep
from typing import IO, Any

import yaml

from polyreach_description import load_robot
from polyreach_description.closed_output import CLOSED_OUTPUT, OutputClosed
from polyreach_nodes.control.policy import Policy, find_policy
from polyreach_nodes.ros.middleware import loopback_environment

PR_SET_PDEATHSIG = 1  # of linux/prctl.h
STOP_S = 5.0  # [s] for a process to end by itself
READY_S = 30.0  # [s] for the controller to start
WATCHDOG_TIMEOUT_S = 0.1  # [s] other programs may hold the controller of a demo up for a while
LOG_TAIL = 2000  # characters of the other processes' output that a failure shows


class DemoError(RuntimeError):
    """The demo could not run to its end."""


@dataclass(frozen=True)
class DemoConfig:
    """What the demo does."""

    robot: str = "planar8"
    """Shipped robot name or path of a robot.yaml."""
    policy: Path | None = None
    """Policy file; None: the robot's shipped one."""
    seconds: float = 60.0
    """Time for all goals together [s]."""
    goal_sets: int = 5
    """Sets of goals, one goal per effector each, all at once."""
    seed: int = 0
    """Of the goals."""
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


@dataclass(frozen=True)
class DemoResult:
    """What came of it; S goal sets, E effectors."""

    robot: str
    effectors: list[str]
    errors_mm: list[list[float]]  # (S, E) at the end of each set
    tolerance_mm: float
    set_seconds: list[float]  # (S,)
    set_status: list[str]  # (S,) the controller's message at the end of each set
    goals: int  # wanted; more than errors_mm holds if the time was up
    median_error_mm: float
    period_p50_ms: float
    period_p99_ms: float

    @property
    def reached(self) -> int:
        """How many goals were within the tolerance."""
        return sum(error <= self.tolerance_mm for row in self.errors_mm for error in row)

    @property
    def success(self) -> bool:
        """Whether all were."""
        return self.goals > 0 and self.reached == self.goals

    def missed(self) -> list[str]:
        """A line for each set with a goal that was missed, with what the controller said."""
        return [
            f"set {number}/{len(self.errors_mm)} missed; the controller: {status}"
            for number, (errors, status) in enumerate(
                zip(self.errors_mm, self.set_status, strict=True), start=1
            )
            if max(errors) > self.tolerance_mm
        ]

    def line(self) -> str:
        """The result in one line."""
        return (
            f"reached {self.reached}/{self.goals} goals, "
            f"median error {self.median_error_mm:.1f} mm, "
            f"control period p50/p99 {self.period_p50_ms:.1f}/{self.period_p99_ms:.1f} ms"
        )

    def to_dict(self) -> dict[str, Any]:
        """All fields, and what follows from them."""
        return {**asdict(self), "reached": self.reached, "success": self.success}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "DemoResult":
        """The inverse of to_dict."""
        return cls(
            **{key: value for key, value in values.items() if key not in ("reached", "success")}
        )


def run_demo(config: DemoConfig) -> DemoResult:
    """Run simulator, controller and goals in their own ROS domain on this host, and end them all.

    Raises RobotError or ContractError for a wrong robot or policy, DemoError if a process failed,
    OutputClosed if nobody reads the terminal any more.
    """
    robot = load_robot(config.robot)
    policy = config.policy or find_policy(robot.name)
    Policy.load(policy, robot)
    with tempfile.TemporaryDirectory(prefix="polyreach-demo-") as folder, terminate_as_interrupt():
        result_path = Path(folder) / "result.json"
        sim_parameters = {"robot": config.robot}
        controller_parameters = {
            "robot": config.robot,
            "policy": str(Path(policy).resolve()),
            "autostart": True,
        }
        scenario_parameters = {
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
            start_robot(processes, sim_parameters, controller_parameters, config.watchdog)
            scenario = processes.start("demo_node", scenario_parameters, on_terminal=config.live)
            processes.wait(scenario, timeout_s=READY_S + config.seconds + 30.0)
            if scenario.returncode == CLOSED_OUTPUT:
                raise OutputClosed
            if not result_path.is_file():
                raise DemoError(f"the demo ended without a result\n{processes.tail()}")
        result = DemoResult.from_dict(json.loads(result_path.read_text()))
        if config.json is not None:
            config.json.write_text(json.dumps(result.to_dict(), indent=2) + "\n")
    return result


class Processes:
    """Child processes that write to one log and end together."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._children: dict[str, subprocess.Popen[bytes]] = {}
        self._log_path = folder / "nodes.log"
        self._log: IO[bytes] = self._log_path.open("wb")
        self._environment = {
            **loopback_environment(os.environ),
            "ROS_DOMAIN_ID": str(1 + os.getpid() % 100),
            "OMP_NUM_THREADS": "1",
        }

    def __enter__(self) -> "Processes":
        return self

    def start(
        self, module: str, parameters: dict[str, Any], remap: str = "", on_terminal: bool = False
    ) -> "subprocess.Popen[bytes]":
        """Start a node of this package with parameters."""
        path = self._folder / f"{module}.yaml"
        path.write_text(yaml.safe_dump({"/**": {"ros__parameters": parameters}}))
        command = [
            sys.executable,
            "-m",
            f"polyreach_nodes.{module}",
            "--ros-args",
            "--params-file",
            str(path),
        ]
        command += ["-r", f"__ns:=/polyreach_demo_{os.getpid()}"]
        command += ["-r", remap] if remap else []
        output = None if on_terminal else self._log
        child = subprocess.Popen(
            command,
            env=self._environment,
            stdout=output,
            stderr=self._log,
            preexec_fn=_end_with_parent,
        )
        self._children[module] = child
        return child

    def wait(self, main: "subprocess.Popen[bytes]", timeout_s: float) -> None:
        """Wait until `main` ends; DemoError if another one ends before, or the time is up."""
        end_s = monotonic() + timeout_s
        while main.poll() is None:
            for name, child in self._children.items():
                if child.poll() is not None and main.poll() is None:
                    raise DemoError(f"{name} ended with status {child.returncode}\n{self.tail()}")
            if monotonic() > end_s:
                raise DemoError(f"no end after {timeout_s:g} s\n{self.tail()}")
            sleep(0.05)

    def tail(self) -> str:
        """The last lines of the log."""
        return self._log_path.read_bytes().decode(errors="replace")[-LOG_TAIL:].strip()

    def __exit__(self, *_: object) -> None:
        running = [child for child in self._children.values() if child.poll() is None]
        for child in running:
            child.send_signal(signal.SIGTERM)
        end_s = monotonic() + STOP_S
        for child in running:
            try:
                child.wait(timeout=max(0.1, end_s - monotonic()))
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()
        self._log.close()


def start_robot(
    processes: Processes,
    sim_parameters: dict[str, Any],
    controller_parameters: dict[str, Any],
    watchdog: bool,
) -> None:
    """Start simulator and controller, with the command watchdog between them or without it."""
    direct = "commands:=polyreach_controller/commands"
    processes.start("sim_node", sim_parameters, remap="" if watchdog else direct)
    if watchdog:
        processes.start("command_watchdog_node", {"timeout": WATCHDOG_TIMEOUT_S})
    processes.start("controller_node", controller_parameters)


def _end_with_parent() -> None:
    """Have this process sent SIGTERM when its parent is gone, however that ended (Linux only)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


@contextmanager
def terminate_as_interrupt() -> Iterator[None]:
    """Let SIGTERM and SIGINT end the demo with everything cleaned up."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    # SIGINT too: a shell starts its background processes with it ignored
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(number, interrupt) for number in numbers]
    try:
        yield
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)
