"""`polyreach demo` and `polyreach goal` as typed on a terminal."""

import json
import re
from pathlib import Path

import pytest
from command_line import run, run_process
from scenarios import Probe
from shared import SharedController

from polyreach_description import Robot
from polyreach_description.policy_search import find_policy


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_demo_ends_with_the_result_and_a_plot(tmp_path: Path) -> None:
    done = run_process("demo", "humanoid27", "--goal-sets", "2")
    assert done.returncode == 0, done.stdout + done.stderr
    last = done.stdout.strip().splitlines()[-1]
    assert re.fullmatch(
        r"reached 4/4 goals, median error [\d.]+ mm, control period p50/p99 [\d.]+/[\d.]+ ms", last
    )
    assert (tmp_path / "runs" / "demo-humanoid27.png").read_bytes().startswith(b"\x89PNG")


def test_demo_prints_its_result_as_json_and_fails_when_goals_are_missed() -> None:
    done = run_process("demo", "--goal-sets", "1", "--seconds", "0.2", "--json")
    assert done.returncode == 1, done.stdout + done.stderr
    result = json.loads(done.stdout)
    assert result["reached"] < result["goals"] == 3


def test_demo_refuses_a_wrong_policy_in_one_line() -> None:
    policy = str(find_policy("planar8"))
    done = run("demo", "humanoid27", "--policy", policy)
    assert done.returncode == 2
    assert "'robot': found planar8, expected humanoid27" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_goal_is_sent_and_reached(
    shared_simulation: SharedController,
    probe: Probe,
    planar8: Robot,
    ros_domain_id: int,
) -> None:
    shared_simulation.reset({"policy": str(find_policy("planar8"))})
    target = planar8.forward_kinematics(planar8.home + 0.3)[1]
    words = [f"{value:.4f}" for value in target]
    done = run_process("goal", "middle", *words, "--wait", "20")
    assert done.returncode == 0, done.stderr
    assert probe.value("goal/left") == "" and float(probe.value("error/middle")) <= 0.02
    done = run_process("goal", "nose", *words)
    assert done.returncode == 1
    assert "unknown effector 'nose'" in done.stderr and "left, middle, right" in done.stderr
