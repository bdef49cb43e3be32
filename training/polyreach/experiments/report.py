"""`polyreach report`: train what is missing of experiments, then write their curves and pages."""

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console

from polyreach.errors import UserError, check_range
from polyreach.experiments import EXPERIMENTS, get_experiment
from polyreach.experiments.curves import draw_curves, draw_weights
from polyreach.experiments.engines.options import EngineOptions, option_words
from polyreach.experiments.experiment import Experiment
from polyreach.experiments.job import Job, is_complete, jobs_of
from polyreach.experiments.page import describe
from polyreach.experiments.results import Result
from polyreach.experiments.runner import train_missing
from polyreach.methods import current_name
from polyreach.runs.folder import RunFolder


@dataclass(frozen=True)
class ReportOptions(EngineOptions):
    """Train the missing runs of experiments, then write the curves and the table of each
    experiment. The command can be stopped and repeated at any time.
    """

    experiments: Annotated[
        tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="EXPERIMENT")
    ]
    """Names of experiments, for example digrad-fig4; `polyreach list` shows all."""
    steps: int = 0
    """Environment steps of each run; 0: the experiment's number."""
    seeds: int = 0
    """Seeds of each variant; 0: the experiment's number."""
    only: tuple[str, ...] = ()
    """Methods to train; runs of the other methods are reported if they are complete."""
    partial: bool = False
    """Train nothing; report the runs that are complete, and list the missing ones."""
    device: str = ""
    """Device of runs that have not started yet, cpu or cuda; by default the experiment's."""
    out: Path = Path("docs")
    """Folder for the curves (EXPERIMENT.png) and the table (EXPERIMENT.md)."""


def write_report(options: ReportOptions, console: Console) -> int:
    """Run what is missing and write the report; exit status, see train_missing.

    Raises UserError if a run fails, or if there is nothing to report.
    """
    experiments = _checked_experiments(options)
    jobs = [job for experiment in experiments for job in _jobs(experiment, options)]
    missing = [job for job in jobs if not is_complete(job)]
    console.print(f"{len(jobs)} runs, {len(jobs) - len(missing)} of them complete")
    chosen = _choose(missing, options)
    status = train_missing(chosen, options, command_of(options), console) if chosen else 0
    if status:
        return status
    for experiment in experiments:
        write_page(experiment, options, console)
    return 0


def _checked_experiments(options: ReportOptions) -> list[Experiment]:
    """The experiments that are named. Raises UserError for options that cannot be followed."""
    options.check()
    check_range("steps", options.steps, 0)
    check_range("seeds", options.seeds, 0)
    experiments = [get_experiment(name) for name in options.experiments]
    if not experiments:
        raise UserError(f"no experiment is named (legal: {', '.join(EXPERIMENTS)})")
    variants = [variant for experiment in experiments for variant in experiment.variants]
    methods = list(dict.fromkeys(variant.method for variant in variants))
    for name in map(current_name, options.only):
        if name not in methods:
            raise UserError(
                f"experiment '{', '.join(options.experiments)}' has no method '{name}' (legal: "
                f"{', '.join(methods)})"
            )
    return experiments


def _jobs(experiment: Experiment, options: ReportOptions) -> list[Job]:
    return jobs_of(experiment, options.runs_folder, options.seeds, options.steps, options.device)


def _choose(missing: list[Job], options: ReportOptions) -> list[Job]:
    """The missing runs that are to be trained now.

    Raises UserError for a run that starts from a missing one which is not to be trained.
    """
    if options.partial:
        return []
    only = [current_name(name) for name in options.only]
    chosen = [job for job in missing if not only or job.config.method in only]
    left = {job.folder for job in missing} - {job.folder for job in chosen}
    for job in chosen:
        if job.start in left:
            raise UserError(f"'{job.folder}' starts from '{job.start}', which is not complete yet")
    return chosen


def command_of(options: ReportOptions) -> str:
    """The command line with these options."""
    words = option_words(options, positional="experiments")
    return shlex.join(["polyreach", "report", *options.experiments, *words])


def write_page(experiment: Experiment, options: ReportOptions, console: Console) -> None:
    """Write curves and table of the runs that are complete. Raises UserError if there is none."""
    results = [
        Result(job.variant, job.config.env, job.config.seed, RunFolder(job.folder))
        for job in _jobs(experiment, options)
        if is_complete(job)
    ]
    if not results:
        raise UserError(f"no run of '{experiment.name}' is complete in '{options.runs_folder}'")
    options.out.mkdir(parents=True, exist_ok=True)
    curves, page = (options.out / f"{experiment.name}{end}" for end in (".png", ".md"))
    draw_curves(experiment, results, curves)
    weights = options.out / f"{experiment.name}-weights.png"
    picture = weights.name if draw_weights(experiment, results, weights) else ""
    page.write_text(describe(experiment, results, options.seeds or experiment.seeds, picture))
    console.print(f"wrote {page} and {curves}", soft_wrap=True)
