"""Run an experiment of a paper, in slices of time if need be, and report it."""

import dataclasses
import math
import shlex
import signal
import subprocess
import sys
import threading
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Annotated

import tyro
from rich.console import Console

from polyreach.errors import UserError, check_range
from polyreach.experiments import EXPERIMENTS, Experiment, Variant, get_experiment
from polyreach.experiments.curves import draw_curves
from polyreach.experiments.page import describe
from polyreach.experiments.results import Result
from polyreach.methods import current_name, get_method
from polyreach.runs.checkpoint import list_checkpoints, step_of
from polyreach.runs.folder import RunFolder
from polyreach.runs.training import Interrupt

SLICE_OVER = 75  # exit status: not done yet, call again (EX_TEMPFAIL of sysexits.h)
POLL_S = 0.1


@dataclass(frozen=True)
class ReportOptions:
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
    slice_minutes: float = 0.0
    """Stop after this many minutes with a checkpoint of every run, and exit with status 75; the
    same command continues. Leave time for a checkpoint and for an evaluation in progress. 0: no
    limit.
    """
    device: str = ""
    """Device of runs that have not started yet, cpu or cuda; by default the experiment's."""
    runs: Path = Path("runs")
    """Folder of the runs; each experiment has a subfolder of its name."""
    out: Path = Path("docs")
    """Folder for the curves (EXPERIMENT.png) and the table (EXPERIMENT.md)."""
    jobs: int = 1
    """Number of runs at a time, each on one thread."""


@dataclass(frozen=True)
class Job:
    """One run of an experiment."""

    variant: Variant
    env: str
    seed: int
    folder: Path
    command: tuple[str, ...]


class Stopped(Exception):
    """A run was stopped before its end, with a checkpoint."""


def jobs_of(experiment: Experiment, options: ReportOptions) -> list[Job]:
    """All runs; those with the same seed first, so that an early report compares all variants."""
    seeds, device = options.seeds or experiment.seeds, options.device or experiment.device
    runs = options.runs / experiment.name
    jobs = []
    for seed in range(seeds):
        for env in experiment.envs:
            for index, variant in enumerate(experiment.variants):
                names = (variant.method, *get_method(variant.method).old_names)
                folders = [runs / f"{env}-{index}-{name}-s{seed}" for name in names]
                folder = next((path for path in folders if path.is_dir()), folders[0])
                steps = options.steps or variant.steps or experiment.steps
                own = (*experiment.env_options.get(env, ()), *variant.options)
                own = (*own, *variant.env_options.get(env, ()))
                command = ("train", variant.method, env, *experiment.options, *own)
                command = tuple(
                    word.replace("{runs}", str(runs)).replace("{seed}", str(seed))
                    for word in command
                )
                command = (*command, "--steps", str(steps), "--seed", str(seed))
                command = (*command, "--device", device) if device != "cpu" else command
                jobs.append(Job(variant, env, seed, folder, command))
    return jobs


def run_job(job: Job, stop: threading.Event) -> None:
    """Train one run, or go on with it, once no other process does.

    Raises UserError if it fails, Stopped once `stop` is set.
    """
    if stop.is_set():
        raise Stopped
    folder = RunFolder(job.folder)
    while folder.busy():  # what a killed report has left behind goes on by itself
        if stop.wait(POLL_S):
            raise Stopped
    if folder.config_file.is_file():
        words = (*job.command[:3], "--resume", str(job.folder))
    else:
        words = (*job.command, "--out", str(job.folder))
    job.folder.mkdir(parents=True, exist_ok=True)
    with (job.folder / "log.txt").open("a") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "polyreach.cli", *words], stdout=log, stderr=subprocess.STDOUT
        )
        while process.poll() is None and not stop.wait(POLL_S):
            pass
        if process.poll() is None:
            process.terminate()
        status = process.wait()
    if status and stop.is_set():
        raise Stopped
    if status:
        command = shlex.join(("polyreach", *words))
        raise UserError(f"{command} ended with {status}, see {job.folder}/log.txt")


def run_all(jobs: list[Job], options: ReportOptions, console: Console) -> int:
    """Train `jobs`; exit status 0, SLICE_OVER, or 128 and the signal that stopped it.

    Raises UserError if a run fails; the others are then stopped with a checkpoint.
    """
    stop, problem, finished = threading.Event(), None, 0
    deadline = monotonic() + 60 * (options.slice_minutes or math.inf)
    with Interrupt() as interrupt, ThreadPoolExecutor(options.jobs) as pool:
        waiting = list(jobs)
        running: dict[Future[None], Job] = {}
        while waiting or running:
            # a run that names the folder of another waits until that is done
            unfinished = {str(job.folder) for job in (*waiting, *running.values())}
            for job in [job for job in waiting if unfinished.isdisjoint(job.command)]:
                waiting.remove(job)
                running[pool.submit(run_job, job, stop)] = job
            done, _ = wait(running, timeout=POLL_S, return_when=FIRST_COMPLETED)
            for future in done:
                job, error = running.pop(future), future.exception()
                if error is None:
                    finished += 1
                    console.print(
                        f"run {finished} of {len(jobs)} done: {job.variant.label}, {job.env}, "
                        f"seed {job.seed}"
                    )
                elif not isinstance(error, Stopped):
                    problem = problem or error
                    stop.set()
            if interrupt.received is not None or monotonic() > deadline:
                stop.set()
    if problem is not None:
        raise problem
    if interrupt.received is not None:
        return 128 + interrupt.received
    return 0 if finished == len(jobs) else SLICE_OVER


