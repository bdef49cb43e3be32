"""Searches as exported against torch, for any batch, with and without a policy."""

import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from polyreach.deploy.export import write_onnx
from polyreach.deploy.search_policy import SearchPolicy
from polyreach.envs.reach.config import ReachConfig
from polyreach.envs.reach.effector_reach import EffectorReachEnv
from polyreach.methods.apg import APG, APGConfig
from polyreach.networks.policy import RobotPolicy
from polyreach.robot.onnx_policy import PolicyFile
from polyreach_description import Robot, load_robot
from polyreach_description.contract import parse_contract, robot_metadata
from polyreach_description.policy_tensors import NO_OBSTACLE, OBSTACLES, PolicyInputs

ROBOTS = Path(__file__).parents[1] / "robots"
CASES = {
    "dual7": "dual7",  # poses
    "hand": str(ROBOTS / "hand" / "robot.yaml"),  # joints that follow others
    "rail_arm": str(ROBOTS / "rail_arm" / "robot.yaml"),  # one effector, slides
}


def policy_of(robot: Robot) -> RobotPolicy:
    env = EffectorReachEnv(robot, 2, ReachConfig(configurations=20))
    return APG(APGConfig(hidden=(16,)), env, 100, 0).robot_policy().eval()


def some_obstacles(around: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Boxes (B, 8, 11) beside points (B, E, 3) [m], two for each robot, and none for the others."""
    rows = torch.tensor(NO_OBSTACLE).repeat(len(around), OBSTACLES, 1)
    turns = torch.randn(len(around), 2, 4, generator=generator)
    rows[:, :2, :3] = around[:, :1] + 0.2 * torch.randn(len(around), 2, 3, generator=generator)
    rows[:, :2, 3:7] = turns / turns.norm(dim=-1, keepdim=True)
    rows[:, :2, 7:10], rows[:, :2, 10] = 0.05, 0.01
    return rows


def inputs_of(robot: Robot, search: SearchPolicy, count: int) -> PolicyInputs[torch.Tensor]:
    """Robots anywhere, with goals that others reach, and a memory of nothing."""
    low, high = torch.tensor(robot.joint_pos_limits).float().T
    generator = torch.Generator().manual_seed(0)
    start, end = low + (high - low) * torch.rand(2, count, len(low), generator=generator)
    kinematics = search.search.kinematics
    frames = kinematics.frames_at(end)
    active = torch.randint(2, (count, len(robot.effector_names)), generator=generator).float()
    active[:, 0] = 1.0
    speeds = torch.tensor(robot.joint_vel_limits).float()
    inputs = PolicyInputs(
        start,
        kinematics.effectors_of(frames),
        active,
        0.2 * speeds * torch.randn(start.shape, generator=generator),
        obstacles=some_obstacles(kinematics.effectors_of(frames), generator),
        memory=torch.zeros(count, search.memory_size),
    )
    if not search.oriented:
        return inputs
    turns = torch.randn(count, len(robot.effector_names), 4, generator=generator)
    turns = turns / turns.norm(dim=-1, keepdim=True)
    return inputs._replace(goal_orientations=turns, oriented=active * (active.sum(1) > 1)[:, None])


@pytest.mark.parametrize("has_policy", [False, True], ids=["alone", "policy"])
@pytest.mark.parametrize("name", CASES)
def test_the_file_equals_torch_for_any_batch(name: str, has_policy: bool, tmp_path: Path) -> None:
    robot = load_robot(CASES[name])
    policy = policy_of(robot) if has_policy else None
    path = tmp_path / "policy.onnx"
    write_onnx(policy, robot, robot_metadata(robot), path)
    search, session = SearchPolicy(robot, policy).eval(), onnxruntime.InferenceSession(path)
    none = torch.tensor(NO_OBSTACLE).repeat(7, OBSTACLES, 1)
    for size, among in ((1, True), (1, False), (3, True), (7, False)):
        inputs = inputs_of(robot, search, size)
        if not among:
            inputs = inputs._replace(obstacles=none[:size])
        for _ in range(4):  # a search, and periods with the memory of the one before
            with torch.no_grad():
                values = search(*(getattr(inputs, name) for name in search.inputs))
            expected = dict(zip(search.outputs, values, strict=True))
            feed = {name: getattr(inputs, name).numpy() for name in search.inputs}
            outputs = dict(
                zip(search.policy_outputs, session.run(search.policy_outputs, feed), strict=True)
            )
            for output, found in outputs.items():
                assert np.allclose(found, expected[output], atol=1e-4), (size, output)
            assert expected["joint_vel"].abs().max() > 1e-2
            inputs = inputs._replace(
                joint_pos=inputs.joint_pos + expected["joint_vel"] / robot.control_rate,
                previous_joint_vel=expected["joint_vel"],
                memory=expected["next_memory"],
            )
    unserved = (inputs.active.numpy() @ robot.action_sets) == 0
    assert (outputs["joint_vel"][unserved] == 0).all()


def test_metadata_and_graph_of_a_search(tmp_path: Path) -> None:
    robot = load_robot("dual7")
    write_onnx(None, robot, {**robot_metadata(robot), "method": "none"}, tmp_path / "policy.onnx")
    model = onnx.load(tmp_path / "policy.onnx")
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    contract = parse_contract(metadata)
    effectors, joints = len(robot.effector_names), len(robot.joint_names)
    assert contract.memory_size == 7 * joints + 18 * effectors + 4
    assert contract.inputs == (
        "joint_pos",
        "goals",
        "active",
        "previous_joint_vel",
        "goal_orientations",
        "oriented",
        "obstacles",
        "memory",
    )
    assert json.loads(metadata["effector_goals"]) == list(robot.effector_goals)
    assert [output.name for output in model.graph.output] == [
        "joint_vel",
        "effector_pos",
        "effector_orientation",
        "next_memory",
    ]
    assert {entry.domain for entry in model.opset_import} == {""}
    decisions = [node for node in model.graph.node if node.op_type == "If"]
    inside = [
        inner.op_type
        for node in decisions
        for branch in node.attribute
        for inner in branch.g.node
        if inner.op_type == "If"
    ]
    # refinement, obstacles on the way to the target, and the search; in it straight ways or bent
    # ones, and in these obstacles
    assert len(decisions) == 3 and len(inside) == 1


def test_obstacles_that_are_left_out_are_none(tmp_path: Path) -> None:
    robot = load_robot(CASES["rail_arm"])
    write_onnx(None, robot, robot_metadata(robot), tmp_path / "policy.onnx")
    file, search = PolicyFile(tmp_path / "policy.onnx"), SearchPolicy(robot, None).eval()
    inputs = inputs_of(robot, search, 2)
    none = torch.tensor(NO_OBSTACLE).repeat(2, OBSTACLES, 1)
    expected = file(inputs._replace(obstacles=none)).joint_vel
    assert torch.equal(file(inputs._replace(obstacles=None)).joint_vel, expected)


class Single(RobotPolicy):
    """Names one configuration, whatever the goals are."""

    def __init__(self, robot: Robot, place: float) -> None:
        super().__init__()
        self.features = policy_of(robot).features
        self.place = torch.full((len(robot.joint_names),), place)

    @property
    def names_configurations(self) -> bool:
        return True

    def configurations(self, features: torch.Tensor, active: torch.Tensor) -> torch.Tensor:
        return self.place.expand(len(features), 1, -1)

    def act(self, features: torch.Tensor, active: torch.Tensor) -> torch.Tensor:
        raise NotImplementedError


def test_a_single_configuration_is_the_first_of_several_around_it() -> None:
    robot = load_robot(CASES["rail_arm"])
    search = SearchPolicy(robot, Single(robot, 0.9))
    named = search.named(inputs_of(robot, search, 3))
    place = search.search.refinement.place(named.flatten(0, 1)).unflatten(0, named.shape[:2])
    assert torch.allclose(place[:, 0], torch.tensor(0.9), atol=1e-5)
    assert (place >= 0.4 - 1e-5).all() and (place <= 1.0 + 1e-5).all()
    assert len(place[0].unique(dim=0)) == len(place[0]) > 1


def test_without_a_policy_the_search_spreads_at_once() -> None:
    robot = load_robot(CASES["hand"])
    search = SearchPolicy(robot, None)
    inputs = inputs_of(robot, search, 2)
    named = search.named(inputs)
    low, high = robot.joint_pos_limits.T
    assert named.shape == (2, 8, 4) and torch.equal(named[0], named[1])
    assert np.all(named.numpy() >= low - 1e-6) and np.all(named.numpy() <= high + 1e-6)
    following = search.search.spread(torch.ones(2, 1))
    assert (named[0][:, None] - following[0]).abs().amax(dim=-1).min() > 1e-3
