"""The adaptive check finds the same collisions as an exhaustive one, and its bounds hold."""

from functools import cache
from pathlib import Path

import mujoco
import numpy as np
import pytest
import yaml

from polyreach_description import Robot, load_robot
from polyreach_description.geom_pairs import BoxDistances, moving_pairs
from polyreach_nodes.control.clearance import Clearance, check_count
from polyreach_nodes.control.proximity import EXTRA_PERIODS, Proximity

ROBOTS = ("planar8", "humanoid27")
HAND = str(Path(__file__).parents[1] / "robots" / "hand" / "robot.yaml")  # with coupled joints
ALL = {"planar8": "planar8", "humanoid27": "humanoid27", "dual7": "dual7", "hand": HAND}
SLOW, STOP = 0.025, 0.01  # [m]
PLAIN_LOOKS = 16
SLACK = 1e-3  # [m]
TOLERANCE = 0.02  # of a factor, for checks at other places on the way


def all_distances(robot: Robot, joint_pos: np.ndarray, within: float) -> dict[tuple, float]:
    """Pairs (ids of geoms) of MuJoCo's own broad phase within a distance [m] that can part."""
    model = robot.proximity_model(within)
    data = mujoco.MjData(model)
    data.qpos[:] = robot.qpos(joint_pos)
    mujoco.mj_kinematics(model, data)
    mujoco.mj_collision(model, data)
    found: dict[tuple, float] = {}
    boxes = model.geom_type == mujoco.mjtGeom.mjGEOM_BOX
    for pair, distance in zip(data.contact.geom.tolist(), data.contact.dist, strict=True):
        if robot.geom_movers[pair[0]] != robot.geom_movers[pair[1]] and not boxes[pair].all():
            key = min(pair), max(pair)
            found[key] = min(float(distance), found.get(key, np.inf))
    # contacts of two boxes are not exact: those of moving_pairs, every distance
    for pair in box_pairs(robot):
        distance = mujoco.mj_geomDistance(model, data, *pair, 20.0, None)
        if distance < within:
            found[pair] = distance
    return found


@cache
def box_pairs(robot: Robot) -> list[tuple[int, int]]:
    boxes = robot.model.geom_type == mujoco.mjtGeom.mjGEOM_BOX
    return [pair for pair in moving_pairs(robot) if boxes[list(pair)].all()]


