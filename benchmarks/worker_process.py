"""A Python process in the environment .venv-qp, with pickles as messages."""

import pickle
import subprocess
from pathlib import Path
from typing import Any, Self

ROOT = Path(__file__).parents[1]
PYTHON = ROOT / ".venv-qp" / "bin" / "python"


class WorkerProcess:
    """Runs a file of this folder; a context manager that ends the process on exit."""

    def __init__(self, python: Path, file: str) -> None:
        """Raises RuntimeError if the environment is missing."""
        if not python.exists():
            raise RuntimeError(f"'{python}' is missing: make it with `make qp`")
        self._python = python
        self._process = subprocess.Popen(
            [str(python), str(ROOT / "benchmarks" / file)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )

    def send(self, message: Any) -> None:
        """Send a message. Raises RuntimeError if the process ended."""
        assert self._process.stdin is not None
        try:
            pickle.dump(message, self._process.stdin)
            self._process.stdin.flush()
        except BrokenPipeError:
            raise self._ended() from None

    def receive(self) -> Any:
        """Wait for a message. Raises RuntimeError if the process ended."""
        assert self._process.stdout is not None
        try:
            return pickle.load(self._process.stdout)
        except EOFError:
            raise self._ended() from None

    def _ended(self) -> RuntimeError:
        return RuntimeError(f"'{self._python}' ended with status {self._process.wait()}")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._process.communicate()
