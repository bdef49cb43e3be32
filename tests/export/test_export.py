"""The exported policy: torch and ONNX Runtime agree, any batch, physical units, the contract in the
file.
"""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from outputs_in_torch import outputs_in_torch

from polyreach.deploy.controllers import PolicyController
from polyreach.deploy.evaluate import Evaluation
from polyreach.deploy.evaluation_config import EvaluationConfig
from polyreach.deploy.export import write_onnx
from polyreach.deploy.tables import self_distance_line
from polyreach.envs.env_spec import preset_name
from polyreach.envs.reach.effector_reach import EffectorReachEnv
from polyreach.envs.registry import find_env_spec
from polyreach.errors import UserError
from polyreach.methods import METHODS, get_method
from polyreach.networks.actor_critic import ReachPolicy
from polyreach.robot.onnx_policy import PolicyFile
from polyreach_description import Robot, list_robots, load_robot
from polyreach_description.contract import robot_metadata
from polyreach_description.policy_tensors import NO_OBSTACLE, OBSTACLES, PolicyInputs

torch.set_num_threads(1)
GANTRY = str(Path(__file__).parents[1] / "robots" / "gantry" / "robot.yaml")
MODELS = Path(__file__).parents[2] / "models"


def fresh_policy(robot: Robot, method: str, preset: str) -> ReachPolicy:
    spec = find_env_spec(str(robot.file.path), task_conditioned=False)
    config, env_config = get_method(method).preset(preset_name(preset), spec)
    env = EffectorReachEnv(robot, 2, replace(env_config, configurations=50))
    config = replace(config, hidden=(32, 32), replay_size=config.batch_size)
    policy = get_method(method).learner(config, env, 1000, 0).robot_policy()
    assert isinstance(policy, ReachPolicy)
    with torch.no_grad():  # a fresh head is almost zero: every input should matter
        policy.mu.net.head.weight.mul_(30.0)
    return policy.eval()


Exported = Callable[[str, str, str], tuple[ReachPolicy, Path]]


@pytest.fixture(scope="session")
def exported(once: Callable[[str, Callable[[Path], object]], Path]) -> Exported:
    """The fresh policy of a robot, a method and a preset, and its file, which is written once."""

    def make(name: str, method: str, preset: str) -> tuple[ReachPolicy, Path]:
        robot = load_robot(name)
        policy = fresh_policy(robot, method, preset)
        path = once(
            f"{robot.name}-{method}-{preset}.onnx",
            lambda path: write_onnx(policy, robot, robot_metadata(robot), path),
        )
        return policy, path

    return make


def random_inputs(robot: Robot, count: int) -> PolicyInputs[torch.Tensor]:
    """Configurations anywhere, a quarter of them with joints at their limits and a quarter
    stretched out; goals near and far.
    """
    rng = np.random.default_rng(0)
    low, high = robot.joint_pos_limits.T
    joint_pos = rng.uniform(low, high, (count, len(low)))
    at_limit = np.where(rng.random(joint_pos.shape) < 0.5, low, high)
    joint_pos[1::4] = np.where(rng.random(joint_pos.shape) < 0.7, at_limit, joint_pos)[1::4]
    joint_pos[2::4] = np.where(rng.random(joint_pos.shape) < 0.8, 0.0, joint_pos)[2::4]
    goals = np.stack([robot.forward_kinematics(row) for row in joint_pos])
    distance = 10 ** rng.uniform(-6, -1, (count, 1, 1))
    anywhere = np.stack(
        [robot.forward_kinematics(row) for row in rng.uniform(low, high, (count, len(low)))]
    )
    near = rng.random((count, 1, 1)) < 0.5
    goals = np.where(near, goals + distance * rng.normal(size=goals.shape), anywhere)
    active = rng.integers(0, 2, (count, len(robot.effector_names)))
    previous_joint_vel = rng.uniform(-1, 1, joint_pos.shape) * robot.joint_vel_limits
    parts = (joint_pos, goals, active, previous_joint_vel)
    return PolicyInputs(*(torch.tensor(part, dtype=torch.float32) for part in parts))


