"""The task of a Ray cluster that trains one run."""

import contextlib
import os
import shutil
import tempfile
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from socket import gethostname
from typing import Any

import ray
from rich.console import Console

from polyreach.errors import UserError
from polyreach.experiments.engines.ray_archive import Order
from polyreach.experiments.engines.run_files import Marks, changed_files, write_files
from polyreach.experiments.job import Job
from polyreach.runs.folder import RunFolder
from polyreach.runs.training import train

BEAT_S = 1.0
LOG = "log.txt"


@dataclass(frozen=True)
class Assignment:
    """What the command hands to a task."""

    job: Job
    """Its folders are as they were given to the command."""
    archived: Path
    """The folder of the run, absolute, on the machine of the command."""
    starts: dict[str, Path]
    """The same of the runs that it starts from, by the names that its configuration has."""
    cwd: Path
    """The folder in which the command was given."""
    shared: Path | None
    """A file that a node sees if it sees the run folders; None: files come back through Ray."""
    version: str
    """Of this package on the machine of the command."""
    checkpoint_minutes: float


@dataclass(frozen=True)
class Outcome:
    """How a task ended."""

    complete: bool
    problem: str = ""
    """Why it failed; empty if it is complete, or was stopped."""
    interrupted: bool = False
    """A signal ended it."""


def node_name() -> str:
    """The host, and the beginning of the id that Ray gives to the node."""
    return f"{gethostname()}/{ray.get_runtime_context().get_node_id()[:4]}"


def train_run(assignment: Assignment, archive: Any) -> Outcome:
    """Train or resume a run until it is complete or shall stop, and send its files to `archive`.

    A worker that dies here is replaced by Ray; its successor continues with the newest checkpoint.
    """
    node = node_name()
    if version("polyreach") != assignment.version:
        return Outcome(
            False,
            f"node {node} has polyreach {version('polyreach')}, but this machine has "
            f"{assignment.version}: install the same on all nodes",
        )
    if assignment.shared is not None and not assignment.shared.is_file():
        return Outcome(
            False,
            f"node {node} does not see runs_dir '{assignment.shared.parent}' of this machine: give "
            "a folder on storage that all nodes see, or leave runs_dir out, and Ray brings the run "
            "folders back",
        )
    run = assignment.archived
    order: Order = ray.get(archive.begin.remote(run, assignment.starts, node))
    if order.stop or order.refusal:
        return Outcome(False, order.refusal)
    with _workspace(assignment, order) as folder:
        shared = assignment.shared is not None
        with _Messenger(run, folder, order.attempt, archive, send=not shared) as messenger:
            outcome = _train(assignment, folder, messenger.stop)
        if outcome.interrupted and not messenger.stop.is_set():
            os._exit(1)  # the node is shut down: Ray begins the task anew on another one
    ray.get(archive.end.remote(run, order.attempt))
    return outcome


def _train(assignment: Assignment, folder: Path, stop: threading.Event) -> Outcome:
    """Train in `folder`, with everything printed in its log."""
    config = assignment.job.config
    while RunFolder(folder).busy():  # a task before this one ends, or its lock on a file server
        if stop.wait(BEAT_S):
            return Outcome(False)
    resume = RunFolder(folder).config_file.is_file()
    if resume:  # the device and the threads may differ
        config = RunFolder(folder).read_config()
    with (
        (folder / LOG).open("a", buffering=1) as log,
        contextlib.redirect_stdout(log),
        contextlib.redirect_stderr(log),
    ):
        try:
            console = Console(file=log, highlight=False, markup=False, emoji=False)
            result = train(
                config, folder, resume, assignment.checkpoint_minutes, console, stop.is_set
            )
        except UserError as error:
            print(error)
            return Outcome(False, f"{error} (node {node_name()})")
        except Exception as error:
            traceback.print_exc()
            return Outcome(
                False,
                f"{error!r} on node {node_name()}, see {assignment.job.folder}/{LOG}",
            )
    complete = result.env_steps >= config.steps
    return Outcome(complete, interrupted=not complete and result.signal is not None)


@contextmanager
def _workspace(assignment: Assignment, order: Order) -> Iterator[Path]:
    """The folder to train in: the run folder itself where the node sees it, otherwise a copy in the
    node's temporary files, with the runs that it starts from beside it.
    """
    if assignment.shared is not None:
        if assignment.cwd.is_dir():
            os.chdir(assignment.cwd)
        assignment.archived.mkdir(parents=True, exist_ok=True)
        yield assignment.archived
        return
    # the same for every attempt, so that nothing is left of one that died
    context = ray.get_runtime_context()
    name = f"polyreach-{os.getuid()}-{context.get_job_id()}-{context.get_node_id()[:8]}"
    root = Path(tempfile.gettempdir(), name)
    root.mkdir(mode=0o700, exist_ok=True)
    if root.lstat().st_uid != os.getuid():
        raise PermissionError(f"'{root}' belongs to another user")
    space = root / str(assignment.archived).replace("/", "_")
    folder = space / ".run"
    while RunFolder(folder).busy():
        threading.Event().wait(BEAT_S)
    shutil.rmtree(space, ignore_errors=True)
    space.mkdir()
    try:
        write_files(folder, order.files)
        for start, files in order.others.items():
            write_files(space / start, files)
        os.chdir(space)
        folder.mkdir(exist_ok=True)
        yield folder
    finally:
        os.chdir("/")
        shutil.rmtree(space, ignore_errors=True)
        with contextlib.suppress(OSError):
            root.rmdir()


class _Messenger:
    """A thread that sends what has changed in a run folder, and sets `stop` once the archive asks
    for it or is gone.
    """

    def __init__(self, run: Path, folder: Path, attempt: int, archive: Any, send: bool) -> None:
        self.run, self.folder, self.attempt = run, folder, attempt
        self.archive, self.send = archive, send
        self.sent: Marks = {}
        self.stop, self.done = threading.Event(), threading.Event()
        self.error: Exception | None = None
        self.thread = threading.Thread(target=self._beat_until_done, daemon=True)

    def __enter__(self) -> "_Messenger":
        self.thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.done.set()
        self.thread.join()
        if self.error is not None:
            raise self.error
        self._beat()  # the last checkpoint

    def _beat_until_done(self) -> None:
        try:
            while not self.done.wait(BEAT_S):
                self._beat()
        except Exception as error:
            self.error = error
            self.stop.set()

    def _beat(self) -> None:
        files = changed_files(self.folder, self.sent) if self.send else {}
        if not ray.get(self.archive.keep.remote(self.run, self.attempt, files)):
            self.stop.set()
