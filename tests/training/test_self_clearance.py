"""Distances of capsules by hand, against MuJoCo and against finite differences; the fit."""

from collections.abc import Callable
from dataclasses import fields
from pathlib import Path

import mujoco
import numpy as np
import pytest
import torch
import yaml
from torch import Tensor

from polyreach.robot import capsule_fit
from polyreach.robot.capsule_fit import fit_capsules
from polyreach.robot.self_clearance import Capsules, SelfClearance
from polyreach_description import Robot, load_robot
from polyreach_description.geom_pairs import EVERYTHING, moving_pairs

ROBOTS = Path(__file__).parents[1] / "robots"
ROBOT = load_robot("planar8")
ARM = """<mujoco><compiler angle="radian"/>{3}<worldbody>
  {0}
  <body name="base">
    <body name="upper"><joint name="a" axis="0 1 0" range="-1.5 1.5"/>
      <inertial pos="0.1 0 0" mass="1" diaginertia="0.01 0.01 0.01"/>{1}
      <body name="lower" pos="0.4 0 0"><joint name="b" axis="0 1 0" range="-2.8 2.8"/>
        <inertial pos="0.1 0 0" mass="1" diaginertia="0.01 0.01 0.01"/>{2}
        <site name="tip" pos="0.3 0 0"/>
      </body>
    </body>
  </body>
</worldbody></mujoco>"""


@pytest.fixture
def arm(tmp_path: Path) -> Callable[..., Robot]:
    """Two links in a vertical plane, with geoms of the world and of both links."""

    def make(world: str = "", upper: str = "", lower: str = "", asset: str = "") -> Robot:
        (tmp_path / "robot.xml").write_text(ARM.format(world, upper, lower, asset))
        limits = {"velocity": 2.0, "acceleration": 20.0}
        content = {
            "name": "arm",
            "model": "robot.xml",
            "base_frame": "base",
            "control_rate": 50.0,
            "effectors": {"tip": {"site": "tip"}},
            "joints": {"a": limits, "b": limits},
        }
        (tmp_path / "robot.yaml").write_text(yaml.safe_dump(content))
        return load_robot(tmp_path / "robot.yaml")

    return make


def fixed(first: list, second: list, offset: float = 0.0) -> SelfClearance:
    """Two capsules (start, end, radius) that no joint moves."""
    pairs = zip(first, second, strict=True)
    start, end, radius = (np.array(part, dtype=np.float64) for part in pairs)
    capsules = Capsules(np.full(2, -1), start, end, radius, np.array([[0, 1]]), np.array([offset]))
    return SelfClearance(ROBOT, capsules, torch.float64)


X, Y = [1.0, 0.0, 0.0], [0.0, 1.0, 0.0]
ORIGIN = [0.0, 0.0, 0.0]


@pytest.mark.parametrize(
    ("start", "end", "distance"),
    [
        ([0.5, -1.0, 0.3], [0.5, 1.0, 0.3], 0.3),  # crosses above
        ([0.2, 0.5, 0.0], [0.8, 0.5, 0.0], 0.5),  # parallel, beside
        ([0.8, 0.5, 0.0], [0.2, 0.5, 0.0], 0.5),  # antiparallel
        ([2.0, 0.0, 0.0], [3.0, 0.0, 0.0], 1.0),  # in one line
        ([2.0, 1.0, 0.0], [3.0, 1.0, 0.0], 2**0.5),  # parallel, behind the end
        ([1.3, 0.4, 0.0], [2.0, 0.4, 0.0], 0.5),
        ([0.4, 0.2, 0.0], [0.4, 0.2, 0.0], 0.2),  # a point
        ([-0.3, 0.0, 0.4], [-0.3, 0.0, 0.4], 0.5),
        ([1.5, -0.5, 0.0], [1.5, 2.0, 0.0], 0.5),  # nearest within the second, at an end of X
        ([0.25, 0.25, 0.0], [1.0, 1.0, 0.0], 0.25),
    ],
)
def test_segments_by_hand(start: list[float], end: list[float], distance: float) -> None:
    joint_pos = torch.zeros(1, 8, dtype=torch.float64)
    first, second = (ORIGIN, X, 0.05), (start, end, 0.02)
    for pair in ((first, second), (second, first)):
        found = fixed(*map(list, pair), offset=0.01).at(joint_pos)
        assert found.tolist() == [[pytest.approx(distance - 0.08, abs=1e-6)]]


