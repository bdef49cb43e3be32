"""Train the runs of an experiment, each in its own process, in slices of time if need be."""

import dataclasses
import math
import shlex
import subprocess
import sys
import threading
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from time import monotonic

from rich.console import Console

from polyreach.errors import UserError
from polyreach.experiments.experiment import Experiment, Variant
from polyreach.runs.checkpoint import list_checkpoints, step_of
from polyreach.runs.config import RunConfig
from polyreach.runs.folder import RunFolder
from polyreach.runs.training import Interrupt

SLICE_OVER = 75  # exit status: not done yet, call again (EX_TEMPFAIL of sysexits.h)
POLL_S = 0.1


@dataclass(frozen=True)
class Job:
    """One run of an experiment."""

    variant: Variant
    config: RunConfig
    folder: Path
    start: Path | None
    """Folder of the run that it starts from, or that is its teacher."""


def jobs_of(
    experiment: Experiment, runs: Path, seeds: int = 0, steps: int = 0, device: str = ""
) -> list[Job]:
    """All runs; those with the same seed first, so that an early report compares all variants.

    runs: the folder of all experiments. seeds, steps, device: 0 and "" stand for the experiment's.
    """
    jobs = []
    for seed in range(seeds or experiment.seeds):
        for env in experiment.envs:
            for variant in experiment.variants:
                config = experiment.run_config(variant, env, seed, runs)
                config = dataclasses.replace(
                    config, steps=steps or config.steps, device=device or config.device
                )
                folder = experiment.run_folder(variant, env, seed, runs)
                start = experiment.start_folder(variant, env, seed, runs)
                jobs.append(Job(variant, config, folder, start))
    return jobs


def is_complete(job: Job) -> bool:
    """Whether the run has its last evaluation. Raises RunError if its folder holds another run.

    The device, the threads and the version of the environment may differ.
    """
    folder = RunFolder(job.folder)
    if not folder.config_file.is_file():
        return False
    stored = folder.read_config()
    folder.check(
        dataclasses.replace(
            job.config,
            device=stored.device,
            threads=stored.threads,
            env_version=stored.env_version,
        )
    )
    records = folder.read_metrics()
    # a run killed between its last evaluation and its last checkpoint has to continue; a run
    # without checkpoints was made elsewhere
    checkpoints = list_checkpoints(folder.checkpoints)
    saved = not checkpoints or step_of(checkpoints[0]) >= stored.steps
    return saved and bool(records) and records[-1]["step"] >= stored.steps


def run_all(jobs: list[Job], parallel: int, slice_minutes: float, console: Console) -> int:
    """Train `jobs`, `parallel` at a time; exit status 0, SLICE_OVER after `slice_minutes` (0: no
    limit), or 128 and the signal that stopped it.

    Raises UserError if a run fails; the others are then stopped with a checkpoint.
    """
    stop, problem, finished = threading.Event(), None, 0
    deadline = monotonic() + 60 * (slice_minutes or math.inf)
    with Interrupt() as interrupt, ThreadPoolExecutor(parallel) as pool:
        waiting = list(jobs)
        running: dict[Future[None], Job] = {}
        while waiting or running:
            # a run waits until the one that it starts from is done
            unfinished = {job.folder for job in (*waiting, *running.values())}
            for job in [job for job in waiting if job.start not in unfinished]:
                waiting.remove(job)
                running[pool.submit(run_job, job, stop)] = job
            done, _ = wait(running, timeout=POLL_S, return_when=FIRST_COMPLETED)
            for future in done:
                job, error = running.pop(future), future.exception()
                if error is None:
                    finished += 1
                    console.print(
                        f"run {finished} of {len(jobs)} done: {job.variant.label}, "
                        f"{job.config.env}, seed {job.config.seed}"
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


class Stopped(Exception):
    """A run was stopped before its end, with a checkpoint."""


def run_job(job: Job, stop: threading.Event) -> None:
    """Train or resume one run, once no other process trains it.

    Raises UserError if it fails, Stopped once `stop` is set.
    """
    if stop.is_set():
        raise Stopped
    folder = RunFolder(job.folder)
    while folder.busy():  # a process that a killed report has started goes on by itself
        if stop.wait(POLL_S):
            raise Stopped
    if folder.config_file.is_file():
        words = ["train", job.config.method, job.config.env, "--resume", str(job.folder)]
    else:
        words = [*job.config.arguments, "--out", str(job.folder)]
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
