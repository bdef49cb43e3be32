"""The exported policy of a task-conditioned actor: the mask is the task, torch and ONNX Runtime
agree, it does what the actor did in training.
"""

import itertools
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from outputs_in_torch import outputs_in_torch
from rich.console import Console
from torch import Tensor, nn

from polyreach.deploy.evaluation_config import EvaluationConfig
from polyreach.deploy.export import (
    export_run,
    load_run_policy,
    write_onnx,
)
from polyreach.deploy.policy_card import measure_and_describe
from polyreach.envs.reach.reach import ReachEnv
from polyreach.envs.reach.task_policy import TaskPolicy
from polyreach.envs.reach.task_reach import TaskReachConfig, TaskReachEnv
from polyreach.envs.registry import find_env_spec
from polyreach.methods import METHODS, get_method
from polyreach.networks.policy import Policy
from polyreach.robot.features import FEATURES, PaperFeatures
from polyreach.robot.onnx_policy import PolicyFile
from polyreach.runs.config import RunConfig
from polyreach.runs.training import train
from polyreach_description import Robot, load_robot
from polyreach_description.contract import robot_metadata
from polyreach_description.policy_tensors import PolicyInputs
from polyreach_nodes.control.policy import Policy as NodePolicy

torch.set_num_threads(1)
ROBOTS = Path(__file__).parents[1] / "robots"
GANTRY, RAIL_ARM = (str(ROBOTS / name / "robot.yaml") for name in ("gantry", "rail_arm"))
CONFIGURATION = TaskReachConfig(configurations=100)
VELOCITY = replace(CONFIGURATION, features="paper", action="velocity")


class RandomActor(Policy):
    """One random layer for each task."""

    def __init__(self, tasks: int, inputs: int, outputs: int) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        weight = torch.randn(tasks, inputs, outputs, generator=generator) / inputs**0.5
        self.weight = nn.Parameter(weight)

    def mean_action(self, obs: Tensor, tasks: Tensor | None = None) -> Tensor:
        """obs: (T, B, F)."""
        return torch.tanh(obs @ self.weight)


class ConstantActor(Policy):
    """Task t drives every joint at (t + 1) / 10 of its limit."""

    def __init__(self, joints: int) -> None:
        super().__init__()
        self.joints = joints

    def mean_action(self, obs: Tensor, tasks: Tensor | None = None) -> Tensor:
        """obs: (T, B, F)."""
        level = torch.arange(1, len(obs) + 1) / 10
        return (level[:, None, None] + 0.0 * obs[..., :1]).expand(-1, -1, self.joints)


def make_env(robot: Robot, config: TaskReachConfig, count: int) -> TaskReachEnv:
    effectors = len(robot.effector_names)
    return TaskReachEnv(robot, count * (effectors + (effectors > 1)), config)


def random_policy(robot: Robot, config: TaskReachConfig) -> TaskPolicy:
    env = make_env(robot, config, 1)
    actor = RandomActor(env.tasks, env.obs_size, env.action_size)
    return TaskPolicy(actor, robot, FEATURES[config.features](robot), config.action).eval()


NAMED = {"planar8": "planar8", "humanoid27": "humanoid27", "gantry": GANTRY, "rail_arm": RAIL_ARM}
CONFIGS = {"configuration": CONFIGURATION, "velocity": VELOCITY}
ALWAYS = ("planar8 velocity", "humanoid27 configuration", "gantry velocity")


