"""The nearest obstacles as an input of policies: which they are, where, and who computes them."""

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import hostile_obstacles as hostile
import mujoco
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pose_policy import FREE, WELDER, export_pose_least_squares, reachable_poses
from test_obstacles_guarantee import marker_of

from polyreach_description import Robot, load_robot
from polyreach_description.orientation import matrices
from polyreach_description.policy_tensors import NO_OBSTACLE, OBSTACLES
from polyreach_nodes.control.nearest_obstacles import hull_distances
from polyreach_nodes.control.obstacle import Obstacle, Shape
from polyreach_nodes.control.obstacle_clearance import MAX_OBSTACLES
from polyreach_nodes.control.obstacles import VELOCITY_TIMEOUT_S, Obstacles
from polyreach_nodes.control.policy import Policy
from polyreach_nodes.control.proximity import Proximity
from polyreach_nodes.control.reach_control import ReachControl
from polyreach_nodes.ros.reports import controller_status

UPRIGHT = (0.0, 0.0, 0.0, 1.0)
BALL = Obstacle("test/0", Shape.SPHERE, (0.1, 0.0, 0.0), (3.0, 0.0, 4.0), UPRIGHT)


@pytest.fixture(scope="module")
def humanoid() -> Robot:
    return load_robot("humanoid27")


@pytest.fixture(scope="module")
def welder() -> Robot:
    return load_robot(WELDER)


@pytest.fixture(scope="module")
def policy_path(welder: Robot, once: Callable[[str, Callable[[Path], object]], Path]) -> Path:
    return once("welder.onnx", lambda path: export_pose_least_squares(welder, path))


@pytest.mark.parametrize("shape", list(Shape))
def test_distances_of_hulls_are_those_of_mujoco(shape: Shape) -> None:
    """A ball and the box or ball about an obstacle; a cylinder's box touches it at its sides."""
    rng, size = np.random.default_rng(0), {Shape.SPHERE: 1, Shape.CUBE: 3, Shape.CYLINDER: 2}[shape]
    spec = mujoco.MjSpec()
    ball = spec.worldbody.add_body(name="ball", mocap=True)
    ball.add_geom(name="ball", type=mujoco.mjtGeom.mjGEOM_SPHERE, size=[0.05, 0, 0])
    sides = np.append(rng.uniform(0.05, 0.3, size), np.zeros(3 - size))
    box = [sides[0], sides[0], sides[1]] if shape is Shape.CYLINDER else sides
    hull = Shape.SPHERE if shape is Shape.SPHERE else Shape.CUBE
    spec.worldbody.add_body(name="hull", mocap=True).add_geom(
        name="hull", type=hull.value, size=box
    )
    model = spec.compile()
    data, ids = mujoco.MjData(model), [model.geom("ball").id, model.geom("hull").id]
    apart = 0
    for _ in range(200):
        places, turn = rng.normal(0.0, 0.4, (2, 3)), rng.normal(size=4)
        turn /= np.linalg.norm(turn)
        data.mocap_pos[:], data.mocap_quat[1] = places, np.roll(turn, 1)
        mujoco.mj_kinematics(model, data)
        expected = mujoco.mj_geomDistance(model, data, *ids, 10.0, None)
        half, rounding = Obstacle("a/0", shape, tuple(sides), tuple(places[1]), tuple(turn)).hull
        row = np.array([[*places[1], *turn, *half, rounding]])
        distance = hull_distances(row, matrices(turn[None]), places[:1], np.array([0.05]))[0, 0]
        if expected > 0.0:
            assert distance == pytest.approx(expected, abs=1e-6)
            apart += 1
        else:
            assert distance < 1e-6
    assert 50 < apart < 200


