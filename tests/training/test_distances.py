"""Stop and slow distance of a robot, and the reach that sets their defaults."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml

from polyreach_description import RobotError, load_robot

# arms of 1 * SCALE and 0.5 * SCALE behind a slide joint of 0.2 * SCALE travel
MODEL = """<mujoco><worldbody>
  <body name="base">
    <body name="cart" pos="0 0 {0}">
      <joint name="slide" type="slide" axis="1 0 0" range="-{1} {2}"/>
      <geom name="cart" size="{3}"/>
      <body name="upper" pos="{4} 0 0">
        <joint name="turn" axis="0 0 1" range="-3 3"/>
        <geom name="upper" size="{3}"/>
        <body name="lower" pos="0 {0} 0">
          <joint name="bend" axis="0 1 0" range="-1 1"/>
          <geom name="lower" size="{3}"/>
          <site name="tip" pos="0 0 {5}"/>
        </body>
      </body>
    </body>
  </body>
</worldbody></mujoco>"""
LIMITS = {"velocity": 1.0, "acceleration": 5.0}
Make = Callable[..., Path]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    def write(scale: float = 1.0, **keys: object) -> Path:
        sizes = (scale * size for size in (1.0, 0.1, 0.2, 0.05, 0.3, 0.5))
        (tmp_path / "robot.xml").write_text(MODEL.format(*sizes))
        content = {
            "name": "arm",
            "model": "robot.xml",
            "base_frame": "base",
            "control_rate": 50.0,
            "effectors": {"tip": {"site": "tip"}},
            "joints": {"slide": LIMITS, "turn": LIMITS, "bend": LIMITS},
            **keys,
        }
        path = tmp_path / "robot.yaml"
        path.write_text(yaml.safe_dump(content))
        return path

    return write


def test_reach_by_hand_arithmetic(make: Make) -> None:
    # cart to upper: 0.3 + 0.2 of travel; upper to lower: 1; lower to tip: 0.5
    assert load_robot(make()).reach == pytest.approx(2.0)
    assert load_robot(make(0.1)).reach == pytest.approx(0.2)


@pytest.mark.parametrize("name", ["planar8", "humanoid27", "dual7"])
def test_no_effector_is_farther_than_reach(name: str) -> None:
    robot = load_robot(name)
    low, high = robot.joint_pos_limits.T
    first = robot.tree.anchor[0]  # shared, and its anchor does not move
    sample = np.random.default_rng(0).uniform(low, high, (2000, len(low)))
    effectors = np.array([robot.forward_kinematics(joint_pos) for joint_pos in sample])
    farthest = np.linalg.norm(effectors - first, axis=-1).max()
    assert 0.7 * robot.reach < farthest <= robot.reach


def test_reach_of_planar8_is_its_longest_branch() -> None:
    # the right branch is 0.14 m above the shared links
    length = 0.35 + np.hypot(0.30, 0.14) + 0.26 + 0.22 + 0.18
    assert load_robot("planar8").reach == pytest.approx(length)


@pytest.mark.parametrize(
    ("scale", "keys", "stop", "slow"),
    [
        (1.0, {}, 0.01, 0.025),
        (0.25, {}, 0.01, 0.025),  # 0.5 m
        (0.05, {}, 0.002, 0.005),  # 0.1 m, a fifth of it
        (0.05, {"collision_stop_distance": 0.004}, 0.004, 0.01),
        (1.0, {"collision_slow_distance": 0.05}, 0.01, 0.05),
        (1.0, {"collision_slow_distance": 0.01}, 0.004, 0.01),
        (1.0, {"collision_stop_distance": 0.02, "collision_slow_distance": 0.06}, 0.02, 0.06),
    ],
)
def test_defaults_follow_reach_and_each_other(
    make: Make, scale: float, keys: dict[str, float], stop: float, slow: float
) -> None:
    robot = load_robot(make(scale, **keys))
    assert (robot.stop_distance, robot.slow_distance) == pytest.approx((stop, slow))


def test_distances_of_the_shipped_robots() -> None:
    for name, expected in {
        "planar8": (0.01, 0.025),
        "humanoid27": (0.02, 0.06),
        "dual7": (0.01, 0.025),
    }.items():
        robot = load_robot(name)
        assert (robot.stop_distance, robot.slow_distance) == pytest.approx(expected)


def test_distances_of_pairs_are_symmetric(make: Make) -> None:
    robot = load_robot(make(no_collision=[["lower", "cart", 0.005]]))
    lower, cart = (robot.model.body(name).id for name in ("lower", "cart"))
    expected = np.full((robot.model.nbody, robot.model.nbody), np.inf)
    expected[lower, cart] = expected[cart, lower] = 0.005
    assert (robot.pair_distances == expected).all()


def test_distances_are_no_part_of_the_digest(make: Make) -> None:
    digest = load_robot(make()).sha256
    keys = {"collision_stop_distance": 0.02, "no_collision": [["lower", "cart", 0.005]]}
    assert load_robot(make(**keys)).sha256 == digest


@pytest.mark.parametrize(
    ("keys", "reason"),
    [
        ({"collision_stop_distance": 0}, "collision_stop_distance is 0, but must be a number from"),
        ({"collision_stop_distance": 20}, "20, but must be a number from 0.0001 to 1 [m]"),
        ({"collision_slow_distance": "far"}, "collision_slow_distance is 'far', but must be"),
        (
            {"collision_stop_distance": 0.02, "collision_slow_distance": 0.02},
            "collision_slow_distance is 0.02, but must be more than the stop distance, 0.02 [m]",
        ),
        (
            {"no_collision": [["lower", "cart", 0.01]]},
            "distance of [lower, cart] in 'no_collision' is 0.01, but must be a number from "
            "0.0001 to less than the stop distance, 0.01 [m]",
        ),
        ({"no_collision": [["lower", "cart", -1]]}, "[lower, cart] in 'no_collision' is -1"),
        ({"no_collision": [["lower", "nose", 0.005]]}, "unknown link 'nose' in 'no_collision'"),
    ],
)
def test_wrong_distances_are_reported(make: Make, keys: dict[str, object], reason: str) -> None:
    path = make(**keys)
    with pytest.raises(RobotError) as caught:
        load_robot(path)
    assert reason in str(caught.value) and str(path) in str(caught.value)