# a search refines configurations by least squares in single precision
TOLERANCE = {"paper": 1e-5, "tuned": 5e-3}  # [rad/s, m]
ROBOTS = {"planar8": "planar8", "humanoid27": "humanoid27", "gantry": GANTRY}
ALWAYS = (
    "planar8 digrad tuned",
    "planar8 digrad paper",
    "humanoid27 digrad tuned",
    "humanoid27 ddpg tuned",
    "gantry digrad tuned",
)
CASES = [
    f"{robot} {method}"
    for robot in ROBOTS
    for method in ("digrad tuned", "digrad paper", "ddpg tuned")
]


@pytest.mark.parametrize(
    "case",
    [pytest.param(c, marks=() if c in ALWAYS else pytest.mark.exhaustive) for c in CASES],
)
def test_onnx_runtime_equals_torch_for_any_batch(case: str, exported: Exported) -> None:
    name, method, preset = case.split()
    robot = load_robot(ROBOTS[name])
    policy, path = exported(ROBOTS[name], method, preset)
    count = 200 if policy.names_configurations else 10_000
    inputs = random_inputs(robot, count)
    with torch.no_grad():
        expected = outputs_in_torch(policy, robot, inputs)
    session = PolicyFile(path)
    assert ("previous_joint_vel" in session.inputs) is (preset == "tuned")
    memory = torch.zeros(count, session.memory_size)
    none = torch.tensor(NO_OBSTACLE).expand(count, OBSTACLES, -1)
    parts = inputs._replace(memory=memory, obstacles=none)._asdict()
    for size in (1, 2, 7, count):  # rows of one run; a PolicyFile may divide a batch
        feed = {name: parts[name][:size].numpy() for name in session.inputs}
        found = session.session.run(session.outputs, feed)
        for ours, theirs in zip(expected, found, strict=True):
            assert np.abs(ours[:size].numpy() - theirs).max() < TOLERANCE[preset]
    assert expected[0].abs().max() > 0.5  # the comparison is not one of zeros


def longest(decision: onnx.NodeProto) -> int:
    """Nodes of the branch of an If with the most, those of the Ifs within it counted likewise."""
    return max(
        len(branch.g.node) + sum(longest(node) for node in branch.g.node if node.op_type == "If")
        for branch in decision.attribute
    )


@pytest.mark.parametrize(
    ("name", "preset", "nodes", "searching"),
    [
        ("planar8", "paper", 40, []),
        ("planar8", "tuned", 390, [130, 80, 890]),
        ("humanoid27", "tuned", 420, [190, 80, 1070]),
    ],
)
def test_the_graph_is_small_and_of_standard_operators(
    name: str, preset: str, nodes: int, searching: list[int], exported: Exported
) -> None:
    """Every node costs inference in the control loop 0.5 to 1 us, besides what it computes.

    searching: at most as many nodes more by each If, in the branch with the most nodes.
    """
    _, path = exported(name, "digrad", preset)
    model = onnx.load(path)
    assert {(entry.domain, entry.version) for entry in model.opset_import} == {("", 18)}
    assert len(model.graph.node) <= nodes and not model.functions
    branches = [longest(node) for node in model.graph.node if node.op_type == "If"]
    assert len(branches) == len(searching)
    assert all(found <= limit for found, limit in zip(branches, searching, strict=True)), branches


@pytest.mark.parametrize("name", ["planar8", GANTRY], ids=["planar8", "gantry"])
def test_outputs_are_physical(name: str, exported: Exported) -> None:
    robot = load_robot(name)
    _, path = exported(name, "digrad", "tuned")
    at_rest = torch.zeros(200, len(robot.joint_names))
    inputs = random_inputs(robot, 200)._replace(previous_joint_vel=at_rest)
    joint_vel, effector_pos, *_ = PolicyFile(path)(inputs)
    assert (joint_vel.abs().numpy() <= robot.joint_vel_limits.astype(np.float32)).all()
    expected = np.stack(
        [robot.forward_kinematics(row) for row in inputs.joint_pos.double().numpy()]
    )
    assert np.abs(effector_pos.numpy() - expected).max() < 1e-5
    unserved = (inputs.active.numpy() @ robot.action_sets) == 0
    assert unserved.any() and (joint_vel.numpy()[unserved] == 0).all()


