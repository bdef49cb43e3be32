"""Controllers measured on the simulated robot: starts, goals, delays, limits and figures."""

from dataclasses import dataclass, field
from pathlib import Path

import mujoco
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from polyreach.deploy.controllers import LeastSquaresController, within_limits
from polyreach.deploy.episodes import Episodes, play
from polyreach.deploy.evaluate import Evaluation, baselines
from polyreach.deploy.evaluation_config import EvaluationConfig
from polyreach.deploy.figures import reach_figures, swing_count
from polyreach.deploy.goal_sets import (
    ANGLES,
    GoalErrors,
    draw_configurations,
    moving_configurations,
    radii,
    reached,
)
from polyreach.deploy.simulation import Drives, SimulatedRobots
from polyreach.deploy.tables import comparison_rows
from polyreach.envs.reach.config import ReachConfig
from polyreach.envs.reach.dynamics import BatchDynamics
from polyreach.errors import UserError
from polyreach.robot.features import KinematicFeatures, Observation
from polyreach.robot.self_distance import SelfDistance
from polyreach_description import Robot, load_robot
from polyreach_description.policy_tensors import PolicyInputs

Array = NDArray[np.float64]
GANTRY = Path(__file__).parents[1] / "robots" / "gantry" / "robot.yaml"


@dataclass
class Scripted:
    """Commands shares of the velocity limits, (N, nu); keeps its inputs."""

    robot: Robot
    share: Array
    seen: list[PolicyInputs] = field(default_factory=list)

    def reset(self, rows: int) -> None:
        self.seen.clear()

    def command(self, inputs: PolicyInputs[Array]) -> Array:
        copies = {name: part.copy() for name, part in inputs._asdict().items() if part is not None}
        self.seen.append(PolicyInputs(**copies))
        return self.share * self.robot.joint_vel_limits


