"""Run an experiment of a paper and report it: curves and a table with interquartile means and
bootstrap intervals.
"""

import shlex
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tyro
from numpy.typing import NDArray
from rich.console import Console

from polyreach.errors import UserError
from polyreach.experiments import Experiment, Variant, get_experiment
from polyreach.run import RunFolder

BOOTSTRAP = 2000  # resamples
CONFIDENCE = 0.95
LAST = 3  # evaluations at the end of a run whose mean is its result


@dataclass(frozen=True)
class ReportOptions:
    """Run what is missing of an experiment, then write its curves and its table; stop and repeat at
    any time.
    """

    experiment: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="EXPERIMENT")]
    """Experiment, for example digrad-fig4."""
    steps: int = 0
    """Environment steps of each run; 0 takes the experiment's."""
    seeds: int = 0
    """Seeds of each variant; 0 takes the experiment's."""
    runs: Path = Path("runs")
    """Where the runs are kept, in a folder of the experiment's name."""
    out: Path = Path("docs")
    """Where the curves (EXPERIMENT.png) and the table (EXPERIMENT.md) go."""
    jobs: int = 1
    """Runs at a time, each on one thread."""


@dataclass(frozen=True)
class Job:
    """One run of an experiment."""

    variant: Variant
    env: str
    seed: int
    folder: Path
    command: tuple[str, ...]


def jobs_of(experiment: Experiment, options: ReportOptions) -> list[Job]:
    """All runs; those with the same seed first, so that an early report compares all variants."""
    steps, seeds = options.steps or experiment.steps, options.seeds or experiment.seeds
    jobs = []
    for seed in range(seeds):
        for env in experiment.envs:
            for index, variant in enumerate(experiment.variants):
                folder = options.runs / experiment.name / f"{env}-{index}-{variant.method}-s{seed}"
                command = ("train", variant.method, env, *experiment.options, *variant.options)
                command = (*command, "--steps", str(steps), "--seed", str(seed))
                jobs.append(Job(variant, env, seed, folder, command))
    return jobs


