"""Harmful robot files, policy files and recordings, given to a running controller."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from bad_files import BAD_POLICIES, REPLICATES, alias_bomb, deep_yaml, merge_bomb, write_robot
from domains import reserved_domain
from rig import FakeHardware, Launcher, launching, move, set_parameter
from scenarios import Probe

from polyreach_description import Robot
from polyreach_description.policy_search import find_policy

pytestmark = pytest.mark.fault
SHIPPED = find_policy("planar8")


@pytest.fixture(scope="module")
def probe_of_one(planar8: Robot, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Probe]:
    """One controller for all tests of this file, unconfigured at first."""
    folder = tmp_path_factory.mktemp("bad")
    with reserved_domain() as domain, launching(folder, domain) as start:
        start("controller_node", {"record_folder": str(folder)})
        with Probe(planar8, domain) as probe:
            yield probe


@pytest.mark.parametrize(
    ("text", "inside", "reason"),
    [
        (alias_bomb(), "", "more than 10000 values"),
        (merge_bomb(), "", "more than 10000 values"),
        (deep_yaml(), "", "more than 20 lists and mappings in each other"),
        ("", REPLICATES, "elements, expected at most 100000"),
        (deep_yaml(0).replace("name: ", "name: ../../.."), "", "must be letters, digits"),
    ],
    ids=["alias bomb", "merge bomb", "deep nesting", "replicate bomb", "a path as name"],
)
def test_bad_robots_are_refused_parameters(
    probe_of_one: Probe, tmp_path: Path, text: str, inside: str, reason: str
) -> None:
    path = write_robot(tmp_path, text, inside=inside)
    taken, answer = set_parameter(probe_of_one, "robot", str(path))
    assert not taken and answer.startswith(f"{path}: ") and reason in answer
    assert probe_of_one.lifecycle_state() == "unconfigured"


@pytest.mark.parametrize(
    "case", ["an endless loop", "40 GB at load", "40 GB by Expand", "54 MB of metadata"]
)
def test_bad_policies_are_refused_parameters(
    probe_of_one: Probe, tmp_path: Path, case: str
) -> None:
    if probe_of_one.lifecycle_state() == "unconfigured":
        assert probe_of_one.transition("configure")
    make, reason = BAD_POLICIES[case]
    path = tmp_path / "policy.onnx"
    make(path, SHIPPED)
    taken, answer = set_parameter(probe_of_one, "policy", str(path))
    assert not taken and reason in answer
    assert probe_of_one.lifecycle_state() == "inactive"
    assert len(probe_of_one.metadata[-1]) < 10_000


def test_the_status_reports_the_time_of_the_policy_in_use(
    start: Launcher, probe: Probe, hardware: FakeHardware
) -> None:
    start("controller_node", {"autostart": True})
    move(probe, 0.3)
    assert 0.01 < float(probe.value("policy compute max [ms]")) < 10.0


def test_recordings_stay_in_their_folder(
    start: Launcher,
    probe: Probe,
    hardware: FakeHardware,
    autostart: dict[str, object],
    tmp_path: Path,
) -> None:
    folder, outside = tmp_path / "recordings", tmp_path / "outside"
    (folder / "today").mkdir(parents=True)
    outside.mkdir()
    (folder / "link").symlink_to(outside)
    (folder / "link.mcap").symlink_to(outside / "run.mcap")
    start("controller_node", {**autostart, "record_folder": str(folder)})
    move(probe, 0.3)
    for name in (
        str(outside / "run.mcap"),
        "../outside/run.mcap",
        "today/../../outside/run.mcap",
        "link/run.mcap",
        "link.mcap",
        f"{folder}2/run.mcap",
    ):
        taken, answer = set_parameter(probe, "record", name)
        assert not taken and "outside of record_folder" in answer, name
    assert set_parameter(probe, "record", "run.txt")[0] is False
    taken, answer = set_parameter(probe, "record_folder", str(outside))
    assert not taken and "read-only" in answer
    for inside in ("run.mcap", "today/run.mcap", str(folder / "absolute.mcap")):
        assert set_parameter(probe, "record", inside) == (True, "")
        assert (folder / inside).is_file()
    assert set_parameter(probe, "record", "") == (True, "")
    assert not list(outside.iterdir())
    assert not list(tmp_path.glob("*.mcap"))


def test_without_a_folder_nothing_is_recorded(
    start: Launcher,
    probe: Probe,
    hardware: FakeHardware,
    autostart: dict[str, object],
    tmp_path: Path,
) -> None:
    start("controller_node", autostart)
    probe.wait_state("IDLE")
    taken, answer = set_parameter(probe, "record", str(tmp_path / "run.mcap"))
    assert not taken and "start the controller with the parameter record_folder" in answer
    assert not list(tmp_path.glob("*.mcap"))
    move(probe, 0.3)
