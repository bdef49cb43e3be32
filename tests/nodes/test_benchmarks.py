"""The benchmark harness: single parts, quick runs, and a failure that does not end other parts."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import dds_latency, timing
from benchmarks.__main__ import parse_arguments, select_parts
from benchmarks.dds_latency import LOST_S, Measurement, measure_node, ratio_text
from benchmarks.parts import PARTS, ROBOTS
from polyreach_description import load_robot

ROOT = Path(__file__).parents[2]
ONE_FAILS = """
import sys
from benchmarks.parts import PARTS, Part, run_parts
broken = Part("a broken part", "tick_speed:no_such_function")
sys.exit(run_parts({"broken": broken, "tick": PARTS["tick"]}, ("planar8",), quick=True))
"""


def run_python(*arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT,
        env={**os.environ, "COLUMNS": "200"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def test_a_failing_part_does_not_end_the_others() -> None:
    """The part that does not fail is the fastest one, and it runs."""
    result = run_python("-c", ONE_FAILS)
    assert result.returncode == 1, result.stderr
    assert "failed: AttributeError: " in result.stdout and "no_such_function" in result.stdout
    assert "Traceback" in result.stderr and result.stderr.endswith("failed: broken of planar8\n")
    assert result.stdout.index("a broken part") < result.stdout.index(PARTS["tick"].title)
    assert "planar8, fast, not slowed" in result.stdout and "periods" in result.stdout
    assert "humanoid27" not in result.stdout


def test_names_of_parts_and_robots(capsys: pytest.CaptureFixture[str]) -> None:
    for argv in (["tock"], ["--robots", "planar9"]):
        with pytest.raises(SystemExit, match="2"):
            parse_arguments(argv)
    error = capsys.readouterr().err
    assert f"unknown part 'tock' (there are: {', '.join(PARTS)})" in error
    assert "planar9" in error and all(robot in error for robot in ROBOTS)
    assert list(select_parts(["dds", "tick"], False)) == ["tick", "dds"]
    assert list(select_parts([], False)) == list(PARTS)
    quick = select_parts([], True)
    assert {"tick", "dds"} <= quick.keys() < PARTS.keys()
    assert parse_arguments([]).robots == list(ROBOTS)
    assert parse_arguments(["--quick"]).robots == ["planar8"]
    arguments = parse_arguments(["tick", "--robots", "humanoid27", "--quick"])
    assert arguments.parts == ["tick"] and arguments.robots == ["humanoid27"] and arguments.quick


@pytest.mark.parametrize("name", [name for name in PARTS if name != "metaworld"])
def test_every_part_can_be_imported(name: str) -> None:
    assert callable(PARTS[name].load())


def test_a_quick_run_makes_fewer_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    counts = []
    for quick in (False, True):
        monkeypatch.setattr(timing, "quick", quick)
        calls = [0]

        def count(calls: list[int] = calls) -> None:
            calls[0] += sum(range(1000)) > 0

        assert timing.seconds_per_call({"count": count}, budget_s=0.2)["count"] > 0.0
        counts.append(calls[0])
    assert counts[1] < 0.5 * counts[0]


def test_a_rate_that_is_not_kept_is_reported() -> None:
    ours = Measurement(latency=[0.001, 0.003, 0.001], late=1, lost=1, cpu=[0.5])
    baseline = Measurement(latency=[0.0005] * 4, cpu=[0.25])
    assert ours.kept == 0.5 and baseline.kept == 1.0
    text = ratio_text(ours, baseline)
    assert "kept 50.0 vs 100.0 % of the periods" in text
    assert "p50 2.00 x (1000 vs 500 us)" in text and "CPU 50 vs 25 %" in text
    silent = ratio_text(Measurement(lost=3, cpu=[0.0]), baseline)
    assert "kept 0.0 vs" in silent and "p50 nan x" in silent


def test_late_answers_are_counted(monkeypatch: pytest.MonkeyPatch, ros_domain_id: int) -> None:
    """No rclpy node answers at 20 kHz; each answer is assigned to its own joint state."""
    monkeypatch.chdir(ROOT)
    robot, measured = load_robot("planar8"), Measurement()
    echo = ["-m", "benchmarks.echo_node", str(len(robot.joint_names))]
    measure_node(robot, 20_000.0, 1.0, echo, False, measured)
    assert len(measured.latency) > 20
    assert measured.late > 0.5 * len(measured.latency) and measured.kept < 0.5
    assert all(0.0 < latency_s <= LOST_S + 0.5 for latency_s in measured.latency)
    assert dds_latency.FULL.rates[-1] == 500.0
