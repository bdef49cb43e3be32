"""polyreach sweep: train every method on every environment, with several seeds."""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import tyro

from polyreach.commands.options import parse_options
from polyreach.commands.terminal import console, print_table
from polyreach.commands.train import train_config
from polyreach.envs.env_spec import PresetName
from polyreach.envs.registry import is_env, list_envs
from polyreach.errors import UserError, check_range
from polyreach.experiments.engines.options import EngineOptions, option_words
from polyreach.experiments.experiment import Variant
from polyreach.experiments.job import Job, is_complete
from polyreach.experiments.runner import train_missing
from polyreach.methods import METHODS, current_name, is_method
from polyreach.runs.folder import RunFolder
from polyreach_description import list_robots
from polyreach_description.closed_output import outlast_output


@dataclass(frozen=True)
class SweepOptions(EngineOptions):
    """Train every METHOD on every ENV with several seeds. The command can be stopped and repeated
    at any time; runs that are complete are not trained again.

    Options after -- are those of `polyreach train`, for all runs, as in
    `polyreach sweep mtsac picor planar8 --seeds 3 -- --method-config.hidden 64 64`.
    """

    names: Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="METHOD|ENV")]
    """Methods and environments, as for `polyreach train`, in any order."""
    seeds: int = 1
    """Seeds of each method on each environment, from 0."""
    steps: int = 0
    """Environment steps of each run; 0: the preset's number."""
    preset: PresetName = "tuned"
    """paper: the settings of the method's paper. tuned: the settings of the shipped policies."""
    device: str = "cpu"
    """Device to train on: cpu or cuda."""


def run(words: Sequence[str]) -> int:
    """polyreach sweep METHOD... ENV..."""
    words = list(words)
    end = words.index("--") if "--" in words else len(words)
    options = parse_options(SweepOptions, words[:end], prog="polyreach sweep")
    extra = words[end + 1 :]
    options.check()
    check_range("seeds", options.seeds, 1)
    check_range("steps", options.steps, 0)
    jobs = sweep_jobs(options, extra)
    with outlast_output():
        missing = [job for job in jobs if not is_complete(job)]
        console.print(f"{len(jobs)} runs, {len(jobs) - len(missing)} of them complete")
        command = command_of(options, extra)
        status = train_missing(missing, options, command, console) if missing else 0
        if status == 0:
            _show_results(jobs)
    return status


def sweep_jobs(options: SweepOptions, extra: Sequence[str]) -> list[Job]:
    """All runs, those with the same seed first; `extra`: options of `polyreach train`.

    Raises UserError for a name that is neither a method nor an environment, and where a method
    cannot be trained on an environment.
    """
    methods = [current_name(name) for name in options.names if is_method(name)]
    envs = [name for name in options.names if not is_method(name)]
    legal = (
        f"methods: {', '.join(METHODS)}; environments: {', '.join((*list_envs(), *list_robots()))}"
    )
    for name in envs:
        if not is_env(name):
            raise UserError(f"'{name}' is neither a method nor an environment ({legal})")
    if not methods or not envs:
        kind = "environment" if methods else "method"
        raise UserError(f"no {kind} is named ({legal}, or the path of a robot.yaml)")
    for word in extra:
        for name in ("--seed", "--out", "--resume"):
            if word.partition("=")[0] == name:
                raise UserError(f"{name} cannot be the same for all runs of a sweep")
    common = ["--preset", options.preset, "--device", options.device]
    common += ["--steps", str(options.steps)] if options.steps else []
    jobs = []
    for seed in range(options.seeds):
        for env in dict.fromkeys(envs):
            for method in dict.fromkeys(methods):
                words = [method, env, *common, *extra, "--seed", str(seed)]
                _, config = train_config(words)
                name = f"{method}-{config.env_spec.title}-{config.preset}-s{seed}"
                folder = options.runs_folder / name
                jobs.append(Job(Variant(method, method), config, folder, None))
    folders = [job.folder for job in jobs]
    for folder in folders:
        if folders.count(folder) > 1:
            raise UserError(f"two environments have the run folder '{folder}': rename a robot")
    return jobs


def command_of(options: SweepOptions, extra: Sequence[str]) -> str:
    """The command line with these options."""
    words = ["polyreach", "sweep", *options.names, *option_words(options, positional="names")]
    return shlex.join([*words, *(["--", *extra] if extra else [])])


def _show_results(jobs: Sequence[Job]) -> None:
    """A row for each run, with its last evaluation."""
    rows = []
    for job in sorted(jobs, key=lambda job: (job.config.env, job.config.method)):
        record = RunFolder(job.folder).read_metrics()[-1]
        note = job.config.env_spec.note(record)
        hours = f"{record['wall_s'] / 3600:.2f}"
        rows.append([f"{job.folder}", f"{job.config.seed}", f"{record['step']:,}", hours, note])
    print_table("runs", ["folder", "seed", "steps", "hours", "last evaluation"], rows)
