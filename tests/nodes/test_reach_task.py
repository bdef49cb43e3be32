"""The state machine of a reach action, with a minimal fake controller."""

import math
from collections.abc import Sequence
from dataclasses import replace

import pytest

from polyreach_nodes.client.reach_request import ReachRequest
from polyreach_nodes.client.reach_task import (
    GONE_S,
    PAUSE_S,
    RELEASE_TIMEOUT_S,
    START_TIMEOUT_S,
    Outcome,
    Phase,
    ReachTask,
)
from polyreach_nodes.client.status import ControllerStatus, EffectorStatus, Point, Quaternion

STEP_S = 0.1
LEFT, RIGHT = (0.5, 0.25, 0.0), (0.5, -0.25, 0.0)
AT = (0.4, 0.1, 0.0)  # of an effector that is held
TURNED = (0.6, 0.0, 0.0, 0.8)  # counts for effectors whose goals have an orientation


class FakeController:
    """Accepts goals, and requests to clear them and to hold effectors, when the test allows an
    answer. What it holds ends with the last goal that was set, as in the controller.
    """

    def __init__(self) -> None:
        self.controller = "arm"
        self.effectors: tuple[str, ...] = ("left", "right")
        self.goal_kinds: dict[str, str] = {}
        self.base_frame = "base"
        self.frames: tuple[str, ...] = ("hand",)
        self.takes_tf = False
        self.status = ControllerStatus()
        self.sent: list[tuple[str, Point]] = []
        self.orientations: dict[str, Quaternion | None] = {}
        self.given_frames: dict[str, str] = {}
        self.frames_sent: dict[str, tuple[str, int | None]] = {}
        self.cleared: list[str] = []
        self.connected, self.publishes_status = True, True
        self.state = "ACTIVE"
        self.error = 1.0
        self.angle_deg = 0.0
        self.goal_timeout_s = 0.0
        self.goals: dict[str, Point] = {}
        self.rejected_effector = ""
        self.held: set[str] = set()
        self.holds = 0  # requests to hold
        self.hold_refusal = ""
        self.refuses_to_hold = False
        self._holding = False
        self._received = dict.fromkeys(self.effectors, 0)
        self._queue: list[tuple[str, Point]] = []
        self._clearing: set[str] = set()

    def is_connected(self, effector: str) -> bool:
        return self.connected

    def send_goal(
        self,
        effector: str,
        position: Sequence[float],
        frame: str,
        orientation: Quaternion | None = None,
        stamp_ns: int | None = None,
    ) -> None:
        self.frames_sent[effector] = frame, stamp_ns
        self.orientations[effector] = orientation
        self.sent.append((effector, tuple(position)))
        self._queue.append((effector, tuple(position)))

    def clear_goal(self, effector: str) -> None:
        self.cleared.append(effector)
        self._clearing.add(effector)

    def is_clearing(self, effector: str) -> bool:
        return effector in self._clearing

    def can_hold(self) -> bool:
        return self.connected

    def hold(self) -> None:
        self.holds += 1
        self._holding = True

    def is_holding(self) -> bool:
        return self._holding

    def clear(self, effector: str) -> None:
        """Clear a goal; with the last one that is no hold, all others."""
        was_set = bool(self.goals.keys() - self.held)
        self.goals.pop(effector, None)
        self.held.discard(effector)
        if was_set and not self.goals.keys() - self.held:
            self.goals.clear()
            self.held.clear()

    def answer(self, now_s: float) -> None:
        """Do what was requested, services first as they may overtake topics; publish a status."""
        for effector in self._clearing:
            self.clear(effector)
        self._clearing.clear()
        if self._holding:
            self._holding = False
            self.hold_refusal = "hold refused: a reason" if self.refuses_to_hold else ""
            free = set(self.effectors) - self.goals.keys()
            for effector in () if self.refuses_to_hold else free:
                self.goals[effector] = AT
                self.held.add(effector)
                self.orientations[effector] = None
                self.given_frames[effector] = ""
        for effector, position in self._queue:
            self._received[effector] += 1
            self.given_frames[effector] = self.frames_sent[effector][0]
            if not self.rejected_effector:
                self.goals[effector] = position
                self.held.discard(effector)
        self._queue.clear()
        if not self.publishes_status:
            return
        self.status = ControllerStatus(
            state=self.state,
            message=f"{self.state}: a reason",
            rejected=f"goal of '{self.rejected_effector}' rejected: too far",
            rejected_effector=self.rejected_effector,
            effectors={
                name: self._effector(name, received) for name, received in self._received.items()
            },
            goal_timeout_s=self.goal_timeout_s,
            received_s=now_s,
        )

    def _effector(self, name: str, received: int) -> EffectorStatus:
        """In another frame than the base frame, the goal is somewhere else in the base frame."""
        goal, turned = self.goals.get(name), self.orientations.get(name)
        frame = "" if goal is None else self.given_frames[name].replace(self.base_frame, "")
        return EffectorStatus(
            goal=(7.0, 8.0, 9.0) if frame else goal,
            error=None if goal is None else self.error,
            goals_received=received,
            goal_orientation=None if goal is None else turned,
            angle_deg=self.angle_deg if turned else None,
            frame=frame,
            goal_in_frame=(goal, turned) if frame else None,
            held=name in self.held,
        )


