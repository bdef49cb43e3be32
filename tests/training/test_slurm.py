"""Runs as an array job: the script, and a stand-in of sbatch that runs the array."""

import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from command_line import polyreach, run, run_process
from small_sweep import assert_same_runs, sweep_words

from polyreach.commands.train import train_config
from polyreach.experiments.engines.options import EngineOptions
from polyreach.experiments.engines.slurm import elements_of, read_element, script_of
from polyreach.experiments.experiment import Variant
from polyreach.experiments.job import Job
from polyreach.experiments.runner import SLICE_OVER
from polyreach.runs.checkpoint import list_checkpoints

# runs every element of the array that is not in $SKIP, one after the other, as Slurm would: with
# the directives of the script, its index in the environment, and a file for what it prints
SBATCH = f"""#!{sys.executable}
import os, re, subprocess, sys
script = sys.argv[-1]
lines = open(script).read().splitlines()
options = [line.removeprefix("#SBATCH ") for line in lines if line.startswith("#SBATCH ")]
first, last = re.search(r"--array=(\\d+)-(\\d+)", "\\n".join(options)).groups()
output = re.search(r'--output="(.*)"', "\\n".join(options))[1].replace("%%", "%")
open(os.environ["ASKED"], "a").write(" ".join(sys.argv[1:]) + "\\n")
for index in range(int(first), int(last) + 1):
    if str(index) in os.environ.get("SKIP", "").split():
        continue
    environment = {{**os.environ, "SLURM_ARRAY_TASK_ID": str(index)}}
    with open(output.replace("%a", str(index)), "a") as file:
        subprocess.run(["bash", script], env=environment, stdout=file, stderr=file, cwd="/")
print("42;cluster")
"""
SQUEUE = """#!/bin/sh
test "$QUEUED" = yes && echo "$2"
"""


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """sbatch and squeue in PATH; returns a folder."""
    programs = tmp_path / "bin"
    programs.mkdir()
    for name, text in (("sbatch", SBATCH), ("squeue", SQUEUE)):
        (programs / name).write_text(text)
        (programs / name).chmod(stat.S_IRWXU)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    monkeypatch.setenv("ASKED", str(tmp_path / "asked.txt"))
    return tmp_path


