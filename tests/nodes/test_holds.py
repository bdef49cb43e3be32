"""Effectors without a goal that are held while others move."""

from functools import cache

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_goal_twists import PERIOD_S, Rig
from visualization_msgs.msg import Marker

from polyreach_description import Robot, load_robot
from polyreach_description.policy_search import find_policy
from polyreach_nodes.client.status import decode, encode
from polyreach_nodes.control.policy import Policy
from polyreach_nodes.control.reach_control import ReachControl
from polyreach_nodes.parameters import ControllerParameters
from polyreach_nodes.ros.markers import markers
from polyreach_nodes.ros.reports import controller_status

LEFT, MIDDLE, RIGHT = range(3)


@cache
def planar_arm() -> Robot:
    return load_robot("planar8")


@pytest.fixture
def planar(planar8: Robot) -> Rig:
    return Rig(planar8)


@pytest.fixture(scope="module")
def shipped(planar8: Robot) -> Policy:
    return Policy.load(find_policy("planar8"), planar8)


@pytest.fixture
def control(planar8: Robot, shipped: Policy) -> ReachControl:
    control = ReachControl(planar8, shipped)
    control.configure(ControllerParameters())
    control.activate()
    return control


def give(rig: Rig, effector: int, offset: float = 0.05) -> None:
    name = rig.robot.effector_names[effector]
    goal = rig.effector_pos[effector] + [offset, 0.0, 0.0]
    assert rig.goals.set(name, "", tuple(goal), rig.now_s) == ""


def test_effectors_without_a_goal_are_held_at_their_poses() -> None:
    rig = Rig(load_robot("dual7"))
    give(rig, 0)
    before = rig.goals.positions[0].copy()
    assert rig.goals.hold(rig.joint_pos, rig.now_s) == [rig.robot.effector_names[1]]
    assert rig.goals.held == {1} and rig.goals.had_any
    assert rig.goals.active.tolist() == rig.goals.oriented.tolist() == [1.0, 1.0]
    assert (rig.goals.positions[0] == before).all()
    assert (rig.goals.positions[1] == rig.effector_pos[1]).all()
    assert (rig.goals.orientations[1] == rig.orientations[1]).all()
    distances, angles = rig.goals.errors(rig.joint_pos)
    assert distances[1] == 0.0 and angles[1] == pytest.approx(0.0, abs=1e-6)
    rig.step()
    assert (rig.goals.targets[1] == rig.effector_pos[1]).all(), "a hold is no goal that moves"
    assert rig.goals.hold(rig.joint_pos, rig.now_s) == [], "all have goals"


def test_a_goal_for_an_effector_that_is_held_replaces_the_hold(planar: Rig) -> None:
    give(planar, LEFT)
    planar.goals.hold(planar.joint_pos, planar.now_s)
    assert "more than 100 m" in planar.goals.set("right", "", (200.0, 0.0, 0.0), planar.now_s)
    assert planar.goals.held == {MIDDLE, RIGHT}, "a rejected goal replaces nothing"
    give(planar, RIGHT)
    assert planar.goals.held == {MIDDLE}
    planar.send(MIDDLE, (0.1, 0.0, 0.0))
    planar.step()
    assert planar.goals.held == set(), "a twist moves it"
    planar.goals.clear("left")
    planar.goals.clear("right")
    assert planar.goals.active.tolist() == [0.0, 1.0, 0.0]


def test_holds_end_with_the_last_goal_that_was_set(planar: Rig) -> None:
    give(planar, LEFT)
    planar.goals.hold(planar.joint_pos, planar.now_s)
    give(planar, LEFT, 0.1)
    planar.goals.clear("middle")
    assert planar.goals.active.tolist() == [1.0, 0.0, 1.0], "one hold is cleared alone"
    give(planar, MIDDLE)
    planar.goals.clear("left")
    assert planar.goals.active.tolist() == [0.0, 1.0, 1.0]
    planar.goals.clear("middle")
    assert not planar.goals.any_active and planar.goals.held == set()


