"""The page and the picture of the obstacle benchmark."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.rrt_planner import RRTSettings
from polyreach.deploy.goal_sets import ANGLES
from polyreach.deploy.tables import limits
from polyreach.plotting import file_pyplot

Figures = dict[str, Any]  # of one controller and number of obstacles, see benchmarks.obstacles
Results = dict[str, dict[str, Any]]  # by robot, see benchmarks.obstacles.measure_robot

JUDGED = 2  # radii, the strict ones
NORMAL_95 = 1.959964  # quantile of the normal distribution
COLORS = {
    "policy": "C9",
    "policy, through the controller": "C0",
    "least squares": "C1",
    "multi-start": "C2",
    "multi-start and RRT-Connect": "C4",
    "QP": "C3",
}

INTRODUCTION = """\
# Reaching among obstacles

![success of each controller with 1 to 8 obstacles](obstacles.png)

All controllers drive the same simulated robots in the same scenes, within the velocity and
acceleration limits, for {seconds:g} s. A scene is a start, a goal set, and boxes, spheres
and cylinders with half sides of 3 to 12 % of the robot's reach, near places that its bodies can
take. Start and goal configuration keep twice the stop distance, from obstacles and between bodies.
In every second scene, the first obstacle is placed so that the straight joint way from the start to
the configuration of the goals comes nearer to it than the stop distance. A clear way need not
exist: the rows of scenes that any controller solved say for how many one is known. An obstacle in
the straight joint way is in the way of controllers that go straight; least squares and the
quadratic program take other ways, which it may leave free.

Distances are exact, in every control period. A touch of an obstacle ends the run, as a protective
stop would, and its goals do not count as reached. Tables give the share of the scenes in which all
effectors are within the radius at the end and, where they say so, no body came nearer than the stop
distance to an obstacle or to another body on the way.

- **policy**: the policy file alone, without the guarantee of the controller.
- **policy, through the controller**: the same file in the whole controller, which gets the
  obstacles from `~/obstacles`, and slows and stops before them.
- **least squares**: damped least squares, which ignores obstacles and bodies.
- **multi-start**: damped least squares from 20 random starts and the present state; of the
  solutions whose straight joint path is clear at 15 points, obstacles included, the nearest. Where
  none is clear, the robot goes to the last clear point of one.
