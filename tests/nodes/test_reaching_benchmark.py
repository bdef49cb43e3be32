"""The reaching benchmark: the copy of a robot for other versions of MuJoCo, the quadratic program
as a controller, and the page of results.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mujoco
import numpy as np
import pytest
from numpy.typing import NDArray

from benchmarks import qp_controller, reaching
from benchmarks.kinematic_copy import collision_pairs, kinematic_mjcf
from benchmarks.qp_controller import QPController
from benchmarks.reaching_page import clear_rate, compute_ms, draw_results, results_page
from polyreach_description import Robot, load_robot
from polyreach_description.orientation import orientation_errors
from polyreach_description.policy_tensors import PolicyInputs

ROBOTS = Path(__file__).parents[1] / "robots"
NAMES = (
    "planar8",
    "humanoid27",
    str(ROBOTS / "picker" / "robot.yaml"),
    str(ROBOTS / "hand" / "robot.yaml"),  # with joints that follow others
)
needs_program = pytest.mark.skipif(
    not qp_controller.PYTHON.exists(), reason="no .venv-qp: `make qp` makes it"
)


@pytest.mark.parametrize("name", NAMES)
def test_the_copy_moves_as_the_robot(name: str) -> None:
    """Only joints that move are in it; effectors, and distances of pairs, are where they were."""
    robot = load_robot(name)
    copy = mujoco.MjModel.from_xml_string(kinematic_mjcf(robot))
    data, fromto = mujoco.MjData(copy), np.zeros(6)
    assert copy.nq == len(robot.moved.ids)
    np.testing.assert_allclose(copy.jnt_range, robot.model.jnt_range[robot.moved.ids])
    near = robot.proximity_model(0.05)
    own = mujoco.MjData(near)
    pairs, compared = collision_pairs(robot), 0
    for joint_pos in robot.sample_configuration(np.random.default_rng(0), 40):
        data.qpos[:] = robot.moved.positions(joint_pos)
        mujoco.mj_kinematics(copy, data)
        own.qpos[:] = robot.qpos(joint_pos)
        mujoco.mj_kinematics(near, own)
        mujoco.mj_collision(near, own)
        sites = [data.site(f"effector{i}").xpos for i in range(len(robot.effector_names))]
        np.testing.assert_allclose(sites, own.site_xpos[robot.site_ids], atol=1e-9)
        for geoms, distance in zip(own.contact.geom, own.contact.dist, strict=True):
            first, second = sorted(int(geom) for geom in geoms)
            if robot.geom_movers[first] == robot.geom_movers[second]:
                assert (first, second) not in pairs
                continue
            assert (first, second) in pairs
            ids = (copy.geom(f"geom{geom}").id for geom in (first, second))
            least = mujoco.mj_geomDistance(copy, data, *ids, 0.1, fromto)
            assert least <= distance + 1e-5  # one of several contacts of the pair
            compared += 1
    assert compared > 0


def test_pairs_that_may_touch_are_not_kept_apart(tmp_path: Path) -> None:
    folder = ROBOTS / "picker"
    text = (folder / "robot.yaml").read_text().replace("robot.urdf", str(folder / "robot.urdf"))
    before = load_robot(folder / "robot.yaml")
    kept = body_pairs(before)
    pair = next(iter(kept))
    names = ", ".join(before.model.body(body).name for body in pair)
    (tmp_path / "robot.yaml").write_text(f"{text}\nno_collision: [[{names}]]\n")
    assert body_pairs(load_robot(tmp_path / "robot.yaml")) == kept - {pair}


def body_pairs(robot: Robot) -> set[tuple[int, int]]:
    """Bodies that are kept apart, the base left out."""
    bodies = robot.model.geom_bodyid[collision_pairs(robot)]
    pairs = {(int(min(pair)), int(max(pair))) for pair in bodies}
    return {pair for pair in pairs if robot.base_body not in pair}


def drive(
    controller: QPController,
    start: NDArray[np.float64],
    goals: NDArray[np.float64],
    periods: int,
    orientations: NDArray[np.float64] | None = None,
) -> Iterator[NDArray[np.float64]]:
    """States (nu,) of a robot that follows each command exactly."""
    robot, joint_pos, command = controller.robot, start, np.zeros_like(start)
    change = robot.joint_acc_limits / robot.control_rate
    effectors = len(robot.effector_names)
    if orientations is None:
        orientations = np.tile([0.0, 0.0, 0.0, 1.0], (effectors, 1))
    for _ in range(periods):
        before = command
        command = controller.command(
            PolicyInputs(
                joint_pos[None],
                goals[None],
                np.ones((1, effectors)),
                before[None],
                orientations[None],
                robot.oriented[None].astype(np.float64),
            )
        )[0]
        assert (np.abs(command) <= robot.joint_vel_limits * (1 + 1e-6)).all()
        command = np.clip(command, before - change, before + change)
        joint_pos = joint_pos + command / robot.control_rate
        yield joint_pos


@needs_program
@pytest.mark.parametrize("name", [NAMES[1], NAMES[3]])
def test_the_program_reaches_a_goal_nearby(name: str) -> None:
    robot = load_robot(name)
    joint_pos = np.clip(robot.home + 0.2, *robot.joint_pos_limits.T)
    goals = robot.forward_kinematics(joint_pos)
    distance = np.linalg.norm(goals - robot.forward_kinematics(robot.home), axis=-1)
    assert distance.max() > 0.1 * robot.reach
    with QPController(robot) as controller:
        for state in drive(controller, robot.home, goals, round(3 * robot.control_rate)):
            last = state
        assert len(controller.times) == round(3 * robot.control_rate) and min(controller.times) > 0
    error = np.linalg.norm(robot.forward_kinematics(last) - goals, axis=-1)
    assert error.max() < 4e-3 * robot.reach


@needs_program
def test_the_program_turns_axes_and_poses(tmp_path: Path) -> None:
    """In the end, the hand's axis and the camera's orientation are those of their goals."""
    folder = ROBOTS / "picker"
    text = (folder / "robot.yaml").read_text().replace("robot.urdf", str(folder / "robot.urdf"))
    text = text.replace("left_gripper,", "left_gripper, goal: axis, axis: x,")
    text = text.replace("body: camera,", "body: camera, goal: pose,")
    (tmp_path / "robot.yaml").write_text(text)
    robot = load_robot(tmp_path / "robot.yaml")
    low, high = robot.joint_pos_limits.T
    end = robot.home + np.where(robot.home + 0.15 < high, 0.15, -0.15) * (high - low) / 3
    goals, orientations = robot.effector_poses(np.clip(end, low, high))

    def angles(joint_pos: NDArray[np.float64]) -> NDArray[np.float64]:
        return orientation_errors(
            robot.effector_goals,
            robot.effector_axes,
            robot.effector_poses(joint_pos)[1],
            orientations,
        )

    assert angles(robot.home)[[0, 2]].min() > np.radians(10.0)
    with QPController(robot) as controller:
        for state in drive(controller, robot.home, goals, 200, orientations):
            last = state
    assert np.linalg.norm(robot.forward_kinematics(last) - goals, axis=-1).max() < 2e-3
    assert angles(last).max() < np.radians(0.5)


@needs_program
def test_the_program_keeps_bodies_apart() -> None:
    """Both hands are sent to one point: they get near, but not to the stop distance."""
    robot = load_robot("humanoid27")
    hands = robot.forward_kinematics(robot.home)
    goals = np.tile(hands.mean(axis=0) + np.array([0.15, 0.0, 0.0]), (2, 1))
    near = robot.proximity_model(0.2)
    data, distances = mujoco.MjData(near), []
    with QPController(robot) as controller:
        for state in drive(controller, robot.home, goals, round(3 * robot.control_rate)):
            data.qpos[:] = robot.qpos(state)
            mujoco.mj_kinematics(near, data)
            mujoco.mj_collision(near, data)
            moved = robot.geom_movers[data.contact.geom]
            apart = data.contact.dist[moved[:, 0] != moved[:, 1]]
            distances.append(apart.min(initial=0.2))
    assert robot.stop_distance < min(distances) < 3 * robot.stop_distance


@needs_program
def test_the_program_stops_before_position_limits() -> None:
    """A goal far outside the workspace drives joints to their limits, not past them."""
    robot = load_robot("planar8")
    goals = np.tile([50.0, 0.0, 0.0], (3, 1))
    with QPController(robot) as controller:
        for state in drive(controller, robot.home, goals, round(3 * robot.control_rate)):
            assert (state >= robot.joint_pos_limits[:, 0] - 1e-6).all()
            assert (state <= robot.joint_pos_limits[:, 1] + 1e-6).all()


def test_errors_of_the_process(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    robot = load_robot("planar8")
    monkeypatch.setattr(qp_controller, "PYTHON", tmp_path / "python")
    with pytest.raises(RuntimeError, match="is missing: make it with `make qp`"):
        QPController(robot)
    (tmp_path / "python").write_text("#!/bin/sh\nexit 3\n")
    (tmp_path / "python").chmod(0o755)
    with pytest.raises(RuntimeError, match="ended with status 3"):
        list(drive(QPController(robot), robot.home, np.zeros((3, 3)), 1))


def figures(rate: float, compute_s: float, **others: Any) -> dict[str, Any]:
    return {
        "seconds": 5.0,
        "episodes": 50,
        "stop_distance_m": 0.01,
        "success_all": {"0.01": 1.0, "0.02": 1.0},
        "effectors": {},
        "clear_all": {"0.01": rate, "0.02": 1.0},
        "compute": {"mean_s": compute_s, "worst_s": 2 * compute_s},
        "controlled": {
            "episodes": 20,
            "moving": {"0.3": {"error_median_m": 0.012, "error_p95_m": 0.03}},
        },
        **others,
    }


def test_page_and_picture(tmp_path: Path) -> None:
    planner = figures(0.875, 0.0, plan={"mean_s": 0.05, "worst_s": 0.1}, starts=20)
    del planner["compute"]
    results = {"planar8": {"policy": figures(0.75, 2e-4), "multi-start": planner}}
    page = results_page(results)
    assert "\n## planar8\n\n50 goal sets; 20 through" in page and "; 4 paths" in page
    assert "|  | policy | multi-start |\n| --- | ---: | ---: |\n" in page
    assert "| 75.0% | 87.5% |" in page and "12.0 mm (30.0 mm)" in page
    assert "0.20 ms (0.40 ms)" in page and "from 20 random starts" in page
    assert clear_rate(planner) == 87.5 and compute_ms(planner) == pytest.approx(50.0)
    draw_results(results, tmp_path / "reaching.png")
    assert (tmp_path / "reaching.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(ValueError, match="no results"):
        results_page({})


def test_results_of_other_robots_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[str, str | None]] = []

    def measured(robot: Robot, policy: Path | None, config: Any) -> Iterator[tuple[str, Any]]:
        seen.append((robot.name, policy and policy.name))
        yield "policy", figures(1.0 / len(seen), 1e-4)

    monkeypatch.setattr(reaching, "controller_figures", measured)
    out = ["--out", str(tmp_path)]
    assert reaching.main(["planar8", *out]) == 0
    assert reaching.main([f"{ROBOTS / 'picker' / 'robot.yaml'}=mine.onnx", *out]) == 0
    assert seen == [("planar8", "planar8-apg.onnx"), ("picker", "mine.onnx")]
    written = json.loads((tmp_path / "reaching.json").read_text())
    rates = {robot: clear_rate(of["policy"]) for robot, of in written.items()}
    assert rates == {"planar8": 100.0, "picker": 50.0}
    assert reaching.main(["--redraw", *out]) == 0 and len(seen) == 2
    page = (tmp_path / "reaching.md").read_text()
    assert page.index("## planar8") < page.index("## picker")