class Bench:
    """A controller, tasks and the time."""

    def __init__(self) -> None:
        self.now_s = 100.0
        self.arm = FakeController()
        self.arm.answer(self.now_s)

    def task(
        self,
        *effectors: str,
        timeout_s: float = 30.0,
        settle_s: float = 0.25,
        frame: str = "base",
        stamp_ns: int = 0,
        hold: bool = False,
        begin: bool = True,
    ) -> ReachTask:
        positions = tuple({"left": LEFT, "right": RIGHT}[name] for name in effectors)
        frames = (frame,) * len(effectors)
        turns = (TURNED,) * len(effectors)
        stamps = (stamp_ns,) * len(effectors)
        request = ReachRequest(
            effectors, frames, positions, turns, 0.02, 0.05, timeout_s, stamps, hold
        )
        task = ReachTask(self.arm, request, settle_s, self.now_s)
        if begin:
            task.begin(self.now_s)
        return task

    def run(self, task: ReachTask, seconds: float, answer: bool = True) -> None:
        for _ in range(round(seconds / STEP_S)):
            self.now_s += STEP_S
            if answer:
                self.arm.answer(self.now_s)
            task.step(self.now_s)


@pytest.fixture
def bench() -> Bench:
    return Bench()


def reaching(bench: Bench, *effectors: str) -> ReachTask:
    task = bench.task(*effectors)
    bench.run(task, 0.3)
    assert task.phase is Phase.REACHING
    return task


def test_succeeds_only_after_it_has_settled(bench: Bench) -> None:
    task = reaching(bench, "left", "right")
    assert bench.arm.sent == [("left", LEFT), ("right", RIGHT)]
    assert task.errors == [1.0, 1.0] and task.reached == [False, False]
    bench.arm.error = 0.02
    bench.run(task, 0.2)
    bench.arm.error = 0.021
    bench.run(task, 0.1)
    bench.arm.error = 0.01
    bench.run(task, 0.3)
    assert task.running and task.reached == [True, True]
    bench.run(task, 0.1)
    assert task.done and task.outcome is Outcome.SUCCEEDED
    assert bench.arm.cleared == [] and set(bench.arm.goals) == {"left", "right"}


def test_goals_are_sent_again_before_they_expire(bench: Bench) -> None:
    bench.arm.goal_timeout_s = 1.0
    task = reaching(bench, "left", "right")
    bench.run(task, 3.0)
    assert task.phase is Phase.REACHING
    # every 0.4 s, seen at steps of 0.1 s
    assert bench.arm.sent.count(("left", LEFT)) in (6, 7, 8)
    assert bench.arm.sent.count(("left", LEFT)) == bench.arm.sent.count(("right", RIGHT))
    # what others sent is not overwritten
    sent = len(bench.arm.sent)
    bench.arm.goals["left"] = RIGHT
    bench.run(task, 0.1)
    assert task.outcome is Outcome.ABORTED and "replaced by" in task.message
    bench.run(task, 2.0)
    assert len(bench.arm.sent) == sent and bench.arm.goals == {"left": RIGHT}


