"""Export a trained policy to one self-contained ONNX file.

The tensors and the metadata of the file are those of polyreach_description.contract. Kinematics,
features and scaling are in the graph.
"""

import json
import warnings
from pathlib import Path
from tempfile import TemporaryDirectory

import onnx
import onnxruntime as ort
import torch
from torch import Tensor, nn

from polyreach.deploy.branches import compute_unless
from polyreach.deploy.search_policy import SearchPolicy
from polyreach.methods import get_method
from polyreach.networks.policy import RobotPolicy
from polyreach.robot.features import Observation, largest_action
from polyreach.runs.config import RunConfig, load_run_robot
from polyreach.runs.folder import RunFolder
from polyreach.runs.trained_policy import newest_state, restore_learner
from polyreach_description import Robot
from polyreach_description.contract import PolicyMetadata, robot_metadata
from polyreach_description.policy_tensors import INPUTS

OPSET = 18
LEAST_SQUARES = "least-squares"
"""Method of a file without a trained policy; no method of `polyreach train` has this name."""
LEAST_SQUARES_PAPER = (
    "no training; damped least squares (Buss & Kim 2005, Selectively Damped Least Squares for "
    "Inverse Kinematics, JGT 10(3)) from configurations spread over the joints' ranges"
)


class ExportedPolicy(nn.Module):
    """A policy in physical units.

    Kinematics and features are in double precision: the least squares among them would let the
    rounding of another runtime show in the fifth digit.
    """

    outputs = ("joint_vel", "effector_pos")

    def __init__(self, policy: RobotPolicy, robot: Robot) -> None:
        super().__init__()
        self.policy = policy
        self.inputs = policy.features.layout.inputs
        self.features = type(policy.features)(robot, torch.float64, self.inputs)
        self.speeds: Tensor
        speeds = torch.tensor(largest_action(robot, self.inputs), dtype=torch.float32)
        self.register_buffer("speeds", speeds)

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        """The values of `outputs` for tensors of `inputs`, each (B, ...)."""
        inputs = Observation(**dict(zip(self.inputs, tensors, strict=True)))
        features, pose = self.features.compute(inputs.map(Tensor.double))
        action = self.policy.act(features.float(), inputs.active).clamp(-1.0, 1.0)
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
    policy = restore_learner(config, state).robot_policy()
    return policy.eval(), robot, config, progress


def write_onnx(
    policy: RobotPolicy | None, robot: Robot, metadata: PolicyMetadata, path: Path
) -> None:
    """Write `policy` for `robot` to `path`, with `metadata`; for any batch size.

    A policy that names configurations is written with the search around it, and None as the search
    alone.
    """
    if policy is None or policy.names_configurations:
        search = SearchPolicy(robot, policy)
        model = to_onnx(search, robot, search.memory_size)
        for decision in search.decisions:
            compute_unless(model, *decision)
        metadata = {**metadata, "memory_size": search.memory_size, "inputs": list(search.inputs)}
    else:
        plain = ExportedPolicy(policy, robot)
        model = to_onnx(plain, robot)
        metadata = {**metadata, "inputs": list(plain.inputs)}
    write_metadata(model, metadata)
    save(model, path)


def to_onnx(
    module: ExportedPolicy | SearchPolicy, robot: Robot, memory: int = 0
) -> onnx.ModelProto:
    """The graph of `module`, for any batch size, with everything computed that does not depend on
    its inputs, shapes included.
    """
    sizes = len(robot.joint_names), len(robot.effector_names), memory
    example = tuple(torch.ones(2, *INPUTS[name].shape(*sizes)) for name in module.inputs)
    conditions = {decision.condition for decision in SearchPolicy.decisions}
    batches = [name for name in (*module.inputs, *module.outputs) if name not in conditions]
    with (
        TemporaryDirectory() as folder,
        warnings.catch_warnings(),
        torch.no_grad(),
    ):
        path = str(Path(folder) / "model.onnx")
        warnings.simplefilter("ignore")
        # the exporter that torch prefers takes half a minute for the graph of a search
        torch.onnx.export(
            module.eval(),
            example,
            path,
            dynamo=False,
            input_names=list(module.inputs),
            output_names=list(module.outputs),
            dynamic_axes={name: {0: "batch"} for name in batches},
            opset_version=OPSET,
        )
        options = ort.SessionOptions()
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
        options.optimized_model_filepath = path
        options.enable_mem_reuse = False  # as in policy_trial.py
        options.log_severity_level = 3
        ort.InferenceSession(path, options)
        model = onnx.load(path)
    del model.opset_import[:]  # ONNX Runtime lists all that it knows
    model.opset_import.append(onnx.helper.make_opsetid("", OPSET))
    return model


def export_search(robot: Robot, path: Path) -> PolicyMetadata:
    """Write the search without a policy for `robot` to `path`; returns the metadata, without an
    evaluation.
    """
    metadata: PolicyMetadata = {
        **robot_metadata(robot),
        "method": LEAST_SQUARES,
        "method_paper": LEAST_SQUARES_PAPER,
        "evaluation": {},
    }
    write_onnx(None, robot, metadata, path)
    return metadata


def write_metadata(model: onnx.ModelProto, metadata: PolicyMetadata) -> None:
    """Put `metadata` into `model`, each value as JSON at full precision."""
    onnx.helper.set_model_props(model, {key: json.dumps(value) for key, value in metadata.items()})


def save(model: onnx.ModelProto, path: Path) -> None:
    """Check `model` and write it, whole or not at all."""
    onnx.checker.check_model(model)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    partial.write_bytes(model.SerializeToString())
    partial.replace(path)


def export_run(folder: Path, path: Path) -> PolicyMetadata:
    """Export the newest checkpoint of the run in `folder` to `path`; returns the metadata, without
    an evaluation.
    """
    policy, robot, config, progress = load_run_policy(folder)
    run = RunFolder(folder)
    records = run.read_metrics()
    metadata: PolicyMetadata = {
        **robot_metadata(robot),
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
        metadata["task_names"] = list(policy.task_names)
    write_onnx(policy, robot, metadata, path)
    return metadata
