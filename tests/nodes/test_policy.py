"""Policy files in ONNX Runtime: what they compute, and which are refused."""

import os
from pathlib import Path

import numpy as np
import onnx
import pytest
from rig import with_metadata

from polyreach_description import Robot, load_robot
from polyreach_description.policy_file import ContractError
from polyreach_description.policy_tensors import PolicyInputs
from polyreach_nodes.control.policy import Policy


def test_policy_knows_the_kinematics_and_moves_towards_goals(
    policy_file: Path, planar8: Robot
) -> None:
    policy = Policy.load(policy_file, planar8)
    rng = np.random.default_rng(1)
    for start, nearby in zip(
        planar8.sample_configuration(rng, 20), rng.normal(0, 0.02, (20, 8)), strict=True
    ):
        goals = planar8.forward_kinematics(start + nearby)
        before = planar8.forward_kinematics(start)
        joint_vel, effector_pos, *_ = policy.compute(PolicyInputs(start, goals, np.ones(3)))
        assert effector_pos == pytest.approx(before, abs=1e-5)
        after = planar8.forward_kinematics(start + 0.02 * joint_vel)
        assert np.linalg.norm(after - goals) < np.linalg.norm(before - goals)


def test_effectors_without_goal_do_not_count(policy_file: Path, planar8: Robot) -> None:
    policy = Policy.load(policy_file, planar8)
    goals = planar8.forward_kinematics(planar8.home + 0.3)
    inputs = PolicyInputs(planar8.home, goals, np.array([1.0, 0.0, 0.0]))
    joint_vel = policy.compute(inputs).joint_vel
    assert joint_vel[planar8.action_sets[0]].any()
    assert not joint_vel[~planar8.action_sets[0]].any()


def test_computing_again_gives_the_same_and_leaves_earlier_results(
    policy_file: Path, planar8: Robot
) -> None:
    policy = Policy.load(policy_file, planar8)
    goals = planar8.forward_kinematics(planar8.home + 0.3)
    inputs = PolicyInputs(planar8.home, goals, np.ones(3))
    first = policy.compute(inputs).joint_vel
    kept = first.copy()
    policy.compute(inputs._replace(joint_pos=planar8.home + 0.1))
    assert np.array_equal(first, kept)
    assert np.array_equal(policy.compute(inputs).joint_vel, kept)


def test_refused_files_are_named(policy_file: Path, planar8: Robot, tmp_path: Path) -> None:
    with pytest.raises(ContractError, match=r"missing\.onnx' does not exist"):
        Policy.load(tmp_path / "missing.onnx", planar8)
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(os.urandom(1000))
    with pytest.raises(ContractError, match=r"broken\.onnx' is not an ONNX model"):
        Policy.load(broken, planar8)
    cut = tmp_path / "cut.onnx"
    cut.write_bytes(policy_file.read_bytes()[:-1000])
    with pytest.raises(ContractError):
        Policy.load(cut, planar8)


def test_a_policy_for_another_robot_is_refused_by_its_contract(policy_file: Path) -> None:
    with pytest.raises(ContractError, match="'robot': found planar8, expected humanoid27"):
        Policy.load(policy_file, load_robot("humanoid27"))


def test_renamed_tensor_is_refused(policy_file: Path, planar8: Robot, tmp_path: Path) -> None:
    model = onnx.load(policy_file)
    for tensor in [*model.graph.input]:
        if tensor.name == "goals":
            tensor.name = "targets"
    for node in model.graph.node:
        node.input[:] = ["targets" if name == "goals" else name for name in node.input]
    onnx.save(model, tmp_path / "renamed.onnx")
    with pytest.raises(ContractError, match=r"inputs: found \['active', 'joint_pos', 'targets'\]"):
        Policy.load(tmp_path / "renamed.onnx", planar8)


def test_a_graph_of_other_kinematics_is_refused(
    policy_file: Path, planar8: Robot, tmp_path: Path
) -> None:
    model = onnx.load(policy_file)
    shift = onnx.numpy_helper.from_array(np.array([0.0, 0.01, 0.0], np.float32), "shift")
    model.graph.initializer.append(shift)
    for node in model.graph.node:
        node.output[:] = ["unshifted" if name == "effector_pos" else name for name in node.output]
        node.input[:] = ["unshifted" if name == "effector_pos" else name for name in node.input]
    model.graph.node.append(onnx.helper.make_node("Add", ["unshifted", "shift"], ["effector_pos"]))
    onnx.save(model, tmp_path / "shifted.onnx")
    with pytest.raises(ContractError, match="'effector_pos' at home"):
        Policy.load(tmp_path / "shifted.onnx", planar8)


def test_changed_limits_are_refused(policy_file: Path, planar8: Robot, tmp_path: Path) -> None:
    limits = (2 * planar8.joint_vel_limits).tolist()
    path = with_metadata(policy_file, tmp_path / "fast.onnx", joint_vel_limits=limits)
    with pytest.raises(ContractError, match="joint_vel_limits of joint 'shared_1'"):
        Policy.load(path, planar8)
