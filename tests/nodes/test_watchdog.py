"""The state machine that decides whether the controller may move."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from polyreach_nodes.control.watchdog import State, Watchdog

ALL, NAMES = range(3), ("a", "b", "c")


def fresh(now_s: float = 10.0) -> Watchdog:
    dog = Watchdog(joints=3, timeout_s=0.03)
    dog.received(ALL, NAMES, now_s)
    return dog


def test_motion_waits_until_every_joint_state_has_arrived() -> None:
    dog = Watchdog(joints=3, timeout_s=0.03)
    assert dog.state(10.0, has_goal=True) is State.WAITING
    assert not dog.received([0, 2], ["a", "c"], 10.0)
    assert dog.state(10.0, has_goal=True) is State.WAITING
    assert dog.received([1], ["b"], 10.01)
    assert dog.state(10.01, has_goal=True) is State.ACTIVE
    assert dog.state(10.01, has_goal=False) is State.IDLE


def test_one_stale_joint_stops_the_robot() -> None:
    dog = fresh(10.0)
    assert not dog.received([0, 1], ["a", "b"], 10.029)
    assert dog.state(10.029, has_goal=True) is State.ACTIVE
    assert dog.state(10.031, has_goal=True) is State.STALE


@given(st.floats(0.0, 100.0))
def test_moves_only_within_the_timeout(age_s: float) -> None:
    expected = State.ACTIVE if age_s <= 0.03 else State.STALE
    assert Watchdog.state(fresh(0.0), age_s, has_goal=True) is expected


def test_a_clock_that_runs_backwards_stops_the_robot() -> None:
    assert fresh(10.0).state(9.9, has_goal=True) is State.STALE


def test_invalid_state_stops_until_a_valid_one() -> None:
    dog = fresh(10.0)
    dog.reject("nan")
    assert dog.state(10.0, has_goal=True) is State.STALE
    dog.received(ALL, NAMES, 10.01)
    assert dog.state(10.01, has_goal=True) is State.ACTIVE


def test_a_refused_joint_is_not_excused_by_messages_of_others() -> None:
    dog = fresh(10.0)
    dog.reject("'a' is nan", ["a", "b"])
    dog.received([2], ["c"], 10.005)
    assert dog.state(10.005, has_goal=True) is State.STALE and dog.invalid == "'a' is nan"
    dog.received([0], ["a"], 10.005)
    assert dog.state(10.005, has_goal=True) is State.STALE
    dog.received([1], ["b"], 10.006)
    assert dog.state(10.006, has_goal=True) is State.ACTIVE and dog.invalid == ""


@pytest.mark.parametrize("has_goal", [True, False])
def test_fault_outranks_halt_outranks_age(has_goal: bool) -> None:
    dog = fresh(10.0)
    dog.halted = True
    assert dog.state(99.0, has_goal) is State.HALTED
    dog.fault = "policy"
    assert dog.state(10.0, has_goal) is State.FAULT
    dog.received(ALL, NAMES, 10.0)
    assert dog.state(10.0, has_goal) is State.FAULT
    dog.fault = ""
    assert dog.state(10.0, has_goal) is State.HALTED


def test_forgetting_joint_states_keeps_the_halt() -> None:
    dog = fresh(10.0)
    dog.halted = True
    dog.forget()
    assert dog.state(10.0, has_goal=True) is State.HALTED
    dog.halted = False
    assert dog.state(10.0, has_goal=True) is State.WAITING


def test_a_refused_robot_stays_still_whatever_else_is_true() -> None:
    dog = fresh(10.0)
    dog.refused = "robot_description differs"
    assert dog.state(10.0, has_goal=True) is State.FAULT
    dog.halted = True
    assert dog.state(10.0, has_goal=True) is State.FAULT
    dog.refused = ""
    assert dog.state(10.0, has_goal=True) is State.HALTED


def test_motion_waits_for_what_is_awaited() -> None:
    dog = fresh(10.0)
    dog.awaited = "no robot_description yet"
    assert dog.state(10.0, has_goal=True) is State.WAITING
    dog.fault = "a fault counts more"
    assert dog.state(10.0, has_goal=True) is State.FAULT
    dog.awaited = dog.fault = ""
    assert dog.state(10.0, has_goal=True) is State.ACTIVE
