"""docs/your-robot.md, command by command, for a URDF with four effectors on a rail."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from command_line import run, run_process
from numpy.typing import NDArray
from rig import Launcher
from scenarios import Probe, assert_reaches, assert_within_limits

from polyreach_description import Robot, load_robot

ROBOT = Path(__file__).parents[1] / "robots" / "picker" / "robot.yaml"
STEPS = 60_000
# a small network and small batches: a minute on one core, instead of the hours of a good policy
SMALL = f"""--num-envs 64 --eval-every {STEPS} --eval-goals 64 --env-config.configurations 1000
    --method-config.noise-steps {STEPS} --method-config.batch-size 128
    --method-config.hidden 128 128""".split()
GOALS, CARD_GOALS = 40, 2  # measured by evaluate, and by export
FEW = ["--controlled", "2", "--starts", "2"]  # of what no test here looks at
FAR = 0.15  # [m], from home to the farthest of a set of goals
ROUNDS = 3


@dataclass(frozen=True)
class Trained:
    """Files and output of the commands."""

    policy: Path
    check: dict
    figures: dict


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    folder = tmp_path_factory.mktemp("your-robot") / "run"
    policy = folder.parent / "picker.onnx"
    words = ["train", "digrad", ROBOT, "--steps", str(STEPS), "--out", folder, *SMALL]
    done = [
        run("robot", "check", ROBOT, "--json"),
        run_process(*words),  # it would leave this process without denormal numbers
        run("export", folder, "--out", policy, "--goals", str(CARD_GOALS)),
        run("evaluate", policy, "--robot", ROBOT, "--goals", str(GOALS), *FEW, "--json"),
    ]
    assert [each.returncode for each in done] == [0] * 4, done
    return Trained(policy, json.loads(done[0].stdout), json.loads(done[3].stdout)["policy"])


@pytest.mark.slow
def test_robot_check_reports_shared_joints(trained: Trained) -> None:
    check = trained.check
    assert check["effectors"] == ["left_hand", "right_hand", "camera", "tray"]
    assert check["shared joints"] == ["rail", "torso_yaw", "chest_pitch"]
    assert check["joints of camera"] == ["rail", "torso_yaw", "boom_lift", "boom_extend"]
    assert check["joints of tray"] == ["rail", "tray_turn", "tray_lift"]
    units = {joint["name"]: joint["unit"] for joint in check["joints"]}
    assert units["rail"] == "m" and units["torso_yaw"] == "rad"


@pytest.mark.slow
def test_a_short_training_clearly_beats_its_start(trained: Trained) -> None:
    figures = trained.figures
    # an untrained policy leaves 0.77 of the distance and reaches none
    assert figures["error_median_m"] < 0.45 * figures["start_error_median_m"]
    assert figures["success_all"]["0.05"] > 0.1
    assert all(each["success"]["0.05"] > 0.1 for each in figures["effectors"].values())
    card = trained.policy.with_suffix(".md").read_text()
    assert f"{CARD_GOALS} goal sets" in card and "`tray_lift`" in card


def goals_near_home(robot: Robot, seed: int) -> NDArray[np.float64]:
    """Effector positions (E, 3) [m] at a configuration that turns and shifts every joint a bit."""
    low, high = robot.joint_pos_limits.T
    home = robot.forward_kinematics(robot.home)
    step = np.random.default_rng(seed).choice([-1.0, 1.0], len(low))
    size = 0.1
    for _ in range(10):
        goals = robot.forward_kinematics(np.clip(robot.home + size * step, low, high))
        size *= FAR / np.linalg.norm(goals - home, axis=-1).max()
    return goals


@pytest.mark.slow
def test_the_policy_drives_all_four_effectors_over_ros(
    trained: Trained, start: Launcher, ros_domain_id: int
) -> None:
    robot = load_robot(ROBOT)
    start("sim_node", {"robot": str(ROBOT)}, "-r", "commands:=polyreach_controller/commands")
    start(
        "controller_node",
        {"robot": str(ROBOT), "policy": str(trained.policy), "autostart": True},
    )
    home = robot.forward_kinematics(robot.home)
    with Probe(robot, ros_domain_id) as probe:
        probe.wait_goals_subscribed()
        probe.wait_state("IDLE")
        for seed in range(ROUNDS):
            near = goals_near_home(robot, seed)
            assert (np.linalg.norm(near - home, axis=-1) > 0.02).all()
            for goals in (near, home):
                assert_reaches(probe, dict(zip(robot.effector_names, goals, strict=True)))
        assert_within_limits(robot, probe.commands)
        moved = np.any([command.joint_vel != 0 for command in probe.commands], axis=0)
        assert moved.all()