@pytest.mark.parametrize(
    "case",
    [
        pytest.param(case, marks=() if case in ALWAYS else pytest.mark.exhaustive)
        for case in (f"{robot} {config}" for robot in NAMED for config in CONFIGS)
    ],
)
def test_onnx_runtime_equals_torch_for_every_mask(case: str, tmp_path: Path) -> None:
    name, action = case.split()
    robot, config = load_robot(NAMED[name]), CONFIGS[action]
    policy = random_policy(robot, config)
    path = tmp_path / "policy.onnx"
    write_onnx(policy, robot, robot_metadata(robot), path)
    session = PolicyFile(path)
    tolerance = 2e-3 if policy.names_configurations else 1e-5  # [rad/s, m]; see test_export
    robots = ReachEnv(robot, 64, config)
    robots.reset(seed=1)
    largest = 0.0
    for mask in itertools.product((0.0, 1.0), repeat=robots.effectors):
        at_rest = torch.zeros_like(robots.joint_pos)
        mask_rows = torch.tensor(mask).repeat(64, 1)
        inputs = PolicyInputs(robots.joint_pos, robots.goals, mask_rows, at_rest)
        expected = outputs_in_torch(policy, robot, inputs)
        for size in (1, 64):
            found = session(PolicyInputs(*(part[:size] for part in inputs[:4])))
            for ours, theirs in zip(expected[:2], found[:2], strict=True):
                assert (ours[:size] - theirs).abs().max() < tolerance
        served = torch.tensor(mask) @ torch.tensor(robot.action_sets).float() > 0
        assert (expected[0][:, ~served] == 0).all()
        assert not served.any() or (expected[0][:, served] != 0).any()
        largest = max(largest, float(expected[0].abs().max()))
    assert largest > 0.2  # the comparison is not one of zeros


def test_the_mask_selects_the_task(tmp_path: Path) -> None:
    robot = load_robot("planar8")
    policy = TaskPolicy(ConstantActor(8), robot, PaperFeatures(robot), "velocity")
    path = tmp_path / "policy.onnx"
    write_onnx(policy, robot, robot_metadata(robot), path)
    masks = torch.tensor([[1.0, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 0], [0, 1, 1], [1, 1, 1]])
    joint_pos = torch.tensor(robot.home).float().repeat(len(masks), 1)
    inputs = PolicyInputs(joint_pos, torch.zeros(len(masks), 3, 3), masks)
    joint_vel = PolicyFile(path)(inputs).joint_vel
    share = joint_vel / torch.tensor(robot.action_speeds)
    for row, mask, level in zip(share, masks, (0.1, 0.2, 0.3, 0.4, 0.4, 0.4), strict=True):
        served = (mask @ torch.tensor(robot.action_sets).float() > 0).double()
        assert torch.allclose(row, level * served, atol=1e-6)


@pytest.mark.parametrize("config", [CONFIGURATION, VELOCITY], ids=["configuration", "velocity"])
def test_the_policy_does_what_the_actor_did_in_training(config: TaskReachConfig) -> None:
    robot = load_robot("planar8")
    env = make_env(robot, replace(config, all_active=0.5), 20)
    policy = random_policy(robot, config)
    plain = ReachEnv(robot, env.num_envs, config)
    obs = env.reset(0)
    flat = plain.reset_to(env.robots.joint_pos, env.robots.goals, env.robots.active)
    with torch.no_grad():
        for _ in range(30):
            obs = env.step(policy.actor.mean_action(obs)).obs
            flat, *_ = plain.step(policy(flat))
    assert torch.allclose(env.robots.joint_pos, plain.joint_pos, atol=1e-4)
    assert (env.robots.joint_pos - env.robots.configurations[0]).abs().max() > 0.1


# their actors are built as those of other methods
ALIKE = (
    "independent-sac",
    "mtsac",
    "dgrad-o",
    "picor",
    "ars",
    "ppo",
    "fine-tuning",
    "ppo-fine-tuning",
)


