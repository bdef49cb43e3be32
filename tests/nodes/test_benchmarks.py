"""The harness of the benchmarks: single parts, quick runs, and failures that end no other part."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import dds_latency, timing
from benchmarks.__main__ import chosen, read_arguments
from benchmarks.dds_latency import LOST_S, Measured, row, run_one
from benchmarks.parts import PARTS, ROBOTS
from polyreach_description import load_robot

ROOT = Path(__file__).parents[2]
ONE_FAILS = """
import sys
from benchmarks.parts import PARTS, Part, run_parts
broken = Part("a part that is broken", "tick_speed:no_such_function")
sys.exit(run_parts({"broken": broken, "tick": PARTS["tick"]}, ("planar8",), quick=True))
"""


def python(*words: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, *words],
        cwd=ROOT,
        env={**os.environ, "COLUMNS": "200"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def test_one_part_that_fails_ends_no_other() -> None:
    """And the cheapest part really runs."""
    ran = python("-c", ONE_FAILS)
    assert ran.returncode == 1, ran.stderr
    assert "failed: AttributeError: " in ran.stdout and "no_such_function" in ran.stdout
    assert "Traceback" in ran.stderr and ran.stderr.endswith("failed: broken of planar8\n")
    assert ran.stdout.index("a part that is broken") < ran.stdout.index(PARTS["tick"].title)
    assert "planar8, at speed, nothing near" in ran.stdout and "periods" in ran.stdout
    assert "humanoid27" not in ran.stdout


def test_names_of_parts_and_robots(capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["tock"], ["--robots", "planar9"]):
        with pytest.raises(SystemExit, match="2"):
            read_arguments(words)
    error = capsys.readouterr().err
    assert f"unknown part 'tock' (there are: {', '.join(PARTS)})" in error
    assert "planar9" in error and all(robot in error for robot in ROBOTS)
    assert list(chosen(["dds", "tick"], False)) == ["tick", "dds"]
    assert list(chosen([], False)) == list(PARTS)
    quick = chosen([], True)
    assert {"tick", "dds"} <= quick.keys() < PARTS.keys()
    arguments = read_arguments(["tick", "--robots", "planar8", "--quick"])
    assert arguments.parts == ["tick"] and arguments.robots == ["planar8"] and arguments.quick


@pytest.mark.parametrize("name", [name for name in PARTS if name != "metaworld"])
def test_every_part_is_there(name: str) -> None:
    assert callable(PARTS[name].load())


def test_a_quick_run_takes_fewer_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    counts = []
    for quick in (False, True):
        monkeypatch.setattr(timing, "quick", quick)
        calls = [0]

        def count(calls: list[int] = calls) -> None:
            calls[0] += sum(range(1000)) > 0

        assert timing.seconds_per_call({"count": count}, budget_s=0.2)["count"] > 0.0
        counts.append(calls[0])
    assert counts[1] < 0.5 * counts[0]


def test_a_rate_that_is_not_kept_is_a_row() -> None:
    ours = Measured(latency=[0.001, 0.003, 0.001], late=1, lost=1, cpu=[0.5])
    floor = Measured(latency=[0.0005] * 4, cpu=[0.25])
    assert ours.kept == 0.5 and floor.kept == 1.0
    text = row(ours, floor)
    assert "kept 50.0 against 100.0 % of the periods" in text
    assert "p50 2.00 x (1000 against 500 us)" in text and "CPU 50 against 25 %" in text
    silent = row(Measured(lost=3, cpu=[0.0]), floor)
    assert "kept 0.0 against" in silent and "p50 nan x" in silent


def test_answers_that_come_late_are_counted(
    monkeypatch: pytest.MonkeyPatch, ros_domain_id: int
) -> None:
    """No rclpy node answers 20,000 times a second; each answer is counted for its own state."""
    monkeypatch.chdir(ROOT)
    robot, measured = load_robot("planar8"), Measured()
    echo = ["-m", "benchmarks.echo_node", str(len(robot.joint_names))]
    run_one(robot, 20_000.0, 1.0, echo, False, measured)
    assert len(measured.latency) > 20
    assert measured.late > 0.5 * len(measured.latency) and measured.kept < 0.5
    assert all(0.0 < latency_s <= LOST_S + 0.5 for latency_s in measured.latency)
    assert dds_latency.FULL.rates[-1] == 500.0
