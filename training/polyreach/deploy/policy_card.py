"""Measure an exported policy and write its model card; the figures go into the policy file too."""

import shlex
from pathlib import Path
from typing import Any

import onnx

from polyreach.deploy.evaluate import (
    EvaluationConfig,
    alone_rows,
    evaluate_actions,
    evaluate_policy,
    evaluation_rows,
    least_squares_actions,
    near_line,
)
from polyreach.deploy.export import save, write_metadata
from polyreach.robot.onnx_policy import PolicyFile
from polyreach.runs.run import RunConfig
from polyreach_description import Robot, is_robot_file
from polyreach_description.contract import PolicyMetadata


def measure_and_describe(path: Path, robot: Robot, config: EvaluationConfig) -> Path:
    """Evaluate the policy file at `path`, write the result into its metadata and its card; returns
    the card's path.
    """
    policy = PolicyFile(path)
    policy.check(robot)
    evaluation = evaluate_policy(policy, robot, config)
    baseline = evaluate_actions(least_squares_actions(robot), robot, config)
    contract: PolicyMetadata = {**policy.contract, "evaluation": evaluation}
    model = onnx.load(str(path))
    write_metadata(model, contract)
    save(model, path)
    card = path.with_suffix(".md")
    card.write_text(model_card(path.name, contract, baseline))
    return card


def remove_card(path: Path) -> None:
    """Remove the card of the policy file at `path`, which is about to become another policy's."""
    card = path.with_suffix(".md")
    if card.is_file() and card.read_text().startswith(_heading(path.name)):
        card.unlink()


def _heading(name: str) -> str:
    return f"# {name}\n\nA policy for "


def model_card(name: str, contract: PolicyMetadata, baseline: dict[str, Any]) -> str:
    """The card as Markdown."""
    training, evaluation = contract["training"], contract["evaluation"]
    config, effectors = training["config"], len(contract["effector_names"])
    seeds = ", ".join(map(str, training["seeds"]))
    joints = ", ".join(f"`{joint}`" for joint in contract["joint_names"])
    return f"""{_heading(name)}`{contract["robot"]}` ({", ".join(contract["effector_names"])}).
Method `{contract["method"]}`: {contract["method_paper"]}.

## Measured

{evaluation["episodes"]} sets of goals, all effectors at once, in the dynamic simulation at
{contract["update_rate"]:g} Hz, within the joints' velocity and acceleration limits. The error is
that after {evaluation["seconds"]:g} s, from a random start at rest (median distance there
{1e3 * evaluation["start_error_median_m"]:.0f} mm). Goals are
the effectors' positions at random configurations within the joint limits, hence reachable
together. Made by `{_command(name, config, evaluation)}`.

{_markdown(*evaluation_rows(evaluation))}
{near_line(evaluation)}
{_alone(evaluation)}
The same goals, all at once, with damped least squares that leaves out joints at their limits, a
controller without learning{_handover(config)}:

{_markdown(*evaluation_rows(baseline))}

## Trained

`{RunConfig.from_json(config).command}`:
{training["steps"]:,} environment steps, {training["updates"]:,} updates, seed {seeds},
{_count(round(training["wall_s"] / 60), "minute")} on {_count(config["threads"], "thread")},
device {config["device"]}, commit `{training["git_commit"]}`.
Every setting is in the file's metadata, under `training`.

## Interface

Inputs `joint_pos` (B, {len(contract["joint_names"])}) [rad or m],
`goals` (B, {effectors}, 3) [m, frame `{contract["base_frame"]}`], `active` (B, {effectors}) 0 or 1.
Outputs `joint_vel` [rad/s or m/s] and `effector_pos` [m]. Joints: {joints}.
{_tasks(contract)}
The policy knows nothing of obstacles. Goals out of reach make the robot stretch towards them.
"""


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _command(name: str, config: dict[str, Any], evaluation: dict[str, Any]) -> str:
    """The command that measures the policy again."""
    words = ["polyreach", "evaluate", name]
    words += ["--robot", config["env"]] if is_robot_file(config["env"]) else []
    wanted = EvaluationConfig()
    for option, value, default in (
        ("--goals", evaluation["episodes"], wanted.goals),
        ("--seconds", evaluation["seconds"], wanted.seconds),
    ):
        words += [option, str(value)] if value != default else []
    return shlex.join([*words, "--seed", str(evaluation["seed"])])


def _tasks(contract: PolicyMetadata) -> str:
    names = contract.get("task_names", [])
    return f"Tasks, chosen by `active`: {', '.join(names)}.\n" if names else ""


def _handover(config: dict[str, Any]) -> str:
    hands_over = (
        config["method_config"].get("handover", False)
        or config["env_config"].get("action") == "configuration"
    )
    return " (to which the policy hands over near the goals)" if hands_over else ""


def _alone(evaluation: dict[str, Any]) -> str:
    if "alone" not in evaluation:
        return ""
    return f"""
One goal at a time, the other effectors without one; each of the sets gives one of its goals:

{_markdown(*alone_rows(evaluation["alone"]))}
"""


def _markdown(header: list[str], rows: list[list[str]]) -> str:
    lines = ["| " + " | ".join(header) + " |", "|---" * len(header) + "|"]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows])
