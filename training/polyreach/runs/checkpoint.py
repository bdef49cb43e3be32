"""Durable checkpoints: written to a temporary file and renamed, verified by a digest; the previous
checkpoint is kept.
"""

import io
import os
import pickle
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch

from polyreach.errors import UserError
from polyreach.runs.version_0_1 import from_version_0_1

MAGIC = b"polyreach-checkpoint-1\n"
KEEP = 2


class CheckpointError(UserError):
    """There is no usable checkpoint; the message gives the reason."""


def save_checkpoint(folder: Path, step: int, state: dict[str, Any]) -> Path:
    """Write `state` as the checkpoint of `step`, durably, then drop all but the newest KEEP.

    Raises CheckpointError if it cannot be written, on a full disk for example.
    """
    folder.mkdir(parents=True, exist_ok=True)
    buffer = io.BytesIO()
    torch.save(state, buffer)
    payload = buffer.getvalue()
    path = folder / f"step-{step:012d}.pt"
    for left in folder.glob("*.partial"):
        left.unlink()
    try:
        replace_durably(path, MAGIC + sha256(payload).digest() + payload)
    except OSError as error:
        raise CheckpointError(
            f"checkpoint '{path}' cannot be written: {error.strerror}; the one before it is kept"
        ) from None
    drop_old_checkpoints(folder)
    return path


def drop_old_checkpoints(folder: Path) -> None:
    """Remove all but the newest KEEP."""
    for old in list_checkpoints(folder)[KEEP:]:
        old.unlink()


def replace_durably(path: Path, content: bytes) -> None:
    """Write a file atomically: after an interruption at any time the old or the new file is intact.

    Raises OSError, and removes the temporary file.
    """
    partial = path.with_suffix(".partial")
    try:
        with partial.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except OSError:
        partial.unlink(missing_ok=True)
        raise
    descriptor = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def list_checkpoints(folder: Path) -> list[Path]:
    """Checkpoints in `folder`, newest first."""
    return sorted(folder.glob("step-*.pt"), reverse=True)


def step_of(path: Path) -> int:
    """The step of a checkpoint."""
    return int(path.stem.removeprefix("step-"))


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint of this version or of 0.1. Raises CheckpointError if it is damaged, or if
    it holds more than tensors and plain values: nothing in it is executed.
    """
    content = path.read_bytes()
    digest, payload = content[len(MAGIC) : len(MAGIC) + 32], content[len(MAGIC) + 32 :]
    if not content.startswith(MAGIC) or sha256(payload).digest() != digest:
        raise CheckpointError(
            f"checkpoint '{path}' is corrupt ({len(content)} bytes, digest does not match)"
        )
    try:
        state = torch.load(io.BytesIO(payload), map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        raise CheckpointError(
            f"checkpoint '{path}' is refused: it holds more than tensors and plain values"
        ) from None
    except RuntimeError:
        raise CheckpointError(f"checkpoint '{path}' is refused: it is no file of torch") from None
    if not isinstance(state, dict):
        raise CheckpointError(
            f"checkpoint '{path}' is refused: it holds a {type(state).__name__}, not a dict"
        )
    return from_version_0_1(state)


def read_newest(folder: Path, set_aside: bool = False) -> tuple[dict[str, Any] | None, list[str]]:
    """The newest intact checkpoint, None if there is no checkpoint; and a warning for each damaged
    one that is newer.

    set_aside: rename the damaged checkpoints to *.corrupt, so that they do not count as kept.
    Raises CheckpointError if there are checkpoints and all are corrupt.
    """
    warnings: list[str] = []
    for path in list_checkpoints(folder):
        try:
            state = read_checkpoint(path)
        except CheckpointError as error:
            warnings.append(str(error))
            continue
        if set_aside:
            for corrupt in list_checkpoints(folder)[: len(warnings)]:
                corrupt.rename(corrupt.with_suffix(".corrupt"))
        return state, warnings
    if warnings:
        raise CheckpointError("no usable checkpoint: " + "; ".join(warnings))
    return None, warnings
