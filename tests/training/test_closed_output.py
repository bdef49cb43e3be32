"""Commands with a closed output end quietly, and training loses nothing."""

import errno
import fcntl
import io
import json
import os
import pty
import signal
import subprocess
import sys
import termios
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from time import monotonic, sleep

import pytest
from command_line import run_unread

from polyreach.runs.checkpoint import list_checkpoints, step_of
from polyreach.runs.folder import RunFolder
from polyreach_description.closed_output import CLOSED_OUTPUT, end_with_output, outlast_output

POLYREACH = str(Path(sys.executable).parent / "polyreach")
SMALL = """train digrad planar8 --num-envs 16 --eval-every 1600 --eval-goals 8
 --checkpoint-minutes 60 --method-config.hidden 16 16 --method-config.batch-size 16
 --method-config.replay-size 3000 --method-config.learning-starts 160
 --env-config.configurations 100 --env-config.horizon-s 1""".split()
COMMANDS = [
    "",
    "--help",
    "list",
    "list --json",
    "robot show planar8",
    "robot urdf humanoid27",
    "train --help",
    "train digrad planar8 --help",
    "evaluate --help",
    "export --help",
    "draw --help",
    "report --help",
    "robot --help",
    "demo --help",
    "goal --help",
]
BUFFERED = {key: value for key, value in os.environ.items() if key != "PYTHONUNBUFFERED"}
# the interpreter starts once; each command then runs in a copy of it, from main() to its very end
RUN_EACH = """
import json, os, sys
import polyreach.experiments.report, polyreach_nodes.goal_node
from polyreach.cli import main
for words in json.loads(sys.argv[1]):
    process = os.fork()
    if process == 0:
        sys.argv[1:] = words.split()
        sys.exit(main())
    status = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
    print(json.dumps([words, status]), file=sys.stderr, flush=True)
"""


@pytest.mark.parametrize(
    ("environment", "commands"),
    [
        (BUFFERED, COMMANDS),
        ({**BUFFERED, "PYTHONUNBUFFERED": "1"}, ["--help", "list", "train --help", "goal --help"]),
    ],
    ids=["buffered", "unbuffered"],
)
def test_every_command_ends_quietly_when_its_output_is_closed(
    environment: dict[str, str], commands: list[str], closed_pipe: int
) -> None:
    words = [sys.executable, "-c", RUN_EACH, json.dumps(commands)]
    ended = run_unread(words, closed_pipe, timeout_s=120.0, environment=environment)
    ended.check_returncode()
    expected = [json.dumps([words, CLOSED_OUTPUT]) for words in commands]
    assert ended.stderr.splitlines() == expected


def test_the_exit_status_is_that_of_sigpipe() -> None:
    line = f"{POLYREACH} robot urdf humanoid27 | head -1; echo ${{PIPESTATUS[0]}}"
    script = f"set -o pipefail; {line}; yes | head -1; echo ${{PIPESTATUS[0]}}"
    ended = subprocess.run(
        ["bash", "-c", script], capture_output=True, text=True, timeout=60, check=True
    )
    first, status, _, usual = ended.stdout.splitlines()
    assert first.startswith("<?xml") or first.startswith("<robot")
    assert status in (usual, "0") and usual == str(CLOSED_OUTPUT)
    assert ended.stderr == ""


def test_messages_of_a_command_to_a_closed_pipe_end_quietly(closed_pipe: int) -> None:
    ended = subprocess.run([POLYREACH, "nonsense"], stderr=closed_pipe, timeout=60, check=False)
    assert ended.returncode == CLOSED_OUTPUT


def test_an_error_is_shown_although_the_output_is_closed(closed_pipe: int) -> None:
    program = """
from polyreach_description.closed_output import end_with_output
with end_with_output():
    print("something")
    raise BrokenPipeError("a worker has died")
"""
    ended = run_unread([sys.executable, "-c", program], closed_pipe, environment=BUFFERED)
    assert ended.returncode == 1
    assert ended.stderr.splitlines()[-1] == "BrokenPipeError: a worker has died"


class FullDisk(io.StringIO):
    def write(self, text: str) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("watched", [end_with_output, outlast_output])
def test_other_errors_of_output_are_raised(
    watched: Callable[[], AbstractContextManager[None]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdout", FullDisk())
    with pytest.raises(OSError, match="No space left"), watched():
        print("something")


def test_training_continues_when_its_output_is_closed(closed_pipe: int, tmp_path: Path) -> None:
    # the progress is drawn from the start, as on a terminal
    environment = {**os.environ, "FORCE_COLOR": "1"}
    folder = tmp_path / "run"
    ended = subprocess.run(
        [POLYREACH, *SMALL, "--steps", "3200", "--out", folder],
        stdout=closed_pipe,
        stderr=closed_pipe,
        env=environment,
        timeout=120,
        check=False,
    )
    assert ended.returncode == 0
    assert step_of(list_checkpoints(folder / "checkpoints")[0]) == 3200
    assert [record["step"] for record in RunFolder(folder).read_metrics()] == [1600, 3200]


@pytest.mark.parametrize("nohup", [False, True], ids=["terminal", "terminal with nohup"])
def test_training_on_a_closed_terminal_ends_or_continues_with_nohup(
    nohup: bool, tmp_path: Path
) -> None:
    def own_terminal() -> None:
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)
        # whatever this process was started with
        signal.signal(signal.SIGHUP, signal.SIG_IGN if nohup else signal.SIG_DFL)

    folder, steps = tmp_path / "run", 8000 if nohup else 10_000_000
    screen, terminal = pty.openpty()
    process = subprocess.Popen(
        [POLYREACH, *SMALL, "--steps", str(steps), "--out", folder],
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
        start_new_session=True,
        preexec_fn=own_terminal,
    )
    os.close(terminal)
    try:
        deadline = monotonic() + 100
        while not RunFolder(folder).read_metrics():
            assert process.poll() is None and monotonic() < deadline
            sleep(0.01)
        os.close(screen)
        assert process.wait(timeout=100) == (0 if nohup else 128 + signal.SIGHUP)
    finally:
        process.kill()
        process.wait()
    (checkpoint,) = list_checkpoints(folder / "checkpoints")
    assert step_of(checkpoint) == steps if nohup else 1600 <= step_of(checkpoint) < steps
