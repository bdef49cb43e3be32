"""A run folder: its configuration, checkpoints, metrics and TensorBoard log."""

import dataclasses
import fcntl
import json
import os
import shlex
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from polyreach.runs.checkpoint import replace_durably
from polyreach.envs.env_spec import AnyEnvSpec, EnvConfig, PresetName
from polyreach.envs.registry import find_env_spec
from polyreach.errors import UserError, check_range
from polyreach.runs.machine import describe_machine
from polyreach.methods import get_method
from polyreach.methods.method import MethodConfig
from polyreach_description import Robot, is_robot_file


class RunError(UserError):
    """A run folder cannot be used as asked; the message says why and what to do."""


class BusyError(RunError):
    """Another process trains in the run folder."""


@dataclass(frozen=True)
class RunConfig:
    """What determines a run, on one machine, bit for bit."""

    method: str
    env: str
    preset: PresetName
    steps: int
    """Environment steps, the total over all environments."""
    seed: int
    num_envs: int
    threads: int
    """CPU threads of torch; another number rounds differently."""
    device: str
    eval_goals: int
    """Goals of an evaluation during training: episodes, of each task where there are tasks. An
    evaluation on Meta-World always plays every goal once.
    """
    eval_every: int
    """Environment steps between two evaluations."""
    robot_sha256: str
    """Of the robot; empty where the environment is none."""
    method_config: MethodConfig
    env_config: EnvConfig
    env_version: str = ""
    """Package and version that the environment is from; empty for this package."""

    def __post_init__(self) -> None:
        """Raise UserError for a value that no run can have."""
        for name in ("steps", "num_envs", "threads", "eval_goals", "eval_every"):
            check_range(name, getattr(self, name), 1)
        check_range("seed", self.seed, 0, 2**31)

    @property
    def env_spec(self) -> AnyEnvSpec:
        """What `env` means to `method`."""
        return find_env_spec(self.env, get_method(self.method).task_conditioned)

    @property
    def command(self) -> str:
        """The command line that starts this run, as long as its preset stays what it is."""
        words = ["polyreach", "train", self.method, self.env, "--preset", self.preset]
        for name in ("steps", "num_envs", "seed"):
            words += [f"--{name.replace('_', '-')}", str(getattr(self, name))]
        for name, default in (("threads", 1), ("device", "cpu")):
            if getattr(self, name) != default:
                words += [f"--{name}", str(getattr(self, name))]
        presets = get_method(self.method).preset(self.preset, self.env_spec)
        parts = ("method-config", self.method_config), ("env-config", self.env_config)
        for (part, config), preset in zip(parts, presets, strict=True):
            for own in dataclasses.fields(config):
                value = getattr(config, own.name)
                if value != getattr(preset, own.name):
                    words += _option(f"{part}.", own.name.replace("_", "-"), value)
        return shlex.join(words)

    def to_json(self) -> dict[str, Any]:
        """As plain JSON values."""
        values: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(self)))
        return values

    @staticmethod
    def from_json(values: Mapping[str, Any]) -> "RunConfig":
        """Inverse of to_json. Raises RunError for a configuration of another version."""
        try:
            method = get_method(values["method"])
            rest = {**values, "method": method.name}
            method_config = method.config(**_tuples(rest.pop("method_config")))
            env_spec = find_env_spec(values["env"], method.task_conditioned)
            env_config = env_spec.config(**_tuples(rest.pop("env_config")))
            return RunConfig(**rest, method_config=method_config, env_config=env_config)
        except (TypeError, KeyError, ValueError) as error:
            raise RunError(
                f"the run's configuration is of another version of polyreach: {error}"
            ) from None


def _option(part: str, name: str, value: Any) -> list[str]:
    """A setting as words of a command line."""
    if isinstance(value, bool):
        return [f"--{part}{'' if value else 'no-'}{name}"]
    return [f"--{part}{name}", *map(str, value if isinstance(value, tuple) else (value,))]


def _tuples(values: Mapping[str, Any]) -> dict[str, Any]:
    return {
        key: tuple(value) if isinstance(value, list) else value for key, value in values.items()
    }


