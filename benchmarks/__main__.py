"""Run all benchmarks: `python -m benchmarks [ROBOT ...]`."""

import os
import sys

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
from rich.console import Console
from rich.table import Table

from benchmarks import (
    cheetah_speed,
    dds_latency,
    env_speed,
    legged_speed,
    metaworld_speed,
    ppo_speed,
    sac_updates,
    tick_speed,
    update_speed,
)

ROBOTS = ("planar8", "humanoid27")
OF_ROBOTS = {
    "environment steps/s of the batched reach env": env_speed.measure,
    "DiGrad updates/s, one thread": update_speed.measure,
    "compute time per control period": tick_speed.measure,
    "joint state in to command out through DDS, over a bare rclpy node": dds_latency.measure,
}
OTHERS = {
    "environment steps/s of HalfCheetahs": (cheetah_speed.measure, ("cheetah8",)),
    "environment steps/s of robots with legs": (legged_speed.measure, ("hoppers3", "biped2")),
    "environment steps/s of Meta-World": (metaworld_speed.measure, ("mt10",)),
    "SAC updates/s, one thread": (sac_updates.measure_peer, ("cheetah", "mt10")),
    "cost of an update, one thread": (sac_updates.measure_methods, ("mt10",)),
    "PPO samples/s, CPU time, one thread": (ppo_speed.measure, ("hopper", "hoppers3")),
    "cost of a compiled update on the CPU": (sac_updates.measure_compiled, ("cheetah",)),
}


def main() -> int:
    """Print every ratio; returns the exit status."""
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    console = Console(markup=False, highlight=False)
    robots = tuple(sys.argv[1:]) or ROBOTS
    parts = {title: (measure, robots) for title, measure in OF_ROBOTS.items()} | OTHERS
    for title, (measure, subjects) in parts.items():
        table = Table(title=title, title_justify="left")
        table.add_column("compared")
        table.add_column("ratio, measured in one run", justify="right")
        for subject in subjects:
            for row in measure(subject):
                table.add_row(*row)
        console.print(table)
    return 0


if __name__ == "__main__":
    sys.exit(main())
