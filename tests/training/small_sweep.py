"""A sweep of runs that take a second, and what has to be the same however they were trained."""

from pathlib import Path
from typing import Any

from task_fakes import assert_same

from polyreach.runs.checkpoint import list_checkpoints, read_checkpoint
from polyreach.runs.folder import RunFolder

SMALL = """--num-envs 64 --eval-every 4096 --eval-goals 8 --env-config.configurations 200
    --method-config.hidden 16 16 --method-config.learning-starts 128
    --method-config.batch-size 16""".split()


def sweep_words(runs: Path, steps: int, *options: str | Path) -> list[str]:
    """The words after `polyreach` of a sweep of DDPG over two seeds."""
    words = ["sweep", "ddpg", "planar8", "--seeds", "2", "--steps", str(steps)]
    return [*words, "--runs", str(runs), *map(str, options), "--", *SMALL]


def result_of(run: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The last checkpoint and all evaluations of a run, without the time that it took."""
    folder = RunFolder(run)
    state = read_checkpoint(list_checkpoints(folder.checkpoints)[0])
    records = folder.read_metrics()
    for values in (state, *records):
        del values["wall_s"]
    return state, records


def assert_same_runs(left: Path, right: Path) -> None:
    """All runs in two folders are the same bit for bit."""
    names = sorted(path.parent.name for path in left.glob("*/config.json"))
    assert names and names == sorted(path.parent.name for path in right.glob("*/config.json"))
    for name in names:
        (state, records), (other_state, other_records) = (
            result_of(left / name),
            result_of(right / name),
        )
        assert records == other_records
        assert_same(state, other_state, name)
