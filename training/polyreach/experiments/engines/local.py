"""Runs as processes of this machine."""

import shlex
import subprocess
import sys
import threading
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from polyreach.errors import UserError
from polyreach.experiments.engines.engine import Place, Stopped
from polyreach.experiments.job import Job
from polyreach.runs.folder import RunFolder

POLL_S = 0.1


class LocalEngine:
    """A process for each run, `parallel` at a time."""

    def __init__(self, parallel: int, checkpoint_minutes: float) -> None:
        self.parallel = parallel
        self.checkpoint_minutes = checkpoint_minutes
        self.stopping = threading.Event()
        self.pool = ThreadPoolExecutor(parallel)

    def __enter__(self) -> "LocalEngine":
        return self

    def __exit__(self, *exception: object) -> None:
        self.stop()
        self.pool.shutdown()

    def submit(self, job: Job) -> Future[None]:
        """Train or resume a run in a process of its own."""
        return self.pool.submit(run_job, job, self.checkpoint_minutes, self.stopping)

    def stop(self) -> None:
        """Ask all processes to end with a checkpoint."""
        self.stopping.set()

    def places(self) -> Mapping[Path, Place]:
        """None: all runs are here."""
        return {}


def run_job(job: Job, checkpoint_minutes: float, stop: threading.Event) -> None:
    """Train or resume one run, once no other process trains it.

    Raises UserError if it fails, Stopped once `stop` is set.
    """
    if stop.is_set():
        raise Stopped
    folder = RunFolder(job.folder)
    while folder.busy():  # a process that a killed report has started goes on by itself
        if stop.wait(POLL_S):
            raise Stopped
    words = [*job.arguments, "--checkpoint-minutes", f"{checkpoint_minutes:g}"]
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
