"""Reactions of clients to a controller that reports no progress."""

import pytest
from test_reach_task import Bench, reaching

from polyreach_nodes.client.reach_task import Outcome


@pytest.mark.parametrize("state", ["BLOCKED", "OSCILLATING"])
def test_a_reach_task_aborts_with_the_reason(state: str) -> None:
    bench = Bench()
    task = reaching(bench, "left", "right")
    bench.arm.state = state
    bench.run(task, 0.1)
    assert task.outcome is Outcome.ABORTED
    assert task.message == f"'left' is 1000 mm away, 'right' is 1000 mm away ({state}: a reason)"
    bench.run(task, 0.3)
    assert task.done and bench.arm.goals == {}


@pytest.mark.parametrize("state", ["BLOCKED", "OSCILLATING"])
def test_stuck_goals_of_other_clients_do_not_end_the_task(state: str) -> None:
    """The task's own goals are within the tolerance, and settle."""
    bench = Bench()
    task = reaching(bench, "left")
    bench.arm.state, bench.arm.error = state, 0.01
    bench.run(task, 0.4)
    assert task.outcome is Outcome.SUCCEEDED


@pytest.mark.parametrize("state", ["BLOCKED", "OSCILLATING"])
def test_a_task_starts_although_older_goals_are_stuck(state: str) -> None:
    bench = Bench()
    bench.arm.state = state
    bench.arm.answer(bench.now_s)
    task = bench.task("left")
    task.step(bench.now_s)
    assert task.running and bench.arm.sent
    bench.arm.state = "ACTIVE"
    bench.run(task, 0.5)
    assert task.running
