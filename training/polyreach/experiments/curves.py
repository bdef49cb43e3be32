"""The plot of a report: the measure against environment steps."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from polyreach.experiments.experiment import Experiment, Measure
from polyreach.experiments.results import NOT_RUN, Result, measured, runs_of, task_names
from polyreach.plotting import file_pyplot

COLUMNS = 3  # of panels, where every task has a panel

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


def panels_of(experiment: Experiment, results: Sequence[Result]) -> list[list[Panel]]:
    """Rows of panels: a row per environment, or a panel per task."""
    measure = experiment.measure
    if not experiment.curves_by_task:
        measures: list[Measure] = [measure, "return"] if measure == "success" else [measure]
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
        ax.plot(steps, curves.mean(axis=0), label=variant.label, **style)
        low, high = curves.min(axis=0), curves.max(axis=0)
        ax.fill_between(steps, low, high, color=style["color"], alpha=0.12)
    each = "environment steps of the task" if panel.task else "environment steps, all tasks"
    of = "" if panel.task else ", mean over tasks"
    title = f"{panel.env}: {panel.task}" if panel.task else panel.env
    ax.set(title=title, xlabel=each, ylabel=AXES[panel.measure] + of)
    ax.grid(alpha=0.3)
    if not ax.lines:
        ax.set(xticks=[], yticks=[])
        ax.text(0.5, 0.5, NOT_RUN, transform=ax.transAxes, ha="center")