def is_complete(job: Job) -> bool:
    """Whether the run has its last evaluation. Raises UserError if its folder holds another run.

    The device, the threads and the version of the environment may be others than here.
    """
    from polyreach.commands.train import train_config

    folder = RunFolder(job.folder)
    if not folder.config_file.is_file():
        return False
    found = folder.read_config()
    wanted = dataclasses.replace(
        train_config(job.command[1:])[1],
        device=found.device,
        threads=found.threads,
        env_version=found.env_version,
    )
    folder.check(wanted)
    records = folder.read_metrics()
    # killed between its last evaluation and its last checkpoint, a run has to go on; where there
    # are no checkpoints at all, it was made elsewhere
    kept = list_checkpoints(folder.checkpoints)
    stored = not kept or step_of(kept[0]) >= found.steps
    return stored and bool(records) and records[-1]["step"] >= found.steps


def write_report(options: ReportOptions, console: Console) -> int:
    """Run what is missing and write the report; exit status, see run_all.

    Raises UserError if a run fails, or if there is nothing to report.
    """
    for name, low in (("steps", 0), ("seeds", 0), ("slice_minutes", 0), ("jobs", 1)):
        check_range(name, getattr(options, name), low)
    experiments = [get_experiment(name) for name in options.experiments]
    if not experiments:
        raise UserError(f"no experiment is named (legal: {', '.join(EXPERIMENTS)})")
    variants = [variant for experiment in experiments for variant in experiment.variants]
    methods = list(dict.fromkeys(variant.method for variant in variants))
    only = [current_name(name) for name in options.only]
    for name in only:
        if name not in methods:
            raise UserError(
                f"experiment '{', '.join(options.experiments)}' has no method '{name}' (legal: "
                f"{', '.join(methods)})"
            )
    jobs = [job for experiment in experiments for job in jobs_of(experiment, options)]
    missing = [job for job in jobs if not is_complete(job)]
    console.print(f"{len(jobs)} runs, {len(jobs) - len(missing)} of them complete")
    chosen = [] if options.partial else missing
    chosen = [job for job in chosen if not only or job.variant.method in only]
    left = {str(job.folder) for job in missing} - {str(job.folder) for job in chosen}
    for job in chosen:
        for folder in sorted(left.intersection(job.command)):
            raise UserError(f"'{job.folder}' starts from '{folder}', which is not complete yet")
    status = run_all(chosen, options, console) if chosen else 0
    if status:
        why = (
            f"by {signal.Signals(status - 128).name}"
            if status > 128
            else f"after {options.slice_minutes:g} minutes"
        )
        console.print(f"stopped {why}; every run has a checkpoint. To go on:")
        console.print(f"  {command_of(options)}", soft_wrap=True)
        return status
    for experiment in experiments:
        write_page(experiment, options, console)
    return 0


def write_page(experiment: Experiment, options: ReportOptions, console: Console) -> None:
    """Write curves and table of the runs that are complete. Raises UserError if there is none."""
    jobs = jobs_of(experiment, options)
    results = [
        Result(job.variant, job.env, job.seed, RunFolder(job.folder))
        for job in jobs
        if is_complete(job)
    ]
    if not results:
        raise UserError(f"no run of '{experiment.name}' is complete in '{options.runs}'")
    options.out.mkdir(parents=True, exist_ok=True)
    picture, page = (options.out / f"{experiment.name}{end}" for end in (".png", ".md"))
    draw_curves(experiment, results, picture)
    seeds = options.seeds or experiment.seeds
    page.write_text(describe(experiment, results, seeds, shlex.join(jobs[0].command)))
    console.print(f"wrote {page} and {picture}", soft_wrap=True)


def command_of(options: ReportOptions) -> str:
    """The command line with these options."""
    words = ["polyreach", "report", *options.experiments]
    for field in dataclasses.fields(options)[1:]:
        value = getattr(options, field.name)
        if value == field.default:
            continue
        values = value if isinstance(value, tuple) else () if value is True else (value,)
        words += ["--" + field.name.replace("_", "-"), *map(str, values)]
    return shlex.join(words)