def test_holds_expire_with_the_goals_and_alone_after_the_same_time(planar: Rig) -> None:
    planar.goals.timeout_s = 1.0
    planar.goals.hold(planar.joint_pos, 100.0)
    planar.now_s = 100.9
    give(planar, MIDDLE)
    planar.goals.expire(101.8)
    assert planar.goals.held == {LEFT, RIGHT}, "older than its timeout, but there is a goal"
    planar.goals.expire(102.0)
    assert not planar.goals.any_active and "'middle' expired after 1 s" in planar.goals.expiry
    planar.goals.hold(planar.joint_pos, 103.0)
    planar.goals.expire(103.9)
    assert len(planar.goals.held) == 3
    planar.goals.expire(104.1)
    assert not planar.goals.any_active and planar.goals.held == set()


def test_an_effector_outside_of_the_workspace_is_not_held_and_neither_are_others(
    planar: Rig,
) -> None:
    x = planar.effector_pos[RIGHT, 0]
    planar.proximity.set_workspace([-1.0, -5.0, -1.0, x - 0.01, 5.0, 1.0])
    with pytest.raises(ValueError, match=r"'\w+' cannot be held: position is .* the workspace is"):
        planar.goals.hold(planar.joint_pos, planar.now_s)
    assert not planar.goals.any_active and planar.goals.held == set()


def test_a_goal_may_follow_an_effector_that_is_held(control: ReachControl) -> None:
    robot, goals = control.robot, control.goals
    control.receive(list(robot.joint_names), robot.home.tolist(), 100.0)
    goal = ("left", "right", (0.1, 0.0, 0.0), 100.0)
    assert "moves with 'right', which has no goal" in goals.set(*goal)
    control.hold(100.0)
    assert goals.set(*goal) == "" and goals.held == {MIDDLE, RIGHT}


class Model:
    """What becomes of goals and holds, effector by effector."""

    def __init__(self) -> None:
        self.kinds = ["none"] * 3

    def clear(self, *effectors: int) -> None:
        for effector in effectors:
            was, self.kinds[effector] = self.kinds[effector], "none"
            if was == "set" and "set" not in self.kinds:
                self.kinds = ["none"] * 3

    def hold(self) -> None:
        self.kinds = ["held" if kind == "none" else kind for kind in self.kinds]


EVENTS = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(["set", "reject", "clear", "twist"]), st.integers(0, 2)),
        st.tuples(st.sampled_from(["hold", "clear all", "forget", "refuse hold"]), st.just(0)),
    ),
    max_size=30,
)


@given(EVENTS)
def test_goals_and_holds_follow_the_rules_in_any_order(events: list[tuple[str, int]]) -> None:
    rig, model = Rig(planar_arm()), Model()
    names = rig.robot.effector_names
    wide = rig.proximity.workspace.ravel().tolist()
    for event, effector in events:
        was_held, held_at = set(rig.goals.held), rig.goals.positions.copy()
        if event == "set":
            give(rig, effector)
            model.kinds[effector] = "set"
        elif event == "reject":
            assert rig.goals.set(names[effector], "", (np.nan, 0.0, 0.0), rig.now_s)
        elif event == "clear":
            rig.goals.clear(names[effector])
            model.clear(effector)
        elif event == "twist":
            rig.send(effector, (0.1, 0.0, 0.0))
            rig.step()
            rig.twists.forget(effector)
            model.kinds[effector] = "set"
        elif event == "hold":
            rig.goals.hold(rig.joint_pos, rig.now_s)
            model.hold()
        elif event == "refuse hold":
            rig.proximity.set_workspace([5.0, 5.0, 5.0, 6.0, 6.0, 6.0])
            if "none" in model.kinds:
                with pytest.raises(ValueError, match="cannot be held"):
                    rig.goals.hold(rig.joint_pos, rig.now_s)
            rig.proximity.set_workspace(wide)
        else:
            rig.goals.clear_all() if event == "clear all" else rig.goals.forget()
            model.clear(0, 1, 2)
        active = [kind != "none" for kind in model.kinds]
        assert (rig.goals.active > 0).tolist() == active
        assert rig.goals.any_active == any(active)
        assert rig.goals.held == {i for i, kind in enumerate(model.kinds) if kind == "held"}
        assert rig.goals.any_set == ("set" in model.kinds)
        for held in was_held & rig.goals.held:
            assert (rig.goals.positions[held] == held_at[held]).all(), "it stays where it was"


