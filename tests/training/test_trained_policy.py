"""Trained policies: requirements for every kind of them, and illegal ones."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from task_fakes import PointMasses

from polyreach.commands.train import train_config
from polyreach.envs.reach.task_reach import TaskReachConfig, TaskReachEnv
from polyreach.envs.registry import find_env_spec
from polyreach.envs.task_env import TaskEnv
from polyreach.errors import UserError
from polyreach.methods import get_method
from polyreach.methods.trained_policy import AdaptedPolicy, state_of
from polyreach.robot.features import FEATURES, Observation
from polyreach.robot.onnx_policy import PolicyFile
from polyreach.runs.checkpoint import save_checkpoint
from polyreach.runs.config import RunConfig
from polyreach.runs.folder import RunFolder
from polyreach.runs.trained_policy import read_policy, read_run
from polyreach_description import load_robot
from polyreach_description.policy_tensors import PolicyInputs

GANTRY = str(Path(__file__).parents[1] / "robots" / "gantry" / "robot.yaml")
MODELS = Path(__file__).parents[2] / "models"
SMALL = ("--method-config.hidden", "8")


def make_run(folder: Path, *words: str) -> Any:
    """A run folder with the checkpoint of a learner that has not learned; returns the learner."""
    _, config = train_config(words)
    env = config.env_spec.make(config.env_config, config.num_envs, "cpu", 1, config.seed)
    learner: Any = get_method(config.method).learner(
        config.method_config, env, config.steps, config.seed
    )
    RunFolder(folder).create(config)
    with torch.no_grad():
        for parameter in learner.actor.parameters():
            parameter += 0.1 * torch.randn(parameter.shape)
    save_checkpoint(RunFolder(folder).checkpoints, 0, learner.state_dict())
    return learner


def adapted(path: str, env: TaskEnv) -> AdaptedPolicy:
    """The policy at `path`, as it acts in `env`."""
    return read_policy(path).adapt(env)


def gantry_env(**changes: Any) -> TaskReachEnv:
    spec = find_env_spec(GANTRY, True)
    env = spec.make(replace(spec.settings("tuned"), **changes), 8, "cpu", 1, 5)  # type: ignore[type-var]
    assert isinstance(env, TaskReachEnv)
    return env


def test_the_digest_of_a_teacher_is_unchanged_by_new_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_run(tmp_path, "independent-sac", GANTRY, *SMALL)
    before = read_run(str(tmp_path))
    known = RunConfig.to_json
    monkeypatch.setattr(RunConfig, "to_json", lambda config: {**known(config), "new": 1})
    assert read_run(str(tmp_path)).sha256 == before.sha256
    file = RunFolder(tmp_path).config_file
    content = json.loads(file.read_text())
    content["config"]["seed"] += 1
    file.write_text(json.dumps(content))
    assert read_run(str(tmp_path)).sha256 != before.sha256


KINDS: dict[str, tuple[str, ...]] = {
    "independent-sac": SMALL,
    "mtsac": SMALL,
    "picor": SMALL,
    "dgrad-a": SMALL,
    "ktm": SMALL,
    "ppo": SMALL,
    "specialization": (*SMALL, "--method-config.joint-steps", "10"),
    "a2c": (*SMALL, "--method-config.sharing", "none"),
    "distillation": SMALL,
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_policy_teaches(kind: str, tmp_path: Path) -> None:
    """Its actions are those of the policy that was trained, for any of the tasks; so is the mean of
    its distribution, squashed or clipped as it does.
    """
    words = ("--num-envs", "8", "--seed", "3", *KINDS[kind])
    learner = make_run(tmp_path / "run", kind, GANTRY, *words)
    env = gantry_env()
    count = env.tasks
    teacher = adapted(str(tmp_path / "run"), env)
    obs = env.reset(3)
    rows = torch.tensor(list(range(count))[::-1])
    expected = learner.actor.mean_action(obs.flip(0))
    wanted = teacher.action(obs, torch.arange(count))
    assert torch.allclose(wanted, learner.actor.mean_action(obs), atol=1e-6)
    assert torch.allclose(teacher.action(obs.flip(0), torch.arange(count)), expected, atol=1e-6)
    one = teacher.action(obs[:1], rows[:1])
    assert torch.allclose(one, learner.actor.mean_action(obs[:1].expand_as(obs))[-1:], atol=1e-6)
    if kind == "ktm":
        assert teacher.distribution is None
        return
    assert teacher.distribution is not None
    mean, log_std = teacher.distribution(obs, torch.arange(count))
    assert mean.shape == log_std.shape == wanted.shape
    assert teacher.squashes is (kind in ("independent-sac", "mtsac", "picor", "dgrad-a"))
    assert torch.allclose(
        torch.tanh(mean) if teacher.squashes else mean.clamp(-1, 1), wanted, atol=1e-6
    )
    assert teacher.rows == tuple(range(count))


def test_the_digest_depends_on_the_actions_of_a_teacher(tmp_path: Path) -> None:
    words = ("mtsac", GANTRY, "--num-envs", "8", *SMALL)
    learner, path = make_run(tmp_path, *words), str(tmp_path)
    env = gantry_env()
    first = adapted(path, env).sha256
    save_checkpoint(tmp_path / "checkpoints", 6, {**learner.state_dict(), "wall_s": 9.0})
    assert adapted(path, env).sha256 == first
    with torch.no_grad():
        next(learner.actor.parameters()).flatten()[0] += 1e-6
    save_checkpoint(tmp_path / "checkpoints", 12, learner.state_dict())
    assert adapted(path, env).sha256 != first


@pytest.mark.parametrize("features", ["paper", "kinematic"])
@pytest.mark.parametrize("observed", [False, True])
def test_the_state_is_recovered_from_the_features(features: Any, observed: bool) -> None:
    for name in ("planar8", GANTRY):
        robot = load_robot(name)
        low, high = torch.tensor(robot.joint_pos_limits).float().T
        effectors = len(robot.effector_names)
        joint_pos = low + torch.rand(20, len(low)) * (high - low)
        active = (torch.rand(20, effectors) < 0.6).float()
        goals = torch.randn(20, effectors, 3)
        previous = torch.randn_like(joint_pos) if observed else None
        inputs = ["previous_joint_vel"] if observed else []
        module = FEATURES[features](robot, inputs=inputs)
        x, _ = module.compute(Observation(joint_pos, goals, active, previous))
        found = state_of(module, x)
        assert (found.previous_joint_vel is not None) is observed
        if found.previous_joint_vel is not None:
            assert torch.allclose(found.previous_joint_vel, previous, atol=1e-5)  # type: ignore[arg-type]
        assert torch.allclose(found.joint_pos, joint_pos, atol=1e-5)
        assert torch.equal(found.active, active)
        assert torch.allclose(found.goals, goals * active[..., None], atol=1e-6)
        again, _ = module.compute(found)
        assert torch.allclose(again, x, atol=1e-4)


def test_a_teacher_receives_its_own_features_and_its_actions_are_converted(tmp_path: Path) -> None:
    """A teacher of configurations drives the student's robots as it drives its own."""
    words = ("mtsac", GANTRY, "--num-envs", "8", *SMALL, "--env-config.action", "configuration")
    learner = make_run(tmp_path, *words)
    own = gantry_env(features="kinematic", action="configuration")
    other = gantry_env(features="paper", action="velocity")
    obs, seen = own.reset(4), other.reset(4)
    teacher = adapted(str(tmp_path), other)
    assert teacher.distribution is None
    tasks = torch.arange(own.tasks)
    for _ in range(5):
        action = teacher.action(seen, tasks)
        steps = own.step(learner.actor.mean_action(obs)), other.step(action)
        assert torch.allclose(steps[0].reward, steps[1].reward, atol=1e-4)
        obs, seen = (step.obs for step in steps)
    make_run(tmp_path / "velocity", *words[:-1], "velocity")
    with pytest.raises(UserError, match="gives action 'velocity'.*made 'configuration'"):
        adapted(str(tmp_path / "velocity"), own)