def waves(robot: Robot, rows: int) -> Array:
    """Motions at half speed in the first half of the rows; the others stand still."""
    share = np.zeros((rows, len(robot.joint_names)))
    share[: rows // 2] = 0.5 * np.sin(np.arange(len(robot.joint_names)) * 2.0)
    return share


def plain_dynamics(robot: Robot, starts: Array) -> BatchDynamics:
    """The whole simulation, in every step."""
    config = ReachConfig(mode="dynamic", action_repeat=1)
    plain = BatchDynamics(robot, len(starts), config, torch.device("cpu"), 1)
    plain.start(torch.ones(len(starts), dtype=torch.bool), torch.from_numpy(starts), None)
    return plain


def plain_step(plain: BatchDynamics, command: Array) -> Array:
    plain.step(torch.zeros(command.shape), torch.from_numpy(command))
    return plain.state[:, 1 + plain.robot.qpos_adr]


def play_scripted(robot: Robot, share: Array, ticks: int, drives: Drives) -> Episodes:
    starts, goals = draw_configurations(robot, len(share), 1)
    still = GoalErrors(robot).goals(goals)
    controller = Scripted(robot, share)
    return play(
        controller, within_limits(robot), robot, starts, lambda _: still, ticks, drives, seed=0
    )


def test_episodes_count_near_self_collisions() -> None:
    robot = load_robot("humanoid27")
    episodes = play_scripted(robot, waves(robot, 40), 75, Drives())
    model, data = robot.proximity_model(robot.stop_distance), mujoco.MjData(robot.model)

    def near(joint_pos: Array) -> bool:
        data.qpos[:] = robot.qpos(joint_pos)
        mujoco.mj_kinematics(model, data)
        mujoco.mj_collision(model, data)
        return data.ncon > 0

    states = np.array([[near(row) for row in state] for state in episodes.joint_pos])
    first_apart = (~states).cumsum(axis=0) > 0
    expected = (states & first_apart).any(axis=0)
    assert 0 < expected[:20].mean() < 1 and not expected[20:].any()
    assert (episodes.near == expected).all()


def test_periods_without_contacts_are_those_of_the_whole_simulation() -> None:
    robot = load_robot("humanoid27")
    starts, _ = draw_configurations(robot, 30, 4)
    share = np.random.default_rng(0).uniform(-0.6, 0.6, starts.shape)
    plain = plain_dynamics(robot, starts)
    robots = SimulatedRobots(robot, starts, Drives(), seed=0)
    touched = np.zeros(30, dtype=bool)
    for _ in range(60):
        expected = plain_step(plain, share * robot.joint_vel_limits)
        robots.step(share * robot.joint_vel_limits, np.arange(30))
        touched |= [robot.in_self_collision(row) for row in expected]
        # the simulation of what touches amplifies rounding errors
        assert np.allclose(robots.joint_pos[~touched], expected[~touched], atol=1e-9)
        assert np.allclose(robots.joint_pos, expected, atol=1e-3)
    assert 0 < touched.sum() < 30
    robots.close()
    plain.close()


def test_longer_steps_of_the_simulation_without_contacts_change_little() -> None:
    robot = load_robot(GANTRY)
    assert robot.model.opt.timestep == 0.002
    starts, _ = draw_configurations(robot, 20, 4)
    speed = 0.3 * np.random.default_rng(0).uniform(-1, 1, starts.shape) * robot.joint_vel_limits
    plain = plain_dynamics(robot, starts)
    robots = SimulatedRobots(robot, starts, Drives(), seed=0)
    for tick in range(50):
        command = speed * np.sin(2 * np.pi * tick / 50)
        expected = plain_step(plain, command)
        robots.step(command, np.arange(20))
    assert np.abs(expected - starts).max() > 0.01
    assert np.allclose(robots.joint_pos, expected, atol=2e-3)
    robots.close()
    plain.close()


def test_commands_arrive_after_the_delay_and_the_lag() -> None:
    robot = load_robot("planar8")
    share = np.full((50, 8), 0.05)
    now = play_scripted(robot, share, 40, Drives())
    late = play_scripted(robot, share, 40, Drives(delay_s=0.06))
    lagging = play_scripted(robot, share, 40, Drives(lag_s=0.1))
    speed = 0.05 * robot.joint_vel_limits
    delay = (now.joint_pos[-1] - late.joint_pos[-1]) / speed  # [s]
    assert np.ptp(delay, axis=1).max() < 2e-3  # the same for all joints of a robot
    assert delay.min() >= -1e-3 and delay.max() <= 0.061
    assert delay.mean() == pytest.approx(0.03, abs=0.01)  # uniform from 0 to 0.06
    lag = (now.joint_pos[-1] - lagging.joint_pos[-1]) / speed
    assert lag == pytest.approx(0.1, rel=0.05)  # 1 - exp(-8) of the time constant


def test_robots_that_have_settled_stay_where_the_whole_simulation_has_them() -> None:
    robot = load_robot("planar8")
    starts, configurations = draw_configurations(robot, 20, 3)
    goals = GoalErrors(robot).goals(configurations)
    ends = [
        play(
            LeastSquaresController(robot),
            within_limits(robot),
            robot,
            starts,
            lambda _: goals,
            200,
            Drives(),
            seed=0,
            still=still,
        )
        for still in (True, False)
    ]
    skipped = (np.diff(ends[0].joint_pos[-20:], axis=0) == 0.0).all(axis=(0, 2))
    assert skipped.mean() > 0.2 and not (np.diff(ends[1].joint_pos[-20:], axis=0) == 0.0).all()
    errors = [GoalErrors(robot)(end.joint_pos[-1], goals)[0] for end in ends]
    assert errors[0][skipped] == pytest.approx(errors[1][skipped], abs=1e-3)


def test_commands_stay_within_velocity_and_acceleration_limits() -> None:
    robot = load_robot("planar8")
    controller = Scripted(robot, np.array([[2.0, -1.0, 0.5, 0.0, 0.0, 0.0, 0.0, 4.0]]))
    starts = robot.home[None]
    goals, limits = GoalErrors(robot).goals(starts), within_limits(robot)
    end = play(controller, limits, robot, starts, lambda _: goals, 150, Drives(), seed=0)
    commands = np.array([inputs.previous_joint_vel[0] for inputs in controller.seen])
    change = np.abs(np.diff(commands, axis=0))
    assert (change <= robot.joint_acc_limits / robot.control_rate + 1e-12).all()
    # direction kept, the fastest joint at its limit
    expected = np.array([0.5, -0.25, 0.125, 0, 0, 0, 0, 1.0]) * robot.joint_vel_limits
    assert commands[8] == pytest.approx(expected)
    # 1.5 rad or more further, the joint has stopped before its position limit
    assert abs(commands[-1][7]) < 0.05 and end.joint_pos[-1, 0, 7] <= robot.joint_pos_limits[7, 1]


def test_each_effector_alone_is_measured_on_its_share_of_the_same_goals() -> None:
    robot = load_robot("planar8")
    evaluation = Evaluation(robot, EvaluationConfig(goals=7, seconds=0.1, seed=3))
    controller = Scripted(robot, np.zeros((7, 8)))
    alone = evaluation.alone(controller)
    first = controller.seen[0]
    assert first.joint_pos == pytest.approx(evaluation.starts)
    assert first.goals == pytest.approx(evaluation.goals.positions)
    assert first.active.tolist() == [[1, 0, 0], [0, 1, 0], [0, 0, 1]] * 2 + [[1, 0, 0]]
    places = np.stack([robot.forward_kinematics(row) for row in evaluation.starts])
    error = np.linalg.norm(places - evaluation.goals.positions, axis=-1)
    for index, name in enumerate(robot.effector_names):
        assert alone[name]["error_mean_m"] == pytest.approx(error[index::3, index].mean())
    least = Evaluation(robot, EvaluationConfig(goals=1, seconds=0.1))
    assert list(least.alone(LeastSquaresController(robot))) == ["left", "middle", "right"]


def test_least_squares_is_better_than_standing_still() -> None:
    robot = load_robot("planar8")
    evaluation = Evaluation(robot, EvaluationConfig(goals=20, seconds=2.0, seed=3))
    still = evaluation.measure(Scripted(robot, np.zeros((20, 8))))
    assert still["error_median_m"] == pytest.approx(still["start_error_median_m"], rel=0.01)
    assert still["near_self"] == 0.0 and "time_s" not in still
    moved = evaluation.measure(LeastSquaresController(robot))
    assert moved["error_median_m"] < 0.025 < still["error_median_m"]
    assert moved["success_all"]["0.02"] <= min(
        figures["success"]["0.02"] for figures in moved["effectors"].values()
    )


def test_least_squares_of_positions_is_the_one_among_the_features() -> None:
    robot = load_robot("humanoid27")
    evaluation = Evaluation(robot, EvaluationConfig(goals=20))
    goals, starts = evaluation.goals, evaluation.starts
    inputs = PolicyInputs(starts, goals.positions, goals.active, 0.0 * starts, goals.orientations)
    command = LeastSquaresController(robot).command(inputs)
    parts = (torch.from_numpy(part).float() for part in (starts, goals.positions, goals.active))
    features = KinematicFeatures(robot)
    expected = features.least_squares(features.compute(Observation(*parts))[0]).numpy()
    assert command == pytest.approx(expected * robot.action_speeds, abs=1e-3)


def test_least_squares_turns_effectors_to_their_goals() -> None:
    robot = load_robot("dual7")
    evaluation = Evaluation(robot, EvaluationConfig(goals=20, seconds=4.0, seed=3))
    figures = evaluation.measure(LeastSquaresController(robot))
    assert figures["success_all"]["0.01"] >= 0.4  # within 3 degrees too
    assert figures["effectors"]["left"]["angle_quantiles_deg"]["0.5"] < 1.0


def test_success_needs_position_and_angle_and_scales_with_the_reach() -> None:
    robot = load_robot("planar8")
    assert radii(robot) == (0.01, 0.02, 0.05)
    distance = np.array([[0.009, 0.019, 0.06]])
    angle = np.array([[0.0, ANGLES[0] + 0.01, 0.0]])
    inside = reached((distance, angle), robot)
    assert inside[:, 0].tolist() == [[True, False, False], [True, True, False], [True, True, False]]
    far = reached((distance, np.full((1, 3), ANGLES[2] + 0.01)), robot)
    assert not far.any()
    robot.reach = 0.1
    assert radii(robot) == (0.002, 0.004, 0.01)


def test_figures_of_a_known_motion() -> None:
    """Joint 1 of planar8 goes to its goal in 20 periods, on by 0.3 rad, and back in 20."""
    robot = load_robot("planar8")
    way = np.concatenate([np.linspace(0, 1.3, 21), np.linspace(1.3, 1.0, 21)[1:], np.ones(10)])
    joint_pos = np.tile(robot.home, (51, 1, 1))
    joint_pos[:, 0, 0] += 0.5 * way
    joint_vel = np.zeros(joint_pos.shape)
    joint_vel[1:, 0, 0] = np.diff(0.5 * way) * robot.control_rate
    goals = GoalErrors(robot).goals(joint_pos[-1])
    figures = reach_figures(Episodes(joint_pos, joint_vel, np.array([True])), goals, robot)
    assert figures["success_all"]["0.01"] == 1.0 and figures["clear_all"]["0.01"] == 0.0
    assert 38 <= figures["time_s"]["0.5"] * robot.control_rate <= 40
    assert figures["path_ratio"] == pytest.approx(1.6)
    assert figures["swings"] == 1 and figures["left_again"] == 1.0 and figures["end_speed"] == 0.0


def test_swings_are_changes_of_sign_between_motions() -> None:
    speed = np.array([0.5, 0.01, -0.01, 0.3, -0.2, 0.0, -0.1, 0.4])[:, None, None]
    assert swing_count(speed).tolist() == [[2]]


@pytest.mark.parametrize("name", ["planar8", "humanoid27"])
def test_moving_goals_have_their_speed_and_stay_within_reach(name: str) -> None:
    robot = load_robot(name)
    starts, _ = draw_configurations(robot, 4, 0)
    distance = SelfDistance(robot, robot.stop_distance)
    paths = moving_configurations(robot, starts, 0.3, 4.0, seed=0)
    assert paths.shape == (200, 4, len(robot.joint_names)) and (paths[0] == starts).all()
    low, high = robot.joint_pos_limits.T
    assert (paths >= low).all() and (paths <= high).all()
    assert min(distance.least_share(point) for path in paths[::5] for point in path) > 0.9
    goals = np.stack([[robot.forward_kinematics(row) for row in state] for state in paths])
    speed = np.linalg.norm(np.diff(goals, axis=0), axis=-1).max(axis=-1) * robot.control_rate
    assert np.median(speed) == pytest.approx(0.3, rel=0.02) and speed.max() < 0.31
    assert np.ptp(goals[:, 0], axis=0).max() > 0.1


def test_all_controllers_have_the_same_starts_and_goals() -> None:
    robot = load_robot("planar8")
    config = EvaluationConfig(goals=6, seconds=2.0, controlled=2)
    evaluation = Evaluation(robot, config)
    results = baselines(evaluation)
    assert list(results) == ["least squares", "multi-start"]
    assert results["multi-start"]["success_all"]["0.02"] == 1.0
    assert (
        0.0 < results["multi-start"]["plan"]["mean_s"] <= results["multi-start"]["plan"]["worst_s"]
    )
    starts = {result["start_error_median_m"] for result in results.values()}
    assert len(starts) == 1
    header, rows = comparison_rows(results)
    assert header == ["", "least squares", "multi-start"]
    table = {row[0]: row[1:] for row in rows}
    assert table["all within 20 mm"][1] == "100.0%"
    assert "goals move at 0.1 m/s: error p50 (p95)" in table
    assert not any("through the controller" in name for name in table)


@pytest.mark.parametrize(
    ("option", "value"), [("goals", 0), ("delay", -0.1), ("lag", 2.0), ("controlled", -1)]
)
def test_settings_out_of_range_are_named(option: str, value: float) -> None:
    with pytest.raises(UserError, match=option):
        EvaluationConfig(**{option: value})
