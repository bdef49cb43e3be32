"""Run the command line, in a new process or, faster, in the test process."""

import io
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

from polyreach.cli import main

TIMEOUT_S = 300.0


def polyreach(*words: str | Path) -> list[str]:
    """The command `polyreach WORDS`."""
    return [sys.executable, "-m", "polyreach.cli", *map(str, words)]


def run_process(*words: str | Path) -> subprocess.CompletedProcess[str]:
    """Run `polyreach WORDS` in a new process, as a user does."""
    return subprocess.run(
        polyreach(*words), capture_output=True, text=True, timeout=TIMEOUT_S, check=False
    )


def run_unread(
    words: Sequence[str | Path],
    closed_pipe: int,
    timeout_s: float = 60.0,
    environment: Mapping[str, str] | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run a program whose standard output is a closed pipe; captures its standard error."""
    return subprocess.run(
        words,
        stdout=closed_pipe,
        stderr=subprocess.PIPE,
        env=environment,
        text=True,
        timeout=timeout_s,
        check=False,
    )


def run(*words: str | Path) -> subprocess.CompletedProcess[str]:
    """Run `polyreach WORDS` in this process, which avoids the import time of PyTorch."""
    out, errors = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(errors):
        try:
            status = main([str(word) for word in words])
        except SystemExit as exit_:
            status = exit_.code if isinstance(exit_.code, int) else 1
    return subprocess.CompletedProcess(words, status, out.getvalue(), errors.getvalue())