@pytest.mark.parametrize(
    "method",
    [
        pytest.param(name, marks=pytest.mark.exhaustive if name in ALIKE else ())
        for name, own in METHODS.items()
        if own.task_conditioned
    ],
)
def test_every_method_has_an_actor_that_exports(method: str, tmp_path: Path) -> None:
    robot = load_robot("planar8")
    spec = find_env_spec("planar8", task_conditioned=True)
    config, env_config = get_method(method).preset("tuned", spec)
    env = make_env(robot, replace(env_config, configurations=100), 4)
    small = {"replay_size": 200} if hasattr(config, "replay_size") else {}
    learner = get_method(method).learner(replace(config, **small), env, 100_000, 0)
    for net in getattr(learner, "nets", ()):  # some weights of each task's own
        net.own.data += 0.2 * torch.randn(net.own.shape)
        net.split |= torch.rand(net.split.shape) > 0.5
    policy = learner.robot_policy().eval()
    path = tmp_path / "policy.onnx"
    write_onnx(policy, robot, robot_metadata(robot), path)
    env.reset(1)
    limits = torch.tensor(robot.joint_vel_limits).float()
    parts = env.robots.parts._replace(previous_joint_vel=0.3 * limits.expand(env.num_envs, -1))
    expected = outputs_in_torch(policy, robot, parts)
    found = PolicyFile(path)(parts)
    tolerance = 2e-3 if policy.names_configurations else 1e-5  # [rad/s, m]; see test_export
    for ours, theirs in zip(expected[:2], found[:2], strict=True):
        assert (ours - theirs).abs().max() < tolerance
    assert expected[0].abs().max() > 0.1


def small_run(method: str, robot: str) -> RunConfig:
    spec = find_env_spec("planar8", task_conditioned=True)
    config, env_config = get_method(method).preset("tuned", spec)
    loaded = load_robot(robot)
    env = make_env(loaded, CONFIGURATION, 2)
    return RunConfig(
        method=method,
        env=robot,
        preset="tuned",
        steps=10 * env.num_envs,
        seed=3,
        num_envs=env.num_envs,
        threads=1,
        device="cpu",
        eval_goals=1,
        eval_every=10**9,
        robot_sha256=loaded.sha256,
        method_config=replace(
            config, hidden=(16, 16), batch_size=4, learning_starts=8, replay_size=100
        ),
        env_config=replace(env_config, configurations=100),
    )


def test_a_run_becomes_a_policy_file_with_its_card(tmp_path: Path) -> None:
    run, path = tmp_path / "run", tmp_path / "policy.onnx"
    train(small_run("mtsac", "planar8"), run, False, 10.0, Console(quiet=True))
    policy, robot, config, progress = load_run_policy(run)
    assert isinstance(policy, TaskPolicy) and config.method == "mtsac"
    assert progress["steps"] == 80 and progress["updates"] > 0
    contract = export_run(run, path)
    tasks = ["left", "middle", "right", "together"]
    assert contract["task_names"] == tasks and contract["method"] == "mtsac"
    card = measure_and_describe(path, robot, EvaluationConfig(goals=4, seconds=0.2)).read_text()
    assert "one goal" in card.lower() and card.count("| left |") == 2
    assert "Tasks, chosen by `active`: left, middle, right, together" in card
    file = PolicyFile(path)
    assert file.contract["task_names"] == tasks
    assert set(file.contract["evaluation"]["alone"]) == set(tasks[:3])
    # the controller's own check takes it, and computes the same
    node = NodePolicy.load(path, robot)
    goals = robot.forward_kinematics(robot.home + 0.3)
    joint_pos, wanted = torch.tensor(robot.home).float(), torch.tensor(goals).float()
    previous = 0.3 * torch.tensor(robot.joint_vel_limits)
    for active in ([1.0, 0, 0], [1.0, 1, 1]):
        mask = torch.tensor(active)
        rows = (part[None] for part in (joint_pos, wanted, mask, previous.float()))
        expected = outputs_in_torch(policy, robot, PolicyInputs(*rows))[0][0]
        inputs = PolicyInputs(robot.home, goals, mask.double().numpy(), previous.numpy())
        found = node.compute(inputs).joint_vel
        assert torch.allclose(torch.tensor(found), expected, atol=2e-3)
