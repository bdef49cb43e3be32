"""Time functions relative to each other on a noisy machine."""

from collections.abc import Callable, Mapping
from pathlib import Path
from time import perf_counter

import mujoco
import numpy as np

ROUNDS = 7
QUICK_ROUNDS = 3
QUICK_BUDGET = 0.1  # share of the full time budget
quick = False  # fewer rounds and less time in every measurement; set once, before the first


def seconds_per_call(
    functions: dict[str, Callable[[], object]], budget_s: float = 2.0
) -> dict[str, float]:
    """Seconds per call of each function: the median over rounds in which they alternate.

    budget_s: time for each function over all rounds.
    """
    rounds = QUICK_ROUNDS if quick else ROUNDS
    budget_s *= QUICK_BUDGET if quick else 1.0
    calls = {}
    for name, function in functions.items():
        function()
        start = perf_counter()
        function()
        calls[name] = max(1, int(budget_s / rounds / max(perf_counter() - start, 1e-6)))
    times: dict[str, list[float]] = {name: [] for name in functions}
    for _ in range(rounds):
        for name, function in functions.items():
            start = perf_counter()
            for _ in range(calls[name]):
                function()
            times[name].append((perf_counter() - start) / calls[name])
    return {name: float(np.median(seconds)) for name, seconds in times.items()}


def write_models(specs: Mapping[str, mujoco.MjSpec], folder: str) -> list[Path]:
    """Write each model to a file NAME.xml, for peers that read files."""
    paths = []
    for name, spec in specs.items():
        spec.compile()
        paths.append(Path(folder) / f"{name}.xml")
        paths[-1].write_text(spec.to_xml(), encoding="utf-8")
    return paths


def speed_row(name: str, ours: float, peer: float) -> tuple[str, str]:
    """A row with the ratio of two rates [steps/s]."""
    return name, f"{ours / peer:.1f} x ({ours:,.0f} vs {peer:,.0f} steps/s)"
