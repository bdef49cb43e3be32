"""Runs as one array job of Slurm: its script, and how it is submitted."""

import json
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from rich.console import Console

from polyreach.errors import UserError
from polyreach.experiments.engines.options import EngineOptions
from polyreach.experiments.experiment import Variant
from polyreach.experiments.job import Job
from polyreach.runs.config import RunConfig

NOTICE_S = 120  # before the time limit, in which every run writes a checkpoint
SUBMITTED = "job_id"


def submit_array(jobs: Sequence[Job], options: EngineOptions, console: Console) -> None:
    """Write and submit one array job that trains those of `jobs` that are in no job yet, and print
    how to look at it.

    Runs that start from another one are in the same element of the array, after it. Raises
    UserError if there is no sbatch, or if it refuses the job.
    """
    if shutil.which("sbatch") is None:
        raise UserError(
            "on is 'slurm', but there is no sbatch in PATH: give the command on a machine from "
            "which jobs are submitted (legal here: local, ray)"
        )
    queued = _queued(options.runs_folder / "slurm")
    for job_id, count in _count(
        queued[str(job.folder)] for job in jobs if str(job.folder) in queued
    ):
        console.print(f"{count} runs are in job {job_id} already: squeue --jobs={job_id}")
    elements = elements_of([job for job in jobs if str(job.folder) not in queued])
    if not elements:
        return
    now = datetime.now()
    folder = (options.runs_folder / "slurm" / f"{now:%Y%m%d-%H%M%S-%f}").absolute()
    folder.mkdir(parents=True)
    (folder / "array.json").write_text(
        json.dumps([[_to_json(job) for job in element] for element in elements], indent=2)
    )
    script = folder / "array.sh"
    script.write_text(script_of(elements, folder, options))
    job_id = _sbatch(script, options.sbatch_options)
    (folder / SUBMITTED).write_text(job_id + "\n")
    runs = sum(map(len, elements))
    console.print(
        f"job {job_id}: {runs} runs in {len(elements)} elements of an array. To look at it:"
    )
    for line in (
        f"squeue --jobs={job_id}    # what waits, what runs",
        f"tail -n 5 {shlex.quote(str(folder))}/output-*.txt    # what the elements print",
        f"scancel {job_id}    # stop; every run continues from its last checkpoint",
    ):
        console.print(f"  {line}", soft_wrap=True)


def elements_of(jobs: Sequence[Job]) -> list[list[Job]]:
    """The elements of the array: a run, followed by the runs that start from it."""
    elements: list[list[Job]] = []
    of_folder: dict[Path, list[Job]] = {}
    named = {job.folder for job in jobs}
    waiting = list(jobs)
    while waiting:
        for job in [job for job in waiting if job.start not in named or job.start in of_folder]:
            waiting.remove(job)
            if job.start in of_folder:
                element = of_folder[job.start]
            else:
                element = []
                elements.append(element)
            element.append(job)
            of_folder[job.folder] = element
    return elements


def script_of(elements: Sequence[Sequence[Job]], folder: Path, options: EngineOptions) -> str:
    """The script of an array whose elements array.json in `folder` lists."""
    configs = [job.config for element in elements for job in element]
    at_a_time = f"%{options.jobs}" if options.jobs else ""
    directives = [
        "--job-name=polyreach",
        f"--array=0-{len(elements) - 1}{at_a_time}",
        f"--cpus-per-task={max(config.threads for config in configs)}",
        f"--mem={round(1000 * options.memory_gb)}M",
        f'--output="{str(folder).replace("%", "%%")}/output-%a.txt"',
        "--open-mode=append",
        "--requeue",
        f"--signal=B:TERM@{NOTICE_S}",
    ]
    if any(config.device.startswith("cuda") for config in configs):
        directives.append(f"--gres=gpu:{options.gpus:.0f}")
    words = [sys.executable, "-m", "polyreach.experiments.slurm_element"]
    words += [str(folder / "array.json"), f"{options.checkpoint_minutes:g}"]
    lines = ["#!/bin/bash", *(f"#SBATCH {directive}" for directive in directives)]
    lines += [
        f"cd {shlex.quote(str(Path.cwd()))} || exit 1",
        f'exec {shlex.join(words)} "$SLURM_ARRAY_TASK_ID"',
    ]
    return "\n".join(lines) + "\n"


def read_element(array: Path, index: int) -> list[Job]:
    """The runs of an element of the array that submit_array wrote."""
    return [
        Job(
            Variant(values["label"], values["config"]["method"]),
            RunConfig.from_json(values["config"]),
            Path(values["folder"]),
            Path(values["start"]) if values["start"] else None,
        )
        for values in json.loads(array.read_text())[index]
    ]


def _to_json(job: Job) -> dict[str, Any]:
    return {
        "label": job.variant.label,
        "folder": str(job.folder),
        "start": str(job.start or ""),
        "config": job.config.to_json(),
    }


def _sbatch(script: Path, options: str) -> str:
    """Submit the script; returns the id of the job."""
    words = ["sbatch", "--parsable", *shlex.split(options), str(script)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    job_id = done.stdout.strip().partition(";")[0]  # the cluster's name may follow
    if done.returncode or not job_id:
        reason = done.stderr.strip() or "it printed no job id"
        raise UserError(f"{shlex.join(words)} ended with {done.returncode}: {reason}")
    return job_id


def _queued(submitted: Path) -> dict[str, str]:
    """The runs that are in a job which waits or runs: its id by their folders."""
    queued: dict[str, str] = {}
    if shutil.which("squeue") is None:
        return queued
    for file in submitted.glob(f"*/{SUBMITTED}"):
        job_id = file.read_text().strip()
        # of a job that has ended long ago, squeue reports an error
        words = ["squeue", "--noheader", f"--jobs={job_id}"]
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        if done.returncode == 0 and done.stdout.strip():
            for element in json.loads((file.parent / "array.json").read_text()):
                queued |= {values["folder"]: job_id for values in element}
    return queued


def _count(job_ids: Iterable[str]) -> list[tuple[str, int]]:
    """How often each id occurs."""
    listed = list(job_ids)
    return [(job_id, listed.count(job_id)) for job_id in dict.fromkeys(listed)]
