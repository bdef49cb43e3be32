"""Export a trained policy to one self-contained ONNX file: the contract between training and the
robot.

Inputs joint_pos (B, nu) [rad or m], goals (B, E, 3) [m, base frame], active (B, E) in {0, 1};
outputs joint_vel (B, nu) [rad/s or m/s], within the robot's limits, and effector_pos (B, E, 3) [m].
Kinematics, features and scaling are in the graph. `metadata_props` hold the contract, each value as
JSON.
"""

import json
import logging
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import onnx
import torch
from torch import Tensor, nn

from polyreach.methods import get_method
from polyreach.networks.policy import RobotPolicy
from polyreach.robot.features import Observation
from polyreach.runs.restore import newest_state, restored_learner
from polyreach.runs.run import RunConfig, RunFolder, load_run_robot
from polyreach_description import Robot

SCHEMA_VERSION = 1
OPSET = 18
INPUTS = ("joint_pos", "goals", "active")
OUTPUTS = ("joint_vel", "effector_pos")


class ExportedPolicy(nn.Module):
    """A policy in physical units.

    Kinematics and features are in double precision: the least squares among them would let the
    rounding of another runtime show in the fifth digit.
    """

    def __init__(self, policy: RobotPolicy, robot: Robot) -> None:
        super().__init__()
        self.policy = policy
        self.features = type(policy.features)(robot, torch.float64)
        self.speeds: Tensor
        self.register_buffer("speeds", torch.tensor(robot.action_speeds, dtype=torch.float32))

    def forward(self, joint_pos: Tensor, goals: Tensor, active: Tensor) -> tuple[Tensor, Tensor]:
        """Inputs and outputs as in the module's docstring."""
        parts = Observation(joint_pos.double(), goals.double(), active.double())
        features, pose = self.features.compute(parts)
        action = self.policy.act(features.float(), active).clamp(-1.0, 1.0)
        return action * self.speeds, pose.effector.float()


def load_run_policy(folder: Path) -> tuple[RobotPolicy, Robot, RunConfig, dict[str, int]]:
    """The newest policy of a run folder, its robot, configuration and progress.

    Raises RunError if `folder` holds no run and CheckpointError if no checkpoint can be read.
    """
    run = RunFolder(folder)
    config = run.read_config()
    robot = load_run_robot(config)
    state = newest_state(run, config)
    progress = {"steps": state["env_steps"], "updates": state["updates"]}
    policy = restored_learner(config, state).robot_policy()
    return policy.eval(), robot, config, progress


def write_onnx(policy: RobotPolicy, robot: Robot, contract: Mapping[str, Any], path: Path) -> None:
    """Write `policy` for `robot` to `path`, with `contract` as metadata; for any batch size."""
    module = ExportedPolicy(policy, robot).eval()
    joints, effectors = len(robot.joint_names), len(robot.effector_names)
    example = (torch.zeros(2, joints), torch.zeros(2, effectors, 3), torch.ones(2, effectors))
    batch = {0: torch.export.Dim("batch")}
    # it tells of every operator of torchvision that is not there
    logging.getLogger("torch.onnx._internal.exporter._registration").setLevel(logging.ERROR)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            module,
            example,
            dynamo=True,
            input_names=INPUTS,
            output_names=OUTPUTS,
            dynamic_shapes=(batch, batch, batch),
            opset_version=OPSET,
            verbose=False,
        )
    assert program is not None
    model = program.model_proto
    del model.metadata_props[:]
    for node in model.graph.node:
        del node.metadata_props[:]
    write_metadata(model, contract)
    save(model, path)


def write_metadata(model: onnx.ModelProto, contract: Mapping[str, Any]) -> None:
    """Put the contract into `model`, each value as JSON at full precision."""
    onnx.helper.set_model_props(model, {key: json.dumps(value) for key, value in contract.items()})


def save(model: onnx.ModelProto, path: Path) -> None:
    """Check `model` and write it, whole or not at all."""
    onnx.checker.check_model(model)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    partial.write_bytes(model.SerializeToString())
    partial.replace(path)


def robot_contract(robot: Robot) -> dict[str, Any]:
    """What a policy file says of the robot it is for, and what the controller compares."""
    return {
        "schema_version": SCHEMA_VERSION,
        "robot": robot.name,
        "joint_names": list(robot.joint_names),
        "effector_names": list(robot.effector_names),
        "base_frame": robot.base_frame,
        "update_rate": robot.control_rate,
        "action_type": "joint_velocity",
        "joint_pos_limits": robot.joint_pos_limits.tolist(),
        "joint_vel_limits": robot.joint_vel_limits.tolist(),
        "joint_acc_limits": robot.joint_acc_limits.tolist(),
        "observation_names": list(INPUTS),
        "robot_sha256": robot.sha256,
    }


def export_run(folder: Path, path: Path) -> dict[str, Any]:
    """Export the newest checkpoint of the run in `folder` to `path`; returns the contract, not yet
    evaluated.
    """
    policy, robot, config, progress = load_run_policy(folder)
    run = RunFolder(folder)
    records = run.read_metrics()
    contract = {
        **robot_contract(robot),
        "method": config.method,
        "method_paper": get_method(config.method).paper,
        "training": {
            **progress,
            "seeds": [config.seed],
            "git_commit": ", ".join(run.read_git_commits()),
            "wall_s": round(sum(record["wall_s"] for record in records[-1:]), 1),
            "config": config.to_json(),
        },
        "evaluation": {},
    }
    if policy.task_names:
        contract["task_names"] = list(policy.task_names)
    write_onnx(policy, robot, contract, path)
    return contract
