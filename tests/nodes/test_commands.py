"""`polyreach demo` and `polyreach goal` as typed on a terminal."""

import json
import re
import subprocess
import sys
from pathlib import Path

from rig import Launcher
from scenarios import Probe

from polyreach_description import Robot
from polyreach_nodes.policy import find_policy


def polyreach(*words: str, folder: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "polyreach.cli", *words]
    return subprocess.run(
        command, capture_output=True, text=True, cwd=folder, timeout=120, check=False
    )


def test_demo_ends_with_the_result_and_a_picture(tmp_path: Path) -> None:
    done = polyreach("demo", "humanoid27", "--goal-sets", "2", folder=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    last = done.stdout.strip().splitlines()[-1]
    assert re.fullmatch(
        r"reached 4/4 goals, median error [\d.]+ mm, control period p50/p99 [\d.]+/[\d.]+ ms", last
    )
    assert (tmp_path / "runs" / "demo-humanoid27.png").read_bytes().startswith(b"\x89PNG")


def test_demo_tells_its_result_as_json_and_fails_when_goals_are_missed(tmp_path: Path) -> None:
    done = polyreach("demo", "--goal-sets", "1", "--seconds", "0.2", "--json", folder=tmp_path)
    assert done.returncode == 1, done.stdout + done.stderr
    result = json.loads(done.stdout)
    assert result["reached"] < result["goals"] == 3


def test_demo_refuses_a_wrong_policy_in_one_line(tmp_path: Path) -> None:
    policy = str(find_policy("planar8"))
    done = polyreach("demo", "humanoid27", "--policy", policy, folder=tmp_path)
    assert done.returncode == 2
    assert "'robot': found planar8, expected humanoid27" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_goal_is_sent_and_reached(
    start: Launcher, probe: Probe, planar8: Robot, tmp_path: Path
) -> None:
    start("sim_node", {"robot": "planar8"}, "-r", "commands:=polyreach_controller/commands")
    start("controller_node", {"policy": str(find_policy("planar8")), "autostart": True})
    probe.wait_state("IDLE")
    target = planar8.forward_kinematics(planar8.home + 0.3)[1]
    words = [f"{value:.4f}" for value in target]
    done = polyreach("goal", "middle", *words, "--wait", "20", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert probe.value("goal/left") == "" and float(probe.value("error/middle")) <= 0.02
    done = polyreach("goal", "nose", *words, folder=tmp_path)
    assert done.returncode == 1
    assert "unknown effector 'nose'" in done.stderr and "left, middle, right" in done.stderr
