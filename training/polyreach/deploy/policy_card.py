"""Measure an exported policy; write the figures into the policy file and its model card."""

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import onnx

from polyreach.deploy.baselines.multi_start import MultiStartConfig
from polyreach.deploy.controllers import Conditioner
from polyreach.deploy.evaluate import compare
from polyreach.deploy.evaluation_config import EvaluationConfig
from polyreach.deploy.export import LEAST_SQUARES, save, write_metadata
from polyreach.deploy.tables import (
    alone_rows,
    comparison_rows,
    evaluation_rows,
    self_distance_line,
)
from polyreach.robot.configuration_search import CANDIDATES
from polyreach.robot.onnx_policy import PolicyFile
from polyreach.runs.config import RunConfig
from polyreach_description import Robot, is_robot_file
from polyreach_description.contract import PolicyMetadata
from polyreach_description.policy_tensors import INPUTS, OUTPUTS


def measure_and_describe(
    path: Path,
    robot: Robot,
    config: EvaluationConfig,
    pipeline: Conditioner | None = None,
    robot_word: str | None = None,
) -> Path:
    """Evaluate the policy file at `path`, write the result into its metadata and its card, which
    also compares it with controllers without learning; returns the card's path.

    pipeline: see Evaluation. robot_word: the robot in commands of the card, by default its name.
    """
    policy = PolicyFile(path)
    policy.check(robot)
    results = compare(policy, robot, config, pipeline)
    contract: PolicyMetadata = {**policy.contract, "evaluation": results["policy"]}
    model = onnx.load(str(path))
    write_metadata(model, contract)
    save(model, path)
    card = path.with_suffix(".md")
    card.write_text(model_card(path.name, contract, policy, results, robot_word or robot.name))
    return card


def remove_card(path: Path) -> None:
    """Remove the card of the policy file at `path`, which is about to become another policy's."""
    card = path.with_suffix(".md")
    if card.is_file() and card.read_text().startswith(_heading(path.name)):
        card.unlink()


def _heading(name: str) -> str:
    return f"# {name}\n\nA policy for "


def model_card(
    name: str,
    contract: PolicyMetadata,
    policy: PolicyFile,
    results: Mapping[str, dict[str, Any]],
    robot: str,
) -> str:
    """The card as Markdown.

    name: of the policy file; contract: its metadata with the evaluation; results: of compare;
    robot: name or robot.yaml, as in commands.
    """
    evaluation = contract["evaluation"]
    joints = ", ".join(f"`{joint}`" for joint in contract["joint_names"])
    return f"""{_heading(name)}`{contract["robot"]}` ({", ".join(contract["effector_names"])}).
Method `{contract["method"]}`: {contract["method_paper"]}.

## Measured

{evaluation["episodes"]} goal sets, all effectors at once, in the dynamic simulation at
{contract["update_rate"]:g} Hz, within the joints' velocity and acceleration limits.
Each episode starts at rest in a random configuration (median distance to the goals:
{1e3 * evaluation["start_error_median_m"]:.0f} mm). The error is measured after
{evaluation["seconds"]:g} s. The goals of a set are those of the effectors in one random
configuration within the joint limits, hence reachable together.
Command: `{_command(name, robot, evaluation)}`.

{_markdown(*evaluation_rows(evaluation))}

{self_distance_line(evaluation)}
{_alone(evaluation)}
## Compared with controllers without learning

On the same starts and goals. Least squares: damped, without the joints at their limits.
Multi-start: damped least squares from {_starts(results)} and
from the current one; then straight to the nearest solution, within velocity and acceleration
limits, if its joint path is clear of the robot's own body at {MultiStartConfig().points} points.
The robot waits for a plan as long as its computation took. {_controlled(evaluation)}
CPU times are those of single calls on one thread. The worst one is the slowest of those measured,
not a bound{_search_time(contract)}.

{_markdown(*comparison_rows(results))}

{_trained(contract, robot)}
## Interface

{_markdown(*_tensor_rows(contract, policy))}

Base frame: `{contract["base_frame"]}`. Joints: {joints}.
{_memory(contract)}{_tasks(contract)}
{_obstacles(contract)} It stretches the robot towards a goal out of reach.
"""


def _obstacles(contract: PolicyMetadata) -> str:
    if "obstacles" in contract["inputs"]:
        return "The policy goes around the obstacles that it is told of, where it finds a way."
    return "The policy does not observe obstacles."