def test_two_points_by_hand() -> None:
    found = fixed([ORIGIN, ORIGIN, 0.1], [[0.0, 3.0, 4.0], [0.0, 3.0, 4.0], 0.4])
    assert float(found.at(torch.zeros(1, 8).double())) == pytest.approx(4.5)


def test_random_capsules_equal_mujoco() -> None:
    rng = np.random.default_rng(0)
    ends = rng.uniform(-1, 1, (60, 2, 3))
    ends[10:20, 1] = ends[10:20, 0] + 1e-3 * rng.uniform(-1, 1, (10, 3))  # almost points
    ends[20:40:2, 1] = ends[20:40:2, 0] + 0.7 * (ends[21:40:2, 1] - ends[21:40:2, 0])  # parallel
    for first, second in ends.reshape(-1, 2, 2, 3):
        places = (" ".join(str(value) for value in ends.ravel()) for ends in (first, second))
        geoms = "".join(f'<geom type="capsule" size="0.05" fromto="{place}"/>' for place in places)
        model = mujoco.MjModel.from_xml_string(f"<mujoco><worldbody>{geoms}</worldbody></mujoco>")
        data = mujoco.MjData(model)
        mujoco.mj_kinematics(model, data)
        expected = mujoco.mj_geomDistance(model, data, 0, 1, 10.0, None)
        found = fixed([*first, 0.05], [*second, 0.05]).at(torch.zeros(1, 8).double())
        assert float(found) == pytest.approx(expected, abs=1e-5)


def exact(robot: Robot, sample: np.ndarray) -> np.ndarray:
    """Smallest distance (N,) [m] of the robot's bodies, from MuJoCo."""
    model, data = robot.model, robot.data_at_home()
    pairs, nearest = moving_pairs(robot), np.full(len(sample), EVERYTHING)
    for row, joint_pos in enumerate(sample):
        robot.write_qpos(data.qpos, joint_pos)
        mujoco.mj_kinematics(model, data)
        for pair in pairs:
            distance = mujoco.mj_geomDistance(model, data, *pair, float(nearest[row]), None)
            nearest[row] = min(nearest[row], distance)
    return nearest


def draw(robot: Robot, count: int) -> np.ndarray:
    low, high = robot.joint_pos_limits.T
    return np.random.default_rng(5).uniform(low, high, (count, len(low)))


def fitted(robot: Robot, sample: np.ndarray, dtype: torch.dtype = torch.float64) -> np.ndarray:
    clearance = SelfClearance(robot, fit_capsules(robot), dtype)
    return clearance.at(torch.tensor(sample, dtype=dtype)).amin(dim=1).numpy()


@pytest.mark.parametrize("name", ["planar8", str(ROBOTS / "hand" / "robot.yaml")])
def test_capsules_of_a_model_move_as_in_mujoco(name: str) -> None:
    """With followers, slides and capsules that no joint moves; where they are near."""
    robot = load_robot(name)
    sample = draw(robot, 60)
    capsules = fit_capsules(robot)
    found = SelfClearance(robot, capsules, torch.float64).at(torch.tensor(sample))
    # without what the fit adds for geoms that are no capsules
    is_capsule = robot.model.geom_type == mujoco.mjtGeom.mjGEOM_CAPSULE
    pairs = [pair for pair in moving_pairs(robot) if is_capsule[list(pair)].all()]
    model, data = robot.model, robot.data_at_home()
    compared = 0
    for row, joint_pos in enumerate(sample):
        robot.write_qpos(data.qpos, joint_pos)
        mujoco.mj_kinematics(model, data)
        ours = found[row].numpy() + capsules.offset
        for pair in pairs:
            distance = mujoco.mj_geomDistance(model, data, *pair, EVERYTHING, None)
            if distance < 0.05:
                compared += 1
                assert np.abs(ours - distance).min() < 2e-5
    assert compared > 20


def test_the_fit_of_planar8_is_exact() -> None:
    capsules, sample = fit_capsules(ROBOT), draw(ROBOT, 200)
    assert (capsules.offset == 0.0).all() and capsules.misjudged == 0.0
    near = exact(ROBOT, sample) < 0.05
    difference = fitted(ROBOT, sample) - exact(ROBOT, sample)
    assert near.sum() > 20 and np.abs(difference[near]).max() < 1e-4


def test_the_fit_is_the_same_every_time() -> None:
    robot = load_robot("humanoid27")
    first, again = fit_capsules(robot), fit_capsules(load_robot("humanoid27"))
    for field in fields(Capsules):
        assert np.array_equal(getattr(first, field.name), getattr(again, field.name))


