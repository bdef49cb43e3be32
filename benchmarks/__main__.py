"""Run all benchmarks: `python -m benchmarks [ROBOT ...]`."""

import os
import sys

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
from rich.console import Console
from rich.table import Table

from benchmarks import dds_latency, env_speed, tick_speed, update_speed

PARTS = {
    "environment steps/s of the batched reach env": env_speed.measure,
    "DiGrad updates/s, one thread": update_speed.measure,
    "compute time per control period": tick_speed.measure,
    "joint state in to command out through DDS, over a bare rclpy node": dds_latency.measure,
}


def main() -> int:
    """Print every ratio; returns the exit status."""
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    console = Console(markup=False, highlight=False)
    for title, measure in PARTS.items():
        table = Table(title=title, title_justify="left")
        table.add_column("compared")
        table.add_column("ratio, measured in one run", justify="right")
        for robot in sys.argv[1:] or ("planar8", "humanoid27"):
            for row in measure(robot):
                table.add_row(*row)
        console.print(table)
    return 0


if __name__ == "__main__":
    sys.exit(main())
