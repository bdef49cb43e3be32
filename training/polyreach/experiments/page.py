"""The page of a report: tables with interquartile means, bootstrap intervals and ranks."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from polyreach.experiments.claims import with_findings
from polyreach.experiments.experiment import Column, Experiment, Measure
from polyreach.experiments.results import (
    CONFIDENCE,
    LAST,
    NOT_RUN,
    Result,
    bootstrap_interval,
    compare_order,
    final_values,
    interquartile_mean,
    runs_of,
    task_names,
)
from polyreach.runs.config import RunConfig
from polyreach.runs.machine import machine_sentence
from polyreach.runs.transfer import Returns, play_run

LEAST_ORDER = 3  # variants, for a comparison of their order with the paper's


class MeasureText(NamedTuple):
    """How a measure is written, and what it means."""

    form: str
    meaning: str


MEASURES: dict[Measure, MeasureText] = {
    "score": MeasureText(
        "{:.2f}",
        "Score of effector i: -log(error_i / m) at the end of an episode, all effectors at once",
    ),
    "success": MeasureText(
        "{:.1%}",
        "Success of a task: share of episodes in which the task succeeds, on Meta-World at any "
        "step, on robots at the last step",
    ),
    "return": MeasureText(
        "{:,.0f}",
        "Return of a task: undiscounted sum of the rewards of an episode",
    ),
}


class Played(NamedTuple):
    """Returns of the episodes that a run's last policy plays, by task of all environments."""

    noisy: dict[str, Returns]
    """Of actions drawn as in training."""
    noiseless: dict[str, Returns]


PlayedRuns = Mapping[Path, Played]  # by folder of the run; empty where the report plays none


def describe(
    experiment: Experiment, results: Sequence[Result], seeds: int, weights: str = ""
) -> str:
    """The report as Markdown; `seeds` are wanted of each variant, `weights` is the name of the
    picture of the tasks' weights, if there is one.
    """
    first, text = results[0].config, MEASURES[experiment.measure]
    wanted = seeds * len(experiment.variants) * len(experiment.envs)
    played = {run.folder.path: _play(experiment, run) for run in results if experiment.rollouts}
    hours = sum(run.records[-1]["wall_s"] for run in results) / 3600
    lines = [
        f"# {experiment.title}, after {experiment.paper}",
        "",
        f"![curves]({experiment.name}.png)",
        "",
        f"{text.meaning}; measured without exploration noise, {_extent(first)}; higher is better. "
        "Curves: mean over seeds; shaded: range over seeds.",
        f"Budget: {_budget(results)}, in total over all tasks; {first.num_envs} environments; "
        f"seeds of each variant: {seeds}; {len(results)} of {wanted} runs; {hours:.1f} hours of "
        "wall-clock time in total.",
        *_origins(results),
        f"Made by `polyreach report {experiment.name}{_steps_option(results)} --seeds {seeds}`. "
        f"Its first run: `{first.command}`.",
        "",
        f"IQM: interquartile mean over runs of the mean over a run's tasks and last {LAST} "
        f"evaluations, with a {CONFIDENCE:.0%} bootstrap interval (Agarwal et al. 2021). Whole "
        "runs are resampled, because the tasks of a run are not independent. With few seeds the "
        "interval is rough.",
    ]
    if experiment.rollouts:
        lines.append(
            f"With noise: the last policy of a run plays {experiment.rollouts} episodes of every "
            "task with actions drawn as in training, as the paper's policies act; claims are "
            "judged by these returns."
        )
    if experiment.published:
        lines.append(f"Published: {experiment.published}.")
    if len(results) < wanted:
        lines.append(
            "Runs are missing: 'runs' shows how many of each variant are complete; "
            f"'{NOT_RUN}' marks a variant without runs."
        )
    if experiment.note:
        lines += ["", experiment.note]
    for env in experiment.envs:
        lines += ["", f"## {env}", "", *_results_table(experiment, results, played, env, seeds)]
        lines += ["", *_tasks_table(experiment, results, env)]
        if experiment.rollouts:
            lines += ["", *_rollouts_table(experiment, results, played, env)]
    if weights:
        lines += [
            "",
            "## Weights of the tasks",
            "",
            f"![weights]({weights})",
            "",
            "Mean over the updates since the evaluation before; lines: mean over seeds; shaded: "
            "range over seeds.",
        ]
    return with_findings(experiment, "\n".join(lines) + "\n")


