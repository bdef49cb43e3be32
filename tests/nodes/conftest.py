"""Nodes as processes, a robot made of messages, and a genuine policy that needs no training."""

import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from rig import FakeHardware, Launcher, export_least_squares, launching
from scenarios import Probe

from polyreach_description import Robot, load_robot


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """One worker runs all tests of this folder: side by side they would disturb their timing.

    What fails is tried once more, for other programs may have held a process up for longer than a
    test can allow; the summary names each such test.
    """
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.xdist_group("nodes"))
            item.add_marker(pytest.mark.flaky(reruns=1))


@pytest.fixture(scope="session")
def planar8() -> Robot:
    return load_robot("planar8")


@pytest.fixture(scope="session")
def policy_file(planar8: Robot, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A damped least squares policy of planar8, made once for all workers."""
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent
    path = folder / "planar8-least-squares.onnx"
    with (folder / "policy.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not path.exists():
            partial = folder / "partial.onnx"
            export_least_squares(planar8, partial)
            partial.rename(path)
    return path


@pytest.fixture
def start(tmp_path: Path, ros_domain_id: int) -> Iterator[Launcher]:
    """Start executables in the test's domain: see rig.launching."""
    with launching(tmp_path, ros_domain_id) as launch:
        yield launch


@pytest.fixture
def probe(planar8: Robot, ros_domain_id: int) -> Iterator[Probe]:
    with Probe(planar8, ros_domain_id) as probe:
        yield probe


@pytest.fixture
def hardware(probe: Probe) -> FakeHardware:
    return FakeHardware(probe)