- **multi-start and RRT-Connect**: the same; where no straight way is clear,
  [OMPL](https://ompl.kavrakilab.org) plans to all clear solutions of as many starts again
  (RRT-Connect, at most {checks:,} checked configurations, then shortcuts). The robot stops at each
  way point.
- **QP**: the quadratic program of [mink](https://github.com/kevinzakka/mink) as in
  [Reaching, compared](reaching.md), with the approach of every body to every obstacle limited. The
  range and the gain of that limit are the best of six tried by hand in other scenes.

Planners keep 1.5 stop distances, and the robot waits for as long as a plan takes. Ranges are 95 %
intervals (Wilson). Scenes with more obstacles have those with fewer, and the same goals. Times
count scenes whose goals were reached. CPU times are those of one thread of one machine, of
every 25th command; those of the policy through the controller are of the whole control period.

To measure your own robot and policy, after `make qp`:

    python -m benchmarks.obstacles my_robot.yaml=mine.onnx
"""


def wilson(count: int, total: int) -> tuple[float, float]:
    """The 95 % interval of a share of which `count` of `total` were seen (Wilson 1927)."""
    if not total:
        return 0.0, 1.0
    share, z2 = count / total, NORMAL_95**2
    middle = share + z2 / (2 * total)
    half = NORMAL_95 * (share * (1 - share) / total + z2 / (4 * total**2)) ** 0.5
    scale = 1 + z2 / total
    return max(0.0, (middle - half) / scale), min(1.0, (middle + half) / scale)


def results_page(results: Results) -> str:
    """Markdown with tables for each robot; raises ValueError without any result."""
    if not results:
        raise ValueError("no results: name a robot to measure")
    first = next(iter(results.values()))
    parts = [INTRODUCTION.format(seconds=first["seconds"], checks=RRTSettings().checks)]
    for robot, result in results.items():
        stop = f"{1e3 * result['stop_distance_m']:g} mm"
        policy = f" The policy is `{result['policy']}`." if result["policy"] else ""
        parts.append(
            f"\n## {robot}\n\n{result['goals']} goal sets; stop distance {stop}.{policy}\n\n"
            f"Within {_limits(result)[0]} and never nearer than {stop}:\n\n"
            f"{_success_table(result)}\n"
            f"All numbers of obstacles together:\n\n{_total_table(result, stop)}"
        )
    return "".join(parts)


def _limits(result: dict[str, Any]) -> list[str]:
    figures = next(iter(next(iter(result["controllers"].values())).values()))
    return limits(figures["inside"], result["oriented"], ANGLES[:JUDGED])


def _obstacles(count: str) -> str:
    return f"{count} obstacle" + "s" * (count != "1")


def _strict(figures: dict[str, int]) -> int:
    """The number within the smallest radius."""
    return next(iter(figures.values()))


def _success_table(result: dict[str, Any]) -> str:
    goals, counts = result["goals"], list(result["in_way"])
    rows = [
        [name, *(_rate(_strict(rates[count]["clear"]), goals) for count in counts)]
        for name, rates in result["controllers"].items()
    ]
    rows += [
        [
            f"{name}: obstacle in the straight way",
            *(
                _rate(_strict(rates[count]["clear_in_way"]), result["in_way"][count])
                for count in counts
            ),
        ]
        for name, rates in result["controllers"].items()
    ]
    for title, key in (
        ("scenes with an obstacle in the straight way", "in_way"),
        ("scenes that any controller solved", "solved"),
    ):
        rows.append([title, *(f"{result[key][count] / goals:.0%}" for count in counts)])
    return _markdown_table(["", *map(_obstacles, counts)], rows)


def _total_table(result: dict[str, Any], stop: str) -> str:
    strict, coarse = _limits(result)[:2]
    names = list(result["controllers"])
    groups = [list(rates.values()) for rates in result["controllers"].values()]
    total = result["goals"] * len(result["in_way"])

    def share(count: Callable[[Figures], int]) -> list[str]:
        return [f"{sum(map(count, group)) / total:.0%}" for group in groups]

    def worst(key: str) -> list[str]:
        return [_times([figures[key] for figures in group if key in figures]) for group in groups]

    rows = [
        [f"within {strict}", *share(lambda f: _strict(f["inside"]))],
        [f"within {coarse}", *share(lambda f: list(f["inside"].values())[1])],
        [f"within {strict}, never nearer than {stop}", *share(lambda f: _strict(f["clear"]))],
        [
            f"within {coarse}, never nearer than {stop}",
            *share(lambda f: list(f["clear"].values())[1]),
        ],
        [f"nearer than {stop} to itself or an obstacle", *share(lambda f: f["near"])],
        ["touched an obstacle", *share(lambda f: f["touched"])],
        *(
            [
                f"{_obstacles(counts)}: least clearance p5; time until within {coarse}, p50 (p95)",
                *(_clearance_and_time(group[number]) for group in groups),
            ]
            for number, counts in enumerate(result["in_way"])
        ),
        ["CPU time per period, mean (worst)", *worst("command_s")],
        ["CPU time per plan, mean (worst)", *worst("plan_s")],
    ]
    return _markdown_table(["", *names], rows)


def _clearance_and_time(figures: Figures) -> str:
    clearance = f"{1e3 * figures['clearance_p5_m']:.0f} mm"
    if "time_s" not in figures:
        return clearance
    times = figures["time_s"]
    return f"{clearance}; {times['0.5']:.1f} s ({times['0.95']:.1f} s)"


def _times(parts: list[dict[str, float]]) -> str:
    if not parts:
        return ""
    mean, worst = np.mean([p["mean_s"] for p in parts]), max(p["worst_s"] for p in parts)
    return f"{1e3 * mean:.1f} ms ({1e3 * worst:.0f} ms)"


def _rate(count: int, total: int) -> str:
    low, high = wilson(count, total)
    return f"{count / total:.0%} ({100 * low:.0f} to {100 * high:.0f})" if total else ""


def _markdown_table(header: list[str], rows: list[list[str]]) -> str:
    rule = ["---", *["---:"] * (len(header) - 1)]
    return "".join(f"| {' | '.join(row)} |\n" for row in (header, rule, *rows))


def draw_results(results: Results, path: Path) -> None:
    """Draw success over the number of obstacles, a panel for each robot, with 95 % intervals."""
    pyplot = file_pyplot()
    figure, axes = pyplot.subplots(
        1, len(results), figsize=(4.2 * len(results), 4.2), layout="constrained", squeeze=False
    )
    for panel, (robot, result) in zip(axes[0], results.items(), strict=True):
        counts, goals = list(result["in_way"]), result["goals"]
        for number, (name, rates) in enumerate(result["controllers"].items()):
            clear = [_strict(rates[count]["clear"]) for count in counts]
            height = 100 * np.array(clear) / goals
            low, high = 100 * np.array([wilson(count, goals) for count in clear]).T
            shift = 0.06 * (number - 2.5)
            panel.errorbar(
                np.arange(len(counts)) + shift,
                height,
                yerr=np.maximum(0.0, [height - low, high - height]),
                marker="o",
                capsize=2,
                color=COLORS[name],
                label=name,
            )
        solved = [100 * result["solved"][count] / goals for count in counts]
        panel.plot(range(len(counts)), solved, "k_", markersize=14, label="solved by any")
        panel.set_xticks(range(len(counts)), counts)
        panel.set(xlabel="obstacles", ylim=(-2, 102), title=robot)
        panel.grid(alpha=0.3)
    axes[0][0].set_ylabel("goal sets reached, never near [%]")
    figure.legend(
        *axes[0][0].get_legend_handles_labels(),
        loc="outside lower center",
        ncols=3,
        fontsize="x-small",
    )
    figure.savefig(path, dpi=110)
    pyplot.close(figure)
