"""Obstacles without ROS: hand arithmetic, distances, prediction, and messages that are refused."""

import math
import re
from dataclasses import replace

import hostile_obstacles as hostile
import mujoco
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_obstacles_guarantee import marker_of

from polyreach_description import Robot, load_robot
from polyreach_nodes.control.clearance import Clearance
from polyreach_nodes.control.goal_frames import LinkFrames
from polyreach_nodes.control.obstacle import Obstacle, Shape
from polyreach_nodes.control.obstacle_clearance import MAX_OBSTACLES, ObstacleClearance
from polyreach_nodes.control.obstacle_markers import MarkerFields
from polyreach_nodes.control.obstacles import (
    MAX_MARKERS,
    MAX_SPEED,
    VELOCITY_TIMEOUT_S,
    Obstacles,
)
from polyreach_nodes.control.proximity import EXTRA_PERIODS, Proximity

SLOW, STOP = 0.05, 0.01  # [m]
UPRIGHT = (0.0, 0.0, 0.0, 1.0)
BALL = Obstacle("test/0", Shape.SPHERE, (0.1, 0.0, 0.0), (0.5, 0.0, 0.0), UPRIGHT)
ROBOTS = ("planar8", "humanoid27", "dual7")


@pytest.fixture(scope="module")
def humanoid() -> Robot:
    return load_robot("humanoid27")


def near_ball(robot: Robot, distance: float, velocity: float = 0.0) -> tuple[Proximity, np.ndarray]:
    """The left ball at a distance [m] from BALL, which moves at a velocity [m/s] along the rail."""
    proximity = Proximity(robot, SLOW, STOP)
    proximity.set_obstacles({3: replace(BALL, velocity=(velocity, 0.0, 0.0))}, 0.0)
    return proximity, np.array([0.5 - 0.15 - distance, 1.0, 0.0])


def least(proximity: Proximity, speed: float, joint_pos: np.ndarray) -> float:
    return float(proximity.factors(np.array([speed, 0.0, 0.0]), joint_pos).min())


def test_hand_arithmetic(carts: Robot) -> None:
    """h = 5 / 50 s, v / a = 0.5 / 5 s: 0.1 m ahead, 0.05 m in h; e 0.05 m < 0.04 + 0.1 m."""
    proximity, at = near_ball(carts, 0.06)
    assert least(proximity, 0.5, at) == pytest.approx(0.05 / (0.04 + 0.1))
    assert proximity.reason == "'left_ball' and obstacle 'test/0' are 60 mm apart"
    assert proximity.blocking == ("left_ball", "obstacle test/0")
    assert least(proximity, -0.5, at) == 1.0
    assert proximity.reason == ""
    assert proximity.nearest(at) == ""  # more than the slow distance


def test_the_distance_decreases_without_overshoot(carts: Robot) -> None:
    """The reaction time h uses up at most a share 1 / e of the room: v <= (d - stop) / (e h)."""
    reaction_s = (3.0 + EXTRA_PERIODS) / carts.control_rate
    for speed in (0.01, 0.2, 0.5, 2.0):
        proximity, at = near_ball(carts, 0.03)
        assert least(proximity, speed, at) * speed <= 0.02 / (math.e * reaction_s) + 1e-9


@pytest.mark.parametrize("distance", [STOP, 0.0, -0.05])
def test_within_the_stop_distance_only_retreat_is_allowed(carts: Robot, distance: float) -> None:
    proximity, at = near_ball(carts, distance)
    assert least(proximity, 0.001, at) == pytest.approx(0.0, abs=1e-12)
    assert least(proximity, -2.0, at) == 1.0
    # the other cart is far from it
    assert proximity.factors(np.array([0.0, 0.5, 0.5]), at).min() == 1.0
    assert "obstacle 'test/0'" in proximity.nearest(at)


def test_an_obstacle_that_comes_leaves_less_room(carts: Robot) -> None:
    """In 0.2 s, it takes 0.02 m at 0.1 m/s; without an approach of its own, nothing."""
    factors = {}
    for velocity in (-0.1, 0.0, 0.1):
        proximity, at = near_ball(carts, 0.06, velocity)
        factors[velocity] = least(proximity, 0.5, at)
        assert least(proximity, -0.5, at) == 1.0
    assert factors[0.0] == factors[0.1] == pytest.approx(0.05 / 0.14)
    assert factors[-0.1] == pytest.approx((0.05 - 0.02) / 0.14)
    proximity, at = near_ball(carts, 0.06, -0.25)
    assert least(proximity, 0.5, at) == pytest.approx(0.0, abs=1e-12)
    assert least(proximity, -0.01, at) == 1.0


