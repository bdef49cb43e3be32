"""Tables of the figures of an evaluation, as text for the terminal and for cards."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from polyreach.deploy.figures import QUANTILES, TIMED
from polyreach.deploy.goal_sets import ANGLES
from polyreach_description.distances import STOP_DISTANCE

Rows = tuple[list[str], list[list[str]]]


def evaluation_rows(result: dict[str, Any]) -> Rows:
    """Table of the figures of one controller: header and rows of text."""
    header, rows = alone_rows(result["effectors"])
    rates = [f"{rate:.1%}" for rate in result["success_all"].values()]
    rows.append(["all at once", *rates, *[""] * (len(header) - 1 - len(rates))])
    return header, rows


def alone_rows(effectors: dict[str, Any]) -> Rows:
    """Table of figures by effector: header and rows of text."""
    first = next(iter(effectors.values()))
    oriented = has_angles(effectors)
    header = [
        "effector",
        *(f"within {limit}" for limit in limits(first["success"], oriented)),
        *(f"error p{100 * q:.0f}" for q in QUANTILES),
        *(f"angle p{100 * q:.0f}" for q in QUANTILES if oriented),
    ]
    rows = []
    for name, figures in effectors.items():
        angles = figures.get("angle_quantiles_deg", {})
        row = [
            name,
            *(f"{rate:.1%}" for rate in figures["success"].values()),
            *(f"{1e3 * quantile:.2f} mm" for quantile in figures["error_quantiles_m"].values()),
            *(f"{angle:.2f}°" for angle in angles.values()),
        ]
        rows.append(row + [""] * (len(header) - len(row)))
    return header, rows


def has_angles(effectors: dict[str, Any]) -> bool:
    """Whether goals of these effectors have orientations."""
    return any("angle_quantiles_deg" in figures for figures in effectors.values())


def limits(radii: Iterable[str], oriented: bool, angles: Sequence[float] = ANGLES) -> list[str]:
    """The errors below which goals count as reached, for radii [m] and, where goals have
    orientations, angles [rad] beside them, strict to coarse.
    """
    millimetres = [f"{1e3 * float(radius):g} mm" for radius in radii]
    if not oriented:
        return millimetres
    pairs = zip(millimetres, np.degrees(angles), strict=True)
    return [f"{radius} and {angle:.0f}°" for radius, angle in pairs]


def self_distance_line(result: dict[str, Any]) -> str:
    """A sentence with the share of episodes in which two links came close."""
    stop = result.get("stop_distance_m", STOP_DISTANCE)
    return (
        f"In {result['near_self']:.1%} of the episodes, two links came within "
        f"{1e3 * stop:g} mm, the distance at which the controller stops the robot."
    )


def comparison_rows(results: Mapping[str, dict[str, Any]]) -> Rows:
    """Table of controllers on the same goals: a column for each, a row for each figure. Figures
    that were not measured are left out.
    """
    first = next(iter(results.values()))
    stop = f"{1e3 * first['stop_distance_m']:g} mm"
    rows: list[list[str]] = []

    def add(name: str, figure: Callable[[dict[str, Any]], str]) -> None:
        cells = []
        for result in results.values():
            try:
                cells.append(figure(result))
            except KeyError:  # not measured, or never at the goal
                cells.append("")
        if any(cells):
            rows.append([name, *cells])

    names = limits(first["success_all"], has_angles(first["effectors"]))
    within = dict(zip(first["success_all"], names, strict=True))
    strict = list(within.items())[:2]
    for radius, limit in within.items():
        add(f"all within {limit}", lambda r, k=radius: f"{r['success_all'][k]:.1%}")  # type: ignore[misc]
    for radius, limit in strict:
        add(
            f"within {limit}, links never within {stop}",
            lambda r, k=radius: f"{r['clear_all'][k]:.1%}",  # type: ignore[misc]
        )
    for radius, limit in strict:
        add(
            f"within {limit}, through the controller",
            lambda r, k=radius: f"{r['controlled']['pipeline']['success_all'][k]:.1%}",  # type: ignore[misc]
        )
    timed = names[TIMED]
    add(f"time until within {timed} for good, p50 (p95)", lambda r: _pair(r["time_s"], "s"))
    add("shortest time that the joint limits allow, p50", lambda r: f"{r['time_bound_s']:.2f} s")
    add("length of the joint path over the straight line", lambda r: f"{r['path_ratio']:.2f}")
    add("joint speed at the end, share of its limit, p95", lambda r: f"{r['end_speed']:.1%}")
    add("reversals of the joint that reverses most, mean", lambda r: f"{r['swings']:.1f}")
    add(f"overshoot: within {timed}, then outside again", lambda r: f"{r['left_again']:.1%}")
    for radius, limit in strict:
        add(
            f"goals jump every second: within {limit}",
            lambda r, k=radius: f"{r['controlled']['jumps']['success_all'][k]:.1%}",  # type: ignore[misc]
        )
    for speed in first.get("controlled", {}).get("moving", {}):
        add(
            f"goals move at {speed} m/s: error p50 (p95)",
            lambda r, k=speed: _moving(r["controlled"]["moving"][k]),  # type: ignore[misc]
        )
    add("CPU time per period, mean (worst)", lambda r: _times(r["compute"]))
    add("CPU time per plan, mean (worst)", lambda r: _times(r["plan"]))
    return ["", *results], rows


def _pair(quantiles: dict[str, float], unit: str) -> str:
    return f"{quantiles['0.5']:.2f} {unit} ({quantiles['0.95']:.2f} {unit})"


def _moving(figures: dict[str, float]) -> str:
    return f"{1e3 * figures['error_median_m']:.1f} mm ({1e3 * figures['error_p95_m']:.1f} mm)"


def _times(figures: dict[str, float]) -> str:
    return f"{1e3 * figures['mean_s']:.2f} ms ({1e3 * figures['worst_s']:.2f} ms)"
