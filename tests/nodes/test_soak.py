"""Nodes that run for a long time: memory and control periods stay constant.

The soak takes 3 minutes in `make test-all`; POLYREACH_SOAK_MINUTES=20 takes as many.
"""

import gc
import os
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic, sleep

import numpy as np
import pytest
import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rig import Launcher, Process
from scenarios import Probe, reachable_goals

from polyreach_nodes.ros.spin import StopRequest, spin

MINUTES = float(os.environ.get("POLYREACH_SOAK_MINUTES", "3"))
WARM_UP_S = 60.0  # caches, discovery, and the statistics of the diagnostics fill up
GOAL_S = 2.0  # between two goal sets
SPINS = 3000
MAX_SLOPE = 0.5  # [MB per minute]; 3 to 6.5 with a callback left behind at every spin
PAGE_MB = os.sysconf("SC_PAGE_SIZE") / 2**20


class _Stop(StopRequest):
    """Set from within, without any handler of signals."""

    def __init__(self) -> None:
        self.spins = 0

    def is_set(self) -> bool:
        self.spins += 1
        return self.spins > SPINS


def test_spinning_leaves_no_thread_or_handle(
    ros_domain_id: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = Context()
    rclpy.init(context=context, domain_id=ros_domain_id)
    monkeypatch.setattr(rclpy, "ok", context.ok)
    node = Node("soak", context=context)
    node.create_timer(1e-4, lambda: None)
    executor = SingleThreadedExecutor(context=context)
    executor.add_node(node)
    try:
        spin(executor, node, _Stop())
        gc.collect()
        before = len(gc.get_objects())
        spin(executor, node, _Stop())
        gc.collect()
        assert len(gc.get_objects()) - before < 0.01 * SPINS
    finally:
        executor.shutdown()
        node.destroy_node()
        context.try_shutdown()


@dataclass
class Memory:
    """Resident memory of a process over time."""

    process: Process
    seconds: list[float] = field(default_factory=list)
    megabytes: list[float] = field(default_factory=list)

    def sample(self) -> None:
        pages = Path(f"/proc/{self.process.popen.pid}/statm").read_text().split()[1]
        self.seconds.append(monotonic())
        self.megabytes.append(int(pages) * PAGE_MB)

    def slope(self) -> float:
        """Median over all pairs of samples a minute or more apart [MB per minute] (Theil-Sen)."""
        seconds, megabytes = np.array(self.seconds), np.array(self.megabytes)
        apart = seconds[None] - seconds[:, None]
        pairs = apart >= min(60.0, 0.5 * (seconds[-1] - seconds[0]))
        grown = megabytes[None] - megabytes[:, None]
        return float(np.median(60.0 * grown[pairs] / apart[pairs]))


@pytest.mark.soak
def test_memory_and_control_periods_stay_constant(
    start: Launcher, probe: Probe, capsys: pytest.CaptureFixture[str]
) -> None:
    commands = "commands:=polyreach_controller/commands"
    memories = {
        "simulator": Memory(start("sim_node", {"robot": "planar8"}, "-r", commands)),
        "controller": Memory(start("controller_node", {"autostart": True})),
    }
    longest_ms: list[float] = []

    def on_diagnostics(message: DiagnosticArray) -> None:
        values = {pair.key: pair.value for status in message.status for pair in status.values}
        if "loop period max [ms]" in values:
            longest_ms.append(float(values["loop period max [ms]"]))

    probe.node.create_subscription(DiagnosticArray, "/diagnostics", on_diagnostics, 10)
    probe.wait_goals_subscribed()
    probe.wait_state("IDLE")
    goal_sets = reachable_goals(probe.robot, 0, 20)
    start_s = monotonic()
    end_s = start_s + WARM_UP_S + 60.0 * MINUTES
    while (now_s := monotonic()) < end_s:
        goals = goal_sets[int((now_s - start_s) / GOAL_S) % len(goal_sets)]
        for effector, position in goals.items():
            probe.send_goal(effector, position)
        sleep(GOAL_S)
        probe.commands[:-10], probe.statuses[:-10] = [], []
        if now_s - start_s > WARM_UP_S:
            for memory in memories.values():
                memory.sample()
    # the statistics hold the last minute (3000 periods of 20 ms)
    first, last = longest_ms[60], longest_ms[-1]
    slopes = {name: memory.slope() for name, memory in memories.items()}
    with capsys.disabled():
        text = ", ".join(f"{name} {slope:+.3f}" for name, slope in slopes.items())
        print(
            f"\nsoak of {MINUTES:g} min: memory {text} MB/min; longest control period "
            f"{first:.1f} ms in the first minute, {last:.1f} ms in the last"
        )
    assert max(slopes.values()) < MAX_SLOPE, slopes
    assert last < first + 60.0, "pauses of the garbage collector grow with what is left behind"
