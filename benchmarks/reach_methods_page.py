"""The page of the benchmark of reach methods."""

import math
from collections.abc import Callable
from statistics import fmean
from typing import Any

from polyreach.deploy.tables import has_angles, limits

Figures = dict[str, Any]  # of one controller, see page_figures
Runs = list[dict[str, Any]]  # of one method, one for each seed
Results = dict[str, dict[str, Runs]]  # by robot and method

SEARCH = "search, no policy"
MOVING = "0.3"  # [m/s] of the goals that move

INTRODUCTION = """\
# Reach methods, compared

Methods that drive robots, each trained with its settings of preset `tuned` for about a minute of
one CPU core, start included; `distillation`, `fine-tuning` and `ppo-fine-tuning` start from a run
of `a2c` of a minute of its own. These are short trainings: the table shows what a method makes of a
minute, not where it ends. All train in the same environments, and all are measured on the same
starts and goals in the dynamic simulation, within the velocity and acceleration limits, as in
[Reaching, compared](reaching.md).

- **alone**: the policy acts itself; configurations that it names blend into damped least squares
  near the goals (`apg`: the nearest of its configurations, after two steps of least squares).
- **in the search**: the policy as it is exported. It names configurations; the file refines them,
  checks them for reach and for distance along the way, and goes straight to the best, or by another
  configuration where no straight way is clear.
- The row "{search}" is the search with candidates spread evenly over the joints' ranges in
  place of learned ones: what a row has more than this one is what learning adds.

A goal set counts as reached when all effectors are within the radius after {seconds:g} s and no two
links came within the stop distance. Times to the goals are of goal sets that were reached, moving
goals move at {moving} m/s, and CPU times are of one command.

To measure them again:

    python -m benchmarks.reach_methods --robot planar8 --seeds 3 --out runs/reach-methods
"""


def page_figures(figures: dict[str, Any]) -> Figures:
    """What the page shows of the figures of one controller, see polyreach.deploy.evaluate."""
    names = limits(figures["clear_all"], has_angles(figures["effectors"]))
    rates = zip(names, figures["clear_all"].values(), strict=True)
    return {
        "episodes": figures["episodes"],
        "seconds": figures["seconds"],
        "reached": dict(list(rates)[:2]),
        "moving_error_m": figures["controlled"]["moving"][MOVING]["error_median_m"],
        "command_s": figures["compute"]["mean_s"],
        **{key: figures[key] for key in ("time_s",) if key in figures},  # if ever at the goals
    }


def methods_page(results: Results) -> str:
    """Markdown with a table for each robot."""
    first = next(iter(results.values()))
    seconds = next(iter(first.values()))[0]["search"]["seconds"]
    parts = [INTRODUCTION.format(search=SEARCH, seconds=seconds, moving=MOVING)]
    for robot, methods in results.items():
        figures = next(iter(methods.values()))[0]["search"]
        small, large = figures["reached"]
        header = [
            "method", "seeds", "steps", "CPU time of training",
            f"alone: {small}", f"alone: {large}", "alone: moving goals",
            f"in the search: {small}", f"in the search: {large}", "time to the goals, p50 (p95)",
            "in the search: moving goals", "CPU per command",
        ]  # fmt: skip
        rows = [header, ["---", *["---:"] * (len(header) - 1)]]
        order = sorted(methods, key=lambda name: -_rate(methods[name]))
        rows += [_row(name, methods[name]) for name in order]
        parts.append(f"\n## {robot}\n\n{figures['episodes']} goal sets.\n\n")
        parts += [f"| {' | '.join(row)} |\n" for row in rows]
        parts.append(_reading(methods))
    return "".join(parts)


def _row(name: str, runs: Runs) -> list[str]:
    """Means over seeds; with several, rates also with the range."""
    trained = name != SEARCH

    def of(key: str, figure: Callable[[Figures], float], text: Callable[[float], str]) -> str:
        values = [figure(run[key]) for run in runs if key in run]
        return text(fmean(values)) if values else ""

    def rate(key: str, place: int) -> str:
        values = [list(run[key]["reached"].values())[place] for run in runs if key in run]
        if not values:
            return ""
        span = f" ({min(values):.1%} to {max(values):.1%})" if len(values) > 1 else ""
        return f"{fmean(values):.1%}{span}"

    def moving(key: str) -> str:
        return of(key, lambda figures: figures["moving_error_m"], lambda e: f"{1e3 * e:.1f} mm")

    def time(quantile: str) -> str:
        # never at the goals: no time
        values = [run["search"].get("time_s", {}).get(quantile) for run in runs if "search" in run]
        known = [value for value in values if value is not None]
        return f"{fmean(known):.2f} s" if known else ""

    worst = time("0.95")
    return [
        name,
        str(len(runs)) if trained else "",
        f"{fmean(run['steps'] for run in runs):,.0f}" if trained else "",
        f"{fmean(run['cpu_s'] for run in runs):.0f} s" if trained else "",
        rate("alone", 0),
        rate("alone", 1),
        moving("alone"),
        rate("search", 0),
        rate("search", 1),
        f"{time('0.5')} ({worst})" if worst else "",
        moving("search"),
        of("search", lambda figures: figures["command_s"], lambda s: f"{1e3 * s:.2f} ms"),
    ]


def _rate(runs: Runs) -> float:
    """Share of goal sets that a method reaches alone, mean over seeds; inf for the search."""
    rates = [list(run["alone"]["reached"].values())[1] for run in runs if "alone" in run]
    return fmean(rates) if rates else math.inf


def _reading(methods: dict[str, Runs]) -> str:
    """What learning adds to the search, in a sentence with its figures."""
    (without,) = methods[SEARCH]
    rates: dict[str, float] = {}
    times: dict[str, float] = {}
    for name, runs in methods.items():
        figures = [run["search"] for run in runs if "search" in run]
        if name == SEARCH or not figures:
            continue
        rates[name] = fmean(next(iter(part["reached"].values())) for part in figures)
        known = [part["time_s"]["0.5"] for part in figures if "time_s" in part]
        if known:
            times[name] = fmean(known)
    if not times:
        return ""
    span = " to ".join(dict.fromkeys(f"{end(rates.values()):.1%}" for end in (min, max)))
    quickest = min(times, key=times.__getitem__)
    alone = next(iter(without["search"]["reached"].values()))
    return (
        f"\nThe search reaches {alone:.1%} of the goal sets without a policy, and {span} with "
        f"one. `{quickest}` is the quickest with it: {times[quickest]:.2f} s, "
        f"{without['search']['time_s']['0.5']:.2f} s without a policy (medians).\n"
    )
