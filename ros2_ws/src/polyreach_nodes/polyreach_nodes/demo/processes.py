"""Nodes as child processes in a ROS domain of this machine: simulator, watchdog, controller."""

import ctypes
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from time import monotonic, sleep
from typing import IO

import yaml

from polyreach_description import load_robot
from polyreach_description.policy_search import find_policy
from polyreach_nodes.client.topics import COMMAND_TOPICS
from polyreach_nodes.control.policy import Policy
from polyreach_nodes.parameters import CommandInterface
from polyreach_nodes.ros.middleware import loopback_environment

Parameters = Mapping[str, object]  # of a node, by name

PR_SET_PDEATHSIG = 1  # of linux/prctl.h
STOP_S = 5.0  # [s] for a process to end by itself
READY_S = 30.0  # [s] for the controller to start
WATCHDOG_TIMEOUT_S = 0.1  # [s] longer than by default: a busy machine may delay the controller
LOG_TAIL = 2000  # characters of the log that an error shows


class DemoError(RuntimeError):
    """The demo could not run to its end."""


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
        self, module: str, parameters: Parameters, remap: str = "", on_terminal: bool = False
    ) -> "subprocess.Popen[bytes]":
        """Start a node of this package; its output goes to the log, or stdout to the terminal."""
        path = self._folder / f"{module}.yaml"
        path.write_text(yaml.safe_dump({"/**": {"ros__parameters": dict(parameters)}}))
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
        """Wait until `main` ends; DemoError if another process ends before, or after timeout_s."""
        end_s = monotonic() + timeout_s
        while main.poll() is None:
            for name, child in self._children.items():
                if child.poll() is not None and main.poll() is None:
                    raise DemoError(f"{name} ended with status {child.returncode}\n{self.tail()}")
            if monotonic() > end_s:
                raise DemoError(f"no end after {timeout_s:g} s\n{self.tail()}")
            sleep(0.05)

    def tail(self) -> str:
        """The end of the log, LOG_TAIL characters at most."""
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


def checked_policy(robot: str, policy: Path | None) -> Path:
    """The given policy file, or the robot's shipped one; absolute.

    Raises RobotError or ContractError for a robot or policy that cannot be used.
    """
    description = load_robot(robot)
    path = policy or find_policy(description.name)
    Policy.load(path, description)
    return Path(path).resolve()


def start_robot(
    processes: Processes,
    robot: str,
    policy: Path,
    watchdog: bool,
    command_interface: str = CommandInterface.VELOCITY,
) -> None:
    """Start simulator and controller of a robot, with or without the command watchdog between.

    Raises ValueError for an unknown command interface, and for one that has no watchdog.
    """
    interface = CommandInterface.of(command_interface)
    if watchdog:
        interface.check_watchdog()
    topic = COMMAND_TOPICS[interface]
    direct = f"{topic}:=polyreach_controller/{topic}"
    of_robot: dict[str, object] = {"robot": robot, "command_interface": interface.value}
    processes.start("sim_node", of_robot, remap="" if watchdog else direct)
    if watchdog:
        processes.start("command_watchdog_node", {"timeout": WATCHDOG_TIMEOUT_S})
    parameters = {**of_robot, "policy": str(policy), "autostart": True}
    processes.start("controller_node", parameters)


def _end_with_parent() -> None:
    """Have the kernel send SIGTERM to this process when its parent ends (Linux only)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


@contextmanager
def terminate_as_interrupt() -> Iterator[None]:
    """Raise KeyboardInterrupt on SIGTERM and SIGINT, so that all processes are ended."""
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