def test_an_array_is_submitted_and_what_is_missing_again(
    slurm: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SKIP", "1")  # as if its node had died
    words = sweep_words(slurm / "the runs", 1024, "--on", "slurm", "--jobs", "3")
    words.insert(words.index("--"), "--sbatch-options=--partition=long --time=1:00:00")
    submitted = run(*words)
    assert submitted.returncode == SLICE_OVER, submitted.stderr
    assert "job 42: 2 runs in 2 elements of an array" in submitted.stdout
    for line in (
        "squeue --jobs=42",
        "output-*.txt",
        "scancel 42",
        "  polyreach sweep ddpg planar8 ",
    ):
        assert line in submitted.stdout
    (script,) = (slurm / "the runs").glob("slurm/*/array.sh")
    text = script.read_text()
    for directive in ("--array=0-1%3", "--cpus-per-task=1", "--mem=2000M", "--requeue"):
        assert f"#SBATCH {directive}\n" in text
    assert "--gres" not in text
    asked = (slurm / "asked.txt").read_text()
    assert asked == f"--parsable --partition=long --time=1:00:00 {script}\n"
    assert "run 1 of 1 done: ddpg, planar8, seed 0" in (script.parent / "output-0.txt").read_text()

    monkeypatch.setenv("QUEUED", "yes")
    again = run(*words)
    assert "1 runs are in job 42 already: squeue --jobs=42" in again.stdout
    assert again.returncode == SLICE_OVER and (slurm / "asked.txt").read_text() == asked

    monkeypatch.delenv("QUEUED")
    monkeypatch.delenv("SKIP")
    again = run(*words)
    assert "2 runs, 1 of them complete" in again.stdout
    assert "job 42: 1 runs in 1 elements" in again.stdout
    complete = run(*words)
    assert complete.returncode == 0 and "2 runs, 2 of them complete" in complete.stdout

    local = run_process(*sweep_words(slurm / "local", 1024, "--jobs", "2"))
    assert local.returncode == 0, local.stderr
    assert_same_runs(slurm / "local", slurm / "the runs")


def test_an_element_ends_with_a_checkpoint_at_the_time_limit(
    slurm: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SKIP", "0 1")
    words = sweep_words(slurm / "runs", 10_000_000, "--on", "slurm", "--checkpoint-minutes", "1e-9")
    assert run(*words).returncode == SLICE_OVER
    (script,) = (slurm / "runs").glob("slurm/*/array.sh")
    element = subprocess.Popen(
        ["bash", script], env={**os.environ, "SLURM_ARRAY_TASK_ID": "1"}, stdout=subprocess.DEVNULL
    )
    folder = slurm / "runs" / "ddpg-planar8-tuned-s1" / "checkpoints"
    try:
        while not list_checkpoints(folder):
            assert element.poll() is None
        before = list_checkpoints(folder)[0]
        # to the process of the batch script, which is the element itself: --signal=B:TERM@120
        element.send_signal(signal.SIGTERM)
        assert element.wait(timeout=200) == 128 + signal.SIGTERM
    finally:
        element.kill()
    assert list_checkpoints(folder)[0] >= before
    assert (folder.parent / "log.txt").read_text().count("stopped by SIGTERM") == 1


def test_a_run_that_starts_from_another_is_in_its_element(tmp_path: Path) -> None:
    _, config = train_config(["a2c", "cheetah", "--num-envs", "1"])

    def job(name: str, start: str = "") -> Job:
        folder = tmp_path / name
        return Job(Variant(name, "a2c"), config, folder, tmp_path / start if start else None)

    jobs = [job("c", "b"), job("b", "a"), job("a"), job("d"), job("e", "a"), job("f", "complete")]
    elements = elements_of(jobs)
    names = [[job.variant.label for job in element] for element in elements]
    assert sorted(names) == [["a", "b", "e", "c"], ["d"], ["f"]]


def test_a_run_with_a_gpu_asks_for_one(tmp_path: Path) -> None:
    _, config = train_config(["mtsac", "planar8", "--device", "cuda", "--threads", "4"])
    elements = [[Job(Variant("x", "mtsac"), config, tmp_path / "x", None)]]
    script = script_of(elements, tmp_path, EngineOptions(on="slurm", gpus=2.0, memory_gb=7.5))
    for directive in ("--gres=gpu:2", "--cpus-per-task=4", "--mem=7500M", "--array=0-0"):
        assert f"#SBATCH {directive}\n" in script


def test_an_array_that_sbatch_refuses(slurm: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (slurm / "bin" / "sbatch").write_text("#!/bin/sh\necho 'invalid partition: x' >&2; exit 1\n")
    done = run(*sweep_words(slurm / "runs", 1024, "--on", "slurm"))
    assert done.returncode == 2
    assert "array.sh ended with 1: invalid partition: x" in done.stderr


def test_without_sbatch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    done = run(*sweep_words(tmp_path / "runs", 1024, "--on", "slurm"))
    assert done.returncode == 2
    assert "on is 'slurm', but there is no sbatch in PATH" in done.stderr
    assert "(legal here: local, ray)" in done.stderr


def test_elements_are_read_as_they_were_written(
    slurm: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SKIP", "0 1")
    assert run(*sweep_words(slurm / "runs", 1024, "--on", "slurm")).returncode == SLICE_OVER
    (array,) = (slurm / "runs").glob("slurm/*/array.json")
    (job,) = read_element(array, 1)
    words = sweep_words(slurm / "runs", 1024)
    _, config = train_config(
        ["ddpg", "planar8", "--steps", "1024", "--seed", "1", *words[words.index("--") + 1 :]]
    )
    assert job == Job(
        Variant("ddpg", "ddpg"), config, slurm / "runs" / "ddpg-planar8-tuned-s1", None
    )
    assert polyreach(*job.arguments)[-1] == str(job.folder)
