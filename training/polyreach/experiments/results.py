"""Complete runs of an experiment, and statistics of their results."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from polyreach.experiments.experiment import Measure, Variant
from polyreach.runs.config import RunConfig
from polyreach.runs.folder import RunFolder

BOOTSTRAP = 2000  # resamples
CONFIDENCE = 0.95
NOT_RUN = "not run"
LAST = 3  # evaluations at the end of a run whose mean is its result


@dataclass(frozen=True)
class Result:
    """A complete run of an experiment."""

    variant: Variant
    env: str
    seed: int
    folder: RunFolder

    @cached_property
    def config(self) -> RunConfig:
        """Its configuration."""
        return self.folder.read_config()

    @cached_property
    def records(self) -> list[dict[str, Any]]:
        """Its evaluations, oldest first."""
        return self.folder.read_metrics()


def runs_of(results: Sequence[Result], variant: Variant, env: str) -> list[Result]:
    """The runs of a variant on an environment."""
    return [run for run in results if run.variant == variant and run.env == env]


def task_names(records: Sequence[dict[str, Any]], measure: Measure) -> list[str]:
    """The tasks for which `measure` was recorded."""
    start = f"{measure}_"
    return [key.removeprefix(start) for key in records[0] if key.startswith(start)]


def measured(records: Sequence[dict[str, Any]], measure: Measure) -> NDArray[np.float64]:
    """`measure` of every task at every evaluation, (evaluations, T)."""
    names = task_names(records, measure)
    return np.array([[record[f"{measure}_{name}"] for name in names] for record in records])


def final_values(runs: Sequence[Result], measure: Measure) -> NDArray[np.float64]:
    """`measure` of every task, the mean over the last evaluations of each run, (runs, T)."""
    return np.stack([measured(run.records, measure)[-LAST:].mean(axis=0) for run in runs])


def interquartile_mean(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean of the middle half of the last axis (Agarwal et al. 2021, section 4.3); a value that
    a quartile divides counts in part.
    """
    ordered = np.sort(values, axis=-1)
    count = ordered.shape[-1]
    edges = np.arange(count + 1)
    # share of value i that lies between the quartiles
    share = np.clip(
        np.minimum(edges[1:], 0.75 * count) - np.maximum(edges[:-1], 0.25 * count), 0.0, 1.0
    )
    mean: NDArray[np.float64] = (ordered * share).sum(axis=-1) / share.sum()
    return mean


def bootstrap_interval(values: NDArray[np.float64], seed: int = 0) -> tuple[float, float]:
    """Bootstrap interval of the interquartile mean of values (runs,). A value is of a whole run,
    because the tasks of a multi-task run are not independent.
    """
    rng = np.random.default_rng(seed)
    means = interquartile_mean(values[rng.integers(len(values), size=(BOOTSTRAP, len(values)))])
    low, high = np.quantile(means, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return float(low), float(high)


def ranks(values: Sequence[float]) -> NDArray[np.int64]:
    """The rank of each value, 1 for the greatest; of equal values the first has the lower rank."""
    ranked = np.empty(len(values), dtype=np.int64)
    ranked[np.argsort(-np.asarray(values), kind="stable")] = np.arange(1, len(values) + 1)
    return ranked


def compare_order(
    ours: Mapping[str, float], theirs: Mapping[str, float]
) -> tuple[dict[str, tuple[int, int]], float]:
    """The ranks in both orders of the names with a figure in both, and Spearman's rank correlation:
    1 for the same order, -1 for the opposite order, NaN for fewer than two names.
    """
    names = [name for name in ours if name in theirs]
    both = [ranks([figures[name] for name in names]) for figures in (ours, theirs)]
    pairs = zip(*(order.tolist() for order in both), strict=True)
    count = len(names)
    if count < 2:
        return dict(zip(names, pairs, strict=True)), math.nan
    # rho = 1 - 6 sum d^2 / (n (n^2 - 1)), d the difference of the ranks
    squares = np.square(both[0] - both[1]).sum()
    correlation = 1.0 - 6.0 * float(squares) / (count * (count**2 - 1))
    return dict(zip(names, pairs, strict=True)), correlation
