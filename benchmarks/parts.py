"""The table of benchmarks, and the loop that runs them."""

import sys
import traceback
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from importlib import import_module

from rich.console import Console
from rich.table import Table

from benchmarks import timing

ROBOTS = ("planar8", "humanoid27")
Row = tuple[str, str]  # comparison, ratio


@dataclass(frozen=True)
class Part:
    """A benchmark.

    function: "module:name" in this package, which maps a subject to rows. It is imported when it
    runs, so that a peer that cannot be imported fails only this part; rows yielded before a failure
    are printed. subjects: what it is measured on; () for the robots. quick: part of a quick run.
    """

    title: str
    function: str
    subjects: tuple[str, ...] = ()
    quick: bool = False

    def load(self) -> Callable[[str], Iterable[Row]]:
        """Import the measuring function."""
        module, _, name = self.function.partition(":")
        measure: Callable[[str], Iterable[Row]] = getattr(
            import_module(f"benchmarks.{module}"), name
        )
        return measure


PARTS: dict[str, Part] = {
    "reach-env": Part(
        "environment steps/s of the batched reach env", "reach_env_speed:measure", quick=True
    ),
    "digrad": Part("DiGrad updates/s, one thread", "digrad_update_speed:measure", quick=True),
    "tick": Part("compute time per control period", "tick_speed:measure", quick=True),
    "reaching": Part(
        "policy, least squares, planner and quadratic program on the same goals",
        "reaching:measure",
        quick=True,
    ),
    "obstacles": Part(
        "policy, planners, quadratic program and least squares in the same scenes with obstacles",
        "obstacles:measure",
        quick=True,
    ),
    "dds": Part(
        "latency from joint state to command through DDS, relative to a bare rclpy node",
        "dds_latency:measure",
        quick=True,
    ),
    "watchdog": Part(
        "latency through the command watchdog, relative to the controller alone",
        "watchdog_latency:measure",
        quick=True,
    ),
    "cheetahs": Part("environment steps/s of HalfCheetahs", "cheetah_speed:measure", ("cheetah8",)),
    "legged": Part(
        "environment steps/s of legged robots", "legged_speed:measure", ("hoppers3", "biped2")
    ),
    "metaworld": Part("environment steps/s of Meta-World", "metaworld_speed:measure", ("mt10",)),
    "sac": Part("SAC updates/s, one thread", "sac_update_speed:measure_peer", ("cheetah", "mt10")),
    "updates": Part("cost of an update, one thread", "sac_update_speed:measure_methods", ("mt10",)),
    "ppo": Part("PPO samples/s, CPU time, one thread", "ppo_speed:measure", ("hopper", "hoppers3")),
    "compiled": Part(
        "cost of a compiled update on the CPU", "sac_update_speed:measure_compiled", ("cheetah",)
    ),
}


def run_parts(parts: Mapping[str, Part], robots: tuple[str, ...], quick: bool = False) -> int:
    """Print a table for each part; returns 1 if a part failed. A failure does not end the others.

    A failure is a row of the part's table; its traceback goes to standard error.
    """
    import torch

    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    timing.quick = quick
    console, failed = Console(markup=False, highlight=False), []
    for name, part in parts.items():
        table = Table(title=f"{name}: {part.title}", title_justify="left")
        table.add_column("comparison")
        table.add_column("ratio, measured in one run", justify="right")
        for subject in part.subjects or robots:
            try:
                for row in part.load()(subject):
                    table.add_row(*row)
            except Exception as error:
                traceback.print_exc(file=sys.stderr)
                failed.append(f"{name} of {subject}")
                table.add_row(subject, f"failed: {type(error).__name__}: {error}")
        console.print(table)
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0
