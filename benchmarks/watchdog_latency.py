"""Latency from joint state to command through the command watchdog, and without it."""

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from benchmarks import timing
from benchmarks.dds_latency import (
    DIRECT,
    LIGHT_METHOD,
    Measurement,
    Schedule,
    controller_arguments,
    measure_node,
    ratio_text,
    write_at_rate,
)
from polyreach_description import load_robot
from polyreach_nodes.ros.middleware import loopback_environment

FULL = Schedule(rates=(50.0, 100.0, 200.0), rounds=3, seconds=4.0)
QUICK = Schedule(rates=(100.0,), rounds=1, seconds=1.0)
TIMEOUT_S = 1.0  # of the watchdog: a busy machine must not trip it


def measure(robot_name: str) -> Iterator[tuple[str, str]]:
    """Rows (comparison, ratio) for one robot with a policy that takes little time, one per
    rate."""
    os.environ.update(loopback_environment(os.environ))
    os.environ["ROS_DOMAIN_ID"] = str(1 + os.getpid() % 99)
    robot, schedule = load_robot(robot_name), QUICK if timing.quick else FULL
    watchdog = ["-m", "polyreach_nodes.command_watchdog_node", "--ros-args"]
    watchdog += ["-p", f"timeout:={TIMEOUT_S}", "--log-level", "error"]
    for rate in schedule.rates:
        with tempfile.TemporaryDirectory() as folder:
            files = write_at_rate(robot, rate, Path(folder), LIGHT_METHOD)
            controller = controller_arguments(*files)
            alone, watched = Measurement(), Measurement()
            for _ in range(schedule.rounds):
                seconds = schedule.seconds
                measure_node(robot, rate, seconds, [*controller, *DIRECT], True, alone)
                measure_node(robot, rate, seconds, controller, True, watched, watchdog)
        yield f"{robot_name} at {rate:g} Hz", ratio_text(watched, alone)
