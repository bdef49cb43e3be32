"""The robot does not touch itself, nor leave its workspace, and is not slowed unnecessarily."""

from collections import deque
from pathlib import Path

import mujoco
import numpy as np
import pytest
from carts import CARTS, CARTS_YAML
from hostile import UNAWARE
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import ArrayLike

from polyreach_description import Robot, load_robot
from polyreach_description.policy_search import find_policy
from polyreach_nodes.control.policy import Policy
from polyreach_nodes.control.proximity import Proximity
from polyreach_nodes.control.reach_control import ReachControl
from polyreach_nodes.parameters import NO_WORKSPACE

SLOW, STOP = 0.05, 0.01  # [m]


@pytest.fixture(scope="module")
def close_carts(tmp_path_factory: pytest.TempPathFactory) -> Robot:
    """The same, with 4 mm between the two as their own stop distance."""
    folder = tmp_path_factory.mktemp("close_carts")
    (folder / "robot.xml").write_text(CARTS)
    (folder / "robot.yaml").write_text(
        CARTS_YAML + "no_collision: [[right_cart, left_cart, 0.004]]\n"
    )
    return load_robot(folder / "robot.yaml")


def least(proximity: Proximity, command: ArrayLike, joint_pos: ArrayLike) -> float:
    return float(proximity.factors(np.array(command), np.array(joint_pos)).min())


def factor(robot: Robot, command: list[float], joint_pos: list[float]) -> float:
    return least(Proximity(robot, SLOW, STOP), command, joint_pos)


def test_hand_arithmetic(carts: Robot) -> None:
    """h = 5 / 50 s, v / a = 0.5 / 5 s: 0.2 s ahead, 0.1 m; (0.06 - 0.01) / (0.04 + 0.1)."""
    proximity = Proximity(carts, SLOW, STOP)
    at = np.array([1.0 - 0.1 - 0.06, 0.0, 0.0])
    assert least(proximity, np.array([0.5, 0.0, 0.0]), at) == pytest.approx(0.05 / 0.14)
    assert proximity.reason == "'left_ball' and 'right_ball' are 60 mm apart"
    both = least(proximity, np.array([0.25, -0.25, 0.0]), at)  # 0.15 s ahead, 0.075 m
    assert both == pytest.approx(0.05 / (0.04 + 0.075))
    assert least(proximity, np.array([-0.5, 0.0, 0.0]), at) == 1.0
    assert proximity.reason == ""


@pytest.mark.parametrize(
    ("distance", "speed", "expected"),
    [
        (0.16, 0.5, 1.0),  # 0.1 m ahead leave 0.06 m
        (0.15 - 1e-6, 0.5, 1.0),  # 0.05 m is left
        (0.5, 2.0, 0.49 / 1.04),  # 0.5 s ahead the ball would be 1 m farther, through the other
        (0.01, 0.5, 0.0),
        (0.0, 0.01, 0.0),
        (-0.02, 0.5, 0.0),
        (-0.02, -0.5, 1.0),
    ],
)
def test_speed_falls_from_full_to_zero_with_distance(
    carts: Robot, distance: float, speed: float, expected: float
) -> None:
    found = factor(carts, [speed, 0.0, 0.0], [0.9 - distance, 0.0, 0.0])
    assert found == pytest.approx(expected, abs=1e-4)


def test_a_body_that_passes_in_front_is_detected(carts: Robot) -> None:
    """The right ball crosses the rail at 8 m/s: before and after, it is far from the left one."""
    assert factor(carts, [0.0, 0.0, 8.0], [0.9, 0.0, -1.0]) < 0.7
    assert factor(carts, [0.0, 0.0, 8.0], [0.6, 0.0, -1.0]) == 1.0


