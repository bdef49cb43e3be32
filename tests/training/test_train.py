"""Training as a user runs it: kill, stop, resume, refuse."""

import json
import random
import shlex
import shutil
import signal
import subprocess
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from command_line import polyreach, run, run_process
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from polyreach.commands.train import train_config
from polyreach.robot.onnx_policy import PolicyFile
from polyreach.runs.checkpoint import list_checkpoints, read_checkpoint, step_of
from polyreach.runs.folder import RunFolder

TINY = """--steps 3200 --num-envs 16 --seed 3 --eval-every 800 --eval-goals 8
 --checkpoint-minutes 0.0025
 --method-config.hidden 16 16 --method-config.batch-size 16 --method-config.replay-size 1500
 --method-config.learning-starts 160""".split()
REACH = ["--env-config.configurations", "100", "--env-config.horizon-s", "1"]
SMALL = [*TINY, *REACH]
PICKER = Path(__file__).parents[1] / "robots" / "picker" / "robot.yaml"


def last_state(folder: Path) -> dict:
    state = read_checkpoint(list_checkpoints(folder / "checkpoints")[0])
    assert state.pop("wall_s") > 0
    return state


def assert_same(left: object, right: object, where: str = "") -> None:
    assert type(left) is type(right), where
    if isinstance(left, torch.Tensor):
        assert torch.equal(left, right), where  # type: ignore[arg-type]
    elif isinstance(left, dict):
        assert left.keys() == right.keys(), where  # type: ignore[attr-defined]
        for key in left:
            assert_same(left[key], right[key], f"{where}.{key}")  # type: ignore[index]
    elif isinstance(left, list | tuple):
        assert len(left) == len(right), where  # type: ignore[arg-type]
        for index, pair in enumerate(zip(left, right, strict=True)):  # type: ignore[call-overload]
            assert_same(*pair, f"{where}[{index}]")
    else:
        assert left == right, where


def wait_for_step(folder: Path, step: int, process: subprocess.Popen) -> None:
    """Wait for a checkpoint of at least `step`."""
    deadline = time.monotonic() + 200
    while time.monotonic() < deadline and process.poll() is None:
        checkpoints = list_checkpoints(folder / "checkpoints")
        if checkpoints and step_of(checkpoints[0]) >= step:
            return
        time.sleep(0.005)
    raise AssertionError(f"no checkpoint of step {step} was written: {process.poll()}")


def logged_steps(folder: Path) -> list[int]:
    """Steps of the evaluations as TensorBoard shows them."""
    log = EventAccumulator(str(folder))
    log.Reload()
    return [event.step for event in log.Scalars("wall_s")]


SOMETIMES = ("ddpg in dynamic mode", "mtsac on a robot")  # each run takes a quarter of a minute
KILLED = {
    "digrad": ("digrad planar8 --preset tuned --method-config.relabel 0.5", REACH),
    "ddpg in dynamic mode": ("ddpg planar8 --preset paper --env-config.mode dynamic", REACH),
    "mtsac on a robot": ("mtsac planar8 --preset tuned", REACH),
    "dgrad-o on cheetahs": ("dgrad-o cheetah8", ["--env-config.horizon", "20"]),
    "picor on meta-world": ("picor mt3 --num-envs 48", ["--env-config.horizon", "20"]),
}


@pytest.mark.parametrize(
    ("run_of", "extra"),
    [
        pytest.param(*run, id=name, marks=pytest.mark.exhaustive if name in SOMETIMES else ())
        for name, run in KILLED.items()
    ],
)
def test_a_killed_run_resumes_bit_for_bit(run_of: str, extra: list[str], tmp_path: Path) -> None:
    if "mt3" in run_of:
        pytest.importorskip("metaworld", reason="metaworld is not installed")
    method, env, *rest = run_of.split()
    words = ["train", method, env, *TINY, *extra, *rest]
    done = run(*words, "--out", tmp_path / "whole")
    assert done.returncode == 0, done.stderr
    kill_at = random.SystemRandom()
    with subprocess.Popen(
        polyreach(*words, "--out", tmp_path / "killed"), stdout=subprocess.DEVNULL
    ) as process:
        wait_for_step(tmp_path / "killed", kill_at.randrange(200, 1200), process)
        time.sleep(kill_at.uniform(0.0, 0.1))
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    done = run_process("train", "--resume", tmp_path / "killed")
    assert done.returncode == 0, done.stderr
    assert "going on at step" in done.stdout
    assert_same(last_state(tmp_path / "killed"), last_state(tmp_path / "whole"))
    expected, resumed = (RunFolder(tmp_path / name).read_metrics() for name in ("whole", "killed"))
    for record in (*expected, *resumed):
        del record["wall_s"]
    assert resumed == expected and len(resumed) == 4
    assert logged_steps(tmp_path / "killed") == [record["step"] for record in resumed]


