"""Nodes as processes, a robot made of messages, and a genuine policy that needs no training."""

import fcntl
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from rig import FakeHardware, Launcher, Process, export_least_squares
from scenarios import Probe

from polyreach_description import Robot, load_robot


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """One worker runs all tests of this folder: side by side they would disturb their timing."""
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.xdist_group("nodes"))


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
    """Start an executable with parameters: start("sim_node", {"robot": "x"}, "-r", "a:=b")."""
    running: list[Process] = []
    environment = {**os.environ, "ROS_DOMAIN_ID": str(ros_domain_id), "OMP_NUM_THREADS": "1"}

    def launch(
        executable: str, parameters: dict[str, object] | None = None, *words: str
    ) -> Process:
        log = tmp_path / f"{executable}-{len(running)}.log"
        command = [
            str(Path(sys.executable).parent / executable),
            *([] if parameters is None else ["--ros-args"]),
        ]
        for name, value in (parameters or {}).items():
            text = json.dumps(value) if isinstance(value, bool | str) else str(value)
            command += ["-p", f"{name}:={text}"]
        with log.open("w") as output:
            popen = subprocess.Popen(
                [*command, *words],
                env=environment,
                stdout=output,
                stderr=subprocess.STDOUT,
                text=True,
            )
        running.append(Process(popen, log))
        return running[-1]

    yield launch
    for process in running:
        if process.popen.poll() is None:
            process.popen.kill()
            process.popen.wait()


@pytest.fixture
def probe(planar8: Robot, ros_domain_id: int) -> Iterator[Probe]:
    with Probe(planar8, ros_domain_id) as probe:
        yield probe


@pytest.fixture
def hardware(probe: Probe) -> FakeHardware:
    return FakeHardware(probe)
