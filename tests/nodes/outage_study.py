"""Travel of joints when their controller fails, with and without the command watchdog.

The hardware holds the last command. `outage_study.py [FAULT ...]` prints rows of docs/hardware.md.
"""

import os
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from time import monotonic, sleep

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))
from domains import reserved_domain
from holding_hardware import HoldingHardware, WatchdogReport
from rig import SLOW_GOAL, Process, launching, move, slow_controller
from scenarios import Probe

from polyreach_description import load_robot
from polyreach_nodes.ros.middleware import loopback_environment

PAUSE_S = 1.5  # duration of SIGSTOP
SLOW_S = 0.55  # compute time of the slow policy
OBSERVED_S = 3.0  # duration of the measurement after a fault
FAST = 1.0  # [rad/s] speed of the fastest joint at which a fault is injected
RUNS, ATTEMPTS = 5, 4


def kill(probe: Probe, controller: Process) -> None:
    """Send SIGKILL."""
    controller.popen.kill()


def pause(probe: Probe, controller: Process) -> None:
    """Send SIGSTOP, later SIGCONT."""
    controller.popen.send_signal(signal.SIGSTOP)
    sleep(PAUSE_S)
    controller.popen.send_signal(signal.SIGCONT)


def delay(probe: Probe, controller: Process) -> None:
    """Send a goal for which slow_controller takes SLOW_S."""
    probe.send_goal("left", SLOW_GOAL)


FAULTS: dict[str, Callable[[Probe, Process], None]] = {
    "SIGKILL": kill,
    f"SIGSTOP of {PAUSE_S:g} s": pause,
    "slow policy": delay,
}


@dataclass(frozen=True)
class Outage:
    """The nonzero command that hardware held for the longest time.

    held_s: duration [s]. speed: of the fastest joint [rad/s]. ended: whether within OBSERVED_S.
    """

    held_s: float
    speed: float
    ended: bool

    @property
    def travel(self) -> float:
        """Travel of the fastest joint [rad]."""
        return self.held_s * self.speed


def measure(inject: Callable[[Probe, Process], None], watchdog: bool) -> Outage:
    """Inject a fault into the controller of planar8 in fast motion."""
    topic = "commands" if watchdog else "polyreach_controller/commands"
    with (
        tempfile.TemporaryDirectory() as folder,
        reserved_domain() as domain,
        launching(Path(folder), domain) as start,
        Probe(load_robot("planar8"), domain) as probe,
    ):
        hardware = HoldingHardware(probe, topic)
        report = WatchdogReport(probe)
        if watchdog:
            start("command_watchdog_node", {})
        controller = start(slow_controller(Path(folder), SLOW_S), {"autostart": True})
        if watchdog:
            report.wait("state", "RELAYING")
        move(probe, 0.8)
        probe.wait(
            lambda: hardware.speed > FAST or report["state"] == "TRIPPED", "fast motion", 5.0
        )
        assert report["state"] != "TRIPPED", report.status.message
        first = len(hardware.commands) - 1
        begin_s = hardware.commands[first].time_s
        inject(probe, controller)
        probe.wait(lambda: monotonic() > begin_s + OBSERVED_S, "the end", timeout_s=60.0)
        commands = hardware.commands[first:]
    times = [command.time_s for command in commands] + [begin_s + OBSERVED_S]
    held_s, index = max(
        (times[index + 1] - times[index], index)
        for index, command in enumerate(commands)
        if not command.is_zero
    )
    speed = float(np.abs(commands[index].joint_vel).max())
    return Outage(held_s, speed, ended=index + 1 < len(commands))


def measure_runs(inject: Callable[[Probe, Process], None], watchdog: bool) -> Iterator[Outage]:
    """Measure RUNS times; retries if the watchdog trips before the fault on a busy machine."""
    for _ in range(RUNS):
        for attempt in range(ATTEMPTS):
            try:
                yield measure(inject, watchdog)
                break
            except AssertionError as error:
                print(f"repeated ({error})", file=sys.stderr)
                if attempt == ATTEMPTS - 1:
                    raise


def main() -> None:
    """Print two rows per fault, without and with the watchdog."""
    os.environ.update(loopback_environment(os.environ))
    print("| controller | watchdog | last command held | speed | fastest joint travels |")
    print("|---|---|---|---|---|", flush=True)
    for name, inject in FAULTS.items():
        if sys.argv[1:] and name not in sys.argv[1:]:
            continue
        for watchdog in (False, True):
            runs = list(measure_runs(inject, watchdog))
            held = sorted(run.held_s for run in runs)
            travel = sorted(run.travel for run in runs)
            speed = np.median([run.speed for run in runs])
            at_least = "" if all(run.ended for run in runs) else "at least "
            print(
                f"| {name} | {'yes' if watchdog else 'no'} "
                f"| {at_least}{1e3 * held[RUNS // 2]:.0f} ms (longest {1e3 * held[-1]:.0f}) "
                f"| {speed:.1f} rad/s "
                f"| {at_least}{travel[RUNS // 2]:.3f} rad (farthest {travel[-1]:.3f}) |",
                flush=True,
            )


if __name__ == "__main__":
    main()
