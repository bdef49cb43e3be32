"""The folder of a run: its configuration, checkpoints, metrics and origins."""

import fcntl
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from polyreach.runs.checkpoint import replace_durably
from polyreach.runs.config import RunConfig, RunError, describe_difference
from polyreach.runs.machine import describe_machine, git_commit


class BusyError(RunError):
    """Another process trains in the run folder."""


class RunFolder:
    """Files of one run. `config.json` is written once and never changed."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.checkpoints = path / "checkpoints"
        self.metrics = path / "metrics.jsonl"
        self.config_file = path / "config.json"
        self.moves = path / "moves.jsonl"

    def read_config(self) -> RunConfig:
        """The configuration of the run. Raises RunError if there is none."""
        return RunConfig.from_json(self.stored_config())

    def stored_config(self) -> dict[str, Any]:
        """The configuration as it was written. Raises RunError if there is none."""
        if not self.config_file.is_file():
            raise RunError(f"'{self.path}' is not a run folder: it has no config.json")
        try:
            values: dict[str, Any] = json.loads(self.config_file.read_text())["config"]
        except (json.JSONDecodeError, KeyError, TypeError) as error:
            raise RunError(f"'{self.config_file}' cannot be read: {error!r}") from None
        return values

    def read_git_commits(self) -> list[str]:
        """The commits from which the run was made, each once, that of its start first."""
        commits = (origin.get("git_commit", "unknown") for origin in self.read_origins())
        return list(dict.fromkeys(commits))

    def read_origins(self) -> list[dict[str, Any]]:
        """`git_commit` and `machine` of the start, and of every resumption on another machine or
        from another commit; `machine` may be missing in runs of earlier versions.
        """
        first = json.loads(self.config_file.read_text())
        del first["config"]
        return [first, *_read_lines(self.moves)]

    def note_origin(self, config: RunConfig, step: int) -> None:
        """Record from which commit and on which machine the run is resumed at `step`."""
        origin = _origin(config)
        last = self.read_origins()[-1]
        if origin != {key: last.get(key) for key in origin}:
            _write_lines(self.moves, [*_read_lines(self.moves), {"step": step, **origin}])

    def create(self, config: RunConfig) -> None:
        """Start a new run here. Raises RunError if there is one already."""
        if self.config_file.exists():
            difference = describe_difference(self.read_config(), config)
            which = f"another configuration ({difference})" if difference else "this configuration"
            raise RunError(
                f"'{self.path}' already holds a run of {which}: go on with it by --resume "
                f"{self.path}, or choose another folder with --out"
            )
        self.path.mkdir(parents=True, exist_ok=True)
        content = {"config": config.to_json(), **_origin(config)}
        replace_durably(self.config_file, (json.dumps(content, indent=2) + "\n").encode())

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Lock the folder against training by other processes. Raises BusyError if one has it."""
        self.path.mkdir(parents=True, exist_ok=True)
        with (self.path / "lock").open("a") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise BusyError(f"'{self.path}' is being trained by another process") from None
            yield

    def busy(self) -> bool:
        """Whether another process trains here."""
        if not self.path.is_dir():
            return False
        try:
            with self.lock():
                return False
        except BusyError:
            return True

    def check(self, config: RunConfig) -> None:
        """Raise RunError if `config` is not that of this run."""
        difference = describe_difference(self.read_config(), config)
        if difference:
            raise RunError(f"'{self.path}' is a run of another configuration: {difference}")

    def log(self, record: Mapping[str, Any]) -> None:
        """Append one evaluation to metrics.jsonl."""
        with self.metrics.open("a") as file:
            file.write(json.dumps(dict(record)) + "\n")
            file.flush()
            os.fsync(file.fileno())

    def read_metrics(self) -> list[dict[str, Any]]:
        """All evaluations so far, oldest first; a line cut off by a kill is left out."""
        return _read_lines(self.metrics)

    def drop_metrics_after(self, step: int) -> None:
        """Drop the evaluations later than the checkpoint from which the run is resumed."""
        kept = [record for record in self.read_metrics() if record["step"] <= step]
        _write_lines(self.metrics, kept)

    def last_step(self) -> int:
        """The step of the last evaluation; 0 if there is none."""
        return max((int(record["step"]) for record in self.read_metrics()), default=0)


def _write_lines(path: Path, records: Iterable[Mapping[str, Any]]) -> None:
    lines = "".join(json.dumps(dict(record)) + "\n" for record in records)
    replace_durably(path, lines.encode())


def _read_lines(path: Path) -> list[dict[str, Any]]:
    records = []
    for line in path.read_text().splitlines() if path.exists() else []:
        try:
            records.append(json.loads(line))
        except json.JSONDecodeError:
            continue
    return records


def _origin(config: RunConfig) -> dict[str, Any]:
    machine = describe_machine(config.device, config.threads)
    return {"git_commit": git_commit(), "machine": machine}