def brute_force(robot: Robot, joint_pos: np.ndarray, listed: list[Obstacle]) -> list[float]:
    """Distances [m] from spheres about the geoms, one by one."""
    data, model = mujoco.MjData(robot.model), robot.model
    data.qpos[:] = robot.qpos(joint_pos)
    mujoco.mj_kinematics(model, data)
    origin, base = data.xpos[robot.base_body], data.xmat[robot.base_body].reshape(3, 3)
    distances = []
    for obstacle in listed:
        half, rounding = obstacle.hull
        turn = np.empty(9)
        mujoco.mju_quat2Mat(turn, np.roll(obstacle.orientation, 1))
        world = base @ turn.reshape(3, 3)
        middle, least = origin + base @ obstacle.position, math.inf
        for geom in range(model.ngeom):
            if robot.geom_movers[geom] < 0 or not (
                model.geom_contype[geom] or model.geom_conaffinity[geom]
            ):
                continue
            inside = world.T @ (data.geom_xpos[geom] - middle)
            gap = math.hypot(*(max(0.0, abs(x) - h) for x, h in zip(inside, half, strict=True)))
            least = min(least, gap - model.geom_rbound[geom] - rounding)
        distances.append(least)
    return distances


def row_of(obstacle: Obstacle) -> list[float]:
    half, rounding = obstacle.hull
    return [*obstacle.position, *obstacle.orientation, *half, rounding]


def test_the_nearest_by_brute_force_in_any_order(humanoid: Robot) -> None:
    proximity = Proximity(humanoid, humanoid.slow_distance, humanoid.stop_distance)
    chosen = 0

    @settings(max_examples=40, deadline=None, derandomize=True)
    @given(st.integers(0, 2**32 - 1), st.integers(0, MAX_OBSTACLES))
    def nearest(seed: int, count: int) -> None:
        nonlocal chosen
        rng = np.random.default_rng(seed)
        joint_pos = humanoid.sample_configuration(rng, 1)[0]
        listed = [
            hostile.obstacle(f"hostile/{number}", rng.normal(0.0, 0.6, 3), rng)
            for number in range(count)
        ]
        speeds = rng.uniform(-2.0, 2.0, (count, 3)) * (rng.uniform(size=(count, 1)) < 0.3)
        listed = [
            replace(obstacle, velocity=tuple(speed))
            for obstacle, speed in zip(listed, speeds.tolist(), strict=True)
        ]
        given_rows = []
        for order in (range(count), rng.permutation(count).tolist()):
            obstacles = store(humanoid, proximity)
            for now_s in (10.0, 10.1):  # two messages, of which their velocities follow
                placed = [moved(listed[number], now_s - 10.1) for number in order]
                assert (
                    obstacles.take([marker_of(obstacle) for obstacle in placed], now_s, None) == ""
                )
            given_rows.append(obstacles.nearest(joint_pos, 10.3))
        if not count:
            assert given_rows == [None, None]
            return
        assert np.array_equal(*given_rows)
        now = [moved(obstacle, 0.2) for obstacle in listed]
        distances = brute_force(humanoid, joint_pos, now)
        by_distance = np.argsort(distances)[:OBSTACLES]
        expected = [row_of(now[number]) for number in by_distance]
        expected += [list(NO_OBSTACLE)] * (OBSTACLES - len(expected))
        assert np.allclose(sorted(given_rows[0].tolist()), sorted(expected), atol=1e-9)
        chosen += count > OBSTACLES

    nearest()
    assert chosen > 15


def store(robot: Robot, proximity: Proximity) -> Obstacles:
    return Obstacles(robot, proximity, links=None)  # type: ignore[arg-type]


def moved(obstacle: Obstacle, time_s: float) -> Obstacle:
    position = np.add(obstacle.position, np.multiply(obstacle.velocity, time_s))
    return replace(obstacle, position=tuple(position.tolist()))


def test_an_obstacle_is_where_it_moves_to_until_it_counts_as_at_rest(humanoid: Robot) -> None:
    proximity = Proximity(humanoid, humanoid.slow_distance, humanoid.stop_distance)
    obstacles = store(humanoid, proximity)
    for now_s, x in ((0.0, 3.0), (0.1, 2.9)):
        assert obstacles.take([marker_of(replace(BALL, position=(x, 0.0, 4.0)))], now_s, None) == ""

    def place(now_s: float) -> float:
        obstacles.expire(now_s)
        rows = obstacles.nearest(humanoid.home, now_s)
        assert rows is not None and rows[0, 1:3].tolist() == [0.0, 4.0]
        assert rows[1:].tolist() == [list(NO_OBSTACLE)] * (OBSTACLES - 1)
        return float(rows[0, 0])

    assert place(0.1) == pytest.approx(2.9)
    assert place(0.2) == pytest.approx(2.8)
    assert place(0.1 + VELOCITY_TIMEOUT_S - 1e-6) == pytest.approx(2.4)
    # a sensor that says nothing any more: where it saw the obstacle last
    assert place(0.1 + VELOCITY_TIMEOUT_S) == pytest.approx(2.9)


