"""The page of the benchmark of reach methods, from figures by hand."""

import os
from typing import Any

import pytest

from benchmarks.reach_methods import cpu_seconds
from benchmarks.reach_methods_page import SEARCH, methods_page, page_figures


def figures(rate: float, time_s: float | None = 1.0) -> dict[str, Any]:
    return {
        "seconds": 5.0,
        "episodes": 200,
        "reached": {"10 mm": rate, "20 mm": rate + 0.1},
        "moving_error_m": 0.0125,
        "command_s": 3e-4,
        **({} if time_s is None else {"time_s": {"0.5": time_s, "0.95": 2 * time_s}}),
    }


def test_rows_have_means_and_ranges_over_seeds() -> None:
    run = {"steps": 1000, "cpu_s": 40.0, "alone": figures(0.2, None)}
    runs = [{**run, "search": figures(0.7)}, {**run, "cpu_s": 60.0, "search": figures(0.9, 3.0)}]
    page = methods_page({"arm": {SEARCH: [{"search": figures(0.5)}], "a": runs, "b": [run]}})
    rows = {line.split(" | ")[0]: line for line in page.splitlines() if line.startswith("| ")}
    assert "80.0% (70.0% to 90.0%)" in rows["| a"] and "| 50 s |" in rows["| a"]
    assert "2.00 s (4.00 s)" in rows["| a"] and "12.5 mm" in rows["| a"]
    assert "| 20.0% | 30.0% | 12.5 mm |  |  |  |  |" in rows["| b"]
    assert "| 50.0% | 60.0% |" in rows[f"| {SEARCH}"]
    assert "reaches 50.0% of the goal sets without a policy, and 80.0% with one" in page
    assert "`a` is the quickest with it: 2.00 s, 1.00 s without" in page
    assert [*rows][2:] == [f"| {SEARCH}", "| a", "| b"]


def test_figures_of_the_page_are_those_of_the_evaluation() -> None:
    measured = {
        **{"mode": "dynamic", "seconds": 5.0, "episodes": 200, "near_self": 0.0},
        "clear_all": {"0.01": 0.7, "0.02": 0.8, "0.05": 1.0},
        "effectors": {"tip": {"angle_quantiles_deg": {}}},
        "compute": {"mean_s": 3e-4, "worst_s": 1e-3},
        "controlled": {"moving": {"0.3": {"error_median_m": 0.0125, "error_p95_m": 0.1}}},
    }
    expected = {**figures(0.7, None), "reached": {"10 mm and 3°": 0.7, "20 mm and 6°": 0.8}}
    assert page_figures(measured) == expected
    assert page_figures({**measured, "time_s": {"0.5": 1.0}})["time_s"] == {"0.5": 1.0}


def test_cpu_seconds_are_those_of_the_process() -> None:
    times = os.times()
    assert cpu_seconds(os.getpid()) == pytest.approx(times.user + times.system, abs=0.1)
    assert cpu_seconds(2**22 + 1) == 0.0