def test_a_run_killed_before_its_first_checkpoint_restarts(tmp_path: Path) -> None:
    done = run("train", "digrad", "planar8", *SMALL, "--out", tmp_path / "whole")
    assert done.returncode == 0, done.stderr
    killed = tmp_path / "killed"
    killed.mkdir()
    shutil.copy(tmp_path / "whole" / "config.json", killed)
    shutil.copy(tmp_path / "whole" / "metrics.jsonl", killed)
    for log in (tmp_path / "whole").glob("events.*"):
        shutil.copy(log, killed)
    resumed = run("train", "--resume", killed)
    assert resumed.returncode == 0, resumed.stderr
    assert "has no checkpoint yet" in " ".join(resumed.stdout.split())
    assert logged_steps(killed) == [800, 1600, 2400, 3200]
    assert_same(last_state(killed), last_state(tmp_path / "whole"))
    assert len(RunFolder(killed).read_metrics()) == 4


def test_a_run_killed_before_its_first_checkpoint_begins_at_its_start_run_again(
    tmp_path: Path,
) -> None:
    small = "--num-envs 1 --eval-goals 1 --env-config.horizon 10".split()
    first = ["train", "a2c", "cheetah", "--steps", "40", *small, "--out", tmp_path / "first"]
    assert run(*first).returncode == 0
    tune = ["train", "fine-tuning", "cheetah", "--steps", "80", *small]
    tune += ["--method-config.start", tmp_path / "first", "--out"]
    assert run(*tune, tmp_path / "whole").returncode == 0
    (tmp_path / "killed").mkdir()
    shutil.copy(tmp_path / "whole" / "config.json", tmp_path / "killed")
    resumed = run("train", "--resume", tmp_path / "killed")
    assert resumed.returncode == 0, resumed.stderr
    assert "starting its run from the beginning" in resumed.stdout
    assert_same(last_state(tmp_path / "whole"), last_state(tmp_path / "killed"))


