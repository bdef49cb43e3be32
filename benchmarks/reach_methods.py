"""Reach methods: each trained for the same CPU time, alone and with the search around it.

    python -m benchmarks.reach_methods [METHOD ...] [--robot ROBOT] [--seeds N] [--out FOLDER]

Runs are FOLDER/METHOD-ROBOT-sSEED, and are trained where they are missing. Results go to
FOLDER/reach-methods.json, in which those of other methods and robots stay; reach-methods.md shows
all of them.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console

from benchmarks.reach_methods_page import SEARCH, Results, methods_page, page_figures
from polyreach.deploy.controllers import Controller, PolicyController
from polyreach.deploy.evaluate import Evaluation
from polyreach.deploy.evaluation_config import EvaluationConfig
from polyreach.deploy.export import load_run_policy, write_onnx
from polyreach.networks.policy import RobotPolicy
from polyreach.robot.features import Observation, largest_action
from polyreach.robot.onnx_policy import PolicyFile
from polyreach_description import Robot, load_robot
from polyreach_description.contract import robot_metadata
from polyreach_description.policy_tensors import PolicyInputs

Array = NDArray[np.float64]

METHODS = (
    "apg", "digrad", "ddpg", "independent-sac", "mtsac", "mtmhsac", "dgrad-o", "dgrad-a",
    "soft-modularization", "ktm", "picor", "ars", "ppo", "specialization", "a2c", "distillation",
    "fine-tuning", "ppo-fine-tuning",
)  # fmt: skip
STEPS = {
    "planar8": {
        "apg": 280_000,
        **dict.fromkeys(("digrad", "ddpg", "ktm"), 300_000),
        "ars": 500_000,
    },
    "dual7": {"apg": 130_000, **dict.fromkeys(("digrad", "ddpg", "ktm"), 220_000), "ars": 500_000},
}
"""Of methods whose rates or phases depend on them, about what a minute suffices for; other
robots have those of dual7.
"""
MANY_STEPS = 2_000_000
SEPARATE = "a2c-separate"  # networks per task: what fine-tuning starts from
EXTRA = {
    "apg": ["--num-envs", "128"],
    "fine-tuning": ["--method-config.source-task", "together"],
    SEPARATE: ["--method-config.sharing", "none"],
}
STARTS = {
    "distillation": ("a2c", "teachers"),
    "fine-tuning": (SEPARATE, "start"),
    "ppo-fine-tuning": ("a2c", "start"),
}
"""Of methods that start from another run: which, and the setting that names it."""
POLL_S = 0.25


class TorchController:
    """A policy as it was trained: without a search, and not exported."""

    def __init__(self, policy: RobotPolicy, robot: Robot) -> None:
        self._policy, self._layout = policy, policy.features.layout
        self._speeds = largest_action(robot, self._layout.inputs)

    def reset(self, rows: int) -> None:
        """Nothing is kept between two calls."""

    @torch.no_grad()
    def command(self, inputs: PolicyInputs[Array]) -> Array:
        """Joint velocities (N, nu) [rad/s or m/s]."""
        values = {name: getattr(inputs, name) for name in self._layout.inputs}
        parts = {name: torch.tensor(value).float() for name, value in values.items()}
        action = self._policy(self._layout.flat(Observation(**parts)))
        return action.clamp(-1.0, 1.0).double().numpy() * self._speeds


def ensure_run(name: str, robot: Robot, seed: int, arguments: argparse.Namespace) -> Path:
    """The folder of a run, trained where it is missing, after the run that it starts from."""
    folder: Path = arguments.out / f"{name}-{robot.name}-s{seed}"
    if not (folder / "cpu.json").exists():
        extra = list(EXTRA.get(name, []))
        if name in STARTS:
            other, setting = STARTS[name]
            extra += [f"--method-config.{setting}", str(ensure_run(other, robot, seed, arguments))]
        method = "a2c" if name == SEPARATE else name
        train(method, arguments.robot, seed, arguments.seconds, folder, extra)
    return folder


def train(
    method: str, robot: str, seed: int, seconds: float, folder: Path, extra: list[str]
) -> None:
    """Train in `folder` for that CPU time [s], which is written to cpu.json there."""
    steps = STEPS.get(robot, STEPS["dual7"]).get(method, MANY_STEPS)
    command = [sys.executable, "-m", "polyreach.cli", "train", method, robot, "--out", str(folder)]
    command += ["--steps", str(steps), "--seed", str(seed), "--eval-every", "100000"]
    command += ["--eval-goals", "64", *extra]
    used, stops = 0.0, False
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        while process.poll() is None:
            used = max(used, cpu_seconds(process.pid))
            if used >= seconds and not stops:  # it ends with a checkpoint
                process.send_signal(signal.SIGTERM)
                stops = True
            time.sleep(POLL_S)
    if not folder.exists():
        raise SystemExit(f"no run: {' '.join(command)}")
    (folder / "cpu.json").write_text(json.dumps({"cpu_s": round(used, 1)}), encoding="utf-8")


def cpu_seconds(process: int) -> float:
    """CPU time [s] that a process has used; 0 when it has ended."""
    try:
        fields = Path(f"/proc/{process}/stat").read_text(encoding="utf-8").rpartition(")")[2]
    except (FileNotFoundError, ProcessLookupError):
        return 0.0
    user, system = fields.split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


def figures_of(evaluation: Evaluation, controller: Controller) -> dict[str, Any]:
    """Of goals that stand still, jump and move."""
    figures = evaluation.measure(controller)
    return page_figures(figures | {"controlled": evaluation.measure_controlled(controller)})


def searched(policy: RobotPolicy | None, robot: Robot, folder: Path) -> PolicyController:
    """The policy, or none, with the search around it, as it is exported."""
    path = folder / "searched.onnx"
    metadata = {**robot_metadata(robot), "method": "", "method_paper": "", "training": {}}
    write_onnx(policy, robot, {**metadata, "evaluation": {}}, path)  # type: ignore[typeddict-item]
    return PolicyController(PolicyFile(path))


def measure_run(folder: Path, evaluation: Evaluation) -> dict[str, Any]:
    """What the run is, and the figures of its policy alone and, where it names configurations, with
    the search around it.
    """
    policy, robot, config, progress = load_run_policy(folder)
    result: dict[str, Any] = {
        "steps": progress["steps"],
        **json.loads((folder / "cpu.json").read_text(encoding="utf-8")),
        "seed": config.seed,
        "alone": figures_of(evaluation, TorchController(policy, robot)),
    }
    if policy.names_configurations:
        result["search"] = figures_of(evaluation, searched(policy, robot, folder))
    return result


def parse_arguments(argv: list[str] | None = None) -> argparse.Namespace:
    """Parse methods, robot, seeds, seconds, goals, controlled and out."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.reach_methods",
        description="Every reach method, trained for the same CPU time, on the same goals.",
    )
    parser.add_argument("methods", nargs="*", metavar="METHOD", help="default: all")
    parser.add_argument("--robot", default="planar8", help="a shipped robot or a robot.yaml")
    parser.add_argument("--seeds", type=int, default=1, help="seeds 0 to N - 1")
    parser.add_argument("--seconds", type=float, default=60.0, help="CPU time of a training")
    parser.add_argument("--goals", type=int, default=200, help="goal sets that stand still")
    parser.add_argument(
        "--controlled", type=int, default=50, help="of those that jump; a fifth: that move"
    )
    parser.add_argument("--out", type=Path, default=Path("runs/reach-methods"), metavar="FOLDER")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    """Train, measure, print and write; returns the exit status."""
    arguments = parse_arguments(argv)
    torch.set_num_threads(1)
    out: Path = arguments.out
    out.mkdir(parents=True, exist_ok=True)
    robot = load_robot(arguments.robot)
    config = EvaluationConfig(goals=arguments.goals, controlled=arguments.controlled)
    evaluation, console = Evaluation(robot, config), Console(markup=False, highlight=False)
    file = out / "reach-methods.json"

    def measured() -> Results:
        # read again every time: another process may have measured meanwhile
        results: Results = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
        return results

    def note(name: str, *parts: dict[str, Any]) -> None:
        results = measured()
        results.setdefault(robot.name, {})[name] = list(parts)
        file.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
        (out / "reach-methods.md").write_text(methods_page(results), encoding="utf-8")
        console.print(f"{robot.name}, {name}: measured")

    if SEARCH not in measured().get(robot.name, {}):
        note(SEARCH, {"search": figures_of(evaluation, searched(None, robot, out))})
    for method in arguments.methods or METHODS:
        folders = [ensure_run(method, robot, seed, arguments) for seed in range(arguments.seeds)]
        note(method, *(measure_run(folder, evaluation) for folder in folders))
    console.print(f"wrote {file} and reach-methods.md")
    return 0


if __name__ == "__main__":
    sys.exit(main())
