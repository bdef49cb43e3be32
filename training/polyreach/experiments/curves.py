"""The plot of a report: the measure against environment steps."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from polyreach.experiments.experiment import Experiment, Measure
from polyreach.experiments.results import NOT_RUN, Result, measured, runs_of, task_names
from polyreach.plotting import file_pyplot

COLUMNS = 3  # of panels, where every task or every variant has a panel
WEIGHT = "weight_"  # in the records of evaluations: the weight of a task

AXES: dict[Measure, str] = {
    "score": "score, -log(error / m)",
    "success": "success",
    "return": "return",
}


class Panel(NamedTuple):
    """The content of a panel."""

    env: str
    measure: Measure
    task: str = ""
    """The mean over tasks if empty."""


def draw_curves(experiment: Experiment, results: Sequence[Result], path: Path) -> None:
    """Draw the measure against environment steps, a line per variant with the range of its seeds:
    a row of panels per environment, or a panel per task. Success, which is coarse, is drawn beside
    the return.
    """
    pyplot = file_pyplot()
    rows = panels_of(experiment, results)
    shape = (len(rows), max(len(row) for row in rows))
    size = (5.5 * shape[1] + 3, 4.2 * shape[0] + 0.4)
    figure, axes = pyplot.subplots(*shape, figsize=size, squeeze=False, layout="constrained")
    legend: dict[str, Any] = {}
    for row, row_axes in zip(rows, axes, strict=True):
        for panel, ax in zip(row, row_axes, strict=False):
            _draw_panel(ax, experiment, results, panel)
            handles, labels = ax.get_legend_handles_labels()
            legend |= dict(zip(labels, handles, strict=True))
        for ax in row_axes[len(row) :]:
            ax.axis("off")
    figure.legend(legend.values(), legend.keys(), fontsize="small", loc="outside right center")
    figure.suptitle(f"{experiment.title} (after {experiment.paper})", fontsize="medium")
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def draw_weights(experiment: Experiment, results: Sequence[Result], path: Path) -> bool:
    """Draw the weights of the tasks against environment steps (Bai et al. 2023, Fig. 4): a panel
    per variant and environment, a line per task with the range of its seeds. Returns False, and
    draws nothing, if no run recorded weights.
    """
    panels = [
        (variant, env, runs)
        for env in experiment.envs
        for variant in experiment.variants
        if (runs := [run for run in runs_of(results, variant, env) if _weights(run)[0]])
    ]
    if not panels:
        return False
    pyplot = file_pyplot()
    columns = min(COLUMNS, len(panels))
    shape = (-(-len(panels) // columns), columns)
    size = (4.6 * shape[1] + 2, 3.4 * shape[0] + 0.4)
    figure, axes = pyplot.subplots(
        *shape, figsize=size, squeeze=False, sharey=True, layout="constrained"
    )
    for ax in axes.flat[len(panels) :]:
        ax.axis("off")
    for ax, (variant, env, runs) in zip(axes.flat, panels, strict=False):
        names, steps, _ = _weights(runs[0])
        weights = np.stack([_weights(run)[2] for run in runs])  # (runs, ., T)
        for task, name in enumerate(names):
            _draw_runs(ax, steps, weights[..., task], name, {"color": f"C{task % 10}"})
        ax.set_title(f"{env}: {variant.label}", fontsize="medium")
        ax.set(xlabel="environment steps, all tasks", ylabel="weight w of the task")
        ax.grid(alpha=0.3)
    handles, labels = axes.flat[0].get_legend_handles_labels()
    figure.legend(handles, labels, fontsize="small", loc="outside right center")
    figure.savefig(path, dpi=110)
    pyplot.close(figure)
    return True


def _weights(run: Result) -> tuple[list[str], list[int], NDArray[np.float64]]:
    """Tasks, steps and weights (evaluations, T) of the evaluations that have weights."""
    records = [record for record in run.records if any(key.startswith(WEIGHT) for key in record)]
    keys = [key for key in records[0] if key.startswith(WEIGHT)] if records else []
    weights = np.array([[record[key] for key in keys] for record in records])
    steps = [record["step"] for record in records]
    return [key.removeprefix(WEIGHT) for key in keys], steps, weights


def panels_of(experiment: Experiment, results: Sequence[Result]) -> list[list[Panel]]:
    """Rows of panels: a row per environment, or a panel per task."""
    measure = experiment.measure
    if not experiment.curves_by_task:
        measures: list[Measure] = [measure]
        if measure == "success" and any(task_names(run.records, "return") for run in results):
            measures.append("return")
        return [[Panel(env, name) for name in measures] for env in experiment.envs]
    panels = []
    for env in experiment.envs:
        records = next((run.records for run in results if run.env == env), None)
        names = task_names(records, measure) if records else []
        panels += [Panel(env, measure, name) for name in names]
    return [panels[first : first + COLUMNS] for first in range(0, len(panels), COLUMNS)]


def _draw_panel(ax: Any, experiment: Experiment, results: Sequence[Result], panel: Panel) -> None:
    for index, variant in enumerate(experiment.variants):
        runs = runs_of(results, variant, panel.env)
        names = task_names(runs[0].records, panel.measure) if runs else []
        if not names:
            continue
        steps = np.array([record["step"] for record in runs[0].records])
        curves = np.stack([measured(run.records, panel.measure) for run in runs])  # (runs, ., T)
        if panel.task:
            steps, curves = steps / len(names), curves[..., names.index(panel.task)]
        else:
            curves = curves.mean(axis=2)
        style = {"color": f"C{index % 10}", "linestyle": ("-", "--")[index // 10 % 2]}
        _draw_runs(ax, steps, curves, variant.label, style)
    each = "environment steps of the task" if panel.task else "environment steps, all tasks"
    of = "" if panel.task else ", mean over tasks"
    title = f"{panel.env}: {panel.task}" if panel.task else panel.env
    ax.set(title=title, xlabel=each, ylabel=AXES[panel.measure] + of)
    ax.grid(alpha=0.3)
    if not ax.lines:
        ax.set(xticks=[], yticks=[])
        ax.text(0.5, 0.5, NOT_RUN, transform=ax.transAxes, ha="center")


def _draw_runs(
    ax: Any, steps: ArrayLike, values: NDArray[np.float64], label: str, style: dict[str, str]
) -> None:
    """Mean and range of values (runs, evaluations); of one evaluation, the runs as points."""
    low, high, color = values.min(axis=0), values.max(axis=0), style["color"]
    if values.shape[1] > 1:
        ax.plot(steps, values.mean(axis=0), label=label, **style)
        ax.fill_between(steps, low, high, color=color, alpha=0.12)
    else:
        ax.vlines(steps, low, high, color=color, alpha=0.3)
        points = np.broadcast_to(steps, values.shape)
        ax.plot(points.ravel(), values.ravel(), "o", label=label, color=color)
