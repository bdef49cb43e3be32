"""The demo: simulator, controller and goals together, with the shipped policy."""

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from time import monotonic, sleep

import pytest
from matplotlib import image
from scenarios import Probe, assert_reaches, assert_within_limits, reachable_goals
from shared import SharedController

from polyreach_description import Robot
from polyreach_description.policy_file import ContractError
from polyreach_description.policy_search import find_policy
from polyreach_nodes.demo.processes import DemoError
from polyreach_nodes.demo.result import DemoResult
from polyreach_nodes.demo.run_demo import DemoConfig, run_demo

RUN = """
import sys
from pathlib import Path
from polyreach_nodes.demo.run_demo import DemoConfig, run_demo
policy, seconds, goal_sets = Path(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3])
result = run_demo(DemoConfig(policy=policy, seconds=seconds, goal_sets=goal_sets))
sys.exit(0 if result.success else 1)
"""
LINE = (
    r"reached (\d+)/(\d+) goals, median error ([\d.]+) mm, "
    r"control period p50/p99 ([\d.]+)/([\d.]+) ms"
)


def test_shipped_policy_reaches_goals_over_ros(
    shared_simulation: SharedController, probe: Probe, planar8: Robot
) -> None:
    shared_simulation.reset({"policy": str(find_policy("planar8"))})
    for goals in reachable_goals(planar8, seed=0, count=3):
        assert_reaches(probe, goals)
    assert_within_limits(planar8, probe.commands)


def test_demo_reaches_its_goals_and_writes_plot_and_json(tmp_path: Path) -> None:
    picture, results = tmp_path / "motion.png", tmp_path / "result.json"
    config = DemoConfig(goal_sets=2, seconds=40.0, picture=picture, json=results, live=False)
    result = run_demo(config)
    assert result.success, result.line()
    assert result.goals == 6 and result.missed() == []
    assert [status.split()[0] for status in result.set_status] == ["ACTIVE"] * 2
    assert max(error for row in result.errors_mm for error in row) <= 20.0
    assert result.period_p50_ms == pytest.approx(20.0, abs=2.0)
    assert result.period_p99_ms >= result.period_p50_ms
    assert DemoResult.read(results) == result
    assert json.loads(results.read_text())["success"] is True
    pixels = image.imread(picture)
    assert min(pixels.shape[:2]) > 300
    assert pixels[..., :3].std() > 0.05


def children_of(process_id: int) -> list[int]:
    listed = Path(f"/proc/{process_id}/task/{process_id}/children").read_text()
    return [int(word) for word in listed.split()]


def is_running(process_id: int) -> bool:
    try:
        return "Z" not in Path(f"/proc/{process_id}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except FileNotFoundError:
        return False


def test_missed_goals_end_with_the_result_line_and_a_failure(policy_file: Path) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", RUN, str(policy_file), "0.3", "1"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == 1, ended.stderr
    *_, missed, line = ended.stdout.strip().splitlines()
    assert re.fullmatch(r"set 1/1 missed; the controller: (IDLE|ACTIVE).*", missed)
    match = re.fullmatch(LINE, line)
    assert match
    assert int(match[1]) < int(match[2]) == 3


@pytest.mark.parametrize(
    "number",
    [signal.SIGINT, signal.SIGTERM, signal.SIGKILL],
    ids=["SIGINT", "SIGTERM", "SIGKILL"],
)
def test_an_interrupt_leaves_no_process_running(policy_file: Path, number: signal.Signals) -> None:
    demo = subprocess.Popen(
        [sys.executable, "-c", RUN, str(policy_file), "60", "30"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    end_s = monotonic() + 20
    while len(children_of(demo.pid)) < 3:
        assert monotonic() < end_s
        sleep(0.1)
    sleep(1.5)
    children = children_of(demo.pid)
    assert len(children) == 3
    demo.send_signal(number)
    assert demo.wait(timeout=20) != 0
    end_s = monotonic() + 10
    while any(is_running(child) for child in children):
        assert monotonic() < end_s, "a node outlives the demo"
        sleep(0.1)


def test_a_node_that_dies_ends_the_demo(policy_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[subprocess.Popen] = []
    popen = subprocess.Popen

    def record(command: list[str], **options: object) -> subprocess.Popen:
        child = popen(command, **options)
        if "-m" in command:  # a node; the check of the policy file has a process, too
            started.append(child)
        if "polyreach_nodes.sim_node" in command:
            os.kill(child.pid, signal.SIGKILL)
        return child

    monkeypatch.setattr(subprocess, "Popen", record)
    with pytest.raises(DemoError, match="sim_node ended with status -9"):
        run_demo(DemoConfig(policy=policy_file, live=False))
    assert len(started) == 3
    assert all(child.poll() is not None for child in started)


def test_wrong_policy_is_refused_before_anything_starts(policy_file: Path) -> None:
    with pytest.raises(ContractError, match="'robot': found planar8, expected humanoid27"):
        run_demo(DemoConfig(robot="humanoid27", policy=policy_file))
