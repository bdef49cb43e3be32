"""Nodes and the demo after their terminal was closed."""

import socket
import subprocess
import sys
from pathlib import Path
from time import monotonic, sleep
from urllib.request import urlopen

import pytest
from command_line import run_unread

from polyreach_description.closed_output import CLOSED_OUTPUT

pytestmark = pytest.mark.fault
BIN = Path(sys.executable).parent


@pytest.mark.parametrize("options", [["--json"], []], ids=["json", "live"])
def test_the_demo_ends_quietly_with_a_closed_pipe(
    options: list[str], closed_pipe: int, tmp_path: Path
) -> None:
    words = ["demo", "--goal-sets", "1", "--picture", tmp_path / "a.png", *options]
    ended = run_unread([BIN / "polyreach", *words], closed_pipe, timeout_s=120.0)
    assert (ended.returncode, ended.stderr) == (CLOSED_OUTPUT, "")


def test_polyreach_goal_ends_quietly_with_a_closed_pipe(closed_pipe: int) -> None:
    ended = run_unread([BIN / "goal_node", "--help"], closed_pipe)
    assert (ended.returncode, ended.stderr) == (CLOSED_OUTPUT, "")


def test_the_page_keeps_running_without_its_terminal(closed_pipe: int, ros_domain_id: int) -> None:
    pytest.importorskip("viser")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    page = subprocess.Popen(
        [BIN / "view_node", "--ros-args", "-p", f"port:={port}"],
        stdout=closed_pipe,
        stderr=closed_pipe,
    )
    try:
        deadline = monotonic() + 60
        while not is_served(port):
            assert page.poll() is None and monotonic() < deadline
            sleep(0.1)
        sleep(1.0)  # the address is printed as soon as the page can be had
        assert page.poll() is None and is_served(port)
    finally:
        page.terminate()
    assert page.wait(timeout=20) == 0


def is_served(port: int) -> bool:
    try:
        return urlopen(f"http://127.0.0.1:{port}", timeout=5).status == 200
    except OSError:
        return False