POST = """
<mujoco>
  <compiler angle="radian"/>
  <worldbody>
    <body name="post" pos="0.9 0 0">
      <geom name="post" type="cylinder" size="0.01 0.3"/>
    </body>
    <body name="base">
      <body name="arm">
        <joint name="turn" axis="0 0 1" range="-3 3"/>
        <geom name="rod" type="capsule" fromto="0.1 0 0 1 0 0" size="0.01" mass="1"/>
        <site name="tip" pos="1 0 0"/>
      </body>
    </body>
  </worldbody>
</mujoco>
"""
POST_YAML = """
name: turnstile
model: robot.xml
base_frame: base
control_rate: 50.0
effectors: {tip: {site: tip}}
joints: {turn: {velocity: 10.0, acceleration: 60.0}}
"""


@pytest.mark.parametrize("start", np.linspace(-1.5, -0.2, 14).tolist())
def test_a_fast_arm_does_not_pass_through_a_thin_post(tmp_path: Path, start: float) -> None:
    (tmp_path / "robot.xml").write_text(POST)
    (tmp_path / "robot.yaml").write_text(POST_YAML)
    robot = load_robot(tmp_path / "robot.yaml")
    proximity, top = Proximity(robot, robot.slow_distance, robot.stop_distance), np.array([10.0])
    change = robot.joint_acc_limits / robot.control_rate
    position, command, waiting = np.array([start]), np.zeros(1), deque([np.zeros(1)])
    for _ in range(150):
        wanted = np.minimum(command + change, top)
        command, _ = proximity.scale_command(wanted, command, position, change)
        waiting.append(command)
        position = position + waiting.popleft() / robot.control_rate
        assert position[0] < -0.02  # the rod and the post touch at 0.022 rad


def test_bodies_at_constant_distance_are_ignored(carts: Robot) -> None:
    """left_ball and left_shell always overlap."""
    assert factor(carts, [0.5, 0.0, 0.0], [0.0, 0.0, 0.0]) == 1.0


def test_motion_stops_at_the_walls_of_the_workspace(carts: Robot) -> None:
    """The left effector is at 0.1 m + q; 0.1 m ahead; room over width + approach."""
    proximity = Proximity(carts, SLOW, STOP)
    proximity.set_workspace([-1.0, -1.0, -1.0, 1.5, 1.0, 1.0])
    go = np.array([-0.5, 0.0, 0.0])
    assert least(proximity, go, np.array([-1.05, 0, 0])) == pytest.approx(0.05 / (0.04 + 0.1))
    assert proximity.reason == "'left' is at the workspace's x = -1 m"
    assert least(proximity, -go, np.array([-1.05, 0, 0])) == 1.0
    assert least(proximity, go, np.array([-1.1, 0, 0])) == 0.0
    assert least(proximity, go, np.array([-1.3, 0, 0])) == 0.0  # already outside
    assert least(proximity, -go, np.array([-1.3, 0, 0])) == 1.0
    proximity.set_workspace(NO_WORKSPACE)
    assert least(proximity, go, np.array([-1.1, 0, 0])) == 1.0


@settings(max_examples=300)
@given(
    arrays(np.float64, 3, elements=st.floats(-1.0, 1.0)),
    arrays(np.float64, 3, elements=st.floats(-1.0, 1.0)),
    st.floats(-0.03, 0.2),
    st.floats(0.0, 0.02),
)
def test_slowing_never_adds_speed_and_keeps_feasible_limits(
    carts: Robot, before: np.ndarray, share: np.ndarray, distance: float, elapsed_s: float
) -> None:
    proximity = Proximity(carts, SLOW, STOP)
    joint_pos = np.array([0.9 - distance, 0.0, 0.0])
    previous, change = before * carts.joint_vel_limits, carts.joint_acc_limits * elapsed_s
    command = previous + share * change
    slowed, used = proximity.scale_command(command, previous, joint_pos, change)
    assert 0.0 <= used <= 1.0
    assert (np.abs(slowed) <= np.maximum(np.abs(command), np.abs(previous)) + 1e-12).all()
    assert (slowed == command).all() or used < 1.0
    gentle = (np.abs(slowed - previous) <= change + 1e-12).all()
    assert gentle or slowed == pytest.approx(proximity.factors(command, joint_pos) * command)