def test_a_joint_beyond_its_limit_does_not_hide_an_approach(carts: Robot) -> None:
    """The left cart is 0.1 m beyond its limit; it does not return by itself."""
    proximity = Proximity(carts, SLOW, STOP)
    proximity.set_obstacles({0: replace(BALL, position=(2.3, 0.0, 0.0))}, 0.0)
    assert least(proximity, 0.1, np.array([2.1, 1.0, 0.0])) == 1.0  # it cannot go on
    # the right ball, 5 mm from the left one
    proximity.set_obstacles({}, 0.0)
    at = np.array([2.1, 1.1 + 0.1 + 0.005, 0.0])
    assert proximity.factors(np.array([0.0, -0.1, 0.0]), at).min() == 0.0


def test_without_obstacles_nothing_is_computed(
    carts: Robot, monkeypatch: pytest.MonkeyPatch
) -> None:
    proximity, at = near_ball(carts, 0.06)
    proximity.set_obstacles({}, 0.0)
    monkeypatch.setattr(ObstacleClearance, "approaches", None)
    monkeypatch.setattr(ObstacleClearance, "_travels", None)
    assert proximity.factors(np.array([0.5, 0.0, 0.0]), at).min() == 1.0


@pytest.mark.parametrize("name", ROBOTS)
def test_distances_are_those_of_a_compiled_scene(name: str) -> None:
    """All shapes, in the base frame; pairs nearer than 0.3 m, and no others."""
    robot, compared = load_robot(name), 0
    clearance = ObstacleClearance(robot, 0.3)

    @settings(max_examples=15, deadline=None, derandomize=True)
    @given(st.integers(0, 2**32 - 1))
    def same(seed: int) -> None:
        nonlocal compared
        rng = np.random.default_rng(seed)
        start, scene = hostile.draw(robot, rng, 4, -1.0)
        slots = rng.permutation(MAX_OBSTACLES)[: len(scene.obstacles)].tolist()
        clearance.set_obstacles(dict(zip(slots, scene.obstacles, strict=True)), 0.0)
        scene.at(start, 0.0)
        expected = {
            (geom, robot.model.ngeom + slot): distance
            for geom, row in zip(scene.geoms, scene.distances().tolist(), strict=True)
            for slot, distance in zip(slots, row, strict=True)
            if distance < 0.3
        }
        found = clearance.approaches(start, np.zeros_like(start))
        assert {pair: d for pair, d, _ in found} == pytest.approx(expected, abs=1e-5)
        assert all(clearance.name(pair[1]).startswith("hostile/") for pair, _, _ in found)
        compared += len(found)

    same()
    assert compared > 20


@pytest.mark.parametrize("name", ROBOTS)
def test_gradient_by_finite_differences(name: str) -> None:
    robot, rng, step, compared = load_robot(name), np.random.default_rng(1), 1e-6, 0
    clearance = ObstacleClearance(robot, 0.1)
    for _ in range(6):
        start, scene = hostile.draw(robot, rng, 3, 0.02)
        clearance.set_obstacles(dict(enumerate(scene.obstacles)), 0.0)
        for pair, distance, _ in clearance.approaches(start, np.zeros_like(start)):
            gradient = clearance.gradient(pair)
            row, column = scene.geoms.index(pair[0]), pair[1] - robot.model.ngeom
            for joint in range(len(start)):
                moved = start + step * np.eye(len(start))[joint]
                scene.at(moved, 0.0)
                slope = (scene.distances()[row, column] - distance) / step
                assert gradient[joint] == pytest.approx(slope, abs=0.02)
            compared += 1
    assert compared > 3


def test_obstacles_cost_no_distance_between_bodies(humanoid: Robot) -> None:
    """The model of obstacles has none of the pairs of bodies."""
    own = set(Clearance(humanoid, 0.1).pairs)
    assert not own & set(ObstacleClearance(humanoid, 0.1).pairs)
    model = humanoid.model
    geoms = {pair[0] for pair in ObstacleClearance(humanoid, 0.1).pairs}
    named = {model.body(int(model.geom_bodyid[geom])).name for geom in geoms}
    assert "left_forearm" in named and not {"pelvis", "world"} & named


# messages


def store(robot: Robot) -> Obstacles:
    proximity = Proximity(robot, robot.slow_distance, robot.stop_distance)
    return Obstacles(robot, proximity, LinkFrames(robot, lambda: proximity.qpos))


def marker(number: int = 0, **changes: object) -> MarkerFields:
    return replace(marker_of(BALL), number=number, **changes)


