"""The sweep: its runs, its names, and what it refuses."""

from pathlib import Path

import pytest
from command_line import run
from small_sweep import sweep_words

from polyreach.commands.sweep import SweepOptions, command_of, sweep_jobs
from polyreach.commands.train import train_config
from polyreach.runs.folder import RunFolder


def test_every_method_on_every_environment_with_every_seed(tmp_path: Path) -> None:
    names = ("mtsac", "planar8", "picor", "humanoid27")
    options = SweepOptions(names=names, seeds=2, steps=3000, runs=tmp_path)
    jobs = sweep_jobs(options, ["--num-envs", "64"])
    assert [job.folder.name for job in jobs] == [
        f"{method}-{robot}-tuned-s{seed}"
        for seed in (0, 1)
        for robot in ("planar8", "humanoid27")
        for method in ("mtsac", "picor")
    ]
    words = ["picor", "humanoid27", "--steps", "3000", "--num-envs", "64", "--seed", "1"]
    assert jobs[-1].config == train_config(words)[1]
    assert jobs[-1].start is None


def test_the_command_that_continues_a_sweep() -> None:
    options = SweepOptions(
        names=("mtsac", "planar8"), on="slurm", seeds=3, sbatch_options="--partition=long -t 60"
    )
    assert command_of(options, ["--num-envs", "64"]) == (
        "polyreach sweep mtsac planar8 --on slurm '--sbatch-options=--partition=long -t 60' "
        "--seeds 3 -- --num-envs 64"
    )


def test_runs_are_trained_once_and_listed(tmp_path: Path) -> None:
    words = sweep_words(tmp_path, 512, "--jobs", "2")
    first = run(*words)
    assert first.returncode == 0, first.stderr
    assert "2 runs, 0 of them complete" in first.stdout
    assert "2 runs: 2 complete;" in first.stdout
    times = [path.stat().st_mtime_ns for path in tmp_path.glob("*/metrics.jsonl")]
    again = run(*words)
    assert again.returncode == 0 and "2 runs, 2 of them complete" in again.stdout
    assert [path.stat().st_mtime_ns for path in tmp_path.glob("*/metrics.jsonl")] == times
    median = RunFolder(tmp_path / "ddpg-planar8-tuned-s1").read_metrics()[-1]["error_median"]
    assert f"median {1e3 * median:.1f} mm" in again.stdout.replace("\n", " ")
    other = run(*sweep_words(tmp_path, 1024))
    assert other.returncode == 2
    assert "run of another configuration: steps is 512 there, 1024 here" in other.stderr


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        ("mtsac moon", "'moon' is neither a method nor an environment (methods: "),
        ("mtsac picor", "no environment is named (methods: "),
        ("planar8", "no method is named (methods: "),
        ("mtsac planar8 --seeds 0", "seeds is 0, but must be at least 1"),
        ("mtsac planar8 -- --seed 3", "--seed cannot be the same for all runs of a sweep"),
        ("mtsac planar8 -- --out=x", "--out cannot be the same for all runs of a sweep"),
        ("ddpg mt3", "environment 'mt3' is not a robot, and this method needs one (legal: "),
    ],
)
def test_what_a_sweep_refuses(words: str, problem: str, tmp_path: Path) -> None:
    done = run("sweep", *words.split()[:2], "--runs", tmp_path, *words.split()[2:])
    assert done.returncode == 2 and problem in done.stderr.replace("\n", " "), done.stderr
    assert not list(tmp_path.iterdir())
