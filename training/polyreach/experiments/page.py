"""The page of a report: tables with interquartile means, bootstrap intervals and ranks."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from polyreach.experiments.experiment import Column, Experiment, Measure
from polyreach.experiments.results import (
    CONFIDENCE,
    LAST,
    NOT_RUN,
    Result,
    bootstrap_interval,
    compare_order,
    interquartile_mean,
    reached,
    runs_of,
    task_names,
)
from polyreach.runs.machine import machine_sentence
from polyreach.runs.transfer import play_run

LEAST_ORDER = 3  # variants whose order is compared with the paper's


class MeasureText(NamedTuple):
    """How a measure is told of."""

    form: str
    meaning: str


MEASURES: dict[Measure, MeasureText] = {
    "score": MeasureText(
        "{:.2f}",
        "Score of effector i: -log(error_i / m) at the end of an episode, all effectors at once",
    ),
    "success": MeasureText(
        "{:.1%}",
        "Success of a task: share of episodes in which it is done, on Meta-World at any step, on "
        "robots at the last",
    ),
    "return": MeasureText(
        "{:,.0f}",
        "Return of a task: undiscounted sum of the rewards of an episode",
    ),
}


def describe(experiment: Experiment, results: Sequence[Result], seeds: int) -> str:
    """The report as Markdown; `seeds` are wanted of each variant."""
    first, text = results[0].config, MEASURES[experiment.measure]
    extent = first.env_spec.evaluation_text(first.eval_goals)
    mode = getattr(first.env_config, "mode", "")
    extent += f" in {mode} simulation" if mode else ""
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
        f"run is `{first.command}` and the like.",
        "",
        f"IQM: interquartile mean over runs, of each the mean over its tasks and its last {LAST} "
        f"evaluations, with a {CONFIDENCE:.0%} bootstrap interval (Agarwal et al. 2021; whole runs "
        "are drawn again, for the tasks of a run are not independent), rough with few seeds.",
    ]
    if experiment.published:
        lines.append(f"Published: {experiment.published}.")
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
    header += ["published", "rank (published)"] if published else []
    header += [*(column.title for column in experiment.columns), "updates", "hours per run"]
    rows = []
    form = MEASURES[measure].form.format
    places, correlation = compare_order(*_means(experiment, results, env))
    for variant in experiment.variants:
        own = runs_of(results, variant, env)
        cells = [variant.label, f"{len(own)} of {seeds}"]
        cells += _aggregate(own, measure) if own else [NOT_RUN] * 3
        if published:
            cells.append(form(variant.published[env]) if env in variant.published else "")
            place = places.get(variant.label)
            cells.append(f"{place[0]} ({place[1]})" if place else "")
        cells += [_column(own, column) if own else NOT_RUN for column in experiment.columns]
        if own:
            cells.append(f"{np.mean([run.records[-1]['updates'] for run in own]):,.0f}")
            cells.append(f"{np.mean([run.records[-1]['wall_s'] for run in own]) / 3600:.2f}")
        else:
            cells += [NOT_RUN] * 2
        rows.append(cells)
    lines = _table(header, rows)
    if len(places) >= LEAST_ORDER:
        lines += [
            "",
            f"Order of the {len(places)} variants: Spearman's rank correlation of our means with "
            f"those published is {correlation:.2f}.",
        ]
    return lines


def _means(
    experiment: Experiment, results: Sequence[Result], env: str
) -> tuple[dict[str, float], dict[str, float]]:
    """Of each variant that has been run, what was reached in the mean; and the paper's figures."""
    ours, theirs = {}, {}
    for variant in experiment.variants:
        if own := runs_of(results, variant, env):
            ours[variant.label] = float(reached(own, experiment.measure).mean())
        if env in variant.published:
            theirs[variant.label] = variant.published[env]
    return ours, theirs


def _aggregate(own: Sequence[Result], measure: Measure) -> list[str]:
    form = MEASURES[measure].form.format
    values = reached(own, measure).mean(axis=1)
    low, high = bootstrap_interval(values)
    interval = f"{form(low)} to {form(high)}" if len(own) > 1 else "one run"
    return [form(interquartile_mean(values)), interval, form(values.mean())]


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
        own = runs_of(results, variant, env)
        cells = [NOT_RUN] * len(names)
        if own:
            values = reached(own, experiment.measure)
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
            for run in runs_of(results, variant, env)
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
