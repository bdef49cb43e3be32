"""What all tests share: a ROS domain of its own for every test that asks for one."""

import fcntl
import os
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

# the same cases in every run, however busy the machine is
settings.register_profile("polyreach", derandomize=True, deadline=None)
settings.load_profile("polyreach")

# as loopback_environment sets it, with a profile of the tests
os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "SYSTEM_DEFAULT"
os.environ["FASTRTPS_DEFAULT_PROFILES_FILE"] = str(HERE / "discovery.xml")
os.environ["FASTDDS_DEFAULT_PROFILES_FILE"] = str(HERE / "discovery.xml")


try:
    from xdist.scheduler import LoadScopeScheduling
except ImportError:
    pass
else:

    class GroupScheduling(LoadScopeScheduling):
        """Gives a group of tests to one worker, the largest group first; other tests singly."""

        def _split_scope(self, nodeid: str) -> str:
            return group_of(nodeid) or nodeid

    def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> GroupScheduling:
        """For `pytest -n`."""
        return GroupScheduling(config, log)


@pytest.fixture
def closed_pipe() -> Iterator[int]:
    """The end to write to of a pipe that has no reader."""
    far_end, near_end = os.pipe()
    os.close(far_end)
    yield near_end
    os.close(near_end)


@pytest.fixture
def ros_domain_id(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """A domain id of its own for a test; set in the environment, too."""
    with reserved_domain() as domain:
        monkeypatch.setenv("ROS_DOMAIN_ID", str(domain))
        yield domain


@pytest.fixture(scope="session")
def once(
    tmp_path_factory: pytest.TempPathFactory,
) -> Callable[[str, Callable[[Path], object]], Path]:
    """once(name, make): the path of a file that make(path) writes, once for all workers."""
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
    """Say how many faults were tried."""
    counts = {
        outcome: sum(
            report.when == "call" and "fault" in report.keywords
            for report in terminalreporter.getreports(outcome)
        )
        for outcome in ("passed", "failed", "rerun")
    }
    if tried := counts["passed"] + counts["failed"]:
        terminalreporter.write_line(
            f"faults injected over real processes: {tried}, not withstood: {counts['failed']}, "
            f"tried twice: {counts['rerun']}"
        )