def test_a_refreshed_goal_on_its_way_is_awaited_before_it_is_cleared(bench: Bench) -> None:
    bench.arm.goal_timeout_s = 1.0
    task = reaching(bench, "left")
    while bench.arm.sent.count(("left", LEFT)) < 2:
        bench.run(task, STEP_S)
    task.end(Outcome.CANCELED, "canceled", bench.now_s)
    bench.run(task, STEP_S, answer=False)
    assert bench.arm.cleared == []
    bench.run(task, 0.3)
    assert bench.arm.cleared == ["left"] and task.done and not bench.arm.goals


def test_errors_of_an_old_status_do_not_settle(bench: Bench) -> None:
    task = reaching(bench, "left")
    bench.arm.error = 0.01
    bench.run(task, 0.1)
    bench.run(task, 0.8, answer=False)
    assert task.running
    bench.run(task, 0.1)
    assert task.outcome is Outcome.SUCCEEDED


def test_cancel_before_the_goal_arrived_waits_for_it_to_clear_it(bench: Bench) -> None:
    task = bench.task("left")
    task.step(bench.now_s)
    assert bench.arm.sent and not bench.arm.goals
    task.end(Outcome.CANCELED, "stop", bench.now_s)
    task.step(bench.now_s)
    assert bench.arm.cleared == [] and not task.done
    bench.run(task, 0.3)
    assert task.done and task.outcome is Outcome.CANCELED
    assert bench.arm.cleared == ["left"] and bench.arm.goals == {}


def test_a_goal_that_never_arrived_needs_no_clearing(bench: Bench) -> None:
    task = bench.task("left")
    task.step(bench.now_s)
    bench.arm._queue.clear()
    task.end(Outcome.CANCELED, "stop", bench.now_s)
    bench.run(task, GONE_S - STEP_S)
    assert not task.done
    bench.run(task, 2 * STEP_S)
    assert task.done and bench.arm.cleared == []


def test_goals_of_other_clients_are_not_cleared(bench: Bench) -> None:
    task = reaching(bench, "left", "right")
    bench.arm.goals["left"] = (0.1, 0.0, 0.0)
    bench.run(task, 0.3)
    assert task.outcome is Outcome.ABORTED
    assert task.message.startswith("goal of 'left' was replaced by (0.1, 0, 0) by others")
    assert task.done and bench.arm.cleared == ["right"]
    assert bench.arm.goals == {"left": (0.1, 0.0, 0.0)}


def test_a_newer_task_preempts_and_clears_the_goals_it_took_over(bench: Bench) -> None:
    old = reaching(bench, "left", "right")
    new = bench.task("right", begin=False)
    new.begin(bench.now_s, old)
    assert (old.outcome, old.message) == (Outcome.ABORTED, "preempted by a newer goal")
    new.end(Outcome.CANCELED, "stop", bench.now_s)  # before it could send its own goal
    for _ in range(3):
        bench.run(old, STEP_S)
        new.step(bench.now_s)
    assert old.done and new.done
    assert sorted(bench.arm.cleared) == ["left", "right"] and bench.arm.goals == {}
    assert len(bench.arm.sent) == 2


def test_a_task_waits_until_others_have_cleared_its_effectors(bench: Bench) -> None:
    task = bench.task("left")
    task.step(bench.now_s, blocked=True)
    assert bench.arm.sent == []
    bench.arm.clear_goal("left")
    task.step(bench.now_s)
    assert bench.arm.sent == []
    bench.run(task, 0.1)
    assert bench.arm.sent == [("left", LEFT)]


def test_a_rejected_goal_ends_it(bench: Bench) -> None:
    task = bench.task("left", "right")
    bench.arm.rejected_effector = "right"
    bench.run(task, 0.3)
    assert task.outcome is Outcome.ABORTED and task.done
    assert task.message == "goal of 'right' rejected: too far"


