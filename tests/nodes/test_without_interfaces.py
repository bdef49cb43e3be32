"""Nodes without polyreach_interfaces: only the action server needs it."""

import os
import signal
import subprocess
import sys
from pathlib import Path

from scenarios import Probe

from polyreach_description import Robot

WITHOUT = """
import importlib, sys
sys.modules["polyreach_interfaces"] = None  # the interpreter finds no such package
module = importlib.import_module("polyreach_nodes." + sys.argv.pop(1))
sys.exit(module.main())
"""


def without_interfaces(*words: str) -> list[str]:
    return [sys.executable, "-c", WITHOUT, *words]


def test_without_the_interfaces_the_error_names_the_build_command(ros_domain_id: int) -> None:
    done = subprocess.run(
        without_interfaces("reach_node"), capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 1
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert "polyreach_interfaces is not built" in line and "make interfaces" in line


def test_without_the_interfaces_all_other_nodes_run(
    probe: Probe, planar8: Robot, policy_file: Path, ros_domain_id: int
) -> None:
    goal = [f"{value:.4f}" for value in planar8.forward_kinematics(planar8.home + 0.2)[0]]
    environment = {**os.environ, "ROS_DOMAIN_ID": str(ros_domain_id)}
    parameters = ["-p", f"policy:={policy_file}", "-p", "autostart:=true"]
    nodes = [
        subprocess.Popen(without_interfaces(*words), env=environment)
        for words in (
            ("sim_node", "--ros-args", "-r", "commands:=polyreach_controller/commands"),
            ("controller_node", "--ros-args", *parameters),
        )
    ]
    try:
        probe.wait_state("IDLE")
        sent = subprocess.run(
            without_interfaces("goal_node", "left", *goal, "--wait", "20"),
            capture_output=True,
            text=True,
            env=environment,
            timeout=60,
            check=False,
        )
        assert sent.returncode == 0, sent.stderr
        for node in nodes:
            node.send_signal(signal.SIGINT)
            assert node.wait(timeout=20) == 0
    finally:
        for node in nodes:
            if node.poll() is None:
                node.kill()
                node.wait()