def _trained(contract: PolicyMetadata, robot: str) -> str:
    """How the policy was trained; for a file without training, what training would change."""
    if contract["method"] == LEAST_SQUARES:
        return f"""## Without training

`{shlex.join(["polyreach", "export", LEAST_SQUARES, robot])}`: for new goals, the file refines
{CANDIDATES} configurations, spread evenly over the joints' ranges, by damped least squares, and
goes straight to the best one whose joint path is clear of the robot's own body; it searches again
in the next periods while none is. A trained policy (`polyreach train`) names the configurations
from the goals instead, so that fewer periods need a search and more of the goals are reached that
few configurations reach on a clear way. How much that is on this robot, `polyreach evaluate` shows,
on the same goals for both files.
"""
    training = contract["training"]
    config = training["config"]
    seeds = ", ".join(map(str, training["seeds"]))
    return f"""## Trained

`{RunConfig.from_json(config).command}`:
{training["steps"]:,} environment steps, {training["updates"]:,} updates, seed {seeds},
{_count(round(training["wall_s"] / 60), "minute")} on {_count(config["threads"], "thread")},
device {config["device"]}, commit `{training["git_commit"]}`.
Every setting is in the file's metadata, under `training`.
"""


def _search_time(contract: PolicyMetadata) -> str:
    return "; a period with a search takes longer than the others" if _searches(contract) else ""


def _memory(contract: PolicyMetadata) -> str:
    """How a policy with a memory uses it."""
    if not _searches(contract):
        return ""
    return (
        "The policy keeps the configuration to which it moves in `memory`: `next_memory` is fed "
        "back in\nthe next period, zeros at first. It searches for another one when the goals "
        "change, or when the\nway is no longer clear.\n"
    )


def _searches(contract: PolicyMetadata) -> bool:
    return contract.get("memory_size", 0) > 0


def _starts(results: Mapping[str, dict[str, Any]]) -> str:
    return _count(results.get("multi-start", {}).get("starts", 0), "random configuration")


def _controlled(evaluation: dict[str, Any]) -> str:
    if not evaluation.get("controlled"):
        return ""
    return (
        f"Figures through the controller (slow-downs, stops) and of goals that jump are of "
        f"{evaluation['controlled']['episodes']} of the goal sets."
    )


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _command(name: str, robot: str, evaluation: dict[str, Any]) -> str:
    """The command that measures the policy again."""
    words = ["polyreach", "evaluate", name]
    words += ["--robot", robot] if is_robot_file(robot) else []
    defaults = EvaluationConfig()
    for option, value, default in (
        ("--goals", evaluation["episodes"], defaults.goals),
        ("--seconds", evaluation["seconds"], defaults.seconds),
        ("--delay", evaluation["delay_s"], defaults.delay),
        ("--lag", evaluation["lag_s"], defaults.lag),
    ):
        words += [option, str(value)] if value != default else []
    return shlex.join([*words, "--seed", str(evaluation["seed"])])


def _tensor_rows(contract: PolicyMetadata, policy: PolicyFile) -> tuple[list[str], list[list[str]]]:
    """The tensors of the file: header and rows of text."""
    sizes = (
        len(contract["joint_names"]),
        len(contract["effector_names"]),
        contract.get("memory_size", 0),
    )
    names = ((INPUTS, policy.inputs), (OUTPUTS, policy.outputs))
    rows = [
        [
            kind,
            f"`{name}`",
            f"(B, {', '.join(map(str, spec.shape(*sizes)))})",
            spec.unit,
            spec.meaning,
        ]
        for kind, (table, present) in zip(("input", "output"), names, strict=True)
        for name, spec in table.items()
        if name in present
    ]
    return ["", "tensor", "shape", "unit", "meaning"], rows


def _tasks(contract: PolicyMetadata) -> str:
    names = contract.get("task_names", [])
    return f"Tasks, chosen by `active`: {', '.join(names)}.\n" if names else ""


def _alone(evaluation: dict[str, Any]) -> str:
    if "alone" not in evaluation:
        return ""
    return f"""
One goal of each set at a time, the other effectors without a goal:

{_markdown(*alone_rows(evaluation["alone"]))}
"""


def _markdown(header: list[str], rows: list[list[str]]) -> str:
    lines = ["| " + " | ".join(header) + " |", "|---" * len(header) + "|"]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows])