def test_teacher_and_student_observe_the_same_speed(tmp_path: Path) -> None:
    make_run(tmp_path, "mtsac", GANTRY, "--num-envs", "8", *SMALL)
    with pytest.raises(UserError, match="' observes the command .* --env-config.observe-velocity"):
        adapted(str(tmp_path), gantry_env(observe_velocity=False))


def test_an_exported_policy_teaches(monkeypatch: pytest.MonkeyPatch) -> None:
    path = MODELS / "planar8-digrad.onnx"  # without a search
    env = find_env_spec("planar8", True).make(TaskReachConfig(action="velocity"), 8, "cpu", 1, 5)
    assert isinstance(env, TaskReachEnv)
    teacher = adapted(str(path), env)
    obs = env.reset(3)
    robots = env.robots
    inputs = PolicyInputs(robots.joint_pos, robots.goals, robots.active)
    joint_vel = PolicyFile(path)(inputs).joint_vel
    speeds = torch.tensor(robots.robot.action_speeds).float()
    expected = (joint_vel / speeds).unflatten(0, (env.tasks, -1))
    found = teacher.action(obs, torch.arange(env.tasks))
    assert torch.allclose(found, expected, atol=1e-3)
    assert float(found.abs().max()) > 0.3
    assert teacher.distribution is None
    configuration = find_env_spec("planar8", True).make(TaskReachConfig(), 8, "cpu", 1, 5)
    with pytest.raises(UserError, match="joint velocities, but the student's action is 'conf"):
        adapted(str(path), configuration)
    with pytest.raises(UserError, match="of another robot than '.*gantry'"):
        adapted(str(path), gantry_env(action="velocity"))
    with pytest.raises(UserError, match="policy of a robot, but the student's environment is none"):
        adapted(str(path), PointMasses())
    names = ["joint_pos", "goals", "active", "previous_joint_vel"]
    monkeypatch.setattr("polyreach.robot.onnx_policy.tensors_of_file", lambda *_: names)
    with pytest.raises(UserError, match="has the input 'previous_joint_vel', which the student's"):
        adapted(str(path), env)