def _extent(config: RunConfig) -> str:
    """How much an evaluation measures, and in which simulation."""
    mode = getattr(config.env_config, "mode", "")
    text = config.env_spec.evaluation_text(config.eval_goals)
    return f"{text} in {mode} simulation" if mode else text


def _budget(results: Sequence[Result]) -> str:
    """Environment steps of the runs: those of all, or of each variant."""
    steps = {run.variant.label: run.config.steps for run in results}
    if len(set(steps.values())) == 1:
        return f"{results[0].config.steps:,} environment steps per run"
    counts = "; ".join(f"{label}: {count:,}" for label, count in steps.items())
    return f"environment steps per run ({counts})"


def _steps_option(results: Sequence[Result]) -> str:
    steps = {run.config.steps for run in results}
    return f" --steps {steps.pop()}" if len(steps) == 1 else ""


def _origins(results: Sequence[Result]) -> list[str]:
    """Lines about machines, commits and versions of environments."""
    origins = [origin for run in results for origin in run.folder.read_origins()]
    commits = sorted({_short(origin["git_commit"]) for origin in origins})
    machines = sorted(
        {machine_sentence(origin["machine"]) for origin in origins if "machine" in origin}
    )
    versions = sorted({run.config.env_version for run in results} - {""})
    lines = [f"Machine: {'; '.join(machines) or 'not recorded'}. Commit {', '.join(commits)}."]
    return [*lines, f"Environment: {', '.join(versions)}."] if versions else lines


def _short(commit: str) -> str:
    """The first twelve digits, and '+changes' where the checkout was modified."""
    digits, plus, changes = commit.partition("+")
    return digits[:12] + plus + changes


def _play(experiment: Experiment, run: Result) -> Played:
    """The last policy of a run in all environments."""

    def play(noise: bool) -> dict[str, Returns]:
        folder, episodes = run.folder.path, experiment.rollouts
        returns = [play_run(folder, env, episodes, noise) for env in experiment.envs]
        return {name: one for of_env in returns for name, one in of_env.items()}

    return Played(play(noise=True), play(noise=False))


def _results_table(
    experiment: Experiment,
    results: Sequence[Result],
    played: PlayedRuns,
    env: str,
    seeds: int,
) -> list[str]:
    measure = experiment.measure
    header = ["variant", "runs", f"{measure} (IQM)", "interval", "mean"]
    if played:
        header[2:2] = [f"{measure} with noise (IQM)", "interval"]
    published = any(variant.published for variant in experiment.variants)
    header += ["published", "rank (published)"] if published else []
    header += [*(column.title for column in experiment.columns), "updates", "hours per run"]
    rows = []
    form = MEASURES[measure].form.format
    ours, theirs = _means(experiment, results, env)
    places, correlation = compare_order(ours, theirs)
    for variant in experiment.variants:
        runs = runs_of(results, variant, env)
        cells = [variant.label, f"{len(runs)} of {seeds}"]
        if runs:
            noisy = _aggregate(_noisy(runs, measure, played), measure)[:2] if played else []
            cells += [*noisy, *_aggregate(final_values(runs, measure), measure)]
        else:
            cells += [NOT_RUN] * (5 if played else 3)
        if published:
            cells.append(form(variant.published[env]) if env in variant.published else "")
            place = places.get(variant.label)
            cells.append(f"{place[0]} ({place[1]})" if place else "")
        cells += [_column(runs, column) if runs else NOT_RUN for column in experiment.columns]
        if runs:
            cells.append(f"{np.mean([run.records[-1]['updates'] for run in runs]):,.0f}")
            cells.append(f"{np.mean([run.records[-1]['wall_s'] for run in runs]) / 3600:.2f}")
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
        lines[-1] += "".join(
            f" With '{variant.label}' in place of '{variant.control_of}' it is "
            f"{compare_order(ours | {variant.control_of: ours[variant.label]}, theirs)[1]:.2f}."
            for variant in experiment.variants
            if variant.control_of in places and variant.label in ours
        )
    return lines


