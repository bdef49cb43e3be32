"""Runs on Ray: a cluster of this machine, and one of two nodes of which one is killed."""

import os
import re
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest
from command_line import polyreach, run
from small_sweep import assert_same_runs, sweep_words

from benchmarks.engines import cpu_times
from polyreach.experiments.engines.ray_archive import FRUITLESS, Archive
from polyreach.experiments.engines.run_files import Marks, changed_files, write_files
from polyreach.runs.checkpoint import list_checkpoints, step_of
from polyreach.runs.folder import RunFolder

pytestmark = pytest.mark.skipif(
    find_spec("ray") is None, reason="needs Ray: pip install 'polyreach[ray]'"
)

PATIENCE_S = 500.0
TRAINING = b"ray::train_run"
RUNS = ("ddpg-planar8-tuned-s0", "ddpg-planar8-tuned-s1")
SAVE_OFTEN = ("--checkpoint-minutes", "0.01", "--memory-gb", "0.5")
STEPS = 81_920


def wait_for(what: Callable[[], object], process: subprocess.Popen[str]) -> None:
    """Wait until `what` is true, while `process` runs."""
    deadline = time.monotonic() + PATIENCE_S
    while not what():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.05)


def saved_step(run_folder: Path) -> int:
    """Step of the newest checkpoint; 0 if there is none."""
    checkpoints = list_checkpoints(run_folder / "checkpoints")
    return step_of(checkpoints[0]) if checkpoints else 0