def test_nothing_is_held_without_a_valid_joint_state(control: ReachControl) -> None:
    names, home = list(control.robot.joint_names), control.robot.home.tolist()
    with pytest.raises(ValueError, match=r"no valid joint state \(WAITING: no joint state yet\)"):
        control.hold(100.0)
    control.receive(names, home, 100.0)
    with pytest.raises(ValueError, match=r"no valid joint state \(STALE: joint state is older"):
        control.hold(100.0 + 10 * PERIOD_S)
    control.receive(names, [np.nan] * len(names), 101.0)
    with pytest.raises(ValueError, match="no valid joint state"):
        control.hold(101.0)
    assert not control.goals.any_active
    control.activate()
    control.receive(names, home, 102.0)
    assert control.hold(102.0) == list(control.robot.effector_names)
    control.activate()
    assert not control.goals.any_active and control.goals.held == set(), "at rest without goals"


def test_an_outage_drops_holds_like_goals(control: ReachControl) -> None:
    names, home = list(control.robot.joint_names), control.robot.home.tolist()
    control.receive(names, home, 100.0)
    control.hold(100.0)
    control.tick(102.0, 0.02)
    assert control.watchdog.fault and not control.goals.any_active
    assert control.goals.held == set()


def test_holds_are_in_the_status_and_in_the_markers(control: ReachControl) -> None:
    robot = control.robot
    control.receive(list(robot.joint_names), robot.home.tolist(), 100.0)
    control.goals.set("left", "", tuple(robot.forward_kinematics(robot.home)[LEFT]), 100.0)
    control.hold(100.0)
    status = decode(encode(controller_status(control, "ACTIVE", "", has_valid_state=True)))
    assert [status.effector(name).held for name in robot.effector_names] == [False, True, True]
    assert status.effector("right").error == pytest.approx(0.0, abs=1e-9)
    texts = {m.id: m.text for m in markers(control).markers if m.ns == "errors"}
    assert texts == {LEFT: "0 mm", MIDDLE: "held: 0 mm", RIGHT: "held: 0 mm"}
    control.goals.clear("left")
    status = controller_status(control, "IDLE", "", has_valid_state=True)
    assert not any(status.effector(name).held for name in robot.effector_names)
    deleted = [m.ns for m in markers(control).markers if m.action == Marker.DELETE]
    assert deleted.count("errors") == 3


def displacement(control: ReachControl, hold: bool) -> tuple[np.ndarray, float]:
    """How far each effector is from its start 5 s after `left` got a goal [m], and its error."""
    robot, period_s = control.robot, control.period_s
    names, joint_pos = list(robot.joint_names), robot.home + 0.3
    start = robot.forward_kinematics(joint_pos)
    goal = start[LEFT] + [-0.1, 0.05, 0.0]
    for tick in range(250):
        now_s = 100.0 + tick * period_s
        control.receive(names, joint_pos.tolist(), now_s)
        if tick == 0:
            if hold:
                assert control.hold(now_s) == list(robot.effector_names)
            assert control.goals.set("left", "", tuple(goal), now_s) == ""
        joint_pos = joint_pos + period_s * control.tick(now_s, period_s)
    assert not control.watchdog.fault
    end = robot.forward_kinematics(joint_pos)
    return np.linalg.norm(end - start, axis=-1), float(np.linalg.norm(end[LEFT] - goal))


def test_the_shipped_policy_brings_an_effector_to_its_goal_and_the_others_back(
    control: ReachControl,
) -> None:
    free, error = displacement(control, hold=False)
    assert error < 0.01
    assert free[[MIDDLE, RIGHT]].max() > 0.05, "it moves joints that all share"
    control.activate()
    held, error = displacement(control, hold=True)
    assert error < 0.01
    assert held[[MIDDLE, RIGHT]].max() < 0.005