def _means(
    experiment: Experiment, results: Sequence[Result], env: str
) -> tuple[dict[str, float], dict[str, float]]:
    """Mean final value of each variant that has runs, and the paper's figure of each variant."""
    ours, theirs = {}, {}
    for variant in experiment.variants:
        if runs := runs_of(results, variant, env):
            ours[variant.label] = float(final_values(runs, experiment.measure).mean())
        if env in variant.published:
            theirs[variant.label] = variant.published[env]
    return ours, theirs


def _noisy(runs: Sequence[Result], measure: Measure, played: PlayedRuns) -> NDArray[np.float64]:
    """Mean return with noise of every task of the runs' environment, (runs, T)."""
    names = task_names(runs[0].records, measure)
    return np.array([[played[run.folder.path].noisy[name].mean for name in names] for run in runs])


def _aggregate(task_values: NDArray[np.float64], measure: Measure) -> list[str]:
    """Cells of the interquartile mean of task_values (runs, T), its interval, and the mean."""
    form = MEASURES[measure].form.format
    values = task_values.mean(axis=1)
    low, high = bootstrap_interval(values)
    interval = f"{form(low)} to {form(high)}" if len(values) > 1 else "one run"
    return [form(interquartile_mean(values)), interval, form(values.mean())]


def _column(runs: Sequence[Result], column: Column) -> str:
    """Cell of a further column; empty where no run recorded it."""
    records = [record for run in runs for record in run.records[-LAST:]]
    values = [record[column.key] for record in records if column.key in record]
    if not values:
        return ""
    return column.form.format(column.factor * (np.median if column.median else np.mean)(values))


def _tasks_table(experiment: Experiment, results: Sequence[Result], env: str) -> list[str]:
    """Mean over seeds of every task, with their range."""
    first = next((run for run in results if run.env == env), None)
    if first is None:
        return []
    names = task_names(first.records, experiment.measure)
    form = MEASURES[experiment.measure].form.format
    rows = []
    for variant in experiment.variants:
        runs = runs_of(results, variant, env)
        cells = [NOT_RUN] * len(names)
        if runs:
            values = final_values(runs, experiment.measure)
            low, high = values.min(axis=0), values.max(axis=0)
            cells = [
                form(mean) if below == above else f"{form(mean)} ({form(below)} to {form(above)})"
                for mean, below, above in zip(values.mean(axis=0), low, high, strict=True)
            ]
        rows.append([variant.label, *cells])
    caption = f"{experiment.measure.capitalize()} of each task: mean over seeds (range over seeds)."
    return [caption, "", *_table(["variant", *names], rows)]


def _rollouts_table(
    experiment: Experiment, results: Sequence[Result], played: PlayedRuns, env: str
) -> list[str]:
    """Returns on every environment of the last policies trained on `env`, and the paper's."""
    rows: list[list[str]] = []
    names: list[str] = []
    for variant in experiment.variants:
        runs = [played[run.folder.path] for run in runs_of(results, variant, env)]
        if not runs:
            continue
        names = [*runs[0].noisy]
        rows.append([f"{variant.label}, with noise", *_spread([run.noisy for run in runs])])
        theirs = [variant.published_returns.get((env, name), "") for name in names]
        if any(theirs):
            rows.append(["published", *theirs])
        rows.append([f"{variant.label}, without noise", *_spread([run.noiseless for run in runs])])
    if not rows:
        return []
    caption = (
        f"Returns of {experiment.rollouts} episodes with the last policy: mean ± standard deviation"
        " over episodes, each averaged over seeds."
    )
    return [caption, "", *_table(["variant", *names], rows)]


def _spread(runs: Sequence[dict[str, Returns]]) -> list[str]:
    """Cells of the mean and the standard deviation over episodes of each task."""
    return [
        f"{np.mean([returns[name].mean for returns in runs]):,.0f} ± "
        f"{np.mean([returns[name].std for returns in runs]):,.0f}"
        for name in runs[0]
    ]


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    lines = [header, ["---"] * len(header), *rows]
    return ["| " + " | ".join(cells) + " |" for cells in lines]
