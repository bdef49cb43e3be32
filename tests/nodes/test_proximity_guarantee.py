"""No goal brings two bodies below the stop distance, and harmless joints keep moving."""

import shutil
from pathlib import Path

import hostile
import numpy as np
import pytest
from hostile import UNAWARE
from velocity_servos import VelocityServos

from polyreach_description import load_robot
from polyreach_description.policy_search import DEFAULT_METHOD, find_policy
from polyreach_description.robot import ROBOTS_DIR
from polyreach_nodes.control.clearance import Clearance
from polyreach_nodes.control.limits import JointLimits
from polyreach_nodes.control.policy import Policy
from polyreach_nodes.control.proximity import Proximity
from polyreach_nodes.control.reach_control import ReachControl
from polyreach_nodes.parameters import CommandInterface

TOLERANCE = 0.002  # [m], as for the hands in test_proximity
SECONDS = 3.0
FOREARMS, OWN_STOP = ("left_forearm", "right_forearm"), 0.005  # [m]
EXHAUSTIVE = 1000
CASES = {"planar8": 100, "humanoid27": 30}  # links of planar8 come near each other in few of them
SLOWED = {"planar8": 1, "humanoid27": 100}  # control periods at least, of all of these


def controller(
    name: str,
    method: str = UNAWARE,
    interface: CommandInterface = CommandInterface.VELOCITY,
) -> ReachControl:
    robot = load_robot(name)
    return ReachControl(robot, Policy.load(find_policy(name, method), robot), interface)


def check(
    name: str,
    seeds: range,
    method: str = UNAWARE,
    interface: CommandInterface = CommandInterface.VELOCITY,
) -> int:
    """Hostile goals for the policy of a method; the number of periods in which it was slowed."""
    control, slowed = controller(name, method, interface), 0
    for seed in seeds:
        rng = np.random.default_rng(seed)
        case = hostile.draw(control, rng)
        outcome = hostile.run(control, case, rng, SECONDS)
        assert outcome.room >= -TOLERANCE, (seed, case)
        slowed += outcome.slowed
    return slowed


@pytest.mark.parametrize("name", CASES)
def test_hostile_goals(name: str) -> None:
    assert check(name, range(CASES[name])) >= SLOWED[name]


@pytest.mark.parametrize("name", CASES)
def test_hostile_goals_of_the_default_policy(name: str) -> None:
    check(name, range(CASES[name]), DEFAULT_METHOD)


@pytest.mark.parametrize("name", CASES)
def test_hostile_goals_with_position_commands(name: str) -> None:
    assert check(name, range(CASES[name]), interface=CommandInterface.POSITION) >= SLOWED[name]


@pytest.mark.exhaustive
@pytest.mark.parametrize("name", CASES)
def test_a_thousand_hostile_goals_cause_no_collision(name: str) -> None:
    assert check(name, range(EXHAUSTIVE)) >= SLOWED[name]


def test_a_pair_with_its_own_distance_comes_nearer_but_not_below(tmp_path: Path) -> None:
    shutil.copytree(ROBOTS_DIR / "humanoid27", tmp_path / "robot")
    path = tmp_path / "robot" / "robot.yaml"
    path.write_text(path.read_text() + f"no_collision: [[{', '.join(FOREARMS)}, {OWN_STOP}]]\n")
    robot = load_robot(path)
    control = ReachControl(robot, Policy.load(find_policy("humanoid27", UNAWARE), robot))
    forearms, nearest = frozenset(robot.model.body(name).id for name in FOREARMS), np.inf
    for seed in range(CASES["humanoid27"]):
        rng = np.random.default_rng(seed)
        case = hostile.draw(control, rng)
        outcome = hostile.run(control, case, rng, SECONDS, forearms)
        assert outcome.room >= -TOLERANCE, (seed, case)
        nearest = min(nearest, outcome.nearest)
    assert OWN_STOP - TOLERANCE <= nearest < robot.stop_distance - TOLERANCE


