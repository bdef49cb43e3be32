"""The page of a report: curves, and tables with interquartile means and bootstrap intervals."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from polyreach.experiments import Column, Experiment, Measure, Variant
from polyreach.machine import machine_sentence
from polyreach.plotting import file_pyplot
from polyreach.run import RunConfig, RunFolder
from polyreach.transfer import play_run

BOOTSTRAP = 2000  # resamples
CONFIDENCE = 0.95
LAST = 3  # evaluations at the end of a run whose mean is its result
NOT_RUN = "not run"


class MeasureText(NamedTuple):
    """How a measure is told of."""

    form: str
    axis: str
    meaning: str


MEASURES: dict[Measure, MeasureText] = {
    "score": MeasureText(
        "{:.2f}",
        "mean score, -log(error / m)",
        "Score of effector i: -log(error_i / m) at the end of an episode, all effectors at once",
    ),
    "success": MeasureText(
        "{:.1%}",
        "success, mean over tasks",
        "Success of a task: share of episodes in which it is done, on Meta-World at any step, on "
        "robots at the last",
    ),
    "return": MeasureText(
        "{:,.0f}",
        "return, mean over tasks",
        "Return of a task: undiscounted sum of the rewards of an episode",
    ),
}


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


def interquartile_mean(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean of the middle half of the last axis (Agarwal et al.

    2021, section 4.3), values at its edge in part.
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
    """Interval of the interquartile mean of values (seeds, tasks): seeds are drawn again, for each
    task on its own.
    """
    rng = np.random.default_rng(seed)
    seeds, tasks = values.shape
    drawn = rng.integers(seeds, size=(BOOTSTRAP, seeds, tasks))
    resampled = np.take_along_axis(np.broadcast_to(values, drawn.shape), drawn, axis=1)
    means = interquartile_mean(resampled.reshape(BOOTSTRAP, -1))
    low, high = np.quantile(means, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return float(low), float(high)


def task_names(records: Sequence[dict[str, Any]], measure: Measure) -> list[str]:
    """The tasks for which `measure` was recorded."""
    start = f"{measure}_"
    return [key.removeprefix(start) for key in records[0] if key.startswith(start)]


def measured(records: Sequence[dict[str, Any]], measure: Measure) -> NDArray[np.float64]:
    """`measure` of every task at every evaluation, (evaluations, T)."""
    names = task_names(records, measure)
    return np.array([[record[f"{measure}_{name}"] for name in names] for record in records])


def draw_curves(experiment: Experiment, results: Sequence[Result], path: Path) -> None:
    """The measure against environment steps: a row per environment, a line per variant with the
    range of its seeds. Beside success, which comes in steps, the return.
    """
    pyplot = file_pyplot()
    measures: list[Measure] = [experiment.measure]
    if experiment.measure == "success":
        measures.append("return")
    shape = (len(experiment.envs), len(measures))
    size = (5.5 * shape[1] + 3, 4.2 * shape[0] + 0.4)
    figure, panels = pyplot.subplots(*shape, figsize=size, squeeze=False, layout="constrained")
    for row, env in zip(panels, experiment.envs, strict=True):
        for panel, measure in zip(row, measures, strict=True):
            _draw_panel(panel, experiment, results, env, measure)
    handles, labels = panels[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, fontsize="small", loc="outside right center")
    figure.suptitle(f"{experiment.title} (after {experiment.paper})", fontsize="medium")
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def _draw_panel(
    panel: Any, experiment: Experiment, results: Sequence[Result], env: str, measure: Measure
) -> None:
    for index, variant in enumerate(experiment.variants):
        own = _of(results, variant, env)
        if not own or not task_names(own[0].records, measure):
            continue
        steps = np.array([record["step"] for record in own[0].records])
        curves = np.stack([measured(run.records, measure).mean(axis=1) for run in own])
        style = {"color": f"C{index % 10}", "linestyle": ("-", "--")[index // 10 % 2]}
        panel.plot(steps, curves.mean(axis=0), label=variant.label, **style)
        low, high = curves.min(axis=0), curves.max(axis=0)
        panel.fill_between(steps, low, high, color=style["color"], alpha=0.12)
    panel.set(title=env, xlabel="environment steps, all tasks", ylabel=MEASURES[measure].axis)
    panel.grid(alpha=0.3)


def describe(experiment: Experiment, results: Sequence[Result], seeds: int, command: str) -> str:
    """The report as Markdown; `seeds` are wanted of each variant, `command` makes the first run."""
    first, text = results[0].config, MEASURES[experiment.measure]
    extent = first.family.evaluation_text(first.eval_goals)
    wanted = seeds * len(experiment.variants) * len(experiment.envs)
    hours = sum(run.records[-1]["wall_s"] for run in results) / 3600
    lines = [
        f"# {experiment.title}, after {experiment.paper}",
        "",
        f"![curves]({experiment.name}.png)",
        "",
        f"{text.meaning}; without noise, {extent}; higher is better. Curves: mean over "
        "seeds, shaded their range.",
        f"Budget: {_budget(results)}, the total over all tasks, "
        f"{first.num_envs} environments; seeds of each variant: {seeds}; {len(results)} of "
        f"{wanted} runs, {hours:.1f} hours of wall-clock time in all.",
        *_origins(results),
        f"Made by `polyreach report {experiment.name}{_steps_option(results)} --seeds {seeds}`; a "
        f"run is `polyreach {command}` and the like.",
        "",
        f"IQM: interquartile mean over seeds and tasks of the mean of the last {LAST} evaluations, "
        f"with a {CONFIDENCE:.0%} bootstrap interval (Agarwal et al. 2021), rough with few seeds.",
    ]
    if experiment.published:
        lines.append(f"Published, with another budget than ours: {experiment.published}.")
    if len(results) < wanted:
        lines.append(
            "Runs are missing: 'runs' tells how many of each variant there are, and a cell without "
            f"any says '{NOT_RUN}'."
        )
    for env in experiment.envs:
        lines += ["", f"## {env}", "", *_results_table(experiment, results, env, seeds)]
        lines += ["", *_tasks_table(experiment, results, env)]
        if experiment.rollouts:
            lines += ["", *_rollouts_table(experiment, results, env)]
    return "\n".join(lines) + "\n"


def _budget(results: Sequence[Result]) -> str:
    """Environment steps of the runs: those of all, or of each variant."""
    steps = {run.variant.label: run.config.steps for run in results}
    if len(set(steps.values())) == 1:
        return f"{results[0].config.steps:,} environment steps each"
    told = ", ".join(f"{label}: {count:,}" for label, count in steps.items())
    return f"environment steps of a run, {told}"


def _steps_option(results: Sequence[Result]) -> str:
    steps = {run.config.steps for run in results}
    return f" --steps {steps.pop()}" if len(steps) == 1 else ""


def _of(results: Sequence[Result], variant: Variant, env: str) -> list[Result]:
    return [run for run in results if run.variant == variant and run.env == env]


def _origins(results: Sequence[Result]) -> list[str]:
    origins = [origin for run in results for origin in run.folder.read_origins()]
    commits = sorted({_short(origin["git_commit"]) for origin in origins})
    machines = sorted(
        {machine_sentence(origin["machine"]) for origin in origins if "machine" in origin}
    )
    versions = sorted({run.config.env_version for run in results} - {""})
    lines = [f"Machine: {'; '.join(machines) or 'not recorded'}. Commit {', '.join(commits)}."]
    return [*lines, f"Environment: {', '.join(versions)}."] if versions else lines


def _short(commit: str) -> str:
    """Twelve digits, and whether there were changes besides."""
    digits, plus, changes = commit.partition("+")
    return digits[:12] + plus + changes


def _results_table(
    experiment: Experiment, results: Sequence[Result], env: str, seeds: int
) -> list[str]:
    measure = experiment.measure
    header = ["variant", "runs", f"{measure} (IQM)", "interval", "mean"]
    published = any(variant.published for variant in experiment.variants)
    header += ["published (other budget)"] if published else []
    header += [*(column.title for column in experiment.columns), "updates", "hours per run"]
    rows = []
    form = MEASURES[measure].form.format
    for variant in experiment.variants:
        own = _of(results, variant, env)
        cells = [variant.label, f"{len(own)} of {seeds}"]
        cells += _aggregate(own, measure) if own else [NOT_RUN] * 3
        if published:
            cells.append(form(variant.published[env]) if env in variant.published else "")
        cells += [_column(own, column) if own else NOT_RUN for column in experiment.columns]
        if own:
            cells.append(f"{np.mean([run.records[-1]['updates'] for run in own]):,.0f}")
            cells.append(f"{np.mean([run.records[-1]['wall_s'] for run in own]) / 3600:.2f}")
        else:
            cells += [NOT_RUN] * 2
        rows.append(cells)
    return _table(header, rows)


def _last(own: Sequence[Result], measure: Measure) -> NDArray[np.float64]:
    """Results of runs, (seeds, T)."""
    return np.stack([measured(run.records, measure)[-LAST:].mean(axis=0) for run in own])


def _aggregate(own: Sequence[Result], measure: Measure) -> list[str]:
    form = MEASURES[measure].form.format
    values = _last(own, measure)
    low, high = bootstrap_interval(values)
    interval = f"{form(low)} to {form(high)}" if len(own) > 1 else "one run"
    return [form(interquartile_mean(values.ravel())), interval, form(values.mean())]


def _column(own: Sequence[Result], column: Column) -> str:
    values = [record[column.key] for run in own for record in run.records[-LAST:]]
    return column.form.format(column.factor * (np.median if column.median else np.mean)(values))


def _tasks_table(experiment: Experiment, results: Sequence[Result], env: str) -> list[str]:
    """Mean over seeds of every task, with their range."""
    found = [run for run in results if run.env == env]
    if not found:
        return []
    names = task_names(found[0].records, experiment.measure)
    form = MEASURES[experiment.measure].form.format
    rows = []
    for variant in experiment.variants:
        own = _of(results, variant, env)
        cells = [NOT_RUN] * len(names)
        if own:
            values = _last(own, experiment.measure)
            low, high = values.min(axis=0), values.max(axis=0)
            cells = [
                form(mean) if below == above else f"{form(mean)} ({form(below)} to {form(above)})"
                for mean, below, above in zip(values.mean(axis=0), low, high, strict=True)
            ]
        rows.append([variant.label, *cells])
    caption = f"{experiment.measure.capitalize()} of each task: mean over seeds, and their range."
    return [caption, "", *_table(["variant", *names], rows)]


def _rollouts_table(experiment: Experiment, results: Sequence[Result], env: str) -> list[str]:
    """Returns of the last policies that were trained on `env`, on every environment, beside the
    paper's.
    """
    rows: list[list[str]] = []
    names: list[str] = []
    for variant in experiment.variants:
        played = [
            {
                name: own
                for other in experiment.envs
                for name, own in play_run(run.folder.path, other, experiment.rollouts).items()
            }
            for run in _of(results, variant, env)
        ]
        if not played:
            continue
        names = [*played[0]]
        ours = [
            f"{np.mean([one[name].mean for one in played]):,.0f} ± "
            f"{np.mean([one[name].std for one in played]):,.0f}"
            for name in names
        ]
        rows.append([variant.label, *ours])
        theirs = [variant.published_returns.get((env, name), "") for name in names]
        if any(theirs):
            rows.append(["published", *theirs])
    if not rows:
        return []
    caption = (
        f"Returns of {experiment.rollouts} episodes with the last policy: mean ± standard deviation"
        " over episodes, each averaged over seeds."
    )
    return [caption, "", *_table(["variant", *names], rows)]


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    lines = [header, ["---"] * len(header), *rows]
    return ["| " + " | ".join(cells) + " |" for cells in lines]
