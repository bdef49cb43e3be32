"""Long outages of the joint states, without ROS: motion waits for ~/resume."""

import numpy as np
import pytest

from polyreach_description import Robot
from polyreach_nodes.control.policy import Policy
from polyreach_nodes.control.reach_control import ReachControl
from polyreach_nodes.control.watchdog import State

STEP_S = 0.01  # between two joint states
OUTAGE_S = 0.5


class Bench:
    """A controller moving to goals, with joints that track their commands exactly."""

    def __init__(self, robot: Robot, policy: Policy) -> None:
        self.control = ReachControl(robot, policy)
        self.control.watchdog.outage_timeout_s = OUTAGE_S
        self.control.activate()
        self.joint_pos = robot.home.copy()
        self.now_s = 100.0
        self.give_goals()

    def give_goals(self, offset: float = 0.5) -> None:
        robot = self.control.robot
        goals = robot.forward_kinematics(self.joint_pos + offset)
        for effector, goal in zip(robot.effector_names, goals, strict=True):
            assert self.control.goals.set(effector, "", tuple(goal), self.now_s) == ""

    def run(self, seconds: float, states: bool = True) -> float:
        """Go on for a time, with joint states or without; greatest commanded speed [rad/s]."""
        greatest = 0.0
        for _ in range(round(seconds / STEP_S)):
            self.now_s += STEP_S
            if states:
                names = list(self.control.robot.joint_names)
                self.control.receive(names, self.joint_pos.tolist(), self.now_s)
            command = self.control.tick(self.now_s)
            self.joint_pos = self.joint_pos + STEP_S * command
            greatest = max(greatest, float(np.abs(command).max()))
        return greatest

    @property
    def state(self) -> State:
        return self.control.state(self.now_s)


@pytest.fixture
def bench(planar8: Robot, policy: Policy) -> Bench:
    bench = Bench(planar8, policy)
    assert bench.run(0.1) > 0.1
    return bench


def test_motion_continues_after_a_short_outage(bench: Bench) -> None:
    bench.run(0.5 * OUTAGE_S, states=False)
    assert bench.state is State.STALE
    assert bench.run(0.2) > 0.1


@pytest.mark.parametrize("outage_s", [0.6, 10.0, 60.0])
@pytest.mark.parametrize("periods", [True, False], ids=["awake", "the process was stopped"])
def test_motion_waits_for_resume_after_a_long_outage(
    bench: Bench, outage_s: float, periods: bool
) -> None:
    if periods:
        bench.run(outage_s, states=False)
        assert bench.state is State.FAULT, "reported before joint states come again"
    else:
        bench.now_s += outage_s
    bench.joint_pos = bench.joint_pos + 0.05
    assert bench.run(1.0) == 0.0
    assert bench.state is State.FAULT
    assert "no valid joint state for more than 0.5 s" in bench.control.reason(bench.now_s)
    bench.control.resume()
    assert bench.run(0.5) == 0.0, "goals from before are dropped"
    assert bench.state is State.IDLE
    bench.give_goals()
    assert bench.run(0.2) > 0.1


def test_goals_are_kept_where_that_is_asked_for(bench: Bench) -> None:
    bench.control.keep_goals = True
    bench.run(1.0, states=False)
    assert bench.run(0.2) == 0.0
    bench.control.resume()
    assert bench.run(0.2) > 0.1


def test_resume_during_an_outage_lets_the_next_joint_state_start_motion(bench: Bench) -> None:
    bench.run(1.0, states=False)
    bench.control.resume()
    assert bench.run(1.0, states=False) == 0.0
    assert bench.state is State.WAITING
    bench.give_goals()
    assert bench.run(0.2) > 0.1


def test_one_missing_joint_is_an_outage(bench: Bench) -> None:
    names = list(bench.control.robot.joint_names)[1:]
    for _ in range(100):
        bench.now_s += STEP_S
        bench.control.receive(names, bench.joint_pos[1:].tolist(), bench.now_s)
        bench.control.tick(bench.now_s)
    assert bench.state is State.FAULT


def test_joint_states_refused_for_long_are_an_outage(bench: Bench) -> None:
    names = list(bench.control.robot.joint_names)
    for _ in range(100):
        bench.now_s += STEP_S
        bench.control.receive(names, [np.nan] * len(names), bench.now_s)
        bench.control.tick(bench.now_s)
    assert bench.state is State.FAULT
    assert bench.run(0.2) == 0.0


def test_any_outage_may_end_by_itself_if_so_configured(bench: Bench) -> None:
    bench.control.watchdog.outage_timeout_s = 0.0
    bench.run(10.0, states=False)
    assert bench.run(0.2) > 0.1


def test_a_robot_that_starts_late_is_no_outage(planar8: Robot, policy: Policy) -> None:
    bench = Bench(planar8, policy)
    bench.run(10.0, states=False)
    assert bench.state is State.WAITING
    assert bench.run(0.2) > 0.1


def test_an_outage_before_the_first_goal_does_not_latch(planar8: Robot, policy: Policy) -> None:
    bench = Bench(planar8, policy)
    bench.control.activate()
    bench.run(0.1)
    bench.run(1.0, states=False)
    bench.run(0.1)
    assert bench.state is State.IDLE
    bench.give_goals()
    assert bench.run(0.2) > 0.1
    bench.control.goals.clear_all()
    bench.run(1.0, states=False)
    assert bench.state is State.FAULT


def test_an_age_limit_above_the_outage_timeout_wins(bench: Bench) -> None:
    """As for a simulator at a hundredth of real time."""
    bench.control.watchdog.timeout_s = 1.0
    rest, bench.now_s = bench.joint_pos, bench.now_s + 0.9
    assert bench.run(0.05) > 0.1
    bench.joint_pos, bench.now_s = rest, bench.now_s + 1.1
    assert bench.run(0.05) == 0.0
    assert "for more than 1 s" in bench.control.reason(bench.now_s)
