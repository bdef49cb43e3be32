"""The page and the picture of the reaching benchmark."""

from pathlib import Path
from typing import Any

from polyreach.deploy.tables import comparison_rows
from polyreach.plotting import file_pyplot

Figures = dict[str, Any]  # of one controller, see polyreach.deploy.evaluate
Results = dict[str, dict[str, Figures]]  # by robot and controller

COLORS = {"policy": "C0", "least squares": "C1", "multi-start": "C2", "QP": "C3"}
MARKERS = "osD^vPX*"
MOVING = "0.3"  # [m/s] of the goals in the picture

INTRODUCTION = """\
# Reaching: policy, planner and quadratic program

![success and computing time of each controller, and its error with moving goals](reaching.png)

All controllers drive the same simulated robots from the same starts to the same goals, within the
velocity and acceleration limits. Goals are drawn from the full range of the joints, so every goal
set can be reached. A goal set counts as reached when all effectors are within the radius after
{seconds:g} s, and as clear when no two links came within the stop distance on the way.

- **policy**: one ONNX file, one call per control period.
- **least squares**: damped least squares on all goals together, without learning.
- **multi-start**: damped least squares from {starts} random starts and the present state; of the
  solutions whose straight joint path is clear at 15 points, the nearest; then straight there within
  the limits. A new goal set is a new plan, and the robot waits for as long as the plan takes.
- **QP**: differential inverse kinematics of [mink](https://github.com/kevinzakka/mink), a quadratic
  program per control period with limits on velocity, acceleration, position and the approach of
  any two links, and a posture. Its settings are the best of some 25 tried by
  hand on these robots and two others; each varied alone (`python -m benchmarks.qp_search planar8
  humanoid27 dual7 --goals 60`, other goals), none gave more than one goal set in 60 more on
  any of them.

Policy and planner estimate the velocity of goals that move; least squares and QP follow where goals
are.

CPU times are those of one thread of one machine, measured one robot at a time; time between
processes is not included. Where goals jump, the rate is that just before the next jump. Times to
the goals count goal sets that were reached.

To measure your own robot and policy, after `make qp`:

    python -m benchmarks.reaching my_robot.yaml=mine.onnx
"""


def results_page(results: Results) -> str:
    """Markdown with a table for each robot; raises ValueError without any result."""
    if not results:
        raise ValueError("no results: name a robot to measure")
    first = next(iter(results.values()))
    starts = first.get("multi-start", {}).get("starts", 0)
    seconds = next(iter(first.values()))["seconds"]
    parts = [INTRODUCTION.format(seconds=seconds, starts=starts)]
    for robot, figures in results.items():
        one = next(iter(figures.values()))
        count, controlled = one["episodes"], one.get("controlled", {}).get("episodes", 0)
        header, rows = comparison_rows(figures)
        parts.append(
            f"\n## {robot}\n\n{count} goal sets; {controlled} through the controller's limits, and "
            f"that jump; {max(1, controlled // 5)} paths of goals that move.\n\n"
            + markdown_table(header, rows)
        )
    return "".join(parts)


def markdown_table(header: list[str], rows: list[list[str]]) -> str:
    """A table, its first column to the left and the others to the right."""
    rule = ["---", *["---:"] * (len(header) - 1)]
    return "".join(f"| {' | '.join(row)} |\n" for row in (header, rule, *rows))


def compute_ms(figures: Figures) -> float:
    """Mean CPU time [ms] of a command or, of a planner, of a plan."""
    seconds: float = (figures.get("compute") or figures["plan"])["mean_s"]
    return 1e3 * seconds


def clear_rate(figures: Figures) -> float:
    """Share of the goal sets reached within the smallest radius, never nearer than the stop
    distance [%].
    """
    rate: float = next(iter(figures["clear_all"].values()))
    return 100 * rate


def draw_results(results: Results, path: Path) -> None:
    """Draw success over computing time, and beside it errors with moving goals [mm]."""
    pyplot = file_pyplot()
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(10.5, 4.2), layout="constrained")
    for marker, (robot, controllers) in zip(MARKERS, results.items(), strict=False):
        for name, figures in controllers.items():
            left.plot(
                compute_ms(figures),
                clear_rate(figures),
                marker=marker,
                color=COLORS[name],
                linestyle="none",
                markersize=9,
                alpha=0.85,
            )
        left.plot([], [], marker=marker, color="0.4", linestyle="none", label=robot)
    for name, color in COLORS.items():
        left.plot([], [], marker="o", color=color, linestyle="none", label=name)
    left.set(
        xscale="log",
        xlabel="CPU time of a command (multi-start: of a plan) [ms]",
        ylabel="goal sets reached, never near [%]",
        title="Goals that stand still",
        ylim=(min(50.0, *_rates(results)) - 3, 102),
    )
    left.xaxis.set_major_formatter("{x:g}")
    left.legend(fontsize="small", loc="lower right", ncols=2)
    left.grid(alpha=0.3)
    width = 0.8 / len(COLORS)
    for number, (name, color) in enumerate(COLORS.items()):
        heights = [_moving_error(controllers.get(name, {})) for controllers in results.values()]
        places = [robot + (number - (len(COLORS) - 1) / 2) * width for robot in range(len(results))]
        bars = right.bar(places, heights, width, color=color, label=name)
        right.bar_label(bars, [f"{h:.2g}" if h else "" for h in heights], fontsize="x-small")
    right.set_xticks(range(len(results)), results)
    right.set(ylabel="median error [mm]", title=f"Goals that move at {MOVING} m/s")
    right.grid(axis="y", alpha=0.3)
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def _rates(results: Results) -> list[float]:
    return [
        clear_rate(figures) for controllers in results.values() for figures in controllers.values()
    ]


def _moving_error(figures: Figures) -> float:
    """Median error [mm] of goals that move at MOVING, 0 where it was not measured."""
    moving = figures.get("controlled", {}).get("moving", {})
    return 1e3 * float(moving.get(MOVING, {}).get("error_median_m", 0.0))