def motions(robot: Robot, count: int, seed: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Configurations (nu,), and commands (nu,) of which half the joints are at their limits."""
    rng = np.random.default_rng(seed)
    starts = robot.sample_configuration(rng, count)
    speeds = rng.uniform(-2.0, 2.0, starts.shape).clip(-1.0, 1.0) * rng.choice([0.2, 1], (count, 1))
    return list(zip(starts, speeds * robot.joint_vel_limits, strict=True))


def way_of(robot: Robot, joint_pos: np.ndarray, command: np.ndarray) -> np.ndarray:
    """As in the docstring of Proximity."""
    late_s = (3.0 + EXTRA_PERIODS) / robot.control_rate
    ahead_s = late_s + (np.abs(command) / robot.joint_acc_limits).max()
    low, high = robot.joint_pos_limits.T
    return np.clip(joint_pos + command * ahead_s, low, high) - joint_pos


@pytest.mark.parametrize("name", ALL.values(), ids=ALL)
def test_adaptive_checks_find_what_checks_everywhere_find(name: str) -> None:
    robot = load_robot(name)
    clearance, seen = Clearance(robot, 0.08), 0
    for joint_pos, command in motions(robot, 150, seed=1):
        way, now = way_of(robot, joint_pos, command), all_distances(robot, joint_pos, 10.0)
        travel = float((clearance._travel @ np.abs(way)).max())
        count, expected = check_count(travel / 0.08), {}
        for number in range(1, count + 1):
            share = number / count
            for pair, after in all_distances(robot, joint_pos + share * way, 0.08).items():
                rate = (now[pair] - after) / share
                expected[pair] = max(rate, expected.get(pair, rate))
        found = {pair: rate for pair, _, rate in clearance.approaches(joint_pos, way)}
        assert found == pytest.approx(expected, abs=1e-6)
        assert clearance.checks <= count
        seen += len(found)
    assert seen > 20


def plain_approaches(
    robot: Robot, joint_pos: np.ndarray, command: np.ndarray
) -> dict[tuple, tuple[float, float]]:
    """Room until the stop distance and approach [m] of each pair that comes near; checks at even
    distances, and nothing left out.
    """
    way, found = way_of(robot, joint_pos, command), {}
    now = all_distances(robot, joint_pos, 10.0)
    for number in range(1, PLAIN_LOOKS + 1):
        share = number / PLAIN_LOOKS
        for pair, after in all_distances(robot, joint_pos + share * way, SLOW).items():
            approach = max((now[pair] - after) / share, found.get(pair, (0.0, 0.0))[1])
            found[pair] = now[pair] - STOP, approach
    return found


def plain_factor(robot: Robot, joint_pos: np.ndarray, command: np.ndarray) -> float:
    """The law of Proximity, for all joints alike."""
    return min(
        (
            max(0.0, room) / (SLOW - STOP + approach)
            for room, approach in plain_approaches(robot, joint_pos, command).values()
            if approach > 1e-9
        ),
        default=1.0,
    )


@pytest.mark.parametrize("name", ROBOTS)
def test_nothing_is_slowed_less_than_by_checks_everywhere(name: str) -> None:
    robot = load_robot(name)
    proximity, slowed = Proximity(robot, SLOW, STOP), 0
    for joint_pos, command in motions(robot, 400, seed=2):
        plain = plain_factor(robot, joint_pos, command)
        way = way_of(robot, joint_pos, command)
        closings = proximity._closings(joint_pos, way, 0.0)
        assert min((closing.factor() for closing in closings), default=1.0) <= plain + TOLERANCE
        slowed += plain < 1.0
        # and what is commanded then does not use up the room, before it could stop
        scaled = proximity.factors(command, joint_pos) * command
        for pair, (room, approach) in plain_approaches(robot, joint_pos, scaled).items():
            assert approach <= max(0.0, room) + SLACK, robot.geom_label(pair[0])
    assert slowed > 0


@pytest.mark.parametrize("name", ALL.values(), ids=ALL)
def test_no_distance_changes_by_more_than_reach(name: str) -> None:
    robot, rng = load_robot(name), np.random.default_rng(3)
    clearance, greatest = Clearance(robot, 0.02), 0.0
    for number, start in enumerate(robot.sample_configuration(rng, 60)):
        change = rng.uniform(-0.3, 0.3, len(start))
        end = start + (change if number % 2 else change * np.eye(len(start))[number % len(start)])
        before, after = (all_distances(robot, at, 10.0) for at in (start, end))
        bounds = clearance.reach @ np.abs(end - start)
        for pair, bound in zip(clearance.pairs, bounds, strict=True):
            changed = abs(after[pair] - before[pair])
            assert changed <= bound + 1e-9
            greatest = max(greatest, changed / max(bound, 1e-9))
        assert sorted(before) == sorted(clearance.pairs)
    assert greatest > 0.5  # and the bound is worth something


def test_links_in_different_layers_never_collide() -> None:
    robot, rng = load_robot("planar8"), np.random.default_rng(4)
    gaps = dict(zip((clearance := Clearance(robot, 0.02)).pairs, clearance._gaps, strict=True))
    names = {robot.model.geom(geom).name: geom for geom in range(robot.model.ngeom)}
    layers = names["left_1_geom"], names["right_1_geom"]
    assert gaps[layers] == pytest.approx(0.07 - 2 * 0.022)
    assert gaps[names["right_1_geom"], names["right_3_geom"]] == 0.0
    for joint_pos in robot.sample_configuration(rng, 200):
        distances = all_distances(robot, joint_pos, 10.0)
        assert all(distances[pair] >= gap - 1e-9 for pair, gap in gaps.items())
    assert not any(Clearance(load_robot("humanoid27"), 0.02)._gaps)


@pytest.mark.parametrize("name", ALL.values(), ids=ALL)
def test_gradient_by_finite_differences(name: str) -> None:
    robot, rng, step = load_robot(name), np.random.default_rng(5), 1e-6
    clearance, compared = Clearance(robot, 0.2), 0
    for joint_pos in robot.sample_configuration(rng, min(20, 1000 // len(clearance.pairs))):
        still = np.zeros_like(joint_pos)
        for pair, distance, _ in clearance.approaches(joint_pos, still):
            gradient = clearance.gradient(pair)
            assert np.abs(gradient[~clearance.joints_between(pair)]).max(initial=0.0) < 1e-12
            for joint in range(len(joint_pos)):
                moved = joint_pos.copy()
                moved[joint] += step
                slope = (all_distances(robot, moved, 10.0)[pair] - distance) / step
                assert gradient[joint] == pytest.approx(slope, abs=2e-4)
                compared += 1
            clearance.approaches(joint_pos, still)
    assert compared > 200


def test_collision_filters_of_the_model_apply(tmp_path: Path) -> None:
    """Unnamed geoms, geoms without collision, excluded bodies, and pairs that the model names."""
    (tmp_path / "robot.xml").write_text("""
<mujoco>
  <worldbody>
    <body name="base"/>
    <body name="a" pos="0 0 0"><joint name="a" type="slide" axis="1 0 0" range="-1 1"/>
      <geom size="0.05"/><geom size="0.02" contype="0" conaffinity="0"/><site name="tip"/></body>
    <body name="b" pos="1 0 0"><joint name="b" type="slide" axis="1 0 0" range="-1 1"/>
      <geom size="0.05"/><geom name="ghost" size="0.02" contype="0" conaffinity="0"/>
      <site name="end"/></body>
    <body name="c" pos="2 0 0"><joint name="c" type="slide" axis="1 0 0" range="-1 1"/>
      <geom name="c" size="0.05"/><site name="far"/></body>
  </worldbody>
  <contact><exclude body1="a" body2="b"/><pair geom1="ghost" geom2="c"/></contact>
</mujoco>""")
    content = {"name": "beads", "model": "robot.xml", "base_frame": "base", "control_rate": 50.0}
    content["effectors"] = {name: {"site": name} for name in ("tip", "end", "far")}
    content["joints"] = {name: {"velocity": 1.0, "acceleration": 5.0} for name in "abc"}
    (tmp_path / "robot.yaml").write_text(yaml.safe_dump(content))
    robot = load_robot(tmp_path / "robot.yaml")
    clearance = Clearance(robot, 0.02)
    # geoms: a 0, 1 (no collision); b 2, 3 (ghost); c 4
    assert sorted(clearance.pairs) == [(0, 4), (2, 4), (3, 4)]
    found = clearance.approaches(np.array([0.0, 0.0, -0.5]), np.array([0.0, 0.395, 0.0]))
    assert found == [((2, 4), pytest.approx(0.4), pytest.approx(0.395))]
    assert clearance.joints_between((2, 4)).tolist() == [False, True, True]


def box(name: str, size: str) -> str:
    return (
        f"""<body name="{name}"><freejoint/><geom name="{name}" type="box" size="{size}"/></body>"""
    )


def test_distances_of_boxes_are_those_of_their_corners_and_edges() -> None:
    """Contacts of MuJoCo are wrong here by centimetres. Against sampled points of both surfaces."""
    boxes = box("a", "0.1 0.05 0.03") + box("b", "0.04 0.08 0.02")
    model = mujoco.MjModel.from_xml_string(f"<mujoco><worldbody>{boxes}</worldbody></mujoco>")
    data, rng, compared = mujoco.MjData(model), np.random.default_rng(0), 0
    distances = BoxDistances(model, [(0, 1)])
    for _ in range(200):
        data.qpos[:] = rng.normal(size=14)
        data.qpos[:3], data.qpos[7:10] = 0.0, rng.uniform(-0.2, 0.2, 3)
        mujoco.mj_kinematics(model, data)
        mine = dict(distances.nearer_than(data, np.array([0.1]))).get((0, 1), np.inf)
        if mine < 0.005:
            continue
        # nearest point of box a to points on box b
        points = rng.uniform(-1.0, 1.0, (4000, 3))
        face = rng.integers(3, size=4000)
        points[np.arange(4000), face] = np.sign(points[np.arange(4000), face])
        corners = np.array(np.meshgrid(*[[-1.0, 1.0]] * 3)).reshape(3, -1).T
        cloud = np.vstack([points, corners]) * model.geom_size[1]
        world = cloud @ data.geom_xmat[1].reshape(3, 3).T + data.geom_xpos[1]
        inside = (world - data.geom_xpos[0]) @ data.geom_xmat[0].reshape(3, 3)
        gaps = np.maximum(np.abs(inside) - model.geom_size[0], 0.0)
        sampled = np.linalg.norm(gaps, axis=1).min()
        if mine == np.inf:
            assert sampled > 0.1 - 1e-6
            continue
        assert mine - 1e-6 <= sampled < mine + 0.006
        compared += 1
    assert compared > 20


def test_pairs_of_boxes_are_among_the_moving_pairs() -> None:
    robot = load_robot("dual7")
    palms = tuple(robot.model.geom(f"{side}_palm_geom").id for side in ("left", "right"))
    assert palms in moving_pairs(robot) == sorted(Clearance(robot, 0.02).pairs)
