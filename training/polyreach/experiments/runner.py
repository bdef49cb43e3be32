"""Train runs on an engine, in slices of time if need be."""

import math
import signal
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from time import monotonic

from rich.console import Console
from rich.live import Live

from polyreach.experiments.engines.engine import Engine, Stopped
from polyreach.experiments.engines.local import LocalEngine
from polyreach.experiments.engines.options import EngineOptions
from polyreach.experiments.engines.ray_cluster import import_ray
from polyreach.experiments.engines.slurm import submit_array
from polyreach.experiments.engines.table import RunTable
from polyreach.experiments.job import Job
from polyreach.runs.training import Interrupt

SLICE_OVER = 75  # exit status: not done yet, call again (EX_TEMPFAIL of sysexits.h)
POLL_S = 0.1


def train_missing(
    jobs: Sequence[Job], options: EngineOptions, command: str, console: Console
) -> int:
    """Train `jobs`, none of which is complete, where `options` say; the exit status of `run_all`.

    command: the command line that continues them, which is shown if they are not complete.
    Raises UserError if a run fails, or for what the engine cannot do.
    """
    options.check_writable()
    if options.on == "slurm":
        submit_array(jobs, options, console)
        console.print("Once they are complete, or to submit what is missing:")
        console.print(f"  {command}", soft_wrap=True)
        return SLICE_OVER
    engine = make_engine(jobs, options)
    status = run_all(jobs, engine, options.slice_minutes, console)
    if status:
        why = (
            f"by {signal.Signals(status - 128).name}"
            if status > 128
            else f"after {options.slice_minutes:g} minutes"
        )
        console.print(f"stopped {why}; every run has a checkpoint. To continue:")
        console.print(f"  {command}", soft_wrap=True)
    return status


def make_engine(jobs: Sequence[Job], options: EngineOptions) -> Engine:
    """The engine that `options` name, for `jobs`. Raises UserError where it cannot be used."""
    if options.on == "local":
        return LocalEngine(options.jobs or 1, options.checkpoint_minutes)
    import_ray(options.ray_address)
    from polyreach.experiments.engines.ray_engine import RayEngine

    return RayEngine(jobs, options)


def run_all(jobs: Sequence[Job], engine: Engine, slice_minutes: float, console: Console) -> int:
    """Train `jobs`; exit status 0, SLICE_OVER after `slice_minutes` (0: no limit), or 128 and the
    signal that stopped it.

    Raises UserError if a run fails; the others are then stopped with a checkpoint.
    """
    problem, finished, stopping = None, 0, False
    deadline = monotonic() + 60 * (slice_minutes or math.inf)
    with Interrupt() as interrupt, engine:
        table = RunTable(jobs, engine.places)
        with Live(table, console=console, refresh_per_second=1):
            waiting = list(jobs)
            running: dict[Future[None], Job] = {}
            while running or (waiting and not stopping):
                # a run waits until the one that it starts from is done
                unfinished = {job.folder for job in (*waiting, *running.values())}
                ready = [job for job in waiting if job.start not in unfinished and not stopping]
                for job in ready[: engine.parallel - len(running)]:
                    waiting.remove(job)
                    table.states[job.folder] = "training"
                    running[engine.submit(job)] = job
                done, _ = wait(running, timeout=POLL_S, return_when=FIRST_COMPLETED)
                for future in done:
                    job, error = running.pop(future), future.exception()
                    table.states[job.folder] = _state_after(error)
                    if error is None:
                        finished += 1
                        console.print(f"run {finished} of {len(jobs)} done: {job.title}")
                    elif not isinstance(error, Stopped):
                        problem = problem or error
                out_of_time = interrupt.received is not None or monotonic() > deadline
                if (problem or out_of_time) and not stopping:
                    stopping = True
                    engine.stop()
    if problem is not None:
        raise problem
    if interrupt.received is not None:
        return 128 + interrupt.received
    return 0 if finished == len(jobs) else SLICE_OVER


def _state_after(error: BaseException | None) -> str:
    """The state of a run that has ended."""
    if error is None:
        return "complete"
    return "stopped" if isinstance(error, Stopped) else "failed"
