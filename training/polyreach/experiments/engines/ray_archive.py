"""An actor on the machine of the command: it gives run folders to the tasks that train them, keeps
what they send, and passes on the wish to stop.
"""

from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic

from polyreach.errors import UserError
from polyreach.experiments.engines.engine import Place
from polyreach.experiments.engines.run_files import Files, files_to_continue, write_files
from polyreach.runs.checkpoint import list_checkpoints, step_of
from polyreach.runs.folder import RunFolder

ALIVE_S = 30.0  # without a word from a task, after which it is taken for dead
FRUITLESS = 5  # attempts without a new checkpoint after which a run has failed


@dataclass(frozen=True)
class Order:
    """What a task begins with."""

    attempt: int = 0
    files: Files = field(default_factory=dict)
    """Of the run, if it has begun already."""
    others: dict[str, Files] = field(default_factory=dict)
    """Of the runs that it starts from, by their folders."""
    refusal: str = ""
    """Why there is nothing to train."""
    stop: bool = False
    """There is nothing to train any more."""


@dataclass
class Progress:
    """Of a run."""

    attempt: int = 0
    node: str = ""
    step: int = -1
    """Of the newest checkpoint when the attempt began."""
    fruitless: int = 0
    """Attempts that began at that step, besides the first."""
    heard: float = -ALIVE_S
    """When the attempt last sent something, as time.monotonic."""


class Archive:
    """fetched: the tasks send their files, and this actor writes them into the run folders, which
    it locks. Otherwise tasks write there themselves.
    """

    def __init__(self, fetched: bool) -> None:
        self.fetched = fetched
        self.runs: dict[Path, Progress] = {}
        self.locks: dict[Path, ExitStack] = {}
        self.stopping = False

    def begin(self, run: Path, starts: dict[str, Path], node: str) -> Order:
        """A task on `node` is going to train in the folder `run`. An earlier task that did is taken
        for dead: what it still sends is refused.

        starts: folders of the runs that it starts from, by the names that its configuration has.
        """
        if self.stopping:
            return Order(stop=True)
        progress = self.runs.setdefault(run, Progress())
        checkpoints = list_checkpoints(RunFolder(run).checkpoints)
        step = step_of(checkpoints[0]) if checkpoints else 0
        progress.fruitless = progress.fruitless + 1 if step == progress.step else 0
        progress.attempt, progress.node, progress.step = progress.attempt + 1, node, step
        progress.heard = monotonic()
        if progress.fruitless >= FRUITLESS:
            return Order(
                refusal=f"its worker died {FRUITLESS} times without a new checkpoint after step "
                f"{step:,}: it needs more memory (memory_gb), or its program crashes"
            )
        if not self.fetched:
            return Order(progress.attempt)
        if run not in self.locks:
            lock = ExitStack()
            try:
                lock.enter_context(RunFolder(run).lock())
            except UserError as error:
                return Order(refusal=str(error))
            self.locks[run] = lock
        others = {name: files_to_continue(folder) for name, folder in starts.items()}
        return Order(progress.attempt, files_to_continue(run), others)

    def keep(self, run: Path, attempt: int, files: Files) -> bool:
        """Write what an attempt sends; whether it shall go on. Raises OSError if there is no room
        for it.
        """
        if attempt != self.runs[run].attempt:
            return False
        if files:
            write_files(run, files)
        self.runs[run].heard = monotonic()
        return not self.stopping

    def end(self, run: Path, attempt: int) -> None:
        """An attempt has sent everything, and ends."""
        if attempt == self.runs[run].attempt and run in self.locks:
            self.locks.pop(run).close()

    def stop(self) -> set[Path]:
        """Let all runs end with a checkpoint; returns those that are being trained."""
        self.stopping = True
        now = monotonic()
        return {run for run, progress in self.runs.items() if now - progress.heard < ALIVE_S}

    def places(self) -> dict[Path, Place]:
        """Where the runs that have begun are trained."""
        return {run: Place(now.node, now.attempt - 1) for run, now in self.runs.items()}
