"""Joint jog without ROS: through all limits, until a timeout, and never beside the policy."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from polyreach_description import Robot
from polyreach_nodes.control.clearance import Clearance
from polyreach_nodes.control.policy import Policy
from polyreach_nodes.control.reach_control import ReachControl
from polyreach_nodes.control.watchdog import State

TOLERANCE = 0.002  # [m] of the stop distance


class Bench:
    """A controller at home without goals, with joints that track their commands exactly."""

    def __init__(self, robot: Robot, policy: Policy) -> None:
        self.robot, self.control = robot, ReachControl(robot, policy)
        self.control.activate()
        self.joint_pos, self.now_s = robot.home.copy(), 100.0
        self.commands: list[np.ndarray] = []

    def jog(self, **joint_vel: float) -> str:
        return self.control.jog_joints(list(joint_vel), list(joint_vel.values()), self.now_s)

    def run(self, periods: int = 1, states: bool = True) -> np.ndarray:
        for _ in range(periods):
            self.now_s += self.control.period_s
            if states:
                names = list(self.robot.joint_names)
                self.control.receive(names, self.joint_pos.tolist(), self.now_s)
            self.commands.append(self.control.tick(self.now_s))
            self.joint_pos = self.joint_pos + self.control.period_s * self.commands[-1]
        return self.commands[-1]


@pytest.fixture
def bench(planar8: Robot, policy: Policy) -> Bench:
    bench = Bench(planar8, policy)
    bench.run()
    return bench


def test_a_jog_moves_the_named_joints_within_acceleration_limits(bench: Bench) -> None:
    first, third = bench.robot.joint_names[0], bench.robot.joint_names[2]
    for _ in range(20):
        assert bench.jog(**{third: -0.3, first: 0.2}) == ""
        bench.run()
    assert bench.commands[-1] == pytest.approx([0.2, 0.0, -0.3, 0.0, 0.0, 0.0, 0.0, 0.0])
    changes = np.diff(bench.commands, axis=0)
    assert (abs(changes) <= bench.robot.joint_acc_limits * bench.control.period_s + 1e-9).all()


def test_joints_stop_after_the_timeout(bench: Bench) -> None:
    bench.jog(**{bench.robot.joint_names[0]: 0.2})
    assert bench.run(9)[0] == pytest.approx(0.2)
    assert not bench.run(12).any()


def test_a_fast_jog_is_scaled(bench: Bench) -> None:
    first, last = bench.robot.joint_names[0], bench.robot.joint_names[-1]
    limit = float(bench.robot.joint_vel_limits[0])
    assert bench.jog(**{first: 4 * limit, last: 0.4}) == ""
    assert bench.control.jog.note.startswith(f"joint jog scaled to 25 %: '{first}' at")
    wanted = bench.control.jog.joint_vel(False, bench.now_s)
    assert wanted is not None
    assert wanted[[0, -1]] == pytest.approx([limit, 0.1])


def test_a_jog_is_rejected_while_there_are_goals_and_ended_by_one(bench: Bench) -> None:
    first = bench.robot.joint_names[0]
    bench.jog(**{first: 0.2})
    bench.run(3)
    goal = bench.robot.forward_kinematics(bench.joint_pos)[0]
    bench.control.goals.set("left", "", tuple(goal), bench.now_s)
    bench.run()
    bench.control.goals.clear_all()
    assert bench.control.jog.joint_vel(False, bench.now_s) is None
    bench.control.goals.set("left", "", tuple(goal), bench.now_s)
    reason = "joint jog rejected: there are goals: call ~/clear_goals first"
    assert bench.jog(**{first: 0.2}) == reason
    assert bench.control.jog.note == reason


@pytest.mark.parametrize(
    ("names", "joint_vel", "reason"),
    [
        ([], [], "0 names and 0 velocities"),
        (["a"], [], "1 names and 0 velocities"),
        (["x"] * 100_000, [0.0] * 100_000, "100000 names and 100000 velocities"),
        (["elbow"], [0.1], "unknown joint 'elbow' (robot 'planar8' has: "),
        (["y" * 1000], [0.1], f"unknown joint '{100 * 'y'}' (robot"),
    ],
)
def test_illegal_jogs_are_rejected(
    bench: Bench, names: list[str], joint_vel: list[float], reason: str
) -> None:
    bench.jog(**{bench.robot.joint_names[0]: 0.2})
    found = bench.control.jog_joints(names, joint_vel, bench.now_s)
    assert found.startswith(f"joint jog rejected: {reason}")
    assert not bench.run().any()


def test_illegal_values_are_named(bench: Bench) -> None:
    first = bench.robot.joint_names[0]
    assert f"velocity of '{first}' is nan, but must be finite" in bench.jog(**{first: math.nan})
    assert "named twice" in bench.control.jog_joints([first, first], [0.0, 0.0], bench.now_s)


def test_a_jog_does_not_move_a_halted_robot(bench: Bench) -> None:
    bench.control.watchdog.halted = True
    bench.jog(**{bench.robot.joint_names[0]: 0.2})
    assert not bench.run(5).any()


def test_after_an_outage_a_jog_waits_for_resume(bench: Bench) -> None:
    bench.control.watchdog.outage_timeout_s = 0.5
    first = bench.robot.joint_names[0]
    bench.jog(**{first: 0.2})
    assert bench.run(2).any()
    assert not bench.run(30, states=False).any()
    bench.jog(**{first: 0.2})
    assert not bench.run(2).any()
    assert bench.control.state(bench.now_s) is State.FAULT
    bench.control.resume()
    bench.jog(**{first: 0.2})
    assert bench.run(2).any()


speeds = st.lists(st.floats(-1e308, 1e308), min_size=8, max_size=8)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(speeds, st.integers(1, 30)), min_size=1, max_size=5))
def test_limits_and_distances_hold_for_any_jog(
    planar8: Robot, policy: Policy, jogs: list[tuple[list[float], int]]
) -> None:
    bench = Bench(planar8, policy)
    bench.run()
    low, high = planar8.joint_pos_limits.T
    clearance, still = Clearance(planar8, 3.0), np.zeros(8)

    def nearest() -> float:
        return min(apart for _, apart, _ in clearance.approaches(bench.joint_pos, still))

    least = min(planar8.stop_distance - TOLERANCE, nearest())
    for joint_vel, periods in jogs:
        for _ in range(periods):
            bench.control.jog_joints(planar8.joint_names, joint_vel, bench.now_s)
            command = bench.run()
            assert (abs(command) <= planar8.joint_vel_limits + 1e-9).all()
            assert ((low <= bench.joint_pos) & (bench.joint_pos <= high)).all()
            assert nearest() >= least
    assert bench.control.watchdog.fault == ""