class Drive:
    """A controller whose joints follow its commands."""

    def __init__(self, robot: Robot, policy: Policy) -> None:
        self.control = ReachControl(robot, policy)
        self.joint_pos, self.now_s = robot.home.copy(), 100.0
        self.control.activate()
        positions, orientations = reachable_poses(robot, 2, 0.3)
        for name, place, turned in zip(robot.effector_names, positions, orientations, strict=True):
            reason = self.control.goals.set(name, "", tuple(place), self.now_s, tuple(turned))
            assert reason == ""

    def step(self) -> np.ndarray:
        control = self.control
        self.now_s += control.period_s
        control.receive(list(control.robot.joint_names), self.joint_pos.tolist(), self.now_s)
        command = control.tick(self.now_s, control.period_s)
        assert control.watchdog.fault == ""
        self.joint_pos = self.joint_pos + control.period_s * command
        return command


def test_a_policy_is_fed_and_keeps_its_memory(welder: Robot, policy_path: Path) -> None:
    """Of an obstacle 5 m from the base it is half as fast; its memory counts on."""
    drives = [Drive(welder, Policy.load(policy_path, welder)) for _ in range(2)]
    free, near = drives
    for _ in range(5):
        assert np.array_equal(free.step(), near.step())
    memory = near.control.pipeline._memory
    assert memory is not None and memory[0] == 5.0
    status = controller_status(near.control, "ACTIVE", "", has_valid_state=True)
    assert status.avoids_obstacles and status.obstacles == 0
    wanted: dict[int, list[np.ndarray]] = {0: [], 1: []}
    for number, drive in enumerate(drives):
        compute = drive.control.pipeline.policy.compute

        def recorded(inputs, compute=compute, number=number):  # type: ignore[no-untyped-def]
            output = compute(inputs)
            wanted[number].append(output.joint_vel - 0.3 * inputs.previous_joint_vel)
            return output

        drive.control.pipeline.policy.compute = recorded  # type: ignore[method-assign]
    assert near.control.take_obstacles([marker_of(BALL)], near.now_s) == ""
    free.step(), near.step()
    factor = math.hypot(*BALL.position) / FREE
    assert wanted[1][0] == pytest.approx(factor * wanted[0][0], rel=1e-4)
    memory = near.control.pipeline._memory
    assert memory is not None and memory[0] == 6.0


def test_nothing_is_computed_for_a_policy_without_the_input(
    policy: Policy, planar8: Robot, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Obstacles, "nearest", None)
    drive = Drive(planar8, policy)
    assert drive.control.take_obstacles([marker_of(BALL)], drive.now_s) == ""
    assert drive.step().any()
    status = controller_status(drive.control, "ACTIVE", "", has_valid_state=True)
    assert not status.avoids_obstacles and status.obstacles == 1


def test_distances_are_computed_only_where_there_is_a_choice(
    humanoid: Robot, monkeypatch: pytest.MonkeyPatch
) -> None:
    proximity = Proximity(humanoid, humanoid.slow_distance, humanoid.stop_distance)
    obstacles = store(humanoid, proximity)
    markers = [replace(marker_of(BALL), number=number) for number in range(OBSTACLES + 1)]
    assert obstacles.take(markers[:OBSTACLES], 0.0, None) == ""
    monkeypatch.setattr(Proximity, "spheres", None)
    rows = obstacles.nearest(humanoid.home, 0.0)
    assert rows is not None and rows.tolist() == [row_of(BALL)] * OBSTACLES
    assert obstacles.take(markers, 0.0, None) == ""
    with pytest.raises(TypeError):
        obstacles.nearest(humanoid.home, 0.0)
