"""Runs per hour of short runs as processes of this machine and on Ray, one and two at a time.

    python -m benchmarks.engines [--runs N] [--steps N]

Each row is a `polyreach sweep` of N runs of DDPG on planar8, trained from nothing in a temporary
folder.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from polyreach.runs.folder import RunFolder

ROWS = (("local", 1), ("local", 2), ("ray", 1), ("ray", 2))
SETTINGS = "--num-envs 64 --eval-every 10240 --eval-goals 8 --env-config.configurations 200".split()


@dataclass(frozen=True)
class Timing:
    """Of a sweep."""

    wall_s: float
    """From the start of the command to its end."""
    first_s: float
    """From the start of the command to the first step of its first run."""
    trained_s: tuple[float, ...]
    """Training and evaluations of each run."""
    at_a_time: int

    @property
    def per_hour(self) -> float:
        """Runs per hour, without what the command does once."""
        return 3600 * len(self.trained_s) / (self.wall_s - self.first_s)

    @property
    def around_s(self) -> float:
        """Time per run that is not training: processes, imports, environments, files."""
        busy = self.at_a_time * (self.wall_s - self.first_s)
        return (busy - sum(self.trained_s)) / len(self.trained_s)


def measure(engine: str, at_a_time: int, runs: int, steps: int) -> Timing:
    """Train the runs of a sweep. Raises CalledProcessError if it fails."""
    with tempfile.TemporaryDirectory() as folder:
        words = ["sweep", "ddpg", "planar8", "--seeds", str(runs), "--steps", str(steps)]
        words += ["--on", engine, "--jobs", str(at_a_time), "--runs", folder, "--", *SETTINGS]
        started = time.time()
        command = [sys.executable, "-m", "polyreach.cli", *words]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        wall_s = time.time() - started
        files = list(Path(folder).glob("*/config.json"))
        first_s = min(file.stat().st_mtime for file in files) - started
        trained = (RunFolder(file.parent).read_metrics()[-1]["wall_s"] for file in files)
        return Timing(wall_s, first_s, tuple(trained), at_a_time)


def main(argv: list[str] | None = None) -> int:
    """Print a row per engine and number of runs at a time."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.engines")
    parser.add_argument("--runs", type=int, default=6)
    parser.add_argument("--steps", type=int, default=20480)
    arguments = parser.parse_args(argv)
    print(f"{arguments.runs} runs of {arguments.steps} steps, {os.cpu_count()} cores")
    print("| engine | runs at a time | runs/hour | training | besides, per run | once | load |")
    print("|---|---|---|---|---|---|---|")
    for engine, at_a_time in ROWS:
        timing = measure(engine, at_a_time, arguments.runs, arguments.steps)
        mean = sum(timing.trained_s) / len(timing.trained_s)
        print(
            f"| {engine} | {at_a_time} | {timing.per_hour:.0f} | {mean:.1f} s "
            f"| {timing.around_s:.1f} s | {timing.first_s:.1f} s | {os.getloadavg()[0]:.0f} |",
            flush=True,
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