def test_runs_that_cannot_teach_are_refused(tmp_path: Path) -> None:
    cheetahs = find_env_spec("cheetah-smallfoot", True).make(
        train_config(["a2c", "cheetah-smallfoot"])[1].env_config, 1, "cpu", 1, 0
    )
    with pytest.raises(UserError, match="is not a run folder"):
        adapted(str(tmp_path), cheetahs)
    make_run(tmp_path / "gantry", "mtsac", GANTRY, "--num-envs", "8", *SMALL)
    with pytest.raises(UserError, match="sizes .* but the student's have \\(17, 6\\)"):
        adapted(str(tmp_path / "gantry"), cheetahs)
    make_run(tmp_path / "cheetah", "a2c", "cheetah6", "--num-envs", "6", *SMALL)
    teacher = adapted(str(tmp_path / "cheetah"), cheetahs)
    assert teacher.rows == (0,)
    other = find_env_spec("cheetah", True).make(
        train_config(["a2c", "cheetah"])[1].env_config, 1, "cpu", 1, 0
    )
    assert adapted(str(tmp_path / "cheetah"), other).rows == (-1,)
    _, config = train_config(["ddpg", GANTRY])
    RunFolder(tmp_path / "ddpg").create(config)
    with pytest.raises(UserError, match="ddpg, which is not conditioned on the task: export it"):
        adapted(str(tmp_path / "ddpg"), gantry_env())
    RunFolder(tmp_path / "empty").create(train_config(["mtsac", GANTRY])[1])
    with pytest.raises(UserError, match="has no checkpoint yet"):
        adapted(str(tmp_path / "empty"), gantry_env())
