"""Policy files with every input of the contract, in the controller and in batches."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper
from pose_policy import MEMORY, WELDER, export_pose_least_squares, reachable_poses

from polyreach.robot.onnx_policy import PolicyBatch, PolicyFile
from polyreach_description import Robot, load_robot
from polyreach_description.policy_file import ContractError
from polyreach_description.policy_tensors import INPUTS, NO_OBSTACLE, OBSTACLES, PolicyInputs
from polyreach_nodes.control.policy import Policy


@pytest.fixture(scope="module")
def welder() -> Robot:
    return load_robot(WELDER)


@pytest.fixture(scope="module")
def policy_path(welder: Robot, once: Callable[[str, Callable[[Path], object]], Path]) -> Path:
    return once("welder.onnx", lambda path: export_pose_least_squares(welder, path))


def test_a_policy_file_with_every_input_is_fed_and_keeps_its_memory(
    welder: Robot, policy_path: Path
) -> None:
    policy = Policy.load(policy_path, welder)
    assert policy.contract.inputs == tuple(INPUTS)
    assert policy.contract.memory_size == MEMORY
    positions, orientations = reachable_poses(welder, 2)
    inputs = PolicyInputs(
        welder.home, positions, np.ones(2), np.zeros(12), orientations, np.ones(2)
    )
    first = policy.compute(inputs)
    assert first.next_memory.tolist() == [1.0] * MEMORY
    second = policy.compute(inputs._replace(memory=np.full(MEMORY, 1.0)))
    assert second.next_memory.tolist() == [2.0] * MEMORY
    # a tenth of the speed in the first period, two tenths in the second
    assert second.joint_vel == pytest.approx(2.0 * first.joint_vel, rel=1e-4)
    before = np.full(12, 0.1)
    smoothed = policy.compute(inputs._replace(previous_joint_vel=before))
    assert smoothed.joint_vel - first.joint_vel == pytest.approx(0.3 * before, abs=1e-6)
    # an obstacle at half the distance from which the speed is full; the others are far
    obstacles = np.array([NO_OBSTACLE] * OBSTACLES)
    obstacles[3, :3] = 3.0, 0.0, 4.0
    near = policy.compute(inputs._replace(obstacles=obstacles))
    assert near.joint_vel == pytest.approx(0.5 * first.joint_vel, rel=1e-4)
    # without `oriented`, orientations do not count
    free = policy.compute(inputs._replace(oriented=None))
    same = policy.compute(inputs._replace(oriented=None, goal_orientations=None))
    assert np.array_equal(free.joint_vel, same.joint_vel)
    assert not np.allclose(free.joint_vel, first.joint_vel)


def test_a_batch_keeps_a_memory_for_each_robot(welder: Robot, policy_path: Path) -> None:
    batch = PolicyBatch(PolicyFile(policy_path), 3)
    poses = [reachable_poses(welder, seed) for seed in range(3)]
    inputs = PolicyInputs(
        torch.tensor(welder.home).float().repeat(3, 1),
        torch.tensor(np.array([position for position, _ in poses])).float(),
        torch.ones(3, 2),
        goal_orientations=torch.tensor(np.array([turned for _, turned in poses])).float(),
        oriented=torch.ones(3, 2),
    )
    first = batch(inputs).joint_vel
    batch(inputs)
    assert batch.memory.tolist() == [[2.0] * MEMORY] * 3
    batch.reset(torch.tensor([False, True, False]))
    third = batch(inputs).joint_vel
    assert torch.allclose(third[[0, 2]], 3.0 * first[[0, 2]], rtol=1e-4)
    assert torch.allclose(third[1], first[1])
    node = Policy.load(policy_path, welder)
    position, turned = poses[0]
    alone = node.compute(
        PolicyInputs(welder.home, position, np.ones(2), None, turned, oriented=np.ones(2))
    )
    assert alone.joint_vel == pytest.approx(first[0].numpy(), abs=1e-5)


@pytest.mark.parametrize(
    ("output", "factors", "reason"),
    [
        ("effector_orientation", [-1.0, 1.0, 1.0, 1.0], "'effector_orientation' at home: found"),
        ("next_memory", [np.inf, 1.0], "'next_memory' at home: found .inf, 1., expected finite"),
    ],
)
def test_outputs_are_checked_at_home(
    welder: Robot, policy_path: Path, tmp_path: Path, output: str, factors: list, reason: str
) -> None:
    model = onnx.load(policy_path)
    for node in model.graph.node:
        node.output[:] = [f"true_{name}" if name == output else name for name in node.output]
    factor = helper.make_tensor("factor", TensorProto.FLOAT, [len(factors)], factors)
    model.graph.initializer.append(factor)
    model.graph.node.append(helper.make_node("Mul", [f"true_{output}", "factor"], [output]))
    onnx.save(model, tmp_path / "wrong.onnx")
    with pytest.raises(ContractError, match=reason):
        Policy.load(tmp_path / "wrong.onnx", welder)


def test_a_memory_without_its_output_is_refused(
    welder: Robot, policy_path: Path, tmp_path: Path
) -> None:
    model = onnx.load(policy_path)
    kept = [tensor for tensor in model.graph.output if tensor.name != "next_memory"]
    del model.graph.output[:]
    model.graph.output.extend(kept)
    onnx.save(model, tmp_path / "forgetful.onnx")
    with pytest.raises(ContractError, match="policy outputs: found .*expected .*'next_memory'"):
        Policy.load(tmp_path / "forgetful.onnx", welder)
