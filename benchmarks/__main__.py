"""Run benchmarks: `python -m benchmarks [--robots NAME ...] [--quick] [PART ...]`."""

import argparse
import os
import sys

os.environ.setdefault("OMP_NUM_THREADS", "1")

from benchmarks.parts import PARTS, ROBOTS, Part, run_parts


def parse_arguments(argv: list[str] | None = None) -> argparse.Namespace:
    """Parse parts (names of PARTS), robots (names) and quick (fewer rounds).

    Exits with status 2 and the legal names for an unknown name.
    """
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Speed of polyreach as ratios against peers, each pair measured in one run.",
        epilog="parts: " + "; ".join(f"{name} ({part.title})" for name, part in PARTS.items()),
    )
    parser.add_argument("parts", nargs="*", metavar="PART", help="default: all parts")
    parser.add_argument(
        "--robots", nargs="+", choices=ROBOTS, help="default: all, or with --quick the first"
    )
    parser.add_argument(
        "--quick", action="store_true", help="by default only the short parts; in fewer rounds"
    )
    arguments = parser.parse_args(argv)
    arguments.robots = arguments.robots or list(ROBOTS[:1] if arguments.quick else ROBOTS)
    for name in arguments.parts:
        if name not in PARTS:
            parser.error(f"unknown part '{name}' (there are: {', '.join(PARTS)})")
    return arguments


def select_parts(names: list[str], quick: bool) -> dict[str, Part]:
    """Parts by name, in the order of PARTS; without names: all, or with `quick` the quick ones."""
    selected = set(names) or {name for name, part in PARTS.items() if part.quick or not quick}
    return {name: part for name, part in PARTS.items() if name in selected}


def main(argv: list[str] | None = None) -> int:
    """Print every ratio; returns the exit status: 1 if a part failed."""
    arguments = parse_arguments(argv)
    parts = select_parts(arguments.parts, arguments.quick)
    return run_parts(parts, tuple(arguments.robots), arguments.quick)


if __name__ == "__main__":
    sys.exit(main())
