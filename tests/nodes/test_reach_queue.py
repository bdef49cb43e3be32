"""Reach tasks that wait for each other and hold effectors, with a minimal fake controller."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_reach_task import AT, LEFT, RIGHT, STEP_S, Bench

from polyreach_nodes.client.reach_queue import NOT_BEGUN, ReachQueue
from polyreach_nodes.client.reach_task import START_TIMEOUT_S, Outcome, Phase, ReachTask

PREEMPTED = "preempted by a newer goal"


class Line:
    """A bench with a queue."""

    def __init__(self) -> None:
        self.bench = Bench()
        self.arm = self.bench.arm
        self.queue = ReachQueue(self.arm)

    def add(self, *effectors: str, queued: bool = True, **settings: object) -> ReachTask:
        task = self.bench.task(*effectors, begin=False, **settings)  # type: ignore[arg-type]
        self.queue.add(task, queued, self.bench.now_s)
        return task

    def run(self, seconds: float = 0.5) -> None:
        for _ in range(round(seconds / STEP_S)):
            self.bench.now_s += STEP_S
            self.arm.answer(self.bench.now_s)
            self.queue.step(self.bench.now_s)

    def reach(self, task: ReachTask) -> None:
        """Let the goals of a task be reached."""
        self.arm.error = 0.0
        self.run(0.1)
        while task.running:
            self.run(0.1)
        assert task.outcome is Outcome.SUCCEEDED
        self.arm.error = 1.0


@pytest.fixture
def line() -> Line:
    return Line()


def test_a_queued_task_begins_when_the_one_before_is_reached(line: Line) -> None:
    first, second, third = line.add("left"), line.add("right"), line.add("left")
    line.run(20.0)
    assert line.queue.running is first and second.phase is third.phase is Phase.QUEUED
    assert line.arm.sent == [("left", LEFT)]
    line.reach(first)
    line.run()
    assert line.queue.running is second and third.phase is Phase.QUEUED
    assert second.elapsed_s(line.bench.now_s) < 1.5, "its time counts from its begin"
    assert line.arm.goals == {"left": LEFT, "right": RIGHT}, "a goal that was reached stays"
    line.reach(second)
    line.reach(third)
    assert line.queue.running is None and line.arm.cleared == []


def test_a_queued_task_begins_at_once_if_there_is_none_before(line: Line) -> None:
    first = line.add("left")
    line.run()
    assert first.phase is Phase.REACHING
    line.reach(first)
    line.run(30.0)
    second = line.add("right")
    line.run()
    assert second.phase is Phase.REACHING


@pytest.mark.parametrize("how", ["cancel", "halt", "timeout", "replaced", "cleared", "rejected"])
def test_what_waits_ends_with_the_one_before_and_later_ones_do_not_begin(
    line: Line, how: str
) -> None:
    first = line.add("left", timeout_s=2.0)
    second, third = line.add("right"), line.add("left")
    line.arm.rejected_effector = "left" if how == "rejected" else ""
    line.run()
    if how == "cancel":
        first.end(Outcome.CANCELED, "canceled by the client", line.bench.now_s)
    elif how == "halt":
        line.arm.state = "HALTED"
    elif how == "timeout":
        line.run(2.0)
    elif how == "replaced":
        line.arm.goals["left"] = (0.1, 0.0, 0.0)
    elif how == "cleared":
        line.arm.clear("left")
    line.run(1.0)
    assert first.done and first.outcome is not Outcome.SUCCEEDED
    for task in (second, third):
        assert (task.done, task.outcome) == (True, Outcome.ABORTED)
        assert task.message == f"{NOT_BEGUN}{first.message}"
    line.arm.state, line.arm.rejected_effector = "ACTIVE", ""
    late = line.add("right")  # its client does not know yet
    line.run(1.0)
    assert late.message == f"{NOT_BEGUN}{first.message}"
    assert ("right", RIGHT) not in line.arm.sent, "nothing moved"
    new = line.add("right", queued=False)
    line.run()
    assert new.phase is Phase.REACHING


def test_a_task_that_waits_is_canceled_with_those_behind_it(line: Line) -> None:
    first, second, third = line.add("left"), line.add("right"), line.add("left")
    line.run()
    second.end(Outcome.CANCELED, "canceled by the client", line.bench.now_s)
    line.run()
    assert second.done and second.outcome is Outcome.CANCELED
    assert third.message == f"{NOT_BEGUN}canceled by the client"
    assert line.queue.running is first
    line.reach(first)
    line.run(5.0)
    assert line.arm.sent == [("left", LEFT)]


def test_a_task_that_is_not_queued_preempts_all(line: Line) -> None:
    tasks = [line.add("left"), line.add("right"), line.add("left")]
    line.run()
    new = line.add("right", queued=False)
    behind = line.add("left")
    line.run()
    assert [task.message for task in tasks] == [PREEMPTED] * 3 and all(t.done for t in tasks)
    assert line.queue.running is new and behind.phase is Phase.QUEUED
    assert line.arm.goals == {"right": RIGHT}


def test_an_invalid_task_ends_at_once_and_only_those_behind_it(line: Line) -> None:
    first, second = line.add("left"), line.add("right")
    line.run()
    for queued in (True, False):
        bad = line.add("left", frame="camera", queued=queued)
        assert bad.outcome is Outcome.ABORTED and "frame of 'left' is 'camera'" in bad.message
        behind = line.add("left")
        line.run()
        assert behind.message == f"{NOT_BEGUN}{bad.message}"
    assert line.queue.running is first and second.phase is Phase.QUEUED
    line.reach(first)
    line.run()
    assert line.queue.running is second


def test_others_are_held_before_the_goals_are_sent(line: Line) -> None:
    task = line.add("left", hold=True)
    line.queue.step(line.bench.now_s)
    assert line.arm.holds == 1 and line.arm.sent == []
    line.run()
    assert task.phase is Phase.REACHING and line.arm.holds == 1
    assert line.arm.goals == {"left": LEFT, "right": AT} and line.arm.held == {"right"}
    line.reach(task)
    assert line.arm.held == {"right"}, "as the goal stays"


def test_nothing_is_held_where_all_others_have_goals(line: Line) -> None:
    line.arm.goals["right"] = RIGHT
    line.arm.given_frames["right"], line.arm.goals["left"] = "", LEFT
    line.arm.given_frames["left"] = ""
    line.arm.answer(line.bench.now_s)
    task = line.add("left", hold=True)
    line.run()
    assert task.phase is Phase.REACHING and line.arm.holds == 0
    task.end(Outcome.CANCELED, "canceled", line.bench.now_s)
    line.run()
    assert line.arm.goals == {"right": RIGHT}


@pytest.mark.parametrize("after_s", [0.0, 0.1, 0.2, 0.5])
def test_a_canceled_task_releases_what_it_holds(line: Line, after_s: float) -> None:
    task = line.add("left", hold=True)
    line.queue.step(line.bench.now_s)
    line.run(after_s)
    task.end(Outcome.CANCELED, "canceled", line.bench.now_s)
    line.queue.step(line.bench.now_s)
    line.run(1.0)
    assert task.done and line.arm.goals == {} and line.arm.held == set()


def test_a_goal_for_an_effector_that_is_held_stays_when_the_task_ends(line: Line) -> None:
    task = line.add("left", hold=True)
    line.run()
    line.arm.goals["right"] = RIGHT
    line.arm.held.clear()
    task.end(Outcome.CANCELED, "canceled", line.bench.now_s)
    line.run(1.0)
    assert line.arm.goals == {"right": RIGHT}


def test_holds_of_others_stay_when_the_task_ends(line: Line) -> None:
    line.arm.effectors = ("left", "right")
    line.arm.hold()
    line.arm.answer(line.bench.now_s)
    line.arm.goals["left"], line.arm.held = LEFT, {"right"}
    line.arm.answer(line.bench.now_s)
    task = line.add("left", hold=True)
    line.run()
    assert line.arm.holds == 1, "the one of another client"
    line.arm.goals["left"], line.arm.held = (0.1, 0.0, 0.0), {"right"}
    line.run(1.0)
    assert "was replaced" in task.message and line.arm.held == {"right"}


def test_a_refused_hold_ends_the_task_before_it_moves(line: Line) -> None:
    line.arm.refuses_to_hold = True
    task, behind = line.add("left", hold=True), line.add("right")
    line.run(1.0)
    assert task.message == "hold refused: a reason" and task.done
    assert behind.message == f"{NOT_BEGUN}hold refused: a reason"
    assert line.arm.sent == [] and line.arm.goals == {}


def test_a_controller_that_cannot_hold_is_named(line: Line) -> None:
    line.arm.can_hold = lambda: False  # type: ignore[method-assign]
    task = line.add("left", hold=True)
    line.run(START_TIMEOUT_S + 0.3)
    assert task.message == "controller 'arm' does not offer to hold effectors"
    assert line.arm.sent == []


@pytest.mark.parametrize("queued", [True, False])
@pytest.mark.parametrize("reached", [True, False])
@pytest.mark.parametrize("hold", [True, False])
def test_the_next_task_keeps_or_releases_what_the_last_one_holds(
    line: Line, queued: bool, reached: bool, hold: bool
) -> None:
    first = line.add("left", hold=True)
    line.run()
    if reached:
        line.reach(first)
    new = line.add("left", queued=queued, hold=hold)
    line.run()
    if queued and not reached:
        assert new.phase is Phase.QUEUED
        return
    line.run(1.0)
    assert new.phase is Phase.REACHING and first.done
    assert first.outcome is (Outcome.SUCCEEDED if reached else Outcome.ABORTED)
    assert line.arm.held == ({"right"} if hold else set())
    assert line.arm.holds == 1, "the same pose is held on"
    new.end(Outcome.CANCELED, "canceled", line.bench.now_s)
    line.run(1.0)
    assert line.arm.goals == {} and line.arm.held == set()


def test_a_hold_on_its_way_is_not_taken_for_that_of_the_next_task(line: Line) -> None:
    first = line.add("left", hold=True)
    line.queue.step(line.bench.now_s)
    new = line.add("left", hold=True, queued=False)
    line.queue.step(line.bench.now_s)
    line.run(2.0)
    assert first.message == PREEMPTED and first.done
    assert new.phase is Phase.REACHING
    assert line.arm.goals == {"left": LEFT, "right": AT} and line.arm.held == {"right"}


EVENTS = st.lists(
    st.one_of(
        st.tuples(
            st.just("add"),
            st.sampled_from([("left",), ("right",), ("left", "right"), ("nose",)]),
            st.booleans(),
            st.booleans(),
        ),
        st.tuples(st.just("cancel"), st.integers(0, 9)),
        st.tuples(st.sampled_from(["run", "reach", "halt", "clear", "refuse", "silence"])),
    ),
    max_size=14,
)


@given(EVENTS)
def test_whatever_happens_tasks_keep_their_order_and_nothing_moves_after_a_failure(
    events: list[tuple],
) -> None:
    line = Line()
    arm, tasks, before = line.arm, [], {}

    def begun() -> list[ReachTask]:
        return [task for task in tasks if task.phase in (Phase.STARTING, Phase.REACHING)]

    def check() -> None:
        assert len(begun()) <= 1 and begun() == ([line.queue.running] if begun() else [])
        for task, previous in before.items():
            if previous is not None and task.phase in (Phase.STARTING, Phase.REACHING):
                assert not previous.running and previous.outcome is Outcome.SUCCEEDED
        if not begun():
            count = len(arm.sent)
            line.run(0.3)
            assert begun() or len(arm.sent) == count, "nothing begins to move"

    for event, *details in events:
        if event == "add":
            effectors, queued, hold = details
            known = [name for name in effectors if name in arm.effectors]
            task = line.add(*known, queued=queued, hold=hold)  # without effectors: not valid
            before[task] = tasks[-1] if queued and tasks else None
            tasks.append(task)
        elif event == "cancel" and tasks:
            task = tasks[details[0] % len(tasks)]
            task.end(Outcome.CANCELED, "canceled", line.bench.now_s)
        elif event == "reach":
            arm.error = 0.0
            line.run(1.5)
            arm.error = 1.0
        elif event == "halt":
            arm.state = "HALTED"
            line.run(0.3)
            arm.state = "ACTIVE"
        elif event == "clear":
            for effector in arm.effectors:
                arm.clear(effector)
        elif event == "refuse":
            arm.refuses_to_hold = not arm.refuses_to_hold
        elif event == "silence":
            arm.publishes_status = False
            line.run(1.3)
            arm.publishes_status = True
        line.run(0.2)
        check()
    for task in tasks:
        task.end(Outcome.CANCELED, "the end", line.bench.now_s)
    line.run(4.0)
    assert all(task.done for task in tasks) and line.queue.running is None
    succeeded = {name for t in tasks if t.outcome is Outcome.SUCCEEDED for name in t.moves}
    assert arm.goals.keys() <= succeeded, "only goals of those that were reached are left"