def test_an_old_rejection_does_not_end_it(bench: Bench) -> None:
    bench.arm.rejected_effector = "left"
    bench.run(bench.task("right"), 0.1)
    task = bench.task("left")
    task.step(bench.now_s)
    bench.run(task, 0.1, answer=False)
    assert task.running


@pytest.mark.parametrize("state", ["HALTED", "FAULT", "INACTIVE", "UNCONFIGURED", "FINALIZED"])
def test_a_controller_that_does_not_move_ends_it_at_once(bench: Bench, state: str) -> None:
    task = reaching(bench, "left")
    bench.arm.state = state
    bench.run(task, STEP_S)
    assert task.message == f"controller 'arm' does not move: {state}: a reason"
    bench.run(task, 0.2)
    assert task.done and bench.arm.goals == {}


@pytest.mark.parametrize("state", ["STALE", "WAITING"])
def test_a_short_pause_does_not_end_a_motion_and_a_long_one_does(bench: Bench, state: str) -> None:
    task = reaching(bench, "left")
    for _ in range(3):
        bench.arm.state = state
        bench.run(task, PAUSE_S - STEP_S)
        bench.arm.state = "ACTIVE"
        bench.run(task, STEP_S)
    assert task.running
    bench.arm.state = state
    bench.run(task, PAUSE_S + 2 * STEP_S)
    assert task.message == f"controller 'arm' does not move: {state}: a reason"


def test_nothing_settles_during_a_pause(bench: Bench) -> None:
    task = reaching(bench, "left")
    bench.arm.state, bench.arm.error = "STALE", 0.01
    bench.run(task, PAUSE_S - STEP_S)
    assert task.running


def test_a_controller_that_is_gone_ends_it_without_a_confirmation(bench: Bench) -> None:
    task = reaching(bench, "left")
    bench.arm.connected = bench.arm.publishes_status = False
    bench.run(task, GONE_S + 2 * STEP_S)
    assert task.message == "controller 'arm' is gone: no status for 1 s"
    bench.arm.clear_goal = lambda effector: None  # type: ignore[method-assign]
    bench.run(task, RELEASE_TIMEOUT_S + STEP_S)
    assert task.done
    assert task.message.endswith("did not confirm that it cleared the goal of 'left'")


@pytest.mark.parametrize(
    ("known", "reason"),
    [
        (True, "controller 'arm' did not take the goal of 'left', 'right' in 5 s"),
        (False, "no controller 'arm' in 5 s"),
    ],
)
def test_a_controller_that_does_not_answer_ends_it(bench: Bench, known: bool, reason: str) -> None:
    bench.arm.connected = False
    if not known:
        bench.arm.effectors, bench.arm.status = (), ControllerStatus()
        bench.arm.publishes_status = False
    task = bench.task("left", "right")
    bench.run(task, START_TIMEOUT_S - STEP_S)
    assert task.running
    bench.run(task, 3 * STEP_S)
    assert task.message == reason and task.done


def test_a_timeout_names_the_distances(bench: Bench) -> None:
    task = bench.task("left", timeout_s=0.5)
    bench.run(task, 0.9)
    assert task.message == "not reached in 0.5 s: 'left' is 1000 mm away (ACTIVE: a reason)"
    assert task.done and bench.arm.goals == {}
    assert task.elapsed_s(bench.now_s + 5.0) == pytest.approx(0.6)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({}, ""),
        ({"frames": ("",)}, ""),
        ({"effectors": ("nose",)}, "unknown effector 'nose' (controller 'arm' has: left, right)"),
        ({"effectors": ("left", "left")}, "2 effectors, but 1 poses"),
        (
            {"frames": ("camera",)},
            "frame of 'left' is 'camera', but must be 'base' or empty, or of the robot: hand",
        ),
        ({"frames": ("hand",)}, ""),
        ({"positions": ((0.0, 0.0, math.nan),)}, "position of 'left' is (0, 0, nan)"),
        ({"tolerance": math.inf}, "tolerance is inf"),
        ({"timeout_s": math.nan}, "timeout is nan"),
    ],
)
def test_requests_are_checked(bench: Bench, changes: dict, reason: str) -> None:
    request = replace(
        ReachRequest(("left",), ("base",), (LEFT,), (TURNED,), 0.02, 0.05, 30.0), **changes
    )
    fault = request.fault(bench.arm)
    assert fault.startswith(reason) and bool(fault) == bool(reason)


