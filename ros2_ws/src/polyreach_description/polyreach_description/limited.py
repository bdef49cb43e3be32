"""Processing of untrusted files, in a child process of limited time and memory."""

import json
import signal
import subprocess
import sys
from dataclasses import dataclass
from os import environ
from pathlib import Path
from typing import Any

WALL_SHARE = 10.0  # times the CPU time: that of a busy machine
# limits first, then the imports of the script; the last line of the output is the answer
_START = """
import json, resource, sys
job = json.loads(sys.argv[1])
resource.setrlimit(resource.RLIMIT_AS, (job["bytes"], job["bytes"]))
resource.setrlimit(resource.RLIMIT_CPU, (job["seconds"], job["seconds"] + 1))
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
sys.path[:] = job["path"]
sys.argv[:] = [job["script"], *job["words"]]
with open(job["script"], "rb") as script:
    code = compile(script.read(), job["script"], "exec")
exec(code, {"__name__": "__main__"})
"""
_ENVIRONMENT = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MUJOCO_GL": "disable"}


class LimitError(RuntimeError):
    """A child process ended without an answer; the message says at which limit, or by what."""


@dataclass(frozen=True)
class Limits:
    """What a child process may take."""

    cpu_s: int  # [s] of CPU time, of all its threads together
    memory_bytes: int  # of address space


def run_limited(script: Path, words: tuple[str, ...], data: bytes, limits: Limits) -> Any:
    """Run a Python file with `words` as its arguments and `data` on its standard input.

    Returns the last line of its output, which must be JSON. The child starts without site packages'
    start-up files, with the paths of this process, and in a session of its own, so that Ctrl-C does
    not reach it. Raises LimitError if there is no answer.
    """
    job = {
        "script": str(script),
        "words": words,
        "path": [*filter(None, sys.path), str(Path(__file__).parents[1])],
        "seconds": limits.cpu_s,
        "bytes": limits.memory_bytes,
    }
    try:
        started = subprocess.Popen(
            [sys.executable, "-I", "-S", "-B", "-c", _START, json.dumps(job)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**environ, **_ENVIRONMENT},
            start_new_session=True,
        )
    except OSError as error:
        raise LimitError(f"no child process can be started: {error.strerror}") from None
    with started as child:
        wall_s = WALL_SHARE * limits.cpu_s
        try:
            output, _ = child.communicate(data, timeout=wall_s)
        except subprocess.TimeoutExpired:
            raise LimitError(f"no answer within {wall_s:g} s") from None
        finally:
            child.kill()
    if child.returncode in (-signal.SIGXCPU, -signal.SIGKILL):
        raise LimitError(f"more than {limits.cpu_s} s of CPU time")
    try:
        return json.loads(output.splitlines()[-1])
    except (IndexError, ValueError):
        name = _exit_name(child.returncode)
        gib = limits.memory_bytes / 2**30
        raise LimitError(f"{name}, perhaps for want of memory (limit: {gib:g} GiB)") from None


def _exit_name(code: int) -> str:
    return f"a crash by {signal.Signals(-code).name}" if code < 0 else f"an end with status {code}"
