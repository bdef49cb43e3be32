"""Policy files that would hang, fill the memory or read other files: refused before they run."""

import json
import math
from pathlib import Path
from time import monotonic

import numpy as np
import onnx
import pytest
import torch
from bad_files import (
    BAD_POLICIES,
    huge_at_load,
    int64s,
    never_taken,
    plus_mean_of,
    slow,
    write_policy,
)
from onnx import TensorProto, helper

from polyreach.cli import main
from polyreach.errors import UserError
from polyreach.robot import onnx_policy
from polyreach.robot.onnx_policy import PolicyFile
from polyreach_description import Robot, policy_file, policy_trial
from polyreach_description.limited import Limits
from polyreach_description.policy_file import ContractError
from polyreach_description.policy_search import find_policy
from polyreach_description.policy_tensors import PolicyInputs
from polyreach_nodes.control.policy import MAX_PERIOD_SHARE, Policy

SHIPPED = find_policy("planar8")
WITHOUT_BRANCHES = find_policy("planar8", "digrad")  # and without a memory
QUICK_S = 20.0  # [s], on a busy machine; without bounds it is hours, or all of the memory


@pytest.mark.parametrize("case", BAD_POLICIES)
def test_bad_policies_are_refused_by_controller_and_evaluation(
    case: str, planar8: Robot, tmp_path: Path
) -> None:
    make, reason = BAD_POLICIES[case]
    path = tmp_path / "policy.onnx"
    make(path, SHIPPED)
    begun_s = monotonic()
    with pytest.raises(ContractError) as refusal:
        Policy.load(path, planar8)
    with pytest.raises(UserError) as error:
        PolicyFile(path)
    assert monotonic() - begun_s < QUICK_S
    assert reason in str(refusal.value)
    assert str(error.value) == str(refusal.value)
    assert str(error.value).isprintable() and len(str(error.value)) < 1000


@pytest.mark.parametrize("path", sorted(SHIPPED.parent.glob("*.onnx")), ids=lambda path: path.stem)
def test_shipped_policies_pass_the_time_limit(path: Path) -> None:
    checked = policy_file.read_policy_file(path)
    # with branches, the graph is tried as it is and as often with choices of them
    _, depth, _ = policy_trial.flattened(onnx.load(path))
    runs = policy_trial.RUNS
    assert checked.runs == runs + (2**depth * math.ceil(runs / 2**depth) if depth else 0)
    assert 1e-5 < checked.worst_compute_s < 0.015
    assert checked.data == path.read_bytes()


def test_a_policy_that_takes_too_much_of_a_period_is_refused(
    planar8: Robot, tmp_path: Path
) -> None:
    path = tmp_path / "slow.onnx"
    write_policy(path, WITHOUT_BRANCHES, *slow())
    with pytest.raises(ContractError, match="ms of CPU time for one of [0-9]+ random inputs, "):
        Policy.load(path, planar8)
    assert Policy.load(SHIPPED, planar8).worst_compute_s < MAX_PERIOD_SHARE / planar8.control_rate


def test_both_branches_of_an_if_are_measured(planar8: Robot, tmp_path: Path) -> None:
    path = tmp_path / "branches.onnx"
    write_policy(path, WITHOUT_BRANCHES, *never_taken(slow(size=256, products=4)))
    branches = policy_file.read_policy_file(path)
    assert branches.runs == 2 * policy_trial.RUNS
    write_policy(path, WITHOUT_BRANCHES, *slow(size=256, products=4))
    # the other branch, and the If's own
    assert branches.values == policy_file.read_policy_file(path).values + 16
    goals = planar8.forward_kinematics(planar8.home + 0.1)
    inputs = PolicyInputs(planar8.home, goals, np.ones(3))
    policy = Policy.load(WITHOUT_BRANCHES, planar8)
    write_policy(path, WITHOUT_BRANCHES, *never_taken(slow(size=256, products=4)))
    with_branches = Policy.load(path, planar8).compute(inputs).joint_vel
    assert np.array_equal(with_branches, policy.compute(inputs).joint_vel)
    assert branches.worst_compute_s > 2 * policy.worst_compute_s
    write_policy(path, WITHOUT_BRANCHES, *never_taken(slow()))
    with pytest.raises(ContractError, match="ms of CPU time for one of [0-9]+ random inputs, "):
        Policy.load(path, planar8)


