"""The obstacle benchmark: its scenes, distances, planned motions, controllers, and the page."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import mujoco
import numpy as np
import pytest
from hostile_obstacles import Scene as ExactScene
from numpy.typing import NDArray

from benchmarks import obstacles, worker_process
from benchmarks.obstacle_controllers import (
    RESERVE,
    LimitedController,
    LimitedQP,
    Motion,
    NodeController,
    PlannedController,
    obstacle_marker,
)
from benchmarks.obstacle_episodes import Outcome, play, play_all
from benchmarks.obstacle_scenes import (
    SIZES,
    Scene,
    SceneDistance,
    draw_scenes,
    is_in_way,
    rounded_boxes,
)
from benchmarks.obstacles_page import draw_results, results_page, wilson
from benchmarks.qp_controller import QPController
from benchmarks.rrt_planner import MARGIN, MultiStartWays, Plan, RRTWays
from polyreach.deploy.controllers import LeastSquaresController
from polyreach.deploy.goal_sets import GoalErrors
from polyreach_description import Robot, load_robot
from polyreach_description.policy_search import find_policy
from polyreach_description.policy_tensors import NO_OBSTACLE, OBSTACLES, PolicyInputs
from polyreach_nodes.control.goal_frames import LinkFrames
from polyreach_nodes.control.obstacle import Obstacle, Shape
from polyreach_nodes.control.obstacle_markers import read_obstacle

Array = NDArray[np.float64]
IDENTITY = (0.0, 0.0, 0.0, 1.0)
needs_workers = pytest.mark.skipif(
    not worker_process.PYTHON.exists(), reason="no .venv-qp: `make qp` makes it"
)


@pytest.fixture(scope="module")
def scenes(planar8: Robot) -> list[Scene]:
    return draw_scenes(planar8, 6, 3)


@pytest.mark.parametrize("name", ["planar8", "humanoid27", "dual7"])
def test_start_and_goal_are_clear_of_all_obstacles(name: str) -> None:
    """By another model of the scene, which the tests of the controller use."""
    robot = load_robot(name)
    for number, scene in enumerate(draw_scenes(robot, 4, 3)):
        assert len(scene.obstacles) == OBSTACLES
        exact = ExactScene(robot, list(scene.obstacles))
        for joint_pos in (scene.start, scene.end):
            exact.at(joint_pos, 0.0)
            assert exact.distances().min() >= 2 * robot.stop_distance - 1e-9
        distances = []
        for share in np.linspace(0.0, 1.0, 51):
            exact.at(scene.start + share * (scene.end - scene.start), 0.0)
            distances.append(exact.distances()[:, 0].min())
        if number % 2 == 0:
            assert min(distances) < robot.stop_distance
        in_way = is_in_way(robot, scene.start, scene.end, scene.obstacles[:1])
        assert in_way == (min(distances) < robot.stop_distance)
        positions, _ = robot.effector_poses(scene.end)
        np.testing.assert_allclose(scene.goals.positions[0], positions, atol=1e-9)
        for obstacle in scene.obstacles:
            used = {Shape.SPHERE: 1, Shape.CYLINDER: 2, Shape.CUBE: 3}[obstacle.shape]
            shares = np.array(obstacle.size[:used]) / robot.reach
            assert (shares >= SIZES[0]).all() and (shares <= SIZES[1]).all()


def test_scenes_depend_on_the_seed_alone(planar8: Robot, scenes: list[Scene]) -> None:
    for again, scene in zip(draw_scenes(planar8, 3, 3), scenes[:3], strict=True):
        assert again.obstacles == scene.obstacles
        assert (again.start == scene.start).all() and (again.end == scene.end).all()
    other = draw_scenes(planar8, 1, 4)[0]
    assert other.obstacles != scenes[0].obstacles and (other.start != scenes[0].start).any()
    assert scenes[0].with_first(2).obstacles == scenes[0].obstacles[:2]


def test_clearance_of_a_sphere_from_capsules_and_cylinders_by_hand(planar8: Robot) -> None:
    """The distance of a point from a segment or a cylinder, less the radii."""
    model, data = planar8.model, planar8.data_at_home()
    origin, base = data.xpos[planar8.base_body], data.xmat[planar8.base_body].reshape(3, 3)
    collides = (model.geom_contype | model.geom_conaffinity) > 0
    moving = np.flatnonzero((planar8.geom_movers >= 0) & collides)
    is_capsule = model.geom_type == mujoco.mjtGeom.mjGEOM_CAPSULE
    assert (is_capsule | (model.geom_type == mujoco.mjtGeom.mjGEOM_CYLINDER))[moving].all()
    rng = np.random.default_rng(0)
    compared = 0
    for _ in range(20):
        radius = rng.uniform(0.02, 0.1)
        place = data.geom_xpos[rng.choice(moving)] + rng.normal(0.0, 0.15, 3)
        expected = []
        for geom in moving:
            thick, half = model.geom_size[geom, :2]
            x, y, z = (place - data.geom_xpos[geom]) @ data.geom_xmat[geom].reshape(3, 3)
            beyond, out = max(0.0, abs(z) - half), np.hypot(x, y)
            if is_capsule[geom]:
                expected.append(np.hypot(out, beyond) - thick - radius)
            else:
                expected.append(np.hypot(max(0.0, out - thick), beyond) - radius)
        x, y, z = ((place - origin) @ base).tolist()
        sphere = Obstacle("by/0", Shape.SPHERE, (radius, 0.0, 0.0), (x, y, z), IDENTITY)
        distance = SceneDistance(planar8, 0.3, [sphere])
        least = min(0.3, min(expected))
        assert distance.clearance(planar8.home) == pytest.approx(least, abs=1e-6)
        compared += 0.0 < least < 0.3
    assert compared > 5


@pytest.mark.parametrize("name", ["planar8", "humanoid27"])
def test_distances_are_those_of_mujoco(name: str) -> None:
    """Of every moving geom from every obstacle, also inside; and they count as pairs."""
    robot = load_robot(name)
    scene = draw_scenes(robot, 1, 5)[0]
    distance = SceneDistance(robot, 0.1, scene.obstacles)
    exact = ExactScene(robot, list(scene.obstacles))
    inside = 0
    for joint_pos in robot.sample_configuration(np.random.default_rng(0), 40):
        exact.at(joint_pos, 0.0)
        expected = exact.distances()
        assert distance.clearance(joint_pos) == pytest.approx(min(0.1, expected.min()), abs=1e-9)
        near = distance.obstacle_distances(joint_pos)
        assert len(near) == (expected < 0.1).sum()
        inside += expected.min() < 0.0
        bodies, shares = distance.within(joint_pos)
        with_obstacle = bodies[:, 1] >= robot.model.nbody
        assert with_obstacle.sum() == len(near)
        if near:
            assert shares[with_obstacle].min() == pytest.approx(expected.min() / 0.1)
            assert distance.least_share(joint_pos) <= shares[with_obstacle].min()
    assert inside > 0


def test_the_input_of_policies_has_boxes_around_the_obstacles() -> None:
    place, turn = (0.1, 0.2, 0.3), (0.0, 0.0, 0.6, 0.8)
    listed = [
        Obstacle("a/0", Shape.SPHERE, (0.05, 0.0, 0.0), place, turn),
        Obstacle("a/1", Shape.CUBE, (0.1, 0.2, 0.3), place, turn),
        Obstacle("a/2", Shape.CYLINDER, (0.1, 0.4, 0.0), place, turn),
    ]
    rows = rounded_boxes(listed)
    assert rows.shape == (OBSTACLES, len(NO_OBSTACLE))
    np.testing.assert_array_equal(rows[0], [*place, *turn, 0.0, 0.0, 0.0, 0.05])
    np.testing.assert_array_equal(rows[1], [*place, *turn, 0.1, 0.2, 0.3, 0.0])
    np.testing.assert_array_equal(rows[2], [*place, *turn, 0.1, 0.1, 0.4, 0.0])
    np.testing.assert_array_equal(rows[3:], np.tile(NO_OBSTACLE, (OBSTACLES - 3, 1)))


def test_markers_become_the_same_obstacles(planar8: Robot, scenes: list[Scene]) -> None:
    links = LinkFrames(planar8, planar8.qpos)
    for obstacle in scenes[0].obstacles:
        read = read_obstacle(obstacle_marker(obstacle), planar8, links, links_known=False)
        assert (read.name, read.shape) == (obstacle.name, obstacle.shape)
        np.testing.assert_allclose(read.size, obstacle.size)
        np.testing.assert_allclose(read.position, obstacle.position)
        np.testing.assert_allclose(read.orientation, obstacle.orientation)


def test_motions_keep_the_limits(planar8: Robot) -> None:
    joints = len(planar8.home)
    way = planar8.home + np.array([np.zeros(joints), np.full(joints, 0.3), np.full(joints, -1.0)])
    motion, step = Motion(planar8, way), 1e-3
    times = np.arange(0.0, 5.0, step)
    positions, velocities = (np.array(part) for part in zip(*map(motion.at, times), strict=True))
    np.testing.assert_array_equal(positions[0], way[0])
    np.testing.assert_array_equal(positions[-1], way[-1])
    assert np.abs(positions - way[1]).max(axis=1).min() < 1e-5
    np.testing.assert_allclose(np.gradient(positions, step, axis=0), velocities, atol=1e-2)
    assert (np.abs(velocities) <= planar8.joint_vel_limits * (1 + 1e-9)).all()
    accelerations = np.abs(np.diff(velocities, axis=0)) / step
    assert (accelerations <= RESERVE * planar8.joint_acc_limits * (1 + 1e-6)).all()
    # a short leg is two ramps: t = 2 sqrt(d / a)
    short = Motion(planar8, np.stack([planar8.home, planar8.home + 0.01]))
    end_s = 2 * np.sqrt(0.01 / (RESERVE * planar8.joint_acc_limits.min()))
    assert (short.at(0.999 * end_s)[0] < planar8.home + 0.01).all()
    assert (short.at(1.001 * end_s)[0] == planar8.home + 0.01).all()


def test_a_motion_without_a_way_stands_still(planar8: Robot) -> None:
    position, velocity = Motion(planar8, np.stack([planar8.home] * 2)).at(0.0)
    assert (position == planar8.home).all() and not velocity.any()


def straight(scene: Scene) -> Plan:
    return Plan(np.stack([scene.start, scene.end]), 0.1)


def test_episodes_count_what_the_robot_did(planar8: Robot, scenes: list[Scene]) -> None:
    """The straight way reaches the goals without obstacles, and ends where it touches one."""
    model, controller = planar8.simulation_model(), PlannedController(planar8, straight)
    scene = next(
        scene
        for scene in scenes
        if clearance_on_way(planar8, scene) < -0.02 and least_self_share(planar8, scene) > 1.5
    )
    free = play(planar8, model, replace(scene, obstacles=()), controller, 5.0)
    assert free.inside.all() and free.clear.all() and not free.touched
    assert 0.3 < free.time_s < 4.0
    late = PlannedController(planar8, lambda scene: replace(straight(scene), seconds=1.1))
    waited = play(planar8, model, replace(scene, obstacles=()), late, 5.0)
    assert waited.time_s == pytest.approx(free.time_s + 1.0, abs=0.05)
    hit = play(planar8, model, scene, controller, 5.0)
    assert hit.touched and hit.near and not hit.inside.any() and hit.clearance <= 0.0
    assert hit.time_s == np.inf


def clearance_on_way(robot: Robot, scene: Scene) -> float:
    distance = SceneDistance(robot, 0.1, scene.obstacles)
    shares = np.linspace(0.0, 1.0, 101)
    return min(distance.clearance(scene.start + s * (scene.end - scene.start)) for s in shares)


def least_self_share(robot: Robot, scene: Scene) -> float:
    distance = SceneDistance(robot, robot.stop_distance, ())
    shares = np.linspace(0.0, 1.0, 101)
    return min(distance.least_share(scene.start + s * (scene.end - scene.start)) for s in shares)


class Recorder:
    """A controller that keeps what it gets, and holds the robot."""

    def __init__(self) -> None:
        self.obstacles: list[Array] = []

    def reset(self, rows: int) -> None:
        assert rows == 1

    def command(self, inputs: PolicyInputs[Array]) -> Array:
        assert inputs.obstacles is not None
        self.obstacles.append(inputs.obstacles)
        return np.zeros_like(inputs.joint_pos)


def test_policies_get_the_obstacles(planar8: Robot, scenes: list[Scene]) -> None:
    recorder, scene = Recorder(), scenes[0].with_first(3)
    outcome = play_all(planar8, [scene], LimitedController(planar8, recorder), 0.2)[0]
    assert len(recorder.obstacles) == 10 and not outcome.inside.any() and not outcome.near
    for value in recorder.obstacles:
        np.testing.assert_array_equal(value, rounded_boxes(scene.obstacles)[None])


def test_the_controller_stops_where_least_squares_touches(
    planar8: Robot, scenes: list[Scene]
) -> None:
    node = NodeController(planar8, find_policy("planar8"))
    squares = LimitedController(planar8, LeastSquaresController(planar8))
    guarded, ignoring = (play_all(planar8, scenes[:3], each, 2.0) for each in (node, squares))
    assert any(outcome.touched for outcome in ignoring)
    assert not any(outcome.touched for outcome in guarded) and not node.faults
    assert min(outcome.clearance for outcome in guarded) > 0.9 * planar8.stop_distance


def test_multi_start_keeps_clear_of_obstacles(planar8: Robot, scenes: list[Scene]) -> None:
    ways, clear = MultiStartWays(planar8), []
    for scene in [*(scene.with_first(1) for scene in scenes), *scenes]:
        plan, reaches = ways.plan_straight(scene)
        clear.append(reaches)
        distance = SceneDistance(planar8, (1 + MARGIN) * planar8.stop_distance, scene.obstacles)
        end = plan.way[-1]
        assert distance.least_share(end) >= 1.0 and plan.seconds > 0.0
        error = GoalErrors(planar8)(end[None], scene.goals)[0].max()
        assert (error < 0.01) == reaches
    assert any(clear) and not all(clear)


@needs_workers
@pytest.mark.parametrize("name", ["planar8", "humanoid27"])
def test_rrt_finds_ways_around(name: str) -> None:
    """Where no straight way is clear, some way is found, and it is clear on all of its points."""
    robot, found = load_robot(name), 0
    with RRTWays(robot) as ways:
        for scene in draw_scenes(robot, 6, 3):
            scene = scene.with_first(1)
            if MultiStartWays(robot).plan_straight(scene)[1]:
                continue
            plan = ways.plan(scene)
            error = GoalErrors(robot)(plan.way[-1][None], scene.goals)[0].max()
            if error > 0.01:
                continue
            found += len(plan.way) > 2
            np.testing.assert_array_equal(plan.way, ways.plan(scene).way)
            distance = SceneDistance(robot, robot.stop_distance, scene.obstacles)
            for start, end in zip(plan.way, plan.way[1:], strict=False):
                for share in np.linspace(0.0, 1.0, 100):
                    assert distance.least_share(start + share * (end - start)) >= 1.0
    assert found > 0


@needs_workers
def test_the_program_stops_before_an_obstacle(planar8: Robot) -> None:
    """A box is where a hand is to go: the hand gets near, but not to the stop distance."""
    start, reach = planar8.home, planar8.reach
    end = np.clip(start + 0.4, *planar8.joint_pos_limits.T)
    goals = GoalErrors(planar8).goals(end[None])
    x, y, z = goals.positions[0, 0].tolist()
    box = Obstacle("a/0", Shape.CUBE, (0.03 * reach,) * 3, (x, y, z), IDENTITY)
    scene = Scene(start, end, goals, (box,))
    before = SceneDistance(planar8, 10.0, scene.obstacles).clearance(start)
    with QPController(planar8) as program:
        outcome = play_all(planar8, [scene], LimitedQP(planar8, program), 4.0)[0]
        assert 0 < len(program.times) < 20
        free = replace(scene, obstacles=())
        ignored = play_all(planar8, [free], LimitedQP(planar8, program), 4.0)[0]
    assert before > 0.03 and ignored.inside.all()
    assert planar8.stop_distance < outcome.clearance < 3 * planar8.stop_distance
    assert not outcome.inside.any() and not outcome.near


def test_intervals_by_hand() -> None:
    """Values of Brown, Cai and DasGupta 2001 and of the closed form at 0 and 1."""
    assert wilson(5, 10) == pytest.approx((0.2366, 0.7634), abs=1e-4)
    assert wilson(0, 10) == pytest.approx((0.0, 0.2775), abs=1e-4)
    assert wilson(10, 10) == pytest.approx((0.7225, 1.0), abs=1e-4)
    assert wilson(0, 0) == (0.0, 1.0)


def outcome(inside: int, near: bool, clearance: float, time_s: float) -> Outcome:
    return Outcome(np.arange(3) >= 3 - inside, near, clearance, time_s)


def test_figures_count_outcomes(planar8: Robot) -> None:
    listed = [
        outcome(3, False, 0.05, 1.0),
        outcome(2, False, 0.03, 2.0),
        outcome(3, True, 0.005, 3.0),
        outcome(0, True, -0.01, np.inf),
    ]
    figures = obstacles.figures(planar8, listed, np.array([False, True, True, True]))
    assert figures["inside"] == {"0.01": 2, "0.02": 3}
    assert figures["clear"] == {"0.01": 1, "0.02": 2}
    assert figures["clear_in_way"] == {"0.01": 0, "0.02": 1}
    assert (figures["near"], figures["touched"]) == (2, 1)
    assert figures["time_s"]["0.5"] == 2.0
    assert figures["clearance_p5_m"] == pytest.approx(-0.01 + 0.15 * 0.015)


def result(clear: int) -> dict[str, Any]:
    figures = {
        "inside": {"0.01": 9, "0.02": 10},
        "clear": {"0.01": clear, "0.02": clear + 1},
        "clear_in_way": {"0.01": 2, "0.02": 2},
        "near": 1,
        "touched": 0,
        "clearance_p5_m": 0.012,
        "time_s": {"0.5": 1.25, "0.95": 3.0},
        "command_s": {"mean_s": 0.0005, "worst_s": 0.002},
    }
    return {
        "goals": 10,
        "seconds": 8.0,
        "stop_distance_m": 0.01,
        "oriented": False,
        "policy": "mine.onnx",
        "in_way": {"1": 4, "8": 8},
        "solved": {"1": 10, "8": 9},
        "controllers": {"policy": {"1": figures, "8": figures}},
    }


def test_page_and_picture(tmp_path: Path) -> None:
    page = results_page({"planar8": result(5)})
    assert "\n## planar8\n\n10 goal sets; stop distance 10 mm. The policy is `mine.onnx`." in page
    assert "| policy | 50% (24 to 76) | 50% (24 to 76) |" in page
    assert "obstacle in the straight way | 50% (15 to 85) | 25% (7 to 59) |" in page
    assert "| scenes with an obstacle in the straight way | 40% | 80% |" in page
    assert "| within 10 mm | 90% |" in page and "12 mm; 1.2 s (3.0 s)" in page
    assert "0.5 ms (2 ms)" in page
    draw_results({"planar8": result(5), "arm": result(0)}, tmp_path / "obstacles.png")
    assert (tmp_path / "obstacles.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(ValueError, match="no results"):
        results_page({})


def test_results_of_other_robots_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[str, str, int, list[int]]] = []

    def measured(robot: Robot, policy: Path, goals: int, counts: list[int], *_: Any) -> Any:
        seen.append((robot.name, policy.name, goals, counts))
        return result(len(seen))

    monkeypatch.setattr(obstacles, "measure_robot", measured)
    out = ["--out", str(tmp_path)]
    assert obstacles.main(["planar8", "--goals", "7", "--obstacles", "8", "1", *out]) == 0
    assert obstacles.main(["humanoid27=mine.onnx", *out]) == 0
    assert seen == [
        ("planar8", "planar8-apg.onnx", 7, [1, 8]),
        ("humanoid27", "mine.onnx", 60, [1, 2, 4, 8]),
    ]
    assert json.loads((tmp_path / "obstacles.json").read_text()).keys() == {"planar8", "humanoid27"}
    assert obstacles.main(["--redraw", *out]) == 0 and len(seen) == 2
    page = (tmp_path / "obstacles.md").read_text()
    assert page.index("## planar8") < page.index("## humanoid27")


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--goals", "0"], "--goals is 0, but must be at least 1"),
        (["--obstacles", "1", "9"], "--obstacles is 9, but must be from 1 to 8"),
    ],
)
def test_numbers_out_of_range(
    argv: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        obstacles.parse_arguments(argv)
    assert message in capsys.readouterr().err
