"""Options that say where and how runs are trained, common to `report` and `sweep`."""

import dataclasses
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from polyreach.errors import UserError, check_range


@dataclass(frozen=True, kw_only=True)
class EngineOptions:
    """Where runs are trained."""

    on: Literal["local", "ray", "slurm"] = "local"
    """local: processes of this machine. ray: tasks of a Ray cluster (pip install polyreach[ray]).
    slurm: an array job, which sbatch submits.
    """
    jobs: int = 0
    """Number of runs at a time. 0: one on local; on ray and slurm as many as there is room for."""
    runs: Path = Path("runs")
    """Folder of the runs."""
    runs_dir: Path | None = None
    """The same on storage that all nodes see, for ray and slurm. Without it, Ray brings run folders
    back to this machine at every checkpoint, and Slurm's nodes have to see RUNS.
    """
    checkpoint_minutes: float = 3.0
    """Minutes between two checkpoints of a run, more if a checkpoint is large: what a worker that
    dies costs at most.
    """
    slice_minutes: float = 0.0
    """Stop after this many minutes with a checkpoint of every run, and exit with status 75; the
    same command continues. Leave time for a checkpoint and for an evaluation in progress. 0: no
    limit. Not for slurm, which has time limits itself.
    """
    gpus: float = 1.0
    """GPUs of a run whose device is cuda; with ray, several runs share one at 0.5 or less."""
    memory_gb: float = 2.0
    """Memory [GB] that ray and slurm set aside for a run."""
    ray_address: str = ""
    """HOST:PORT of a Ray cluster that this machine is a node of, or auto. By default, ray starts a
    cluster of this machine alone, which listens on 127.0.0.1 only.
    """
    sbatch_options: str = ""
    """Further options of sbatch in one word, for example "--partition=long --time=12:00:00"."""

    @property
    def runs_folder(self) -> Path:
        """The folder of the runs."""
        return self.runs_dir or self.runs

    def check(self) -> None:
        """Raise UserError for options that cannot be followed."""
        for name, low in (
            ("jobs", 0),
            ("slice_minutes", 0),
            ("checkpoint_minutes", 0),
            ("gpus", 0),
            ("memory_gb", 0),
        ):
            check_range(name, getattr(self, name), low)
        for name, engine in (("ray_address", "ray"), ("sbatch_options", "slurm")):
            if getattr(self, name) and self.on != engine:
                raise UserError(
                    f"{name} '{getattr(self, name)}' is for --on {engine}, but on is '{self.on}'"
                )
        if self.on == "slurm" and self.slice_minutes:
            raise UserError(
                f"slice_minutes is {self.slice_minutes:g}, but slurm ends runs at the time limit "
                "of its jobs: --sbatch-options=--time=12:00:00"
            )
        if self.on == "slurm" and self.gpus != int(self.gpus):
            raise UserError(f"gpus is {self.gpus:g}, but slurm gives whole ones: 0, 1, 2, ...")

    def check_writable(self) -> None:
        """Raise UserError if no run folder can be made."""
        name = "runs" if self.runs_dir is None else "runs_dir"
        try:
            self.runs_folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self.runs_folder):
                pass
        except OSError as error:
            raise UserError(
                f"{name} '{self.runs_folder}' cannot be written: {error.strerror}"
            ) from None


def option_words(options: Any, positional: str) -> list[str]:
    """The words of a command line that set the options which differ from their defaults, without
    the field of the positional arguments.
    """
    words: list[str] = []
    for field in dataclasses.fields(options):
        value = getattr(options, field.name)
        if field.name == positional or value == field.default:
            continue
        name = "--" + field.name.replace("_", "-")
        if isinstance(value, str) and value.startswith("-"):
            words.append(f"{name}={value}")
        else:
            values = value if isinstance(value, tuple) else () if value is True else (value,)
            words += [name, *map(str, values)]
    return words
