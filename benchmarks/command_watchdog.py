"""Cost of the command watchdog: state in to command out through it, over the controller alone."""

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from benchmarks import timing
from benchmarks.dds_latency import DIRECT, Effort, Measured, controller_words, row, run_one
from polyreach_description import load_robot
from polyreach_nodes.ros.middleware import loopback_environment

FULL = Effort(rates=(50.0, 100.0, 200.0), rounds=3, seconds=4.0)
QUICK = Effort(rates=(100.0,), rounds=1, seconds=1.0)
PATIENT_S = 1.0  # timeout: a busy machine must not turn this into a trip


def measure(robot_name: str) -> Iterator[tuple[str, str]]:
    """Rows of (what, ratio) for one robot, with its shipped policy, at several rates."""
    os.environ.update(loopback_environment(os.environ))
    os.environ["ROS_DOMAIN_ID"] = str(1 + os.getpid() % 99)
    robot, effort = load_robot(robot_name), QUICK if timing.quick else FULL
    watchdog = ["-m", "polyreach_nodes.command_watchdog_node", "--ros-args"]
    watchdog += ["-p", f"timeout:={PATIENT_S}", "--log-level", "error"]
    for rate in effort.rates:
        with tempfile.TemporaryDirectory() as folder:
            controller = controller_words(robot, rate, Path(folder))
            alone, watched = Measured(), Measured()
            for _ in range(effort.rounds):
                run_one(robot, rate, effort.seconds, [*controller, *DIRECT], True, alone)
                run_one(robot, rate, effort.seconds, controller, True, watched, watchdog)
        yield f"{robot_name} at {rate:g} Hz", row(watched, alone)
