"""Runs as tasks of a Ray cluster: one retriable task per run, with its CPUs, GPUs and memory."""

import secrets
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import GetTimeoutError, RayError, RayTaskError, TaskCancelledError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from polyreach.errors import UserError
from polyreach.experiments.engines.engine import Place, Stopped
from polyreach.experiments.engines.options import EngineOptions
from polyreach.experiments.engines.ray_archive import Archive
from polyreach.experiments.engines.ray_cluster import connect
from polyreach.experiments.engines.ray_task import Assignment, Outcome, train_run
from polyreach.experiments.job import Job
from polyreach.methods.trained_policy import SCRIPTED
from polyreach.runs.config import RunConfig
from polyreach_description import is_robot_file

ANSWER_S = 5.0  # for an answer that only the table needs


class RayEngine:
    """A task per run. Ray begins a task anew when its worker or its node dies; the task continues
    with the newest checkpoint.

    Run folders are used as they are on a cluster of this machine and with `runs_dir`; otherwise
    nodes have copies, whose files come back at every checkpoint.
    """

    def __init__(self, jobs: Sequence[Job], options: EngineOptions) -> None:
        self.options = options
        self.jobs = jobs
        self.parallel = options.jobs or len(jobs)
        self.fetched = bool(options.ray_address) and options.runs_dir is None
        self.refs: dict[Path, Any] = {}
        self.known: Mapping[Path, Place] = {}
        if self.fetched:
            for job in jobs:
                _check_portable(job.config)

    def __enter__(self) -> "RayEngine":
        """Connect. Raises UserError if there is no cluster that can do this."""
        connect(self.options.ray_address)
        try:
            for needs in {tuple(self._needs(job).items()) for job in self.jobs}:
                _check_room(dict(needs))
            here = NodeAffinitySchedulingStrategy(
                ray.get_runtime_context().get_node_id(), soft=False
            )
            actor = ray.remote(num_cpus=0, scheduling_strategy=here)(Archive)
            self.archive = actor.remote(self.fetched)
            self.witness = None
            if not self.fetched:
                folder = self.options.runs_folder.absolute()
                self.witness = folder / f".seen-{secrets.token_hex(8)}"
                self.witness.touch()
        except BaseException:
            ray.shutdown()
            raise
        return self

    def __exit__(self, *exception: object) -> None:
        if self.witness is not None:
            self.witness.unlink(missing_ok=True)
        ray.shutdown()

    def submit(self, job: Job) -> Future[None]:
        """Hand a run to the cluster."""
        needs = self._needs(job)
        # Archive decides when there have been enough retries
        task = ray.remote(
            num_cpus=needs["CPU"],
            num_gpus=needs["GPU"],
            memory=int(needs["memory"]),
            max_retries=-1,
        )(train_run)
        assignment = Assignment(
            job=job,
            archived=job.folder.absolute(),
            starts={name: Path(name).absolute() for name in _starts(job.config)},
            cwd=Path.cwd(),
            shared=self.witness,
            version=version("polyreach"),
            checkpoint_minutes=self.options.checkpoint_minutes,
        )
        future: Future[None] = Future()
        future.set_running_or_notify_cancel()
        self.refs[job.folder] = task.remote(assignment, self.archive)
        self.refs[job.folder].future().add_done_callback(partial(_settle, future, job))
        return future

    def stop(self) -> None:
        """Ask the tasks that train to end with a checkpoint, and withdraw the others."""
        with suppress(RayError):
            alive = ray.get(self.archive.stop.remote())
            for folder, ref in self.refs.items():
                if folder.absolute() not in alive:
                    ray.cancel(ref)

    def places(self) -> Mapping[Path, Place]:
        """Where the runs that have begun are trained."""
        with suppress(GetTimeoutError, RayError):
            places = ray.get(self.archive.places.remote(), timeout=ANSWER_S)
            self.known = {
                folder: places[folder.absolute()]
                for folder in self.refs
                if folder.absolute() in places
            }
        return self.known

    def _needs(self, job: Job) -> dict[str, float]:
        """Resources of a run, by Ray's names."""
        return {
            "CPU": job.config.threads,
            "GPU": self.options.gpus if job.config.device.startswith("cuda") else 0,
            "memory": self.options.memory_gb * 1e9,
        }


def _check_room(needs: Mapping[str, float]) -> None:
    """Raise UserError if no node of the cluster is large enough."""
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    if any(all(node.get(name, 0) >= need for name, need in needs.items()) for node in nodes):
        return
    there = "; ".join(dict.fromkeys(_describe(node) for node in nodes))
    raise UserError(
        f"a run needs {_describe(needs)} (threads, gpus, memory_gb), but the nodes of the Ray "
        f"cluster have: {there}"
    )


def _describe(resources: Mapping[str, float]) -> str:
    cpus, gpus = (resources.get(name, 0) for name in ("CPU", "GPU"))
    return f"{cpus:g} CPU, {gpus:g} GPU, {resources.get('memory', 0) / 1e9:.1f} GB"


def _starts(config: RunConfig) -> list[str]:
    """Folders of the runs that a run starts from, or that are its teachers."""
    start = getattr(config.method_config, "start", "")
    teachers = getattr(config.method_config, "teachers", ())
    return [*([start] if start else []), *(name for name in teachers if name != SCRIPTED)]


def _check_portable(config: RunConfig) -> None:
    """Raise UserError if a run needs files that do not come to other nodes with it."""
    files = [config.env] if is_robot_file(config.env) else []
    for name in _starts(config):
        path = Path(name)
        if path.is_absolute() or ".." in path.parts or path.is_file():
            files.append(name)
    if files:
        raise UserError(
            f"'{files[0]}' does not come to the nodes of ray_address by itself: give runs_dir, and "
            "start the command in a folder that all nodes see (legal without: robots by name, runs "
            "that start from a run folder below the current folder)"
        )


def _settle(future: Future[None], job: Job, done: Future[Outcome]) -> None:
    """Set the result of a run's future from that of its task."""
    error = done.exception()
    if error is None and done.result().complete:
        future.set_result(None)
    elif isinstance(error, TaskCancelledError) or (error is None and not done.result().problem):
        future.set_exception(Stopped())
    elif error is None:
        future.set_exception(UserError(f"{job.title}: {done.result().problem}"))
    else:
        cause = error.cause if isinstance(error, RayTaskError) else error
        reason = next(iter(str(cause).splitlines()), "")
        future.set_exception(
            UserError(f"{job.title}: its task ended with {type(cause).__name__}: {reason}")
        )
