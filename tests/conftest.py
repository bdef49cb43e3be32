"""What all tests share: a ROS domain of its own for every test that asks for one."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE / "nodes")]  # for scenarios.py and nodes/rig.py

from domains import reserved_domain  # noqa: E402

# the same cases in every run, however busy the machine is
settings.register_profile("polyreach", derandomize=True, deadline=None)
settings.load_profile("polyreach")

os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"


@pytest.fixture
def ros_domain_id(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """A domain id of its own for a test; set in the environment, too."""
    with reserved_domain() as domain:
        monkeypatch.setenv("ROS_DOMAIN_ID", str(domain))
        yield domain


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
