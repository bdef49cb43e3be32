"""The live table of all runs: what their folders show, and where they are trained."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from time import monotonic

from rich.console import Console, ConsoleOptions, JustifyMethod, RenderResult
from rich.table import Table
from rich.text import Text

from polyreach.experiments.engines.engine import Place
from polyreach.experiments.job import Job
from polyreach.runs.checkpoint import list_checkpoints, step_of
from polyreach.runs.folder import RunFolder

STATES = ("training", "waiting", "stopped", "failed", "complete")
COLUMNS = ("run", "state", "node", "steps", "saved", "last evaluation")
NUMBERS = ("steps", "saved")
SHORTENED = ("run", "node", "last evaluation")  # where the terminal is narrow
MARGIN = 6  # lines of the terminal that are left to header, last line and prompt


class RunTable:
    """A row for each run that is being trained, then the others while they fit the terminal; below
    them, how many runs are in which state.
    """

    def __init__(self, jobs: Sequence[Job], places: Callable[[], Mapping[Path, Place]]) -> None:
        self.jobs = jobs
        self.places = places
        self.states = {job.folder: "waiting" for job in jobs}
        self.started = monotonic()

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        places = self.places()
        table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0))
        for name in COLUMNS:
            justify: JustifyMethod = "right" if name in NUMBERS else "left"
            table.add_column(name, justify=justify, no_wrap=name not in SHORTENED)
        shown = sorted(self.jobs, key=lambda job: STATES.index(self.states[job.folder]))
        for job in shown[: max(1, console.height - MARGIN)]:
            cells = self.row(job, places.get(job.folder))
            table.add_row(*(Text(cell, no_wrap=True, overflow="ellipsis") for cell in cells))
        yield table
        yield Text(self.summary(places), end="" if console.is_terminal else "\n")

    def row(self, job: Job, place: Place | None) -> list[str]:
        """The cells of a run."""
        folder = RunFolder(job.folder)
        records, checkpoints = folder.read_metrics(), list_checkpoints(folder.checkpoints)
        node = "" if place is None else place.node
        if place is not None and place.restarts:
            node += f", restart {place.restarts}"
        step = max(
            int(records[-1]["step"]) if records else 0,
            step_of(checkpoints[0]) if checkpoints else 0,
        )
        return [
            f"{job.variant.label}, {job.config.env}, s{job.config.seed}",
            self.states[job.folder],
            node,
            f"{step:,}/{job.config.steps:,}",
            f"{step_of(checkpoints[0]):,}" if checkpoints else "",
            job.config.env_spec.note(records[-1]) if records else "",
        ]

    def summary(self, places: Mapping[Path, Place]) -> str:
        """How many runs are in which state, and for how long this has been going on."""
        counts = Counter(self.states.values())
        states = ", ".join(f"{counts[state]} {state}" for state in STATES if counts[state])
        restarts = sum(place.restarts for place in places.values())
        lost = f"; {restarts} restarts after a worker died" if restarts else ""
        minutes, seconds = divmod(int(monotonic() - self.started), 60)
        return f"{len(self.jobs)} runs: {states}{lost}; {minutes}:{seconds:02d} min"
