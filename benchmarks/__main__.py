"""Run benchmarks: `python -m benchmarks [--robots NAME ...] [--quick] [PART ...]`."""

import argparse
import os
import sys

os.environ.setdefault("OMP_NUM_THREADS", "1")

from benchmarks.parts import PARTS, ROBOTS, Part, run_parts


def read_arguments(words: list[str] | None = None) -> argparse.Namespace:
    """parts: names, in the order of PARTS; robots: names; quick: whether to take fewer rounds.

    Exits with status 2 and the legal names for a name that is none.
    """
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Speed of polyreach as ratios against peers, each pair measured in one run.",
        epilog="parts: " + "; ".join(f"{name} ({part.title})" for name, part in PARTS.items()),
    )
    parser.add_argument("parts", nargs="*", metavar="PART", help="all, if none is named")
    parser.add_argument("--robots", nargs="+", choices=ROBOTS, default=list(ROBOTS))
    parser.add_argument(
        "--quick", action="store_true", help="fewer rounds of the parts that take seconds"
    )
    arguments = parser.parse_args(words)
    for name in arguments.parts:
        if name not in PARTS:
            parser.error(f"unknown part '{name}' (there are: {', '.join(PARTS)})")
    return arguments


def chosen(names: list[str], quick: bool) -> dict[str, Part]:
    """The parts by name: those named, or all that a quick run takes, or all."""
    wanted = set(names) or {name for name, part in PARTS.items() if part.quick or not quick}
    return {name: part for name, part in PARTS.items() if name in wanted}


def main(words: list[str] | None = None) -> int:
    """Print every ratio; returns the exit status: 1 where a part failed."""
    arguments = read_arguments(words)
    parts = chosen(arguments.parts, arguments.quick)
    return run_parts(parts, tuple(arguments.robots), arguments.quick)


if __name__ == "__main__":
    sys.exit(main())