def run_job(job: Job) -> str | None:
    """Train one run, or go on with it; returns what went wrong, if anything."""
    has_run = (job.folder / "config.json").is_file()
    place = ("--resume" if has_run else "--out", str(job.folder))
    job.folder.mkdir(parents=True, exist_ok=True)
    with (job.folder / "log.txt").open("a") as log:
        done = subprocess.run(
            [sys.executable, "-m", "polyreach.cli", *job.command, *place],
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    if done.returncode == 0:
        return None
    command = shlex.join(("polyreach", *job.command, *place))
    return f"{command} ended with {done.returncode}, see {job.folder}/log.txt"


def is_complete(job: Job) -> bool:
    """Whether the run has its last evaluation. Raises UserError if its folder holds another run."""
    from polyreach.commands import train_config

    folder = RunFolder(job.folder)
    if not folder.config_file.is_file():
        return False
    folder.check(train_config(job.command[1:])[1])
    records = folder.read_metrics()
    return bool(records) and records[-1]["step"] >= folder.read_config().steps


def write_report(options: ReportOptions, console: Console) -> None:
    """Run what is missing and write the report. Raises UserError if a run fails."""
    experiment = get_experiment(options.experiment)
    jobs = jobs_of(experiment, options)
    missing = [job for job in jobs if not is_complete(job)]
    console.print(f"{len(jobs)} runs, {len(jobs) - len(missing)} of them complete")
    with ThreadPoolExecutor(max(1, options.jobs)) as pool:
        for number, problem in enumerate(pool.map(run_job, missing), 1):
            if problem:
                pool.shutdown(cancel_futures=True)
                raise UserError(problem)
            console.print(f"run {number} of {len(missing)} done")
    curves = {job.folder: RunFolder(job.folder).read_metrics() for job in jobs}
    options.out.mkdir(parents=True, exist_ok=True)
    picture = options.out / f"{experiment.name}.png"
    draw_curves(experiment, jobs, curves, picture)
    page = options.out / f"{experiment.name}.md"
    page.write_text(describe(experiment, jobs, curves, options))
    console.print(f"wrote {page} and {picture}")


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


def scores(records: list[dict[str, Any]]) -> NDArray[np.float64]:
    """-log(error) of every effector at every evaluation, (evaluations, E)."""
    names = [key for key in records[0] if key.startswith("score_")]
    return np.array([[record[name] for name in names] for record in records])


def draw_curves(
    experiment: Experiment, jobs: list[Job], curves: dict[Path, list[dict[str, Any]]], path: Path
) -> None:
    """Score against environment steps: a panel per environment, a line per variant with the range
    of its seeds.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, panels = pyplot.subplots(
        1, len(experiment.envs), figsize=(6 * len(experiment.envs), 4.5), squeeze=False
    )
    for panel, env in zip(panels[0], experiment.envs, strict=True):
        for variant in experiment.variants:
            own = [curves[job.folder] for job in jobs if job.env == env and job.variant == variant]
            steps = np.array([record["step"] for record in own[0]])
            score = np.stack([scores(records).mean(axis=1) for records in own])
            (line,) = panel.plot(steps, score.mean(axis=0), label=variant.label)
            panel.fill_between(
                steps, score.min(axis=0), score.max(axis=0), color=line.get_color(), alpha=0.15
            )
        panel.set(title=env, xlabel="environment steps", ylabel="mean score, -log(error / m)")
        panel.grid(alpha=0.3)
    panels[0][-1].legend(fontsize="small")
    figure.suptitle(f"{experiment.title} (after {experiment.paper})")
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def describe(
    experiment: Experiment,
    jobs: list[Job],
    curves: dict[Path, list[dict[str, Any]]],
    options: ReportOptions,
) -> str:
    """The report as Markdown."""
    first = RunFolder(jobs[0].folder).read_config()
    seeds = len({job.seed for job in jobs})
    hours = sum(records[-1]["wall_s"] for records in curves.values()) / 3600
    commits = sorted({RunFolder(job.folder).read_git_commit()[:12] for job in jobs})
    lines = [
        f"# {experiment.title}, after {experiment.paper}",
        "",
        f"![curves]({experiment.name}.png)",
        "",
        "Score of effector i: -log(error_i / m) at the end of an episode, without noise, over "
        f"{first.eval_goals} goal sets, "
        "all effectors at once; higher is better. Shaded: range over seeds.",
        f"Budget: {first.steps:,} environment steps each, {first.num_envs} environments, one "
        "update per step of all; "
        f"{seeds} seeds; {hours:.1f} core hours in all on {first.device}, commit "
        f"{', '.join(commits)}.",
        f"Made by `polyreach report {experiment.name} --steps {first.steps} --seeds {seeds}`; a "
        "run is "
        f"`polyreach {shlex.join(jobs[0].command)}` and the like.",
        "",
        f"IQM: interquartile mean over seeds and effectors of the mean of the last {LAST} "
        "evaluations, with a "
        f"{CONFIDENCE:.0%} bootstrap interval (Agarwal et al. 2021). With {seeds} seeds intervals "
        "are rough.",
    ]
    for env in experiment.envs:
        lines += [
            "",
            f"## {env}",
            "",
            "| variant | score (IQM) | interval | median error [mm] | all within 2 cm |",
        ]
        lines += ["|---|---|---|---|---|"]
        for variant in experiment.variants:
            own = [curves[job.folder] for job in jobs if job.env == env and job.variant == variant]
            values = np.stack([scores(records)[-LAST:].mean(axis=0) for records in own])
            low, high = bootstrap_interval(values)
            error = np.median(
                [record["error_median"] for records in own for record in records[-LAST:]]
            )
            success = np.mean(
                [record["success_all"] for records in own for record in records[-LAST:]]
            )
            lines.append(
                f"| {variant.label} | {interquartile_mean(values.ravel()):.2f} | {low:.2f} to "
                f"{high:.2f} "
                f"| {1e3 * error:.0f} | {success:.1%} |"
            )
    return "\n".join(lines) + "\n"
