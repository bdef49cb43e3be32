"""The baseline with planning: inverse kinematics, ways clear of the own body, motions."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from numpy.typing import NDArray

from polyreach.deploy.baselines.inverse_kinematics import InverseKinematics
from polyreach.deploy.baselines.multi_start import MultiStartConfig, MultiStartPlanner
from polyreach.deploy.baselines.multi_start_controller import MultiStartController
from polyreach.deploy.baselines.straight_line import least_duration
from polyreach.deploy.controllers import within_limits
from polyreach.deploy.episodes import play
from polyreach.deploy.figures import reach_figures
from polyreach.deploy.goal_sets import (
    GoalErrors,
    Goals,
    draw_configurations,
    moving_configurations,
)
from polyreach.deploy.simulation import Drives
from polyreach.errors import UserError
from polyreach.robot.goals import METRES_PER_RADIAN
from polyreach.robot.self_distance import SelfDistance
from polyreach_description import Robot, load_robot

Array = NDArray[np.float64]
WELDER = Path(__file__).parents[1] / "robots" / "welder" / "robot.yaml"


def goal_sets(robot: Robot, count: int, seed: int = 0) -> tuple[Array, Goals]:
    starts, configurations = draw_configurations(robot, count, seed)
    return starts, GoalErrors(robot).goals(configurations)


def test_least_duration_by_hand() -> None:
    robot = load_robot("planar8")
    robot.joint_vel_limits, robot.joint_acc_limits = np.full(8, 2.0), np.full(8, 4.0)
    way = np.zeros((3, 8))
    way[0, 3] = -0.25  # a triangle: 2 sqrt(0.25 / 4)
    way[1, 2], way[1, 5] = 3.0, 1.0  # a trapezoid: 0.5 s to speed and from it, 1 m of each; 2 / 2
    assert least_duration(robot, way) == pytest.approx([0.5, 2.0, 0.0])


def test_solutions_are_at_the_goals_and_within_the_limits() -> None:
    robot = load_robot("humanoid27")
    _, goals = goal_sets(robot, 20)
    low, high = robot.joint_pos_limits.T
    many = np.random.default_rng(0).uniform(low, high, (20, 6, len(low)))
    solutions = InverseKinematics(robot, 40, 1e-3).solve(many, goals)
    assert (solutions.joint_pos >= low).all() and (solutions.joint_pos <= high).all()
    places = np.array([[robot.forward_kinematics(q) for q in row] for row in solutions.joint_pos])
    error = np.linalg.norm(places - goals.positions[:, None], axis=-1).max(axis=-1)
    assert solutions.error == pytest.approx(error, abs=1e-9)
    assert (solutions.error < 1e-3).mean() > 0.8


def test_an_effector_without_a_goal_does_not_count() -> None:
    robot = load_robot("planar8")
    starts, goals = goal_sets(robot, 5)
    only = Goals(goals.positions.copy(), goals.orientations, np.tile([1.0, 0.0, 0.0], (5, 1)))
    only.positions[:, 1:] = 99.0
    solver = InverseKinematics(robot, 60, 1e-3)
    assert (solver.solve(starts[:, None], only).error < 1e-3).mean() > 0.5


def test_orientations_are_solved_too() -> None:
    robot = load_robot(WELDER)  # goals: a pose, an axis and a position
    starts, goals = goal_sets(robot, 30)
    low, high = robot.joint_pos_limits.T
    many = np.random.default_rng(0).uniform(low, high, (30, 6, len(low)))
    solutions = InverseKinematics(robot, 40, 1e-3).solve(many, goals)
    solved = solutions.error < 1e-3
    assert solved.any(axis=1).mean() > 0.6
    for sample in range(6):
        distance, angle = GoalErrors(robot)(solutions.joint_pos[:, sample], goals)
        one = solved[:, sample]
        assert distance[one].max() < 1e-3
        assert angle[one].max() < 1e-3 / METRES_PER_RADIAN
        # the error is of both together
        both = np.hypot(distance, METRES_PER_RADIAN * angle).max(axis=1)
        assert solutions.error[:, sample] == pytest.approx(both, abs=1e-4)
    assert (np.linalg.norm(starts - solutions.joint_pos[:, 0], axis=1) > 0.1).all()


def test_plans_are_reached_on_ways_that_are_clear() -> None:
    robot = load_robot("humanoid27")
    starts, goals = goal_sets(robot, 40)
    plans = MultiStartPlanner(robot, MultiStartConfig()).plan(starts, goals)
    assert plans.clear.mean() > 0.9
    distance = SelfDistance(robot, robot.stop_distance)
    for start, target, goal, clear in zip(
        starts, plans.targets, goals.positions, plans.clear, strict=True
    ):
        if clear:
            error = np.linalg.norm(robot.forward_kinematics(target) - goal, axis=-1)
            assert error.max() < 0.005
            shares = np.arange(1, 16)[:, None] / 15
            allowed = distance.close_pairs(start)
            points = start + shares * (target - start)
            assert all(distance.close_pairs(point) <= allowed for point in points)


def test_a_near_solution_is_preferred_to_a_far_one() -> None:
    robot = load_robot("planar8")
    starts, goals = goal_sets(robot, 20)
    few = MultiStartPlanner(robot, MultiStartConfig(starts=0)).plan(starts, goals)
    many = MultiStartPlanner(robot, MultiStartConfig(starts=20)).plan(starts, goals)
    assert many.clear.mean() > few.clear.mean()
    both = few.clear & many.clear
    times = [least_duration(robot, plans.targets - starts)[both] for plans in (many, few)]
    assert (times[0] <= times[1] + 1e-9).all() and times[0].mean() < times[1].mean()


def test_where_no_way_is_clear_the_robot_is_held_off_at_the_last_clear_point() -> None:
    robot = load_robot("planar8")
    starts, goals = goal_sets(robot, 6)
    planner = MultiStartPlanner(robot, MultiStartConfig(points=10))
    free = planner.plan(starts, goals)
    assert free.clear.all()
    edge = 1.0  # [rad] from the start, in the joint that goes farthest

    def least_share(joint_pos: Array) -> float:
        return 0.5 if np.abs(joint_pos - start).max() > edge else 2.0

    for row in range(6):
        start = starts[row]
        planner._distance = SimpleNamespace(least_share=least_share, close_pairs=lambda _: set())
        plans = planner.plan(starts[row : row + 1], goals.rows(slice(row, row + 1)))
        way = np.abs(plans.targets[0] - start).max()
        if plans.clear[0]:
            assert way <= edge
        else:
            assert 0.4 * edge <= way <= edge + 1e-9
    relaxed = SimpleNamespace(close_pairs=lambda _: {(1, 2)})
    planner._distance = planner._stop_distance = relaxed  # close at the start, and everywhere
    assert planner.plan(starts, goals).clear.all()


def test_a_pair_within_the_margin_at_the_start_stays_out_of_the_stop_distance() -> None:
    robot = load_robot("planar8")
    starts, goals = goal_sets(robot, 4)
    planner = MultiStartPlanner(robot, MultiStartConfig())
    planner._distance = SimpleNamespace(close_pairs=lambda _: {(1, 2)})
    assert planner.plan(starts, goals).clear.all()
    planner._stop_distance = SimpleNamespace(
        close_pairs=lambda joint_pos: set() if (joint_pos == starts).all(axis=1).any() else {(1, 2)}
    )
    plans = planner.plan(starts, goals)
    assert not plans.clear.any() and np.array_equal(plans.targets, starts)


def test_a_plan_is_followed_when_its_computing_time_is_over() -> None:
    robot = load_robot("planar8")
    starts, goals = goal_sets(robot, 8)
    commands: list[Array] = []
    limits = within_limits(robot)

    def condition(wanted: Array, inputs: object) -> Array:
        commands.append(wanted)
        return limits(wanted, inputs)  # type: ignore[arg-type]

    planner = MultiStartPlanner(robot, MultiStartConfig())
    controller = MultiStartController(robot, planner, np.array([0.095]), np.array([0.01]))
    episodes = play(
        controller, condition, robot, starts, lambda _: goals, 200, Drives(delay_s=0.06), seed=0
    )
    moved = np.abs(commands).max(axis=(1, 2)) > 0.0
    assert moved.argmax() == 5  # 0.095 s in periods of 0.02 s
    error, _ = GoalErrors(robot)(episodes.joint_pos[-1], goals)
    assert (error.max(axis=1) < 0.005).mean() >= 7 / 8
    assert np.abs(commands[-1]).max() < 0.01
    assert controller.plans == 8  # the goals stand still
    figures = reach_figures(episodes, goals, robot)
    assert figures["left_again"] <= 3 / 8 and figures["path_ratio"] < 1.05


def test_robots_follow_goals_that_move_without_falling_behind() -> None:
    robot = load_robot("planar8")
    starts, _ = draw_configurations(robot, 5, 0)
    path = moving_configurations(robot, starts, 0.1, 2.0, 0)
    errors = GoalErrors(robot)
    goals = [errors.goals(state) for state in path]
    planner = MultiStartPlanner(robot, MultiStartConfig())
    controller = MultiStartController(robot, planner, np.array([0.05]), np.array([0.01]))
    episodes = play(
        controller, within_limits(robot), robot, starts, goals.__getitem__, 100, Drives(), seed=0
    )
    states = zip(episodes.joint_pos[50:-1], goals[50:], strict=True)
    error = np.array([errors(state, now)[0].max(axis=1) for state, now in states])
    # without the target's own velocity it would be 0.1 m/s over the gain, 7.5 mm, and a period more
    assert np.median(error) < 0.006


def test_plans_for_goals_that_move_are_made_one_after_the_other() -> None:
    robot = load_robot("planar8")
    starts, _ = draw_configurations(robot, 1, 0)
    home = np.tile(0.5 * starts, (61, 1)) + np.linspace(0, 0.3, 61)[:, None]
    moving = GoalErrors(robot).goals(home)
    planner = MultiStartPlanner(robot, MultiStartConfig())
    controller = MultiStartController(robot, planner, np.array([0.1]), np.array([0.035]))
    goals_at = [moving.rows(slice(tick, tick + 1)) for tick in range(61)]
    play(
        controller, within_limits(robot), robot, starts, goals_at.__getitem__, 61, Drives(), seed=0
    )
    # the first takes 5 periods, the others 2
    assert controller.plans == pytest.approx(1 + (61 - 5) / 2, abs=1)


def test_settings_out_of_range_are_named() -> None:
    with pytest.raises(UserError, match="points is 0, but must be at least 1"):
        MultiStartConfig(points=0)
