"""Train one policy: collect and update until the steps are done, with checkpoints, logs and exact
resume.
"""

import signal
import time
from dataclasses import dataclass, replace
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch.utils.tensorboard import SummaryWriter

from polyreach.checkpoint import read_newest, save_checkpoint
from polyreach.envs.reach import ReachEnv
from polyreach.methods import get_method
from polyreach.methods.off_policy import OffPolicyLearner
from polyreach.run import RunConfig, RunError, RunFolder, load_run_robot
from polyreach_description import Robot

EVALUATION_SEED = 1_000_003


@dataclass(frozen=True)
class TrainResult:
    """How a training ended."""

    folder: Path
    env_steps: int
    signal: int | None
    """The signal that ended it early, or None."""


class Interrupt:
    """Remembers SIGINT and SIGTERM, so that the loop can end between two steps; a second one acts
    at once.
    """

    def __init__(self) -> None:
        self.received: int | None = None
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> "Interrupt":
        for number in (signal.SIGINT, signal.SIGTERM):
            self._previous[number] = signal.signal(number, self._receive)
        return self

    def _receive(self, number: int, frame: FrameType | None) -> None:
        self.received = number
        signal.signal(number, self._previous[number])

    def __exit__(self, *exception: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)


def train(
    config: RunConfig, out: Path, resume: bool, checkpoint_minutes: float, console: Console
) -> TrainResult:
    """Run `config` in `out`, or go on with the run there.

    Raises RunError for a folder of another configuration or in use, and CheckpointError if no
    checkpoint is whole.
    """
    torch.set_num_threads(config.threads)
    torch.set_flush_denormal(True)
    _check_device(config.device)
    folder = RunFolder(out)
    if resume:
        folder.check(config)
    robot = load_run_robot(config)
    with folder.lock():
        return _train(config, robot, folder, resume, checkpoint_minutes, console)


def _train(
    config: RunConfig,
    robot: Robot,
    folder: RunFolder,
    resume: bool,
    checkpoint_minutes: float,
    console: Console,
) -> TrainResult:
    env = ReachEnv(
        robot, config.num_envs, config.env_config, config.device, config.threads, config.seed
    )
    method = get_method(config.method)
    learner = method.learner(config.method_config, env, config.steps, config.seed)
    if resume:
        _restore(learner, folder, config, console)
    else:
        folder.create(config)
    evaluation = TrainingEvaluation(robot, config)
    wall_before = max((record["wall_s"] for record in folder.read_metrics()), default=0.0)
    started, steps_before = time.monotonic(), learner.env_steps
    saved_at = started
    writer = SummaryWriter(str(folder.path), purge_step=learner.env_steps or None)
    with Interrupt() as interrupt, _progress(console) as progress, writer:
        bar = progress.add_task(
            f"{config.method} {robot.name}",
            total=config.steps,
            completed=learner.env_steps,
            note="",
        )
        while learner.env_steps < config.steps and interrupt.received is None:
            due = learner.env_steps // config.eval_every
            metrics = learner.step()
            if learner.env_steps // config.eval_every > due or learner.env_steps >= config.steps:
                record = evaluation(learner)
                record["wall_s"] = round(wall_before + time.monotonic() - started, 3)
                folder.log({"step": learner.env_steps, "updates": learner.updates, **record})
                for name, value in {**metrics, **record}.items():
                    if isinstance(value, float):
                        writer.add_scalar(name, value, learner.env_steps)
                rate = (learner.env_steps - steps_before) / (time.monotonic() - started)
                note = f"{rate:,.0f} steps/s  median {1e3 * record['error_median']:.1f} mm"
                note += f"  all {record['success_all']:.0%}"
                progress.update(bar, note=note)
            progress.update(bar, completed=min(learner.env_steps, config.steps))
            if time.monotonic() - saved_at > 60 * checkpoint_minutes:
                save_checkpoint(folder.checkpoints, learner.env_steps, learner.state_dict())
                saved_at = time.monotonic()
        save_checkpoint(folder.checkpoints, learner.env_steps, learner.state_dict())
    env.close()
    return TrainResult(folder.path, learner.env_steps, interrupt.received)


def _restore(
    learner: OffPolicyLearner, folder: RunFolder, config: RunConfig, console: Console
) -> None:
    state, warnings = read_newest(folder.checkpoints, set_aside=True)
    for warning in warnings:
        console.print(f"warning: {warning}; using the one before it")
    if state is None:
        console.print(f"'{folder.path}' has no checkpoint yet: starting its run from the beginning")
        folder.drop_metrics_after(0)
        return
    learner.load_state_dict(state)
    folder.drop_metrics_after(learner.env_steps)
    console.print(f"going on at step {learner.env_steps:,} of {config.steps:,}")


def _check_device(device: str) -> None:
    try:
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise RunError(
            f"device '{device}' cannot be used: {str(error).splitlines()[0]} (legal: cpu, cuda)"
        ) from None


def _progress(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
        console=console,
        refresh_per_second=2,
    )


class TrainingEvaluation:
    """The policy without noise on a fixed set of goals, all at once, in the environment it is
    trained in.
    """

    def __init__(self, robot: Robot, config: RunConfig) -> None:
        # the reward is left out: it may be of another size and is not what is compared
        settings = replace(config.env_config, all_active=1.0)
        self.env = ReachEnv(
            robot, config.eval_goals, settings, config.device, config.threads, EVALUATION_SEED
        )
        self.names = robot.effector_names

    @torch.no_grad()
    def __call__(self, learner: OffPolicyLearner) -> dict[str, Any]:
        """Errors at the end of an episode: `score_<effector>` is -log(error), as in digrad-2018,
        section 5.
        """
        obs, _ = self.env.reset(seed=EVALUATION_SEED)
        returns = torch.zeros(self.env.num_envs, device=self.env.device)
        for _ in range(self.env.horizon):
            obs, reward, _, _, infos = self.env.step(learner.policy(obs))
            returns += reward
        error = infos["error"]
        record: dict[str, Any] = {
            "return": float(returns.mean()),
            "error_median": float(error.median()),
            "error_mean": float(error.mean()),
            "success_all": float((error < self.env.config.tolerance).all(dim=1).float().mean()),
        }
        for name, own in zip(self.names, error.T, strict=True):
            record[f"error_median_{name}"] = float(own.median())
            record[f"score_{name}"] = float(-own.clamp(min=1e-6).log().mean())
        return record
