"""Checkpoints: written completely or not at all; a damaged newest one falls back."""

import errno
import os
from pathlib import Path

import pytest
import torch

from polyreach.runs.checkpoint import (
    CheckpointError,
    list_checkpoints,
    read_newest,
    save_checkpoint,
)


def test_a_saved_checkpoint_is_read_back(tmp_path: Path) -> None:
    state = {"weights": torch.randn(3, 4), "step": 7, "nested": {"list": [torch.arange(3)]}}
    save_checkpoint(tmp_path, 7, state)
    actual, warnings = read_newest(tmp_path)
    assert actual is not None and not warnings
    assert torch.equal(actual["weights"], state["weights"]) and actual["step"] == 7  # type: ignore[arg-type]


def test_only_the_two_newest_are_kept(tmp_path: Path) -> None:
    for step in (5, 50, 500):
        save_checkpoint(tmp_path, step, {"step": step})
    assert [path.name for path in list_checkpoints(tmp_path)] == [
        "step-000000000500.pt",
        "step-000000000050.pt",
    ]
    assert not list(tmp_path.glob("*.partial"))


def test_a_full_disk_keeps_only_the_previous_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_checkpoint(tmp_path, 5, {"step": 5})

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    for step in (50, 500):
        with pytest.raises(CheckpointError, match=f"{step}.pt' cannot be written: No space left"):
            save_checkpoint(tmp_path, step, {"step": step})
        assert [path.name for path in tmp_path.iterdir()] == ["step-000000000005.pt"]


@pytest.mark.parametrize("damage", ["truncated", "flipped", "empty", "garbage"])
def test_a_damaged_checkpoint_is_skipped(tmp_path: Path, damage: str) -> None:
    save_checkpoint(tmp_path, 1, {"step": 1, "weights": torch.zeros(100)})
    newest = save_checkpoint(tmp_path, 2, {"step": 2, "weights": torch.zeros(100)})
    content = bytearray(newest.read_bytes())
    content[len(content) // 2] ^= 1
    damaged = {
        "truncated": newest.read_bytes()[:-40],
        "flipped": bytes(content),
        "empty": b"",
        "garbage": b"x" * 500,
    }
    newest.write_bytes(damaged[damage])
    actual, warnings = read_newest(tmp_path)
    assert actual is not None and actual["step"] == 1
    assert len(warnings) == 1 and "corrupt" in warnings[0] and newest.name in warnings[0]


def test_damaged_checkpoints_do_not_displace_intact_ones(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, 100, {"step": 100})
    save_checkpoint(tmp_path, 200, {"step": 200}).write_bytes(b"x")
    actual, _ = read_newest(tmp_path, set_aside=True)
    assert actual == {"step": 100}
    save_checkpoint(tmp_path, 150, {"step": 150})
    save_checkpoint(tmp_path, 230, {"step": 230}).write_bytes(b"x")
    assert read_newest(tmp_path)[0] == {"step": 150}
    assert (tmp_path / "step-000000000200.corrupt").exists()


def test_no_checkpoints_and_only_damaged_ones_give_different_errors(tmp_path: Path) -> None:
    assert read_newest(tmp_path) == (None, [])
    save_checkpoint(tmp_path, 1, {"step": 1}).write_bytes(b"")
    with pytest.raises(CheckpointError, match="no usable checkpoint"):
        read_newest(tmp_path)