def test_one_arm_is_held_and_the_other_reaches_its_goal() -> None:
    """The left hand is sent into the chest; the right hand gets a goal when the left is at rest."""
    control = controller("humanoid27")
    robot, proximity = control.robot, control.pipeline.proximity
    control.activate()
    servos = VelocityServos(robot.home, 0.02, 0.01)
    hands, late_s, end_s = robot.forward_kinematics(robot.home), 4.0, 16.0
    goals = {"left_hand": (0.0, 0.0, 0.38), "right_hand": tuple(hands[1] + [0.1, -0.1, 0.1])}
    control.goals.set("left_hand", "", goals["left_hand"], 0.0)
    for period in range(round(end_s * robot.control_rate)):
        now_s = period * control.period_s
        if period == round(late_s * robot.control_rate):
            assert np.abs(control.pipeline.command).max() < 0.02 and control.pipeline.slowed < 0.05
            assert "left" in " ".join(proximity.blocking)
            control.goals.set("right_hand", "", goals["right_hand"], now_s)
        servos.advance(now_s)
        control.receive(list(robot.joint_names), servos.position.tolist(), now_s)
        servos.command(control.tick(now_s), now_s)
        assert not control.watchdog.fault
    left, right = robot.forward_kinematics(servos.position) - np.array(list(goals.values()))
    assert np.linalg.norm(right) < 0.02 < np.linalg.norm(left)
    assert control.pipeline.slowed < 0.05 and control.pipeline.slowed_reason


def test_factors_of_joints_that_move_neither_body() -> None:
    robot = load_robot("humanoid27")
    proximity, command = Proximity(robot, robot.slow_distance, robot.stop_distance), np.zeros(13)
    joint = {name: index for index, name in enumerate(robot.joint_names)}
    command[joint["left_shoulder_roll"]] = -1.0  # the arm to the body
    command[joint["right_elbow"]] = -1.0
    start = robot.home.copy()
    start[joint["left_shoulder_roll"]] = 0.1
    start[joint["left_shoulder_yaw"]] = -0.8
    factors = proximity.factors(command, start)
    assert factors[joint["left_shoulder_roll"]] < factors[joint["right_elbow"]] == factors.max()
    assert any("left" in name for name in proximity.blocking)


def test_boxes_driven_at_each_other_stop() -> None:
    """A palm at the other palm, the torso and the column, down the gradient of their distance."""
    robot = load_robot("dual7")
    proximity = Proximity(robot, robot.slow_distance, robot.stop_distance)
    far, period_s = Clearance(robot, 3.0), 1.0 / robot.control_rate
    limits = JointLimits(
        robot.joint_pos_limits, robot.joint_vel_limits, robot.joint_acc_limits, period_s
    )
    bodies = ("right_palm_geom", "torso_geom", "column_geom")
    palm, others = robot.model.geom("left_palm_geom").id, [robot.model.geom(b).id for b in bodies]
    nearest, rng = np.full(len(others), np.inf), np.random.default_rng(0)
    for joint_pos in robot.sample_configuration(rng, 6):
        least = min(robot.stop_distance - TOLERANCE, nearest_at(far, joint_pos))
        for index, other in enumerate(others):
            pair, command = (min(palm, other), max(palm, other)), np.zeros(len(joint_pos))
            at = joint_pos.copy()
            for _ in range(round(SECONDS / period_s)):
                distances = {key: d for key, d, _ in far.approaches(at, np.zeros_like(at))}
                nearest[index] = min(nearest[index], distances[pair])
                assert min(distances.values()) >= least
                gradient = far.gradient(pair)
                wanted = -robot.joint_vel_limits * gradient / max(1e-9, np.abs(gradient).max())
                wanted = limits.apply(wanted, command, at, 1.0, period_s)
                change = limits.change(period_s)
                command, _ = proximity.scale_command(wanted, command, at, change)
                at = at + command * period_s
    assert nearest.min() < robot.slow_distance


def nearest_at(clearance: Clearance, joint_pos: np.ndarray) -> float:
    still = np.zeros_like(joint_pos)
    return min(distance for _, distance, _ in clearance.approaches(joint_pos, still))
