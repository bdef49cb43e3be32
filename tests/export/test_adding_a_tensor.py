"""Adding a tensor to the contract, in a copy of the packages: 3 files for an input or an output.

1. Its field in PolicyInputs or PolicyOutputs (polyreach_description/policy_tensors.py).
2. The line of ExportedPolicy.forward (polyreach/deploy/export.py) that uses or computes it. An
   input is named where the features are made, too, an output in ExportedPolicy.outputs.
3. The line that sets it where the policy is called, or reads it from the result.

Export, metadata, the checks and buffers of the controller, and the evaluation follow from the
field. Policy files from before stay valid, because the field is optional.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = (
    "training/polyreach",
    "ros2_ws/src/polyreach_description/polyreach_description",
    "ros2_ws/src/polyreach_nodes/polyreach_nodes",
)
TENSORS, EXPORT = "polyreach_description/policy_tensors.py", "polyreach/deploy/export.py"
# places of a tensor: file, text there, what takes its place
INPUT = (
    (
        TENSORS,
        "\n\nclass PolicyOutputs(",
        "    slowdown: Annotated[Array | None, TensorSpec((1,), '1', 'share')] = None\n"
        "\n\nclass PolicyOutputs(",
    ),
    (
        EXPORT,
        "return action * self.speeds,",
        "return action * self.speeds * (1 - inputs.slowdown),",
    ),
    ("use.py", "np.ones(3))", "np.ones(3), slowdown=np.array([0.25]))"),
)
OUTPUT = (
    (
        TENSORS,
        "\n\ndef _specs(",
        "    distance: Annotated[Array | None, TensorSpec(('effectors',), 'm', '')] = None\n"
        "\n\ndef _specs(",
    ),
    (
        EXPORT,
        "pose.effector.float()",
        "pose.effector.float(), (inputs.goals - pose.effector).norm(dim=-1).float()",
    ),
    (EXPORT, '"effector_pos")', '"effector_pos", "distance")'),
    ("use.py", "result = {", 'result = {"distance": outputs.distance.tolist(), '),
)
USE = """
import json
from pathlib import Path

import numpy as np

from polyreach.deploy.evaluate import evaluate_policy
from polyreach.deploy.evaluation_config import EvaluationConfig
from polyreach.deploy.export import write_onnx
from polyreach.networks.policy import RobotPolicy
from polyreach.robot.features import KinematicFeatures
from polyreach.robot.onnx_policy import PolicyFile
from polyreach_description import load_robot
from polyreach_description.contract import robot_metadata
from polyreach_description.policy_tensors import REQUIRED_INPUTS, PolicyInputs
from polyreach_nodes.control.policy import Policy


class LeastSquaresPolicy(RobotPolicy):
    def __init__(self, robot):
        super().__init__()
        self.features = KinematicFeatures(robot, inputs=[*REQUIRED_INPUTS, "slowdown"])

    def act(self, features, active):
        return self.features.least_squares(features)


robot = load_robot("planar8")
path = Path("policy.onnx")
metadata = {**robot_metadata(robot), "method": "least squares"}
write_onnx(LeastSquaresPolicy(robot), robot, metadata, path)
goals = robot.forward_kinematics(robot.home + 0.1)
inputs = PolicyInputs(robot.home, goals, np.ones(3))
policy = Policy.load(path, robot)
outputs = policy.compute(inputs)
shipped = Policy.load(SHIPPED, robot).compute(inputs)
measured = evaluate_policy(PolicyFile(path), robot, EvaluationConfig(goals=3, seconds=3.0))
result = {
    "joint_vel": outputs.joint_vel.tolist(),
    "shipped": shipped.joint_vel.tolist(),
    "inputs": policy.contract.inputs,
    "distance at home": np.linalg.norm(outputs.effector_pos - goals, axis=-1).tolist(),
    "evaluated [m]": measured["error_median_m"],
}
print(json.dumps(result))
"""


def run_with(tmp_path: Path, places: tuple[tuple[str, str, str], ...]) -> dict:
    """What USE prints with a copy of the packages that has the additions."""
    for package in PACKAGES:
        shutil.copytree(
            ROOT / package,
            tmp_path / Path(package).name,
            ignore=shutil.ignore_patterns("__pycache__"),
        )
    shipped = ROOT / "models" / "planar8-digrad.onnx"
    (tmp_path / "use.py").write_text(f"SHIPPED = {str(shipped)!r}\n{USE}")
    for file, place, addition in places:
        text = (tmp_path / file).read_text()
        assert text.count(place) == 1, f"{file} has no single place {place!r}"
        (tmp_path / file).write_text(text.replace(place, addition))
    run = subprocess.run(
        [sys.executable, "use.py"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout.splitlines()[-1])


def test_an_input_and_an_output_are_three_files_each(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    for places in (INPUT, OUTPUT):
        assert {file for file, _, _ in places} == {TENSORS, EXPORT, "use.py"}
    before = run_with(tmp_path_factory.mktemp("before"), ())
    after = run_with(tmp_path_factory.mktemp("after"), (*INPUT, *OUTPUT))
    assert before["inputs"] == ["joint_pos", "goals", "active"]
    assert after["inputs"] == ["joint_pos", "goals", "active", "slowdown"]
    assert after["joint_vel"] == pytest.approx([0.75 * v for v in before["joint_vel"]], rel=1e-5)
    assert any(before["joint_vel"])
    assert after["distance"] == pytest.approx(after["distance at home"], abs=1e-6)
    # where nobody sets the input it is zero, and files without it compute as before
    assert after["evaluated [m]"] == before["evaluated [m]"] < 0.3
    assert after["shipped"] == before["shipped"]