def test_a_very_slow_policy_meets_the_time_limit(
    planar8: Robot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "slower.onnx"
    write_policy(path, WITHOUT_BRANCHES, *slow(size=1800, products=3, kind=TensorProto.INT64))
    monkeypatch.setattr(policy_file, "TRIAL_LIMITS", Limits(cpu_s=2, memory_bytes=4 * 2**30))
    begun_s = monotonic()
    with pytest.raises(ContractError, match="cannot be tried: more than 2 s of CPU time"):
        Policy.load(path, planar8)
    assert monotonic() - begun_s < QUICK_S


@pytest.mark.parametrize(("million", "refused"), [(20, False), (40, True)])
def test_values_of_a_run_are_counted(million: int, refused: bool, tmp_path: Path) -> None:
    """A policy of a dual-arm robot with grippers and a mobile base computes 18 million."""
    path = tmp_path / "large.onnx"
    node = helper.make_node("ConstantOfShape", ["shape"], ["huge"])
    write_policy(path, SHIPPED, plus_mean_of(node), [int64s("shape", million, 1_000_000)])
    if refused:
        with pytest.raises(ContractError, match="elements in all, expected at most 33554432"):
            policy_file.read_policy_file(path)
    else:
        assert policy_file.read_policy_file(path).data == path.read_bytes()


def test_memory_past_the_limit_is_a_refusal(
    planar8: Robot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What passes the check of shapes still has the child's limit before it."""
    path = tmp_path / "huge.onnx"
    write_policy(path, SHIPPED, *huge_at_load())
    trial = tmp_path / "trial.py"
    source = Path(policy_trial.__file__).read_text()
    assert "MAX_VALUES = 2**25" in source
    trial.write_text(source.replace("MAX_VALUES = 2**25", "MAX_VALUES = 2**60"))
    monkeypatch.setattr(policy_file, "_TRIAL", trial)
    policy_file._tried.cache_clear()
    with pytest.raises(ContractError) as error:
        Policy.load(path, planar8)
    assert "does not run: " in str(error.value) or "memory" in str(error.value)
    policy_file._tried.cache_clear()


def test_the_checked_bytes_are_the_ones_that_run(
    planar8: Robot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "policy.onnx"
    path.write_bytes(SHIPPED.read_bytes())
    run_limited = policy_file.run_limited

    def swapped(*arguments: object) -> object:
        path.write_bytes(b"another file")
        return run_limited(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(policy_file, "run_limited", swapped)
    policy_file._tried.cache_clear()
    policy = Policy.load(path, planar8)
    goals = planar8.forward_kinematics(planar8.home + 0.1)
    inputs = PolicyInputs(planar8.home, goals, np.ones(3))
    expected = Policy.load(SHIPPED, planar8).compute(inputs).joint_vel
    assert np.array_equal(policy.compute(inputs).joint_vel, expected)
    assert path.read_bytes() == b"another file"


def test_identical_files_are_tried_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    policy_file._tried.cache_clear()
    first = policy_file.read_policy_file(SHIPPED)
    monkeypatch.setattr(policy_file, "run_limited", None)
    copy = tmp_path / "copy.onnx"
    copy.write_bytes(SHIPPED.read_bytes())
    assert policy_file.read_policy_file(copy).worst_compute_s == first.worst_compute_s


def test_a_policy_that_exceeded_a_limit_once_is_tried_again(
    planar8: Robot, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy_file._tried.cache_clear()
    with monkeypatch.context() as patch:
        patch.setattr(policy_file, "TRIAL_LIMITS", Limits(cpu_s=1, memory_bytes=2**27))
        with pytest.raises(ContractError, match="cannot be tried: .* \\(limit: 0.125 GiB\\)"):
            Policy.load(SHIPPED, planar8)
    assert Policy.load(SHIPPED, planar8).worst_compute_s > 0.0


def test_large_batches_are_computed_in_parts(
    planar8: Robot, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = policy_file.read_policy_file(WITHOUT_BRANCHES).values
    joint_pos = torch.tensor(planar8.sample_configuration(np.random.default_rng(0), 25)).float()
    inputs = PolicyInputs(joint_pos, torch.rand(25, 3, 3), torch.ones(25, 3))
    whole = PolicyFile(WITHOUT_BRANCHES)(inputs)
    monkeypatch.setattr(onnx_policy, "MAX_BATCH_VALUES", 10 * values)
    parts = PolicyFile(WITHOUT_BRANCHES)
    batches: list[int] = []
    run = parts._run
    monkeypatch.setattr(parts, "_run", lambda feed: batches.append(len(feed["goals"])) or run(feed))
    for found, expected in zip(parts(inputs)[:2], whole[:2], strict=True):
        assert found.numpy() == pytest.approx(expected.numpy(), abs=1e-5)
    assert batches == [10, 10, 5]


def test_metadata_with_terminal_escapes_are_shown_as_text(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "policy.onnx"
    write_policy(path, SHIPPED, change=lambda m: m.metadata_props.add(key="\x1b[2J", value="{"))
    assert main(["evaluate", str(path)]) == 2
    text = capsys.readouterr().err
    assert "'\\x1b[2J': found {, expected JSON" in text and text.strip().isprintable()


@pytest.mark.parametrize("name", ["/tmp/robot.yaml", "../robot.yaml", 5, None])
def test_a_policy_file_cannot_select_robot_files(
    name: object, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`evaluate` takes the robot from the metadata: that is a name, never a path."""

    def change(model: onnx.ModelProto) -> None:
        texts = {pair.key: pair.value for pair in model.metadata_props}
        del model.metadata_props[:]
        helper.set_model_props(model, texts | {"robot": json.dumps(name)})

    path = tmp_path / "policy.onnx"
    write_policy(path, SHIPPED, change=change)
    assert main(["evaluate", str(path)]) == 2
    assert "its metadata names no robot" in capsys.readouterr().err