def start(words: list[str], environment: dict[str, str] | None = None) -> subprocess.Popen[str]:
    """`polyreach WORDS`, with a process group of its own, as a shell starts it."""
    return subprocess.Popen(
        polyreach(*words),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **(environment or {})},
        start_new_session=True,
    )


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The runs as two processes of this machine train them."""
    runs = tmp_path_factory.mktemp("local")
    words = polyreach(*sweep_words(runs, STEPS, "--jobs", "2"))
    subprocess.run(words, check=True, timeout=PATIENCE_S, capture_output=True)
    return runs


@pytest.fixture
def cluster() -> Iterator[tuple[subprocess.Popen[str], str, dict[str, str]]]:
    """A cluster of two nodes that can be killed: its process, address and environment."""
    environment = {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(32),
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_worker_niceness": "0",
    }
    program = str(Path(__file__).with_name("ray_cluster_of_two.py"))
    process = subprocess.Popen(
        [sys.executable, program],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, **environment},
    )
    assert process.stdout is not None and process.stdin is not None
    yield process, process.stdout.readline().strip(), environment
    process.stdin.close()
    process.wait(timeout=PATIENCE_S)


@pytest.mark.fault
@pytest.mark.slow
@pytest.mark.parametrize(
    "storage", ["fetched", pytest.param("shared", marks=pytest.mark.exhaustive)]
)
def test_a_node_that_is_killed_costs_at_most_the_time_since_a_checkpoint(
    storage: str,
    cluster: tuple[subprocess.Popen[str], str, dict[str, str]],
    undisturbed: Path,
    tmp_path: Path,
) -> None:
    nodes, address, environment = cluster
    runs = tmp_path / "runs"
    words = sweep_words(runs, STEPS, "--on", "ray", "--ray-address", address, *SAVE_OFTEN)
    if storage == "shared":
        words[words.index("--runs")] = "--runs-dir"
    command = start(words, environment)
    wait_for(lambda: min(saved_step(runs / name) for name in RUNS) > 0, command)
    assert nodes.stdin is not None and nodes.stdout is not None
    nodes.stdin.write("kill\n")
    nodes.stdin.flush()
    assert nodes.stdout.readline() == "killed\n"
    reached = [saved_step(runs / name) for name in RUNS]
    assert max(reached) < STEPS  # in the middle of both
    out, errors = command.communicate(timeout=PATIENCE_S)
    assert command.returncode == 0, out + errors
    assert "2 runs: 2 complete; 1 restarts after a worker died" in out
    assert_same_runs(undisturbed, runs)
    # the run of the dead node went on at its newest checkpoint, or at one that was on its way
    resumed = [
        int(step.replace(",", ""))
        for name in RUNS
        for step in re.findall("going on at step ([0-9,]+)", (runs / name / "log.txt").read_text())
    ]
    assert len(resumed) == 1 and resumed[0] >= min(reached)
    assert not list(runs.glob(".seen-*"))


def titles(pids: Iterable[int]) -> dict[int, bytes]:
    """The command lines of those processes that have not ended."""
    found = {}
    for pid in pids:
        try:
            found[pid] = Path(f"/proc/{pid}/cmdline").read_bytes()
        except OSError:
            continue
    return {pid: title for pid, title in found.items() if title}  # others wait for their parent


def listening_addresses(pids: set[int]) -> set[str]:
    """Local addresses of the TCP sockets on which processes listen, as /proc writes them."""
    sockets = set()
    for pid in pids:
        for descriptor in Path(f"/proc/{pid}/fd").glob("*"):
            try:
                target = os.readlink(descriptor)
            except OSError:
                continue
            sockets |= set(re.findall(r"socket:\[(\d+)\]", target))
    addresses = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and fields[9] in sockets:
                addresses.add(fields[1].partition(":")[0])
    return addresses


@pytest.mark.fault
@pytest.mark.exhaustive
def test_ctrl_c_loses_nothing_and_leaves_nothing(tmp_path: Path, undisturbed: Path) -> None:
    """On a cluster of this machine, which listens on the loopback only, whatever else runs."""
    words = sweep_words(tmp_path, STEPS, "--on", "ray", "--memory-gb", "0.5")
    another_cluster = {"RAY_ADDRESS": "127.0.0.1:1"}
    command = start(words, another_cluster)
    wait_for(lambda: all((tmp_path / name / "metrics.jsonl").exists() for name in RUNS), command)
    ours = set(cpu_times(command.pid))
    loopback = {"0100007F", "0000000000000000FFFF00000100007F"}
    assert listening_addresses(ours) and listening_addresses(ours) <= loopback
    os.killpg(command.pid, signal.SIGINT)  # as a terminal sends it
    out, errors = command.communicate(timeout=PATIENCE_S)
    assert command.returncode == 128 + signal.SIGINT, out + errors
    assert "stopped by SIGINT; every run has a checkpoint. To continue:" in out
    assert f"polyreach sweep ddpg planar8 --on ray --runs {tmp_path}" in out
    assert "2 runs: 2 stopped" in out
    for name in RUNS:
        records = RunFolder(tmp_path / name).read_metrics()
        assert saved_step(tmp_path / name) >= records[-1]["step"]  # no checkpoint was due yet
    deadline = time.monotonic() + 60
    while titles(ours) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not titles(ours)
    stopped = {name: RunFolder(tmp_path / name).last_step() for name in RUNS}
    command = start(words, another_cluster)
    # a worker that its node ends, as `ray stop` does
    wait_for(lambda: all(RunFolder(tmp_path / n).last_step() > stopped[n] for n in RUNS), command)
    workers = titles(cpu_times(command.pid))
    os.kill(next(pid for pid in workers if workers[pid].startswith(TRAINING)), signal.SIGTERM)
    out, errors = command.communicate(timeout=PATIENCE_S)
    assert command.returncode == 0, out + errors
    assert "2 runs: 2 complete; 1 restarts after a worker died" in out
    assert_same_runs(undisturbed, tmp_path)


def checkpoint_of(run_folder: Path, step: int) -> Path:
    """A file in the place of a checkpoint."""
    path = run_folder / "checkpoints" / f"step-{step:012d}.pt"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"%d" % step)
    return path


def test_files_are_sent_once_and_the_checkpoint_is_written_last(tmp_path: Path) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    checkpoint_of(here, 1)
    (here / "config.json").write_text("{}")
    (here / "metrics.jsonl").write_text('{"step": 1}\n')
    (here / "lock").touch()
    sent: Marks = {}
    files = changed_files(here, sent)
    assert list(files) == ["config.json", "metrics.jsonl", "checkpoints/step-000000000001.pt"]
    write_files(there, files)
    assert changed_files(here, sent) == {}
    for step in (2, 3):
        checkpoint_of(here, step)
        (here / "metrics.jsonl").write_text(f'{{"step": {step}, "more": 1}}\n')
        files = changed_files(here, sent)
        assert list(files) == ["metrics.jsonl", f"checkpoints/step-{step:012d}.pt"]
        write_files(there, files)
    assert [step_of(path) for path in list_checkpoints(there / "checkpoints")] == [3, 2]
    assert (there / "metrics.jsonl").read_text() == '{"step": 3, "more": 1}\n'


def test_a_task_that_was_taken_for_dead_overwrites_nothing(tmp_path: Path) -> None:
    archive = Archive(fetched=True)
    first = archive.begin(tmp_path, {}, "first")
    second = archive.begin(tmp_path, {}, "second")
    assert not archive.keep(tmp_path, first.attempt, {"metrics.jsonl": b"first"})
    assert archive.keep(tmp_path, second.attempt, {"metrics.jsonl": b"second"})
    assert (tmp_path / "metrics.jsonl").read_bytes() == b"second"
    place = archive.places()[tmp_path]
    assert (place.node, place.restarts) == ("second", 1)
    assert RunFolder(tmp_path).busy()  # no other process trains there meanwhile
    archive.end(tmp_path, first.attempt)
    assert RunFolder(tmp_path).busy()
    archive.end(tmp_path, second.attempt)
    assert not RunFolder(tmp_path).busy()


def test_a_run_that_kills_its_workers_fails(tmp_path: Path) -> None:
    archive = Archive(fetched=True)
    for attempt in range(FRUITLESS):
        assert not archive.begin(tmp_path, {}, "node").refusal
        if attempt == 2:  # progress, so that it may be tried as often again
            checkpoint_of(tmp_path, 100)
    for _ in range(2):
        assert not archive.begin(tmp_path, {}, "node").refusal
    for _ in range(FRUITLESS):
        refusal = archive.begin(tmp_path, {}, "node").refusal
    assert f"its worker died {FRUITLESS} times without a new checkpoint after step 100" in refusal


def test_the_runs_that_a_run_starts_from_come_with_it(tmp_path: Path) -> None:
    start_folder = tmp_path / "runs" / "first"
    checkpoint_of(start_folder, 5)
    (start_folder / "config.json").write_text("{}")
    order = Archive(fetched=True).begin(tmp_path / "second", {"runs/first": start_folder}, "node")
    assert order.files == {}
    assert order.others == {
        "runs/first": {"config.json": b"{}", "checkpoints/step-000000000005.pt": b"5"}
    }


def test_nothing_begins_after_a_stop(tmp_path: Path) -> None:
    archive = Archive(fetched=True)
    order = archive.begin(tmp_path / "a", {}, "node")
    assert archive.stop() == {tmp_path / "a"}
    assert not archive.keep(tmp_path / "a", order.attempt, {})
    assert archive.begin(tmp_path / "b", {}, "node").stop


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ("--on ray --ray-address 127.0.0.1:9", "ray_address '127.0.0.1:9' cannot be reached: "),
        ("--on ray --ray-address ray://x:1", "ray_address 'ray://x:1' is no address (legal: HOST:"),
        ("--on ray --ray-address here", "ray_address 'here' is no address (legal: HOST:PORT as"),
        ("--ray-address auto", "ray_address 'auto' is for --on ray, but on is 'local'"),
        ("--sbatch-options=-p --on ray", "sbatch_options '-p' is for --on slurm, but on is 'ray'"),
        ("--on slurm --slice-minutes 5", "slice_minutes is 5, but slurm ends runs at the time"),
        ("--on slurm --gpus 0.5", "gpus is 0.5, but slurm gives whole ones: 0, 1, 2, ..."),
        ("--jobs -1", "jobs is -1, but must be at least 0"),
        ("--on ray --runs-dir /proc/runs", "runs_dir '/proc/runs' cannot be written: "),
    ],
)
def test_options_that_cannot_be_followed(
    options: str, problem: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = run("sweep", "ddpg", "planar8", *options.split())
    assert done.returncode == 2 and problem in done.stderr.replace("\n", " "), done.stderr


def test_an_engine_that_does_not_exist() -> None:
    done = run("sweep", "ddpg", "planar8", "--on", "mars")
    assert done.returncode == 2
    assert "mars" in done.stderr and all(name in done.stderr for name in ("local", "ray", "slurm"))


def test_without_ray(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    done = run(*sweep_words(tmp_path, 1024, "--on", "ray", "--ray-address", "auto"))
    assert done.returncode == 2
    assert "Ray cannot be imported" in done.stderr and "pip install 'polyreach[ray]'" in done.stderr
    assert "(legal without it: local, slurm)" in done.stderr


def test_a_robot_of_a_file_does_not_come_to_other_nodes(tmp_path: Path) -> None:
    robot = Path(__file__).parents[1] / "robots" / "gantry" / "robot.yaml"
    done = run("sweep", "apg", robot, "--runs", tmp_path, "--on", "ray", "--ray-address", "auto")
    assert done.returncode == 2
    assert "robot.yaml' does not come to the nodes of ray_address by itself" in done.stderr
