"""Time two or more functions against each other on a noisy machine."""

from collections.abc import Callable
from time import perf_counter

import numpy as np

ROUNDS = 7


def seconds_per_call(
    functions: dict[str, Callable[[], object]], budget_s: float = 2.0
) -> dict[str, float]:
    """Seconds of one call of each function: the median over rounds in which they take turns.

    budget_s: time for each function over all rounds.
    """
    calls = {}
    for name, function in functions.items():
        function()
        start = perf_counter()
        function()
        calls[name] = max(1, int(budget_s / ROUNDS / max(perf_counter() - start, 1e-6)))
    times: dict[str, list[float]] = {name: [] for name in functions}
    for _ in range(ROUNDS):
        for name, function in functions.items():
            start = perf_counter()
            for _ in range(calls[name]):
                function()
            times[name].append((perf_counter() - start) / calls[name])
    return {name: float(np.median(own)) for name, own in times.items()}
