"""Runs per hour of short runs as processes of this machine and on Ray, one and two at a time.

    python -m benchmarks.engines [--runs N] [--steps N]

Each row is a `polyreach sweep` of N runs of DDPG on planar8, trained from nothing in a temporary
folder. Times of the clock depend on what else the machine does; CPU times hardly do.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

POLL_S = 0.2
ROWS = (("local", 1), ("local", 2), ("ray", 1), ("ray", 2))
SETTINGS = "--num-envs 64 --eval-every 10240 --eval-goals 8 --env-config.configurations 200".split()


@dataclass(frozen=True)
class Timing:
    """Of a sweep."""

    wall_s: float
    """From the start of the command to its end."""
    first_s: float
    """From the start of the command to the first step of its first run."""
    run_cpu_s: float
    """CPU time of all processes that train."""
    other_cpu_s: float
    """CPU time of the command and, with Ray, of the cluster."""
    runs: int

    @property
    def per_hour(self) -> float:
        """Runs per hour, without what the command does once."""
        return 3600 * self.runs / (self.wall_s - self.first_s)


def measure(engine: str, at_a_time: int, runs: int, steps: int) -> Timing:
    """Train the runs of a sweep. Raises CalledProcessError if it fails."""
    with tempfile.TemporaryDirectory() as folder:
        words = ["sweep", "ddpg", "planar8", "--seeds", str(runs), "--steps", str(steps)]
        words += ["--on", engine, "--jobs", str(at_a_time), "--runs", folder, "--", *SETTINGS]
        command = [sys.executable, "-m", "polyreach.cli", *words]
        started = time.time()
        cpu: dict[int, tuple[bool, float]] = {}
        with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
            while process.poll() is None:
                cpu |= cpu_times(process.pid)
                time.sleep(POLL_S)
        wall_s = time.time() - started
        if process.returncode:
            raise subprocess.CalledProcessError(process.returncode, command)
        first_s = min(file.stat().st_mtime for file in Path(folder).glob("*/config.json")) - started
        sums = {
            kind: sum(s for trains, s in cpu.values() if trains == kind) for kind in (True, False)
        }
        return Timing(wall_s, first_s, sums[True], sums[False], runs)


def cpu_times(root: int) -> dict[int, tuple[bool, float]]:
    """Of a process and its descendants: whether it trains runs, and its CPU time so far [s]."""
    parents, processes = {root: 0}, {}
    for path in Path("/proc").glob("[0-9]*"):
        try:
            fields = (path / "stat").read_text().rpartition(")")[2].split()
            command = (path / "cmdline").read_bytes()
        except OSError:
            continue
        if not command:
            continue  # it has ended, and its parent has not taken notice
        pid, ticks = int(path.name), int(fields[11]) + int(fields[12])
        parents[pid] = int(fields[1])
        # a worker of Ray is called default_worker.py until it has begun, then ray::...
        trains = b"\0train\0" in command or b"default_worker.py\0" in command[:200]
        trains |= command.startswith((b"ray::train_run", b"ray::IDLE"))
        processes[pid] = trains, ticks / os.sysconf("SC_CLK_TCK")

    def descends(pid: int) -> bool:
        while pid not in (0, root):
            pid = parents.get(pid, 0)
        return pid == root

    return {pid: values for pid, values in processes.items() if descends(pid)}


def main(argv: list[str] | None = None) -> int:
    """Print a row per engine and number of runs at a time."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.engines")
    parser.add_argument("--runs", type=int, default=6)
    parser.add_argument("--steps", type=int, default=20480)
    arguments = parser.parse_args(argv)
    print(f"{arguments.runs} runs of {arguments.steps} steps, {os.cpu_count()} cores")
    print(
        "| engine | runs at a time | runs/hour | CPU per run | CPU once | first step after | load |"
    )
    print("|---|---|---|---|---|---|---|")
    for engine, at_a_time in ROWS:
        timing = measure(engine, at_a_time, arguments.runs, arguments.steps)
        cpu_s = timing.run_cpu_s / timing.runs
        print(
            f"| {engine} | {at_a_time} | {timing.per_hour:.0f} | {cpu_s:.1f} s "
            f"| {timing.other_cpu_s:.1f} s | {timing.first_s:.1f} s | {os.getloadavg()[0]:.0f} |",
            flush=True,
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