BOXES = {
    "world": '<geom type="box" size="0.15 0.1 0.05" pos="0.45 0 -0.25"/>',
    "upper": '<geom type="box" size="0.1 0.05 0.04" pos="0.15 0 0"/>',
    "lower": '<geom type="cylinder" size="0.03 0.08" pos="0.2 0 0" euler="0 1.5708 0"/>',
}


WEDGE = {
    **BOXES,
    "lower": '<geom type="mesh" mesh="wedge"/>',
    "asset": '<asset><mesh name="wedge" vertex="0.08 0 0.04  0.08 0 -0.04  0.3 0.02 0  0.3 -0.02 0 '
    ' 0.08 0.04 0  0.08 -0.04 0"/></asset>',
}


@pytest.mark.parametrize("geoms", [BOXES, WEDGE], ids=["boxes and cylinder", "mesh"])
def test_bodies_are_rarely_missed_and_rarely_seen_where_they_are_not(
    geoms: dict[str, str], arm: Callable[..., Robot]
) -> None:
    robot = arm(**geoms)
    sample = draw(robot, 600)
    distance, found = exact(robot, sample), fitted(robot, sample)
    touching, far = distance < robot.stop_distance, distance > 0.08
    assert touching.sum() > 30 and far.sum() > 100
    missed, alarms = (found > robot.stop_distance) & touching, (found < robot.stop_distance) & far
    assert missed.sum() < 0.06 * touching.sum()
    assert alarms.sum() < 0.02 * far.sum()


@pytest.mark.parametrize("geoms", [BOXES, WEDGE], ids=["boxes and cylinder", "mesh"])
def test_capsules_that_were_moved_misjudge_less_than_half_as_often(
    geoms: dict[str, str], arm: Callable[..., Robot], monkeypatch: pytest.MonkeyPatch
) -> None:
    robot = arm(**geoms)
    sample = draw(robot, 1500)
    distance, stop = exact(robot, sample), robot.stop_distance

    def misjudged() -> int:
        near = fitted(robot, sample) < stop
        return int((near & (distance > 1.5 * stop)).sum() + (~near & (distance < stop)).sum())

    moved = misjudged()
    monkeypatch.setattr(capsule_fit, "refine_capsules", lambda robot, capsules, *_: capsules)
    first = misjudged()
    assert first > 10 and moved < 0.5 * first, (first, moved)


def test_a_plane_is_a_large_sphere(arm: Callable[..., Robot]) -> None:
    sphere = '<geom type="sphere" size="0.04" pos="0.3 0 0"/>'
    robot = arm(world='<geom type="plane" size="1 1 1" pos="0 0 -0.3"/>', lower=sphere)
    sample = draw(robot, 100)
    distance, found = exact(robot, sample), fitted(robot, sample)
    near = np.abs(distance) < 0.2
    assert near.sum() > 20 and np.abs(found - distance)[near].max() < 2e-3
    single = fitted(robot, sample, torch.float32)
    assert np.abs(single - found)[near].max() < 1e-3


def test_a_robot_without_bodies_that_may_collide_is_always_clear(
    arm: Callable[..., Robot],
) -> None:
    robot = arm(upper='<geom size="0.05"/>')
    assert fitted(robot, draw(robot, 5)).min() > 100.0


def test_gradients_equal_finite_differences() -> None:
    robot = load_robot(ROBOTS / "hand" / "robot.yaml")
    clearance = SelfClearance(robot, fit_capsules(robot), torch.float64)
    joint_pos = torch.tensor(draw(robot, 3), requires_grad=True)

    def at(joint_pos: Tensor) -> Tensor:
        return clearance.at(joint_pos)

    assert torch.autograd.gradcheck(at, (joint_pos,), eps=1e-6, atol=1e-4)


@pytest.mark.parametrize("other", [[ORIGIN, X, 0.05], [X, ORIGIN, 0.05], [Y, Y, 0.05]])
def test_gradients_of_touching_and_parallel_capsules_are_finite(other: list) -> None:
    capsules = Capsules(
        np.array([-1, 7]),
        np.array([ORIGIN, other[0]]),
        np.array([X, other[1]]),
        np.array([0.05, other[2]]),
        np.array([[0, 1]]),
        np.zeros(1),
    )
    joint_pos = torch.zeros(1, 8, requires_grad=True)
    SelfClearance(ROBOT, capsules).at(joint_pos).sum().backward()
    assert joint_pos.grad is not None and bool(joint_pos.grad.isfinite().all())