def test_hand_arithmetic_of_a_pair_with_its_own_distance(close_carts: Robot) -> None:
    """As above, with a stop distance of 4 mm and a slow distance of 4 / 10 of 50 mm, 20 mm."""

    def factor_at(distance: float, proximity: Proximity, speed: float = 0.5) -> float:
        return least(proximity, [speed, 0.0, 0.0], [0.9 - distance, 0.0, 0.0])

    proximity = Proximity(close_carts, SLOW, STOP)
    assert factor_at(0.06, proximity) == pytest.approx((0.06 - 0.004) / (0.016 + 0.1))
    assert proximity.reason == "'left_ball' and 'right_ball' are 60 mm apart"
    assert factor_at(0.1 + 0.021, proximity) == 1.0 > factor_at(0.1 + 0.019, proximity)
    assert factor_at(0.004, proximity) == 0.0 < factor_at(0.005, proximity, 0.01)
    # a stop distance below that of the pair holds for it, too
    proximity.set_distances(0.005, 0.002)
    assert factor_at(0.002, proximity) == 0.0 < factor_at(0.003, proximity, 0.01)


@pytest.mark.parametrize(
    ("slow", "stop"),
    [(0.01, 0.01), (0.01, 0.02), (0.05, -0.01), (0.05, 0.0), (np.nan, 0.01), (np.inf, 0.01)],
)
def test_wrong_distances_are_named(carts: Robot, slow: float, stop: float) -> None:
    with pytest.raises(ValueError, match=f"collision_stop_distance is {stop:g} .* {slow:g}, but"):
        Proximity(carts, slow, stop)


@pytest.mark.parametrize(
    "box", [[], [0, 0, 0, 1, 1], [0, 0, 0, 1, 1, 0], [0, 0, 0, 1, np.nan, 1], [1, 0, 0, 0, 1, 1]]
)
def test_wrong_workspace_is_named(carts: Robot, box: list[float]) -> None:
    with pytest.raises(ValueError, match=r"workspace is \[.*six numbers"):
        Proximity(carts, SLOW, STOP, box)


class Loop:
    """Controller and simulated robot in one process, with a delay of commands in periods."""

    def __init__(self, robot: Robot, delay: int) -> None:
        self.robot = robot
        self.control = ReachControl(robot, Policy.load(find_policy(robot.name, UNAWARE), robot))
        self.model = robot.simulation_model()
        self.data = mujoco.MjData(self.model)
        self.steps = round(self.control.period_s / self.model.opt.timestep)
        self.delay = delay
        self.watched = mujoco.MjData(robot.model)

    def run(self, start: np.ndarray, goals: np.ndarray, seconds: float = 4.0) -> np.ndarray:
        """Commands (T, nu); `nearest` is then the least distance of the hands [m]."""
        robot, control, data = self.robot, self.control, self.data
        control.activate()
        mujoco.mj_resetData(self.model, data)
        data.qpos[:] = robot.qpos(start)
        for name, goal in zip(robot.effector_names, goals, strict=True):
            assert control.goals.set(name, "", tuple(goal.tolist()), 0.0) == ""
        waiting = deque([np.zeros(len(start))] * self.delay)
        commands, self.nearest, self.slowed, self.touched = [], np.inf, 0, False
        for period in range(round(seconds / control.period_s)):
            now_s = period * control.period_s
            control.receive(list(robot.joint_names), data.qpos[robot.qpos_adr], now_s)
            commands.append(control.tick(now_s))
            self.slowed += control.pipeline.slowed < 1.0
            waiting.append(commands[-1])
            data.ctrl[:] = robot.simulation_ctrl(waiting.popleft())
            mujoco.mj_step(self.model, data, self.steps)
            self.nearest = min(self.nearest, self._distance(data.qpos))
            self.touched |= bool(data.ncon)
        return np.array(commands)

    def _distance(self, qpos: np.ndarray) -> float:
        names = ("left_hand_geom", "right_hand_geom")
        if not all(mujoco.mj_name2id(self.robot.model, 5, name) >= 0 for name in names):
            return np.inf
        self.watched.qpos[:] = qpos
        mujoco.mj_kinematics(self.robot.model, self.watched)
        pair = [self.robot.model.geom(name).id for name in names]
        return mujoco.mj_geomDistance(self.robot.model, self.watched, *pair, 1.0, None)