GOOD = marker()
LONG = "n" * 101
REFUSED = {
    "type": (marker(kind=10), "type is 10, but must be 1 .cube., 2 .sphere. or 3 .cylinder."),
    "action": (marker(action=7), "action is 7, but must be 0 .add or modify., 2"),
    "zero scale": (marker(scale=(0.1, 0.0, 0.1)), r"scale is \(0.1, 0, 0.1\), but must be greater"),
    "nan scale": (marker(scale=(0.1, math.nan, 0.1)), r"scale is \(0.1, nan, 0.1\)"),
    "scale": (marker(scale=(0.1, math.inf, 0.1)), "at most 100 m"),
    "quaternion": (marker(orientation=(0.0, 0.0, 0.0, 0.0)), "norm 0, expected a unit quaternion"),
    "nan quaternion": (marker(orientation=(0.0, 0.0, math.nan, 1.0)), "norm nan"),
    "position": (
        marker(position=(math.nan, 0.0, 0.0)),
        r"position is \(nan, 0, 0\), but must be f",
    ),
    "far": (marker(position=(0.0, 101.0, 0.0)), "at most 100 m away"),
    "lifetime": (marker(lifetime_s=-1.0), "lifetime is -1 s, but must be 0 .for ever. or more"),
    "frame": (
        marker(frame="camera"),
        "frame is 'camera', but must be 'pelvis' or empty, or of the robot: left_hand, .*more",
    ),
    "locked": (
        marker(frame="left_forearm", frame_locked=True),
        "frame_locked is true .* 'left_forearm'",
    ),
    "no state": (marker(frame="left_forearm"), "there is no valid joint state"),
    "namespace": (marker(namespace=LONG), "namespace has 101 characters, but may have 100 at most"),
    "control characters": (marker(namespace="a\n\x1b[2J", kind=0), r"'a\\n\\x1b\[2J/0': type is 0"),
}


@pytest.mark.parametrize(("bad", "reason"), REFUSED.values(), ids=REFUSED)
def test_a_refused_message_changes_nothing(humanoid: Robot, bad: MarkerFields, reason: str) -> None:
    obstacles = store(humanoid)
    assert obstacles.take([GOOD, marker(1)], 0.0, None) == ""
    before = obstacles.by_slot
    for others in ([], [marker(7)], [replace(GOOD, action=3)]):
        refusal = obstacles.take([*others, bad], 1.0, None)
        assert re.search(reason, refusal)
        assert refusal.startswith("obstacles refused: marker '") and refusal.isprintable()
        assert bad.name in refusal
        assert obstacles.by_slot == before and obstacles.refusal == refusal
    assert obstacles.take([marker(2)], 1.0, None) == obstacles.refusal == ""


def test_too_many_are_refused_by_name(humanoid: Robot) -> None:
    obstacles = store(humanoid)
    most = [marker(number) for number in range(MAX_OBSTACLES)]
    assert obstacles.take(most, 0.0, None) == ""
    assert "marker 'test/32': there are 32 obstacles" in obstacles.take([marker(32)], 0.0, None)
    assert obstacles.take([replace(most[5], action=2), marker(32)], 0.0, None) == ""
    assert sorted(obstacles.by_slot) == list(range(MAX_OBSTACLES))
    assert obstacles.by_slot[5].name == "test/32"
    too_many = obstacles.take([GOOD] * (MAX_MARKERS + 1), 0.0, None)
    assert too_many == f"obstacles refused: more than {MAX_MARKERS} markers in one message"
    assert len(obstacles) == MAX_OBSTACLES


def test_add_modify_delete_and_lifetime(humanoid: Robot) -> None:
    obstacles = store(humanoid)
    obstacles.take([GOOD, marker(1, lifetime_s=0.5), marker(0, namespace="b")], 10.0, None)
    assert [o.name for o in obstacles.by_slot.values()] == ["test/0", "test/1", "b/0"]
    obstacles.expire(10.4)
    assert len(obstacles) == 3
    obstacles.expire(10.5)
    assert [o.name for o in obstacles.by_slot.values()] == ["test/0", "b/0"]
    obstacles.take([marker(0, scale=(0.2, 0.4, 0.1), kind=3)], 20.0, None)
    assert obstacles.by_slot[0].shape is Shape.CYLINDER
    assert obstacles.by_slot[0].size == (0.2, 0.05, 0.0)  # the larger diameter
    obstacles.take([marker(0, action=2), marker(77, action=2)], 20.0, None)
    assert [o.name for o in obstacles.by_slot.values()] == ["b/0"]
    obstacles.take([marker(action=3)], 20.0, None)
    assert len(obstacles) == 0


