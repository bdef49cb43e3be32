"""What an engine does: it trains runs, and stops them with a checkpoint."""

from collections.abc import Mapping
from concurrent.futures import Future
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from polyreach.experiments.job import Job


class Stopped(Exception):
    """A run was stopped before its end, with a checkpoint."""


@dataclass(frozen=True)
class Place:
    """Where a run is being trained."""

    node: str
    restarts: int
    """How often it was continued elsewhere, because a worker or a node died."""


class Engine(AbstractContextManager["Engine"], Protocol):
    """Trains runs. It takes them between `__enter__` and `__exit__`, which ends what it started."""

    parallel: int
    """Runs that are submitted at a time."""

    def submit(self, job: Job) -> Future[None]:
        """Train or resume a run. The future raises UserError if it fails, Stopped after `stop`."""

    def stop(self) -> None:
        """Ask all runs to end with a checkpoint; returns at once."""

    def places(self) -> Mapping[Path, Place]:
        """Where the runs that have begun are trained, by their folders."""
