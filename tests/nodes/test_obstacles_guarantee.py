"""No command brings the robot below the stop distance of an obstacle, or towards one that comes."""

from collections.abc import Mapping

import hostile_obstacles as hostile
import numpy as np
import pytest

from polyreach_description import load_robot
from polyreach_nodes.control.goal_frames import LinkFrames
from polyreach_nodes.control.obstacle import Obstacle
from polyreach_nodes.control.obstacle_markers import MARKER_TYPES, MarkerFields
from polyreach_nodes.control.obstacles import Obstacles
from polyreach_nodes.control.proximity import Proximity

TOLERANCE = 0.002  # [m], as between the robot's own bodies
SECONDS = 2.5
SPEED = 0.5  # [m/s] of obstacles at most
RARE = 0.003  # share of the placements in which a body that grazes a small obstacle comes nearer
CREEP = 0.02  # [m/s] of a body towards an obstacle that is below the stop distance, by the joints
SELDOM, FASTEST = 0.01, 0.3  # share of the cases in which that is faster, and [m/s] then at most
MARKER_PERIODS = 3  # control periods between two messages, 17 Hz
CLEAR = 0.1  # [m] from the stop distance at first
EXHAUSTIVE = 1000
CASES = {"planar8": 50, "humanoid27": 30}
MOVING_CASES = {"planar8": 30, "humanoid27": 20}
FIRST_SEED = 10**6


def check_at_rest(name: str, cases: int) -> None:
    robot = load_robot(name)
    proximity = Proximity(robot, robot.slow_distance, robot.stop_distance)
    outcomes = []
    for seed in range(cases):
        rng = np.random.default_rng(FIRST_SEED + seed)
        count = int(rng.integers(1, 4))
        start, scene = hostile.draw(robot, rng, count, robot.stop_distance)
        proximity.set_obstacles(dict(enumerate(scene.obstacles)), 0.0)
        outcomes.append(hostile.run(proximity, robot, scene, start, rng, SECONDS, lambda *_: None))
    nearest = np.array([outcome.nearest for outcome in outcomes])
    assert nearest.min() > 0.0  # never a touch
    assert np.mean(nearest < robot.stop_distance - TOLERANCE) <= RARE
    # most are slowed, and come near
    assert np.mean([outcome.slowed > 0 for outcome in outcomes]) > 0.5
    assert np.mean(nearest < robot.slow_distance) > 0.5


def check_moving(name: str, cases: int) -> None:
    robot = load_robot(name)
    clear_m, limit_m = robot.stop_distance + CLEAR, robot.stop_distance - TOLERANCE
    outcomes = []
    for seed in range(cases):
        rng = np.random.default_rng(FIRST_SEED + seed)
        proximity = Proximity(robot, robot.slow_distance, robot.stop_distance)
        links = LinkFrames(robot, lambda proximity=proximity: proximity.qpos)
        receive = Receiver(Obstacles(robot, proximity, links))
        start, scene = hostile.draw(robot, rng, int(rng.integers(1, 4)), clear_m, SPEED)
        outcomes.append(hostile.run(proximity, robot, scene, start, rng, SECONDS, receive, limit_m))
    approach = np.array([outcome.approach * robot.control_rate for outcome in outcomes])
    assert approach.max() <= FASTEST
    assert np.sum(approach > CREEP) <= max(1.0, SELDOM * cases)
    assert np.mean([outcome.nearest < limit_m for outcome in outcomes]) > 0.1  # they do come


class Receiver:
    """Hands the obstacles to the controller, in every third control period."""

    def __init__(self, obstacles: Obstacles) -> None:
        self._obstacles, self._period = obstacles, 0

    def __call__(self, placed: Mapping[int, Obstacle], now_s: float) -> None:
        if self._period % MARKER_PERIODS == 0:
            assert self._obstacles.take(list(map(marker_of, placed.values())), now_s, None) == ""
        self._obstacles.expire(now_s)
        self._period += 1


def marker_of(obstacle: Obstacle) -> MarkerFields:
    namespace, number = obstacle.name.split("/")
    return MarkerFields(
        namespace=namespace,
        number=int(number),
        action=0,
        kind=MARKER_TYPES[obstacle.shape],
        frame="",
        frame_locked=False,
        position=obstacle.position,
        orientation=obstacle.orientation,
        scale=obstacle.scale,
        lifetime_s=0.0,
    )


@pytest.mark.parametrize("name", CASES)
def test_obstacles_at_rest(name: str) -> None:
    check_at_rest(name, CASES[name])


@pytest.mark.parametrize("name", MOVING_CASES)
def test_obstacles_that_move(name: str) -> None:
    check_moving(name, MOVING_CASES[name])


@pytest.mark.exhaustive
@pytest.mark.parametrize("name", CASES)
def test_a_thousand_obstacles_at_rest(name: str) -> None:
    check_at_rest(name, EXHAUSTIVE)


@pytest.mark.exhaustive
@pytest.mark.parametrize("name", MOVING_CASES)
def test_a_thousand_obstacles_that_move(name: str) -> None:
    check_moving(name, EXHAUSTIVE)