CLASHES = [[0.3, 0.0, 0.25], [0.25, 0.05, 0.35], [0.35, -0.1, 0.45], [0.2, 0.0, 0.5]]  # [m]


@pytest.mark.parametrize("delay", [0, 1])
def test_hands_sent_to_one_point_stop_before_they_touch(delay: int) -> None:
    robot = load_robot("humanoid27")
    loop = Loop(robot, delay)
    for clash in CLASHES:
        goals = np.array([clash, clash])
        commands = loop.run(robot.home, goals)
        assert loop.control.pipeline.proximity.stop_distance - 0.002 < loop.nearest < 0.03, clash
        assert not loop.touched
        assert not np.abs(commands[-10:]).max() > 0.05  # they stand, or creep
        change = np.abs(np.diff(commands, axis=0)) / loop.control.period_s
        assert (change <= robot.joint_acc_limits + 1e-6).all()
        assert "mm apart" in loop.control.pipeline.slowed_reason
    without = Loop(robot, delay)
    without.control.pipeline.proximity.scale_command = lambda command, *_: (command, 1.0)
    without.run(robot.home, np.array([CLASHES[0]] * 2))
    assert without.touched


def test_branches_that_pass_over_one_another_are_not_slowed() -> None:
    robot = load_robot("planar8")
    loop = Loop(robot, delay=1)
    for start, end in robot.sample_configuration(np.random.default_rng(3), 20).reshape(10, 2, -1):
        loop.run(start, robot.forward_kinematics(end), seconds=2.0)
        assert loop.slowed == 0


def test_a_hand_stays_in_the_workspace() -> None:
    robot = load_robot("humanoid27")
    loop = Loop(robot, delay=1)
    start = robot.forward_kinematics(robot.home)
    box = np.array([start.min(axis=0) - 0.2, start.max(axis=0) + np.array([0.05, 0.2, 0.3])])
    loop.control.pipeline.proximity.set_workspace(box.ravel())
    outside = start + np.array([0.3, 0.0, 0.1])
    reason = loop.control.goals.set("left_hand", "", tuple(outside[0]), 0.0)
    assert "but the workspace is" in reason
    loop.control.pipeline.proximity.set_workspace(NO_WORKSPACE)
    free = run_and_track(loop, outside)
    assert (free.max(axis=(0, 1)) > box[1]).any()
    walled = run_and_track(loop, outside, box)
    assert (walled <= box[1] + 0.005).all()
    assert walled.max(axis=(0, 1))[0] > box[1, 0] - 0.03  # and it comes near


def run_and_track(loop: Loop, goals: np.ndarray, box: np.ndarray | None = None) -> np.ndarray:
    """Effector positions (T, E, 3); the box is set when the goals are."""
    robot, track = loop.robot, []
    receive = loop.control.receive

    def tracked(names: list[str], position: np.ndarray, now_s: float) -> object:
        if box is not None:
            loop.control.pipeline.proximity.set_workspace(box.ravel())
        track.append(robot.forward_kinematics(position))
        return receive(names, position, now_s)

    loop.control.receive = tracked
    loop.run(robot.home, goals)
    loop.control.receive = receive
    loop.control.pipeline.proximity.set_workspace(NO_WORKSPACE)
    return np.array(track)
