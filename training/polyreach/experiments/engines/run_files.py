"""The files of a run folder as bytes, for machines that do not share a file system."""

from collections.abc import Iterable, Mapping
from pathlib import Path

from polyreach.runs.checkpoint import drop_old_checkpoints, list_checkpoints, replace_durably
from polyreach.runs.folder import RunFolder

Files = dict[str, bytes]
"""Contents by the path within the run folder, in the order in which they have to be written."""
Marks = dict[str, tuple[int, int]]
"""Time of change [ns] and size of files that have been sent."""

CONTINUED = ("config.json", "moves.jsonl", "metrics.jsonl")  # besides checkpoints
WRITTEN = (*CONTINUED, "log.txt", "events.out.tfevents.*")


def files_to_continue(folder: Path) -> Files:
    """What a run needs to continue elsewhere, or to be a start or a teacher; empty if there is no
    run.
    """
    paths = [folder / name for name in CONTINUED]
    # the older checkpoint too, in case the newest is damaged
    paths += reversed(list_checkpoints(RunFolder(folder).checkpoints))
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths if path.is_file()}


def changed_files(folder: Path, sent: Marks) -> Files:
    """The files that differ from those already sent, which `sent` lists and then includes.

    The newest checkpoint is read first and written last, so that there is never a checkpoint
    without the evaluations before it. A file that is replaced meanwhile is left to the next call.
    """
    newest = list_checkpoints(RunFolder(folder).checkpoints)[:1]
    others = [path for pattern in WRITTEN for path in sorted(folder.glob(pattern))]
    changed: Files = {}
    for path in (*newest, *others):
        name = str(path.relative_to(folder))
        try:
            status = path.stat()
            if sent.get(name) == (status.st_mtime_ns, status.st_size):
                continue
            changed[name] = path.read_bytes()
        except FileNotFoundError:
            continue
        sent[name] = status.st_mtime_ns, status.st_size
    checkpoints = {name: changed.pop(name) for name in _names(newest, folder) if name in changed}
    return {**changed, **checkpoints}


def write_files(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write files into a run folder, each durably; of its checkpoints the newest two are kept.

    Raises OSError, on a full disk for example.
    """
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_durably(path, content)
    drop_old_checkpoints(RunFolder(folder).checkpoints)


def _names(paths: Iterable[Path], folder: Path) -> list[str]:
    return [str(path.relative_to(folder)) for path in paths]
