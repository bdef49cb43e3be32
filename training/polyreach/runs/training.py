"""Train one policy: collect and update until the steps are done, with checkpoints, logs and exact
resume.
"""

import signal
import time
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch.utils.tensorboard import SummaryWriter

from polyreach.envs.env_spec import Record
from polyreach.methods import get_method
from polyreach.methods.learner import Learner
from polyreach.runs.checkpoint import read_newest, save_checkpoint
from polyreach.runs.config import RunConfig, RunError, load_run_env_spec
from polyreach.runs.folder import RunFolder
from polyreach.runs.trained_policy import read_policy

SAVING_SHARE = 0.05  # of the time goes into checkpoints at most


@dataclass(frozen=True)
class TrainResult:
    """How a training ended."""

    folder: Path
    env_steps: int
    signal: int | None
    """The signal that ended it early, or None."""


class Interrupt:
    """Remembers SIGINT, SIGTERM and SIGHUP, so that the loop can end between two steps; a second
    one acts at once.

    SIGHUP is the exception: `nohup` ignores it from the start, and a terminal that is closed sends
    it twice (the kernel and the shell).
    """

    def __init__(self) -> None:
        self.received: int | None = None
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> "Interrupt":
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:
                self._previous[number] = signal.signal(number, self._receive)
        return self

    def _receive(self, number: int, frame: FrameType | None) -> None:
        self.received = number
        again = signal.SIG_IGN if number == signal.SIGHUP else self._previous[number]
        signal.signal(number, again)

    def __exit__(self, *exception: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)


def never() -> bool:
    """For a training that only signals stop."""
    return False


def train(
    config: RunConfig,
    out: Path,
    resume: bool,
    checkpoint_minutes: float,
    console: Console,
    stop: Callable[[], bool] = never,
) -> TrainResult:
    """Run `config` in `out`, or go on with the run there, until its end, a signal, or `stop()`.

    Raises RunError for a folder of another configuration or in use, and CheckpointError if no
    checkpoint is whole.
    """
    torch.set_num_threads(config.threads)
    torch.set_flush_denormal(True)
    _check_device(config.device)
    folder = RunFolder(out)
    if resume:
        folder.check(config)
    env_spec, make_learner = load_run_env_spec(config), get_method(config.method).learner
    settings, device, threads = config.env_config, config.device, config.threads
    with (
        closing(env_spec.make(settings, config.num_envs, device, threads, config.seed)) as env,
        closing(
            env_spec.make_evaluation(settings, config.eval_goals, device, threads)
        ) as evaluation,
    ):
        learner = make_learner(config.method_config, env, config.steps, config.seed)
        if not resume:
            learner.prepare(read_policy)

        def evaluate() -> Record:
            return env_spec.evaluate(evaluation, learner.policy)

        # what cannot be run has been refused by now, and no folder is left of it
        with folder.lock():
            wall_before = 0.0
            if resume:
                wall_before = _restore(learner, folder, config, console)
            else:
                folder.create(config)
            folder.note_origin(config, learner.env_steps)
            interval = 60 * checkpoint_minutes
            return _train(config, folder, learner, evaluate, wall_before, interval, console, stop)


def _train(
    config: RunConfig,
    folder: RunFolder,
    learner: Learner,
    evaluate: Callable[[], Record],
    wall_before: float,
    interval: float,
    console: Console,
    stop: Callable[[], bool],
) -> TrainResult:
    env_spec = config.env_spec
    started, steps_before = time.monotonic(), learner.env_steps

    def wall() -> float:
        return wall_before + time.monotonic() - started

    checkpoints = Checkpoints(folder.checkpoints, learner, wall, interval)
    # whatever was written of later steps, before it was stopped, is not so any more
    writer = SummaryWriter(str(folder.path), purge_step=learner.env_steps + 1)
    with Interrupt() as interrupt, _progress(console) as progress, writer:
        bar = progress.add_task(
            f"{config.method} {env_spec.title}",
            total=config.steps,
            completed=learner.env_steps,
            note="",
        )

        def log(metrics: Mapping[str, float]) -> None:
            record = {**evaluate(), **learner.take_means()}
            record["wall_s"] = round(wall(), 3)
            folder.log({"step": learner.env_steps, "updates": learner.updates, **record})
            for name, value in {**metrics, **record}.items():
                writer.add_scalar(name, value, learner.env_steps)
            rate = (learner.env_steps - steps_before) / (time.monotonic() - started)
            progress.update(bar, note=f"{rate:,.0f} steps/s  {env_spec.note(record)}")

        def done() -> bool:
            return learner.env_steps >= config.steps

        if done() and folder.last_step() < learner.env_steps:
            log({})  # the checkpoint outlived its evaluation
        while not (done() or stop() or interrupt.received is not None):
            due = learner.env_steps // config.eval_every
            metrics = learner.step()
            if learner.env_steps // config.eval_every > due or done():
                log(metrics)
            progress.update(bar, completed=min(learner.env_steps, config.steps))
            checkpoints.save_if_due()
        checkpoints.save()
    return TrainResult(folder.path, learner.env_steps, interrupt.received)


class Checkpoints:
    """Writes them at intervals; less often where that would take more than SAVING_SHARE
    of the time, as large replays do.
    """

    def __init__(
        self, folder: Path, learner: Learner, wall: Callable[[], float], interval: float
    ) -> None:
        self.folder, self.learner, self.wall = folder, learner, wall
        self.shortest = self.interval = interval  # [s]
        self.saved_at = time.monotonic()

    def save_if_due(self) -> None:
        """Save if the last one is old enough."""
        if time.monotonic() - self.saved_at > self.interval:
            self.save()

    def save(self) -> None:
        """Save now. `wall_s` is the time spent on the run so far."""
        started = time.monotonic()
        state = {**self.learner.state_dict(), "wall_s": self.wall()}
        save_checkpoint(self.folder, self.learner.env_steps, state)
        self.saved_at = time.monotonic()
        self.interval = max(self.shortest, (self.saved_at - started) / SAVING_SHARE)


def _restore(learner: Learner, folder: RunFolder, config: RunConfig, console: Console) -> float:
    """Load the newest checkpoint into `learner`; returns the time the run took until then [s]."""
    state, warnings = read_newest(folder.checkpoints, set_aside=True)
    for warning in warnings:
        console.print(f"warning: {warning}; using the one before it", soft_wrap=True)
    if state is None:
        console.print(f"'{folder.path}' has no checkpoint yet: starting its run from the beginning")
        learner.prepare(read_policy)
        folder.drop_metrics_after(0)
        return 0.0
    wall_s = state.pop("wall_s", None)
    learner.resume(state, read_policy)
    folder.drop_metrics_after(learner.env_steps)
    console.print(f"going on at step {learner.env_steps:,} of {config.steps:,}")
    if wall_s is not None:
        return float(wall_s)
    # checkpoints of earlier versions lack the time, but their evaluations have it
    return max((float(record["wall_s"]) for record in folder.read_metrics()), default=0.0)


def _check_device(device: str) -> None:
    reason = "it is neither"
    try:
        if torch.device(device).type in ("cpu", "cuda"):
            torch.zeros(1, device=device)
            return
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
    raise RunError(f"device '{device}' cannot be used: {reason} (legal: cpu, cuda)")


def _progress(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
        console=console,
        refresh_per_second=2,
    )