def test_frames_of_tf_are_left_to_the_controller(bench: Bench) -> None:
    bench.arm.takes_tf = True
    request = ReachRequest(("left",), ("camera",), (LEFT,), (TURNED,), 0.02, 0.05, 30.0)
    assert request.fault(bench.arm) == ""


def test_a_goal_in_a_frame_is_known_by_what_was_given(bench: Bench) -> None:
    task = bench.task("left", frame="hand", stamp_ns=7)
    bench.run(task, 0.5)
    assert bench.arm.frames_sent == {"left": ("hand", 7)}
    assert task.phase is Phase.REACHING and len(bench.arm.sent) == 1
    bench.arm.error = 0.01
    bench.run(task, 0.5)
    assert task.outcome is Outcome.SUCCEEDED
    task = bench.task("left", frame="hand")
    bench.arm.error = 1.0
    bench.run(task, 0.5)
    bench.arm.given_frames["left"] = "base"  # the same numbers in another frame
    bench.run(task, 2 * STEP_S)
    assert "was replaced by (0.5, 0.25, 0) by others" in task.message
    task = bench.task("left")
    bench.run(task, 0.5)
    assert bench.arm.frames_sent == {"left": ("base", None)}
    bench.arm.given_frames["left"] = "hand"
    bench.run(task, 2 * STEP_S)
    assert "was replaced by (0.5, 0.25, 0) in frame 'hand' by others" in task.message


def test_an_effector_of_positions_has_no_orientation_and_no_angle() -> None:
    bench = Bench()
    task = bench.task("left")
    bench.run(task, 0.5)
    assert bench.arm.orientations == {"left": None}
    assert task.angle_errors == [0.0]


def test_a_pose_is_reached_when_distance_and_angle_are_small() -> None:
    bench = Bench()
    bench.arm.goal_kinds = {"left": "pose", "right": "position"}
    task = bench.task("left", "right")
    bench.arm.error, bench.arm.angle_deg = 0.01, 3.0
    bench.run(task, 1.0)
    assert bench.arm.orientations == {"left": TURNED, "right": None}
    assert task.phase is Phase.REACHING
    assert task.reached == [False, True]
    assert task.angle_errors == pytest.approx([math.radians(3.0), 0.0])
    bench.arm.angle_deg = 2.8  # 0.05 rad are 2.86 degrees
    bench.run(task, 0.5)
    assert task.outcome is Outcome.SUCCEEDED


def test_a_pose_that_is_not_reached_is_reported_in_degrees() -> None:
    bench = Bench()
    bench.arm.goal_kinds = {"left": "axis"}
    bench.arm.error, bench.arm.angle_deg = 0.012, 3.14
    task = bench.task("left", timeout_s=0.5)
    bench.run(task, 1.0)
    assert task.message == "not reached in 0.5 s: 'left' is 12 mm, 3.1 deg away (ACTIVE: a reason)"


def test_a_pose_with_another_orientation_is_another_goal() -> None:
    bench = Bench()
    bench.arm.goal_kinds = {"left": "pose"}
    task = bench.task("left")
    bench.run(task, 0.5)
    bench.arm.orientations["left"] = (0.0, 0.0, 0.0, 1.0)
    bench.run(task, 0.5)
    assert task.message.startswith(
        "goal of 'left' was replaced by (0.5, 0.25, 0) with orientation (0, 0, 0, 1) by others"
    )
    assert "left" in bench.arm.goals, "the goal of others stays"


def test_an_orientation_that_is_no_rotation_is_refused_with_its_norm() -> None:
    arm = FakeController()
    request = ReachRequest(("left",), ("base",), (LEFT,), ((0.0, 0.0, 0.0, 0.0),), 0.02, 0.05, 9.0)
    assert request.fault(arm) == ""
    arm.goal_kinds = {"left": "pose"}
    assert "goal of 'left': orientation (0, 0, 0, 0) has norm 0," in request.fault(arm)
