"""No command brings the robot below the stop distance of an obstacle, or towards one that comes."""

from collections.abc import Mapping

import hostile_obstacles as hostile
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from polyreach_description import load_robot
from polyreach_nodes.control.obstacle import Obstacle
from polyreach_nodes.control.obstacle_markers import MARKER_TYPES, MarkerFields
from polyreach_nodes.control.obstacles import Obstacles
from polyreach_nodes.control.proximity import Proximity

TOLERANCE = 0.002  # [m], as between the robot's own bodies
SECONDS = 2.5
SPEED = 0.5  # [m/s] of obstacles at most
CREEP = 0.02  # [m/s] of a body towards an obstacle that is below the stop distance, by the joints
MARKER_PERIODS = 3  # control periods between two messages, 17 Hz
CLEAR = 0.1  # [m] from the stop distance at first
EXHAUSTIVE = 1000
CASES = {"planar8": 50, "humanoid27": 30}
MOVING_CASES = {"planar8": 30, "humanoid27": 20}
SEEDS = st.integers(0, 2**32 - 1)


def check_at_rest(name: str, cases: int) -> None:
    robot = load_robot(name)
    proximity = Proximity(robot, robot.slow_distance, robot.stop_distance)
    slowed, nearest = [], []

    @settings(max_examples=cases, deadline=None, derandomize=True)
    @given(SEEDS)
    def never_nearer(seed: int) -> None:
        rng = np.random.default_rng(seed)
        count = int(rng.integers(1, 4))
        start, scene = hostile.draw(robot, rng, count, robot.stop_distance)
        proximity.set_obstacles(dict(enumerate(scene.obstacles)), 0.0)
        outcome = hostile.run(proximity, robot, scene, start, rng, SECONDS, lambda *_: None)
        assert outcome.nearest >= robot.stop_distance - TOLERANCE
        slowed.append(outcome.slowed > 0)
        nearest.append(outcome.nearest)

    never_nearer()
    # most are slowed, and come near
    assert np.mean(slowed) > 0.7
    assert np.mean(np.array(nearest) < robot.slow_distance) > 0.5


def check_moving(name: str, cases: int) -> None:
    robot = load_robot(name)
    below = []

    @settings(max_examples=cases, deadline=None, derandomize=True)
    @given(SEEDS)
    def never_towards(seed: int) -> None:
        rng = np.random.default_rng(seed)
        proximity = Proximity(robot, robot.slow_distance, robot.stop_distance)
        obstacles, periods = Obstacles(robot, proximity), [0]
        clear_m, limit_m = robot.stop_distance + CLEAR, robot.stop_distance - TOLERANCE

        def receive(placed: Mapping[int, Obstacle], now_s: float) -> None:
            if periods[0] % MARKER_PERIODS == 0:
                assert obstacles.take(list(map(marker_of, placed.values())), now_s, None) == ""
            obstacles.expire(now_s)
            periods[0] += 1

        start, scene = hostile.draw(robot, rng, int(rng.integers(1, 4)), clear_m, SPEED)
        outcome = hostile.run(proximity, robot, scene, start, rng, SECONDS, receive, limit_m)
        assert outcome.approach * robot.control_rate <= CREEP
        below.append(outcome.nearest < limit_m)

    never_towards()
    assert np.mean(below) > 0.1  # obstacles do come


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