class RunFolder:
    """Files of one run. `config.json` is written once and never changed."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.checkpoints = path / "checkpoints"
        self.metrics = path / "metrics.jsonl"
        self.config_file = path / "config.json"
        self.moves = path / "moves.jsonl"

    def read_config(self) -> RunConfig:
        """The configuration of the run. Raises RunError if there is none."""
        return RunConfig.from_json(self.stored_config())

    def stored_config(self) -> dict[str, Any]:
        """The configuration as it was written. Raises RunError if there is none."""
        if not self.config_file.is_file():
            raise RunError(f"'{self.path}' is not a run folder: it has no config.json")
        try:
            values: dict[str, Any] = json.loads(self.config_file.read_text())["config"]
        except (json.JSONDecodeError, KeyError, TypeError) as error:
            raise RunError(f"'{self.config_file}' cannot be read: {error!r}") from None
        return values

    def read_git_commits(self) -> list[str]:
        """The commits from which the run was made, each once, that of its start first."""
        return list(dict.fromkeys(one.get("git_commit", "unknown") for one in self.read_origins()))

    def read_origins(self) -> list[dict[str, Any]]:
        """`git_commit` and `machine` of the start and of every time that one of them was another;
        `machine` may be missing in runs of earlier versions.
        """
        first = json.loads(self.config_file.read_text())
        del first["config"]
        return [first, *_read_lines(self.moves)]

    def note_origin(self, config: RunConfig, step: int) -> None:
        """Remember from which commit and on which machine the run goes on at `step`."""
        origin = _origin(config)
        last = self.read_origins()[-1]
        if origin != {key: last.get(key) for key in origin}:
            _write_lines(self.moves, [*_read_lines(self.moves), {"step": step, **origin}])

    def create(self, config: RunConfig) -> None:
        """Start a new run here. Raises RunError if there is one already."""
        if self.config_file.exists():
            found = self.read_config()
            difference = describe_difference(found, config)
            reason = (
                f"of another configuration ({difference})"
                if difference
                else "of this configuration"
            )
            raise RunError(
                f"'{self.path}' already holds a run {reason}: go on with it by --resume "
                f"{self.path}, "
                "or choose another folder with --out"
            )
        self.path.mkdir(parents=True, exist_ok=True)
        content = {"config": config.to_json(), **_origin(config)}
        replace_durably(self.config_file, (json.dumps(content, indent=2) + "\n").encode())

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Keep other processes from training here meanwhile. Raises BusyError if one does."""
        self.path.mkdir(parents=True, exist_ok=True)
        with (self.path / "lock").open("a") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise BusyError(f"'{self.path}' is being trained by another process") from None
            yield

    def busy(self) -> bool:
        """Whether another process trains here."""
        if not self.path.is_dir():
            return False
        try:
            with self.lock():
                return False
        except BusyError:
            return True

    def check(self, config: RunConfig) -> None:
        """Raise RunError if `config` is not that of this run."""
        difference = describe_difference(self.read_config(), config)
        if difference:
            raise RunError(f"'{self.path}' is a run of another configuration: {difference}")

    def log(self, record: Mapping[str, Any]) -> None:
        """Append one evaluation to metrics.jsonl."""
        with self.metrics.open("a") as file:
            file.write(json.dumps(dict(record)) + "\n")
            file.flush()
            os.fsync(file.fileno())

    def read_metrics(self) -> list[dict[str, Any]]:
        """All evaluations so far, oldest first; a line cut off by a kill is left out."""
        return _read_lines(self.metrics)

    def drop_metrics_after(self, step: int) -> None:
        """Forget evaluations later than the checkpoint from which the run goes on."""
        kept = [record for record in self.read_metrics() if record["step"] <= step]
        _write_lines(self.metrics, kept)

    def last_step(self) -> int:
        """The step of the last evaluation; 0 if there is none."""
        return max((int(record["step"]) for record in self.read_metrics()), default=0)


def _write_lines(path: Path, records: Iterable[Mapping[str, Any]]) -> None:
    lines = "".join(json.dumps(dict(record)) + "\n" for record in records)
    replace_durably(path, lines.encode())


def _read_lines(path: Path) -> list[dict[str, Any]]:
    records = []
    for line in path.read_text().splitlines() if path.exists() else []:
        try:
            records.append(json.loads(line))
        except json.JSONDecodeError:
            continue
    return records


def _origin(config: RunConfig) -> dict[str, Any]:
    machine = describe_machine(config.device, config.threads)
    return {"git_commit": git_commit(), "machine": machine}


def describe_difference(found: RunConfig, wanted: RunConfig) -> str:
    """Every key in which two configurations differ, with both values; empty if they agree."""
    left, right = _flatten(found.to_json()), _flatten(wanted.to_json())
    keys = [key for key in {**left, **right} if left.get(key) != right.get(key)]
    return ", ".join(f"{key} is {left.get(key)!r} there, {right.get(key)!r} here" for key in keys)


def _flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat |= (
            _flatten(value, f"{prefix}{key}.")
            if isinstance(value, Mapping)
            else {prefix + key: value}
        )
    return flat


def git_commit() -> str:
    """The commit of the checkout this package is in, with '+changes' if it was modified; else
    'unknown'.
    """
    here = Path(__file__).parents[1]
    try:
        commit = _git(here, "rev-parse", "HEAD")
        return commit + ("+changes" if _git(here, "status", "--porcelain", "--", ".") else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def _git(folder: Path, *words: str) -> str:
    done = subprocess.run(["git", *words], cwd=folder, check=True, capture_output=True, text=True)
    return done.stdout.strip()


def load_run_robot(config: RunConfig) -> Robot:
    """The robot of a run. Raises RunError if it has changed since, or if the run has none."""
    check_robot_found(config)
    robot = config.env_spec.robot
    if robot is None:
        raise RunError(
            f"the run is of environment '{config.env}', which is no robot: only policies of robots "
            "can be exported"
        )
    _check_robot(config, robot.sha256)
    return robot


def load_run_env_spec(config: RunConfig) -> AnyEnvSpec:
    """The environments of a run. Raises RunError if the robot has changed since."""
    check_robot_found(config)
    env_spec = config.env_spec
    _check_robot(config, env_spec.robot_sha256)
    return env_spec


def check_robot_found(config: RunConfig) -> None:
    """Raise RunError if the run's robot is a file that is not there."""
    if is_robot_file(config.env) and not Path(config.env).is_file():
        raise RunError(
            f"the run's robot '{config.env}' is not found from here: the path is relative to the "
            "folder in which the run was started"
        )


def _check_robot(config: RunConfig, sha256: str) -> None:
    if sha256 != config.robot_sha256:
        raise RunError(
            f"robot '{config.env}' has changed since the run was started "
            f"(robot_sha256 {config.robot_sha256[:12]}... there, {sha256[:12]}... now)"
        )
