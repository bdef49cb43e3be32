"""Untrusted run folders: nothing in them is executed."""

import io
from hashlib import sha256
from pathlib import Path

import pytest
import torch

from polyreach.runs.checkpoint import MAGIC, CheckpointError, read_newest


class Code:
    """What a pickle of executes a command when it is loaded."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple:
        return Path.touch, (self.target,)


def write(folder: Path, content: object) -> Path:
    """A whole checkpoint, digest and all, of anything."""
    buffer = io.BytesIO()
    torch.save(content, buffer)
    path = folder / "step-000000000001.pt"
    path.write_bytes(MAGIC + sha256(buffer.getvalue()).digest() + buffer.getvalue())
    return path


def test_code_in_a_checkpoint_is_not_executed(tmp_path: Path) -> None:
    target = tmp_path / "executed"
    path = write(tmp_path, {"actor": Code(target)})
    with pytest.raises(CheckpointError, match=f"'{path}' is refused: it holds more than"):
        read_newest(tmp_path)
    assert not target.exists()
    # the same file, loaded without care, does execute it
    payload = path.read_bytes()[len(MAGIC) + 32 :]
    torch.load(io.BytesIO(payload), weights_only=False)
    assert target.exists()


@pytest.mark.parametrize("content", [[1, 2], 3.0, None], ids=["list", "float", "none"])
def test_a_checkpoint_of_something_else_is_refused(content: object, tmp_path: Path) -> None:
    write(tmp_path, content)
    with pytest.raises(CheckpointError, match="not a dict"):
        read_newest(tmp_path)


def test_a_file_that_torch_cannot_read_is_refused(tmp_path: Path) -> None:
    payload = b"PK\x03\x04 this is no archive"
    (tmp_path / "step-000000000001.pt").write_bytes(MAGIC + sha256(payload).digest() + payload)
    with pytest.raises(CheckpointError, match="is refused: it is no file of torch"):
        read_newest(tmp_path)
