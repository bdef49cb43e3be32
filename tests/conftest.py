"""Fixtures of all tests, among them a separate ROS domain per test."""

import fcntl
import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE / "nodes")]  # for scenarios.py and nodes/rig.py

from domains import reserved_domain  # noqa: E402
from groups import group_of  # noqa: E402

# the same cases in every run, also on a busy machine
settings.register_profile("polyreach", derandomize=True, deadline=None)
settings.load_profile("polyreach")

# what is started in the background, or by nohup, has these ignored, and so would all that it starts
for number, handler in (
    (signal.SIGINT, signal.default_int_handler),
    (signal.SIGHUP, signal.SIG_DFL),
    (signal.SIGQUIT, signal.SIG_DFL),
):
    if signal.getsignal(number) == signal.SIG_IGN:
        signal.signal(number, handler)

# as set by loopback_environment, but with the profile of the tests
os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "SYSTEM_DEFAULT"
os.environ["FASTRTPS_DEFAULT_PROFILES_FILE"] = str(HERE / "discovery.xml")
os.environ["FASTDDS_DEFAULT_PROFILES_FILE"] = str(HERE / "discovery.xml")


try:
    from xdist.scheduler import LoadScopeScheduling
except ImportError:
    pass
else:

    class GroupScheduling(LoadScopeScheduling):
        """Assigns each group of tests to one worker, the largest first; other tests one by one."""

        def _split_scope(self, nodeid: str) -> str:
            return group_of(nodeid) or nodeid

    def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> GroupScheduling:
        """For `pytest -n`."""
        return GroupScheduling(config, log)


@pytest.fixture
def closed_pipe() -> Iterator[int]:
    """Write end of a pipe whose read end is closed."""
    read_end, write_end = os.pipe()
    os.close(read_end)
    yield write_end
    os.close(write_end)


@pytest.fixture
def ros_domain_id(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """A domain id that no other test uses, also set in the environment."""
    with reserved_domain() as domain:
        monkeypatch.setenv("ROS_DOMAIN_ID", str(domain))
        yield domain


@pytest.fixture(scope="session")
def once(
    tmp_path_factory: pytest.TempPathFactory,
) -> Callable[[str, Callable[[Path], object]], Path]:
    """once(name, make): path of a file written by make(path) once for all workers."""
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent

    def path_of(name: str, make: Callable[[Path], object]) -> Path:
        path, partial = folder / name, folder / f"partial-{name}"
        with (folder / f"{name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not path.exists():
                make(partial)
                partial.rename(path)
        return path

    return path_of


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Report the number of injected faults."""
    counts = {
        outcome: sum(
            report.when == "call" and "fault" in report.keywords
            for report in terminalreporter.getreports(outcome)
        )
        for outcome in ("passed", "failed", "rerun")
    }
    if injected := counts["passed"] + counts["failed"]:
        terminalreporter.write_line(
            f"faults injected into running processes: {injected}, not handled: "
            f"{counts['failed']}, repeated: {counts['rerun']}"
        )