def test_a_lost_evaluation_is_repeated(finished: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(finished, folder)
    run_folder = RunFolder(folder)
    (expected,) = run_folder.read_metrics()
    run_folder.metrics.unlink()
    done = run("train", "--resume", folder)
    assert done.returncode == 0, done.stderr
    (again,) = run_folder.read_metrics()
    assert again.keys() == expected.keys() and again["step"] == expected["step"] == 800


def test_a_run_of_a_user_robot_reports_the_base_of_its_relative_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, config = train_config(["digrad", str(PICKER), "--preset", "paper"])
    folder = RunFolder(tmp_path / "run")
    folder.create(replace(config, env="robot.yaml"))
    monkeypatch.chdir(tmp_path)
    for words in (["export", "run", "--out", "x.onnx"], ["train", "--resume", "run"]):
        done = run(*words)
        assert done.returncode == 2 and "robot 'robot.yaml' is not found from here" in done.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_leaves_a_checkpoint_and_the_command_to_go_on(
    number: signal.Signals, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    words = [
        "train",
        "digrad",
        "planar8",
        *SMALL,
        "--steps",
        "1000000",
        "--checkpoint-minutes",
        "60",
    ]
    process = subprocess.Popen(
        polyreach(*words, "--out", folder),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 200
    while not (folder / "metrics.jsonl").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 128 + number, err
    assert f"polyreach train digrad planar8 --resume {folder}" in out
    assert last_state(folder)["env_steps"] >= 800


def test_a_run_has_one_process_at_a_time(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    words = ["train", "digrad", "planar8", *SMALL, "--steps", "1000000", "--out", folder]
    with subprocess.Popen(polyreach(*words), stdout=subprocess.DEVNULL) as process:
        try:
            wait_for_step(folder, 1, process)
            second = run("train", "digrad", "planar8", "--resume", folder)
        finally:
            process.kill()
    assert second.returncode == 2 and "is being trained by another process" in second.stderr


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("finished") / "run"
    done = run("train", "digrad", "planar8", *SMALL, "--steps", "800", "--out", folder)
    assert done.returncode == 0, done.stderr
    return folder


def test_a_run_folder_contains_everything(finished: Path) -> None:
    assert list(finished.glob("events.out.tfevents.*"))
    config = RunFolder(finished).read_config()
    assert (config.method, config.env, config.seed, config.method_config.hidden) == (
        "digrad",
        "planar8",
        3,
        (16, 16),
    )
    content = json.loads((finished / "config.json").read_text())
    assert len(content["git_commit"].removesuffix("+changes")) in (7, 40)


def test_a_run_is_exported_and_measured(finished: Path, tmp_path: Path) -> None:
    done = run_process("export", finished, "--out", tmp_path / "p.onnx", "--goals", "3")
    assert done.returncode == 0, done.stderr
    assert "W1" not in done.stderr and "Traceback" not in done.stderr
    assert "3 goal sets" in (tmp_path / "p.md").read_text()
    # without a measurement, the card of the policy before is removed
    (tmp_path / "notes.md").write_text("# notes.onnx\n\nof a person\n")
    for name in ("p", "notes"):
        words = ["export", finished, "--out", tmp_path / f"{name}.onnx", "--goals", "0"]
        assert run(*words).returncode == 0
    assert not (tmp_path / "p.md").exists() and (tmp_path / "notes.md").exists()
    measured = run("evaluate", tmp_path / "p.onnx", "--goals", "4", "--json")
    figures = json.loads(measured.stdout)
    assert figures["policy"]["episodes"] == 4 and set(figures["policy"]["effectors"]) == {
        "left",
        "middle",
        "right",
    }


def test_a_robot_moves_without_training(tmp_path: Path) -> None:
    path = tmp_path / "p.onnx"
    words = ["export", "least-squares", "planar8", "--out", path, "--goals", "3"]
    done = run_process(*words)
    assert done.returncode == 0, done.stderr
    card = path.with_suffix(".md").read_text()
    assert "## Without training" in card and "## Trained" not in card and "3 goal sets" in card
    assert "next_memory` is fed back" in card
    policy = PolicyFile(path)
    assert policy.contract["method"] == "least-squares" and "training" not in policy.contract
    figures = policy.contract["evaluation"]
    # without it, the effectors stay more than half a metre away
    assert figures["success_all"]["0.02"] >= 2 / 3 and figures["start_error_median_m"] > 0.5


REFUSED = {
    "no robot without training": (
        ["export", "least-squares", "planar9"],
        ["unknown robot 'planar9'", "planar8"],
    ),
    # a folder of that name is told apart by its ./
    "run called least-squares": (
        ["export", "./least-squares"],
        ["'least-squares' is not a run folder"],
    ),
    "no file of a policy": (
        ["export", "least-squares", "planar8", "--out", "mine.pt"],
        ["ends in .onnx", "'mine.pt'"],
    ),
    "unknown method": (["train", "digrd", "planar8"], ["unknown method 'digrd'", "digrad"]),
    "unknown robot": (["train", "digrad", "planar9"], ["unknown robot 'planar9'", "planar8"]),
    "unknown env": (
        ["train", "mtsac", "mt11"],
        ["unknown environment 'mt11'", "mt3, mt10, mt50", "cheetah8", "planar8", "robot.yaml"],
    ),
    "no robot": (["train", "digrad", "mt10"], ["'mt10' is not a robot", "planar8"]),
    "tasks of unequal number": (
        ["train", "mtsac", "cheetah8", "--num-envs", "9"],
        ["num_envs is 9", "8 tasks"],
    ),
    "unknown preset": (
        ["train", "digrad", "planar8", "--preset", "best"],
        ["unknown preset 'best'", "paper, tuned"],
    ),
    "unknown command": (["trian"], ["unknown command 'trian'", "train"]),
    "no run there": (
        ["train", "digrad", "planar8", "--resume", "nowhere"],
        ["'nowhere' is not a run folder"],
    ),
    "no steps": (["train", "digrad", "planar8", "--steps", "-5"], ["steps is -5"]),
    "no evaluations": (["train", "digrad", "planar8", "--eval-every", "0"], ["eval_every is 0"]),
    "no threads": (["train", "digrad", "planar8", "--threads", "0"], ["threads is 0"]),
    "no such device": (
        ["train", "digrad", "planar8", "--device", "tpu"],
        ["device 'tpu' cannot be used", "cpu, cuda"],
    ),
    "a device that cannot compute": (
        ["train", "digrad", "planar8", "--device", "meta"],
        ["device 'meta' cannot be used", "cpu, cuda"],
    ),
    "never split": (
        ["train", "specialization", "hoppers3", "--steps", "24000"],
        ["joint_steps is 400000, but must be fewer than the 24000"],
    ),
    "one task to split for": (
        ["train", "specialization", "cheetah-smallfoot"],
        ["has one task", "selection random"],
    ),
    "no such policy": (["evaluate", "none.onnx"], ["policy file 'none.onnx' does not exist"]),
    "no such experiment": (["report", "fig9"], ["unknown experiment 'fig9'", "digrad-fig4"]),
    "no such method in the experiment": (
        ["report", "sac-mt3", "--only", "digrad"],
        ["has no method 'digrad'", "picor"],
    ),
    "negative slice": (["report", "sac-mt3", "--slice-minutes", "-1"], ["slice_minutes is -1"]),
    "unknown robot action": (
        ["robot", "look", "planar8"],
        ["unknown action 'look'", "check, show"],
    ),
}


@pytest.mark.parametrize(("words", "expected"), REFUSED.values(), ids=REFUSED.keys())
def test_errors_on_the_command_line_are_one_line(
    words: list[str], expected: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = run(*words)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr and len(done.stderr.strip().splitlines()) == 1
    for word in expected:
        assert word in done.stderr
    assert not list(tmp_path.iterdir())


def test_a_mistake_ends_the_process_with_status_2() -> None:
    done = run_process("train", "digrd", "planar8")
    assert (done.returncode, done.stdout) == (2, "")
    assert len(done.stderr.strip().splitlines()) == 1 and "unknown method 'digrd'" in done.stderr


def test_a_run_that_diverges_is_reported(tmp_path: Path) -> None:
    words = ["a2c", "cheetah-smallfoot", "--steps", "1000", "--num-envs", "2"]
    done = run("train", *words, "--method-config.lr", "1e30", "--out", tmp_path / "run")
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert "an action is not finite" in done.stderr and "smaller learning rate" in done.stderr


def test_a_setting_out_of_range_is_refused_by_name() -> None:
    done = run("train", "digrad", "planar8", "--method-config.noise-steps", "0")
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert "noise_steps is 0, but must be at least 1" in done.stderr


def test_a_run_of_another_configuration_is_refused(finished: Path) -> None:
    before = sorted((path.name, path.stat().st_mtime_ns) for path in finished.rglob("*"))
    other = run(
        "train", "digrad", "planar8", *SMALL, "--steps", "800", "--seed", "4", "--out", finished
    )
    assert other.returncode == 2 and "seed is 3 there, 4 here" in other.stderr
    other = run("train", "digrad", "planar8", "--resume", finished, "--method-config.gamma", "0.5")
    assert (
        other.returncode == 2
        and "method_config.gamma is" in other.stderr
        and "0.5 here" in other.stderr
    )
    other = run("train", "digrad", "humanoid27", "--resume", finished)
    assert other.returncode == 2 and "env is 'planar8' there, 'humanoid27' here" in other.stderr
    other = run("train", "ddpg", "planar8", "--resume", finished)
    assert other.returncode == 2 and "method is 'digrad' there" in other.stderr
    assert sorted((path.name, path.stat().st_mtime_ns) for path in finished.rglob("*")) == before


def test_a_damaged_newest_checkpoint_falls_back_to_the_previous_one(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    assert run("train", "digrad", "planar8", *SMALL, "--out", folder).returncode == 0
    expected = last_state(folder)
    newest, _ = list_checkpoints(folder / "checkpoints")
    newest.write_bytes(newest.read_bytes()[:1000])
    done = run("train", "digrad", "planar8", "--resume", folder)
    assert done.returncode == 0, done.stderr
    assert "corrupt" in done.stdout and "using the one before it" in done.stdout
    assert_same(last_state(folder), expected)


@pytest.mark.parametrize(
    "line",
    [
        "mtsac planar8 --preset tuned --steps 2000000 --num-envs 256 --seed 3",
        "picor cheetah8 --preset paper --steps 10 --num-envs 8 --seed 0 --method-config.hidden 8 9 "
        "--method-config.no-correction --env-config.horizon 5",
        "distillation planar8 --preset tuned --steps 10 --num-envs 4 --seed 0 "
        "--method-config.teachers a 'b c' --method-config.student-share 0.5",
        "digrad planar8 --preset tuned --steps 10 --num-envs 4 --seed 0 --threads 4 --device cuda",
    ],
)
def test_a_run_records_the_command_that_started_it(line: str) -> None:
    assert train_config(shlex.split(line))[1].command == f"polyreach train {line}"
