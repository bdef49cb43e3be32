"""One run of an experiment or of a sweep: what is trained, and where its folder is."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path

from polyreach.experiments.experiment import Experiment, Variant
from polyreach.runs.checkpoint import list_checkpoints, step_of
from polyreach.runs.config import RunConfig
from polyreach.runs.folder import RunFolder


@dataclass(frozen=True)
class Job:
    """One run."""

    variant: Variant
    config: RunConfig
    folder: Path
    start: Path | None
    """Folder of the run that it starts from, or that is its teacher."""

    @property
    def title(self) -> str:
        """Its variant, environment and seed."""
        return f"{self.variant.label}, {self.config.env}, seed {self.config.seed}"

    @property
    def arguments(self) -> list[str]:
        """The words after `polyreach` that start it or, where it has begun, continue it."""
        if RunFolder(self.folder).config_file.is_file():
            return ["train", self.config.method, self.config.env, "--resume", str(self.folder)]
        return [*self.config.arguments, "--out", str(self.folder)]


def jobs_of(
    experiment: Experiment, runs: Path, seeds: int = 0, steps: int = 0, device: str = ""
) -> list[Job]:
    """All runs; those with the same seed first, so that an early report compares all variants.

    runs: the folder of all experiments. seeds, steps, device: 0 and "" stand for the experiment's.
    """
    jobs = []
    for seed in range(seeds or experiment.seeds):
        for env in experiment.envs:
            for variant in experiment.variants:
                config = experiment.run_config(variant, env, seed, runs)
                config = dataclasses.replace(
                    config, steps=steps or config.steps, device=device or config.device
                )
                folder = experiment.run_folder(variant, env, seed, runs)
                start = experiment.start_folder(variant, env, seed, runs)
                jobs.append(Job(variant, config, folder, start))
    return jobs


def is_complete(job: Job) -> bool:
    """Whether the run has its last evaluation. Raises RunError if its folder holds another run.

    The device, the threads and the version of the environment may differ.
    """
    folder = RunFolder(job.folder)
    if not folder.config_file.is_file():
        return False
    stored = folder.read_config()
    folder.check(
        dataclasses.replace(
            job.config,
            device=stored.device,
            threads=stored.threads,
            env_version=stored.env_version,
        )
    )
    records = folder.read_metrics()
    # a run killed between its last evaluation and its last checkpoint has to continue; a run
    # without checkpoints was made elsewhere
    checkpoints = list_checkpoints(folder.checkpoints)
    saved = not checkpoints or step_of(checkpoints[0]) >= stored.steps
    return saved and bool(records) and records[-1]["step"] >= stored.steps