def test_the_contract_is_in_the_file_at_full_precision(exported: Exported) -> None:
    robot = load_robot("humanoid27")
    _, path = exported("humanoid27", "digrad", "tuned")
    properties = onnxruntime.InferenceSession(str(path)).get_modelmeta().custom_metadata_map
    contract = {key: json.loads(value) for key, value in properties.items()}
    assert contract["joint_names"] == list(robot.joint_names)
    assert contract["action_type"] == "joint_velocity" and contract["schema_version"] == 2
    assert np.array_equal(contract["joint_pos_limits"], robot.joint_pos_limits)
    assert contract["update_rate"] == 50.0 and contract["robot_sha256"] == robot.sha256


def test_a_file_that_is_no_policy_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "policy.onnx"
    with pytest.raises(UserError, match="does not exist"):
        PolicyFile(path)
    path.write_bytes(b"not a model")
    with pytest.raises(UserError, match="is not an ONNX model"):
        PolicyFile(path)
    identity = onnx.helper.make_node("Identity", ["x"], ["y"])
    value = onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph([identity], "g", [value("x", 1, [1])], [value("y", 1, [1])])
    onnx.save(
        onnx.helper.make_model(
            graph, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=9
        ),
        path,
    )
    with pytest.raises(UserError, match="metadata names no robot"):
        PolicyFile(path)


def test_a_policy_for_another_robot_is_refused(exported: Exported) -> None:
    _, path = exported("planar8", "digrad", "paper")
    with pytest.raises(UserError, match="for robot 'planar8' with robot_sha256"):
        PolicyFile(path).check(load_robot("humanoid27"))


SHIPPED = sorted(path.stem for path in MODELS.glob("*.onnx"))


def test_every_policy_in_models_is_of_a_known_robot_and_method() -> None:
    known = {f"{robot}-{method}" for robot in list_robots() for method in METHODS}
    assert "humanoid27-digrad" in SHIPPED and set(SHIPPED) <= known


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.exhaustive)
        if name.startswith("humanoid27-") and name not in ("humanoid27-apg", "humanoid27-digrad")
        else name
        for name in SHIPPED
    ],
)
def test_shipped_policies_match_their_robot_and_their_card(name: str) -> None:
    path = MODELS / f"{name}.onnx"
    policy = PolicyFile(path)
    robot = load_robot(policy.robot_name)
    policy.check(robot)
    assert path.stem == f"{robot.name}-{policy.contract['method']}"
    evaluation = policy.contract["evaluation"]
    assert evaluation["mode"] == "dynamic" and evaluation["episodes"] >= 100
    card = path.with_suffix(".md").read_text()
    assert (
        f"| all at once | {evaluation['success_all']['0.01']:.1%} | "
        f"{evaluation['success_all']['0.02']:.1%} |" in card
    )
    assert self_distance_line(evaluation) in card
    for name, own in evaluation.get("alone", {}).items():
        rates = [own["success"][radius] for radius in ("0.01", "0.02", "0.05")]
        assert f"| {name} | " + " | ".join(f"{rate:.1%}" for rate in rates) in card
    assert "alone" in evaluation or "task_names" not in policy.contract
    config = EvaluationConfig(goals=60, seconds=evaluation["seconds"])
    again = Evaluation(robot, config).measure(PolicyController(policy))
    # 60 goals against those of the card: three standard errors
    rate = evaluation["success_all"]["0.02"]
    assert abs(again["success_all"]["0.02"] - rate) < 3 * (max(rate * (1 - rate), 0.02) / 60) ** 0.5