@pytest.mark.parametrize("frame", ["left_forearm", "left_hand"])
def test_an_obstacle_in_the_frame_of_a_link_or_effector(humanoid: Robot, frame: str) -> None:
    """At the receipt, where MuJoCo has the frame; a cube 0.2 m along its x axis."""
    obstacles, data = store(humanoid), mujoco.MjData(humanoid.model)
    joint_pos = humanoid.sample_configuration(np.random.default_rng(0), 1)[0]
    sent = marker(kind=1, frame=frame, position=(0.2, 0.0, 0.0), scale=(0.1, 0.2, 0.3))
    assert obstacles.take([sent], 0.0, joint_pos) == ""
    data.qpos[:] = humanoid.qpos(joint_pos)
    mujoco.mj_kinematics(humanoid.model, data)
    pose, base = data.body("left_forearm"), data.body("pelvis")
    place, rotation = pose.xpos, pose.xmat.reshape(3, 3)
    if frame == "left_hand":
        site = humanoid.site_ids[humanoid.effector_names.index(frame)]
        place, rotation = data.site_xpos[site], data.site_xmat[site].reshape(3, 3)
    turn = base.xmat.reshape(3, 3)
    expected = place + rotation[:, 0] * 0.2
    obstacle = obstacles.by_slot[0]
    assert obstacle.position == pytest.approx(((expected - base.xpos) @ turn).tolist())
    assert obstacle.size == pytest.approx((0.05, 0.1, 0.15))
    quat = np.empty(4)
    mujoco.mju_mat2Quat(quat, (turn.T @ rotation).ravel())
    assert abs(np.dot(np.roll(quat, -1), obstacle.orientation)) == pytest.approx(1.0)


def test_velocity_is_that_of_successive_markers(humanoid: Robot) -> None:
    obstacles = store(humanoid)

    def velocity(x: float, now_s: float) -> float:
        assert obstacles.take([marker(position=(x, 2.0, 0.0))], now_s, None) == ""
        return obstacles.by_slot[0].velocity[0]

    assert velocity(1.0, 0.0) == 0.0
    assert velocity(0.95, 0.1) == pytest.approx(-0.5)
    assert velocity(0.95 - 0.04, 0.1) == pytest.approx(-2.0)  # at once: as in a control period
    assert velocity(0.0, 0.2) == pytest.approx(-MAX_SPEED)
    obstacles.expire(0.2 + VELOCITY_TIMEOUT_S - 1e-3)
    assert obstacles.by_slot[0].velocity[0] == pytest.approx(-MAX_SPEED)
    obstacles.expire(0.2 + VELOCITY_TIMEOUT_S)
    assert obstacles.by_slot[0].velocity == (0.0, 0.0, 0.0)
    assert velocity(1.0, 2.0) == 0.0


NUMBERS = st.floats()  # with nan and infinity
POINTS = st.tuples(NUMBERS, NUMBERS, NUMBERS)
FIELDS = {
    "namespace": st.text(max_size=120),
    "number": st.integers(-(2**31), 2**31 - 1),
    "action": st.integers(-3, 5),
    "kind": st.integers(-3, 14),
    "frame": st.one_of(
        st.sampled_from(["pelvis", "left_forearm", "left_hand"]), st.text(max_size=200)
    ),
    "frame_locked": st.booleans(),
    "position": POINTS,
    "orientation": st.tuples(NUMBERS, NUMBERS, NUMBERS, NUMBERS),
    "scale": POINTS,
    "lifetime_s": NUMBERS,
}
MARKERS = st.dictionaries(st.sampled_from(list(FIELDS)), st.none(), max_size=2).flatmap(
    lambda names: st.fixed_dictionaries({name: FIELDS[name] for name in names})
)


def test_any_marker_is_taken_or_refused(humanoid: Robot) -> None:
    obstacles = store(humanoid)
    proximity, taken = obstacles._proximity, 0
    command = 0.3 * humanoid.joint_vel_limits

    @settings(max_examples=300, deadline=None, derandomize=True)
    @given(st.lists(MARKERS, min_size=1, max_size=3), st.booleans())
    def no_exception(changes: list[dict[str, object]], has_state: bool) -> None:
        nonlocal taken
        markers = [replace(GOOD, **fields) for fields in changes]
        before = obstacles.by_slot
        refusal = obstacles.take(markers, 0.0, humanoid.home if has_state else None)
        assert refusal.isprintable() and len(refusal) < 2000
        assert not refusal or obstacles.by_slot == before
        factors = proximity.factors(command, humanoid.home)
        assert ((factors >= 0.0) & (factors <= 1.0)).all()
        taken += not refusal and len(obstacles) > 0

    no_exception()
    assert 30 < taken < 270
