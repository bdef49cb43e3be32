"""Trained policies as teachers: whatever this package has trained, by its run folder, and on robots
whatever it has exported, by its ONNX file.

A teacher is asked for the normal distribution of its actions, or for its action without noise. On
robots it may see other features than its student: both are functions of the same state, which is
read off the student's features.
"""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from polyreach.envs.reach.actions import ACTIONS
from polyreach.envs.reach.task_reach import TaskReachConfig, TaskReachEnv
from polyreach.envs.task_env import TaskEnv
from polyreach.errors import UserError
from polyreach.robot.features import FEATURES, Features, KinematicFeatures, Observation
from polyreach.networks.policy import NormalPolicy
from polyreach_description.contract import PolicyInputs

Normal = tuple[Tensor, Tensor]  # mean and log standard deviation, (T', B, A) each
Distribution = Callable[[Tensor, Tensor], Normal]
MeanAction = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Teacher:
    """One trained policy, as a student in `env` asks it."""

    path: str
    sha256: str
    """Of its weights and its configuration, or of its file."""
    rows: tuple[int, ...]
    """Its own number of each task of the student."""
    action: MeanAction
    """Observations of the student (T', B, O), and the teacher's numbers of their tasks (T',) ->
    the action without noise (T', B, A) in [-1, 1], as the student's environment takes it.
    """
    distribution: Distribution | None
    """Of the same, the distribution of its actions, before tanh if it squashes them. None if it
    draws no actions, or if they are not what the student's environment takes.
    """
    squashes: bool
    """Whether its actions are the tanh of what it draws."""


@dataclass(frozen=True)
class RunState:
    """What is kept of a run: its configuration, its tasks and the newest checkpoint."""

    config: Any  # a RunConfig; polyreach.runs.run imports the methods
    tasks: tuple[str, ...]
    state: Mapping[str, Any]
    sha256: str
    """Of the configuration and of actor and critic."""


def read_run(path: str) -> RunState:
    """The run in the folder `path`, of a task-conditioned method.

    Raises RunError if there is none, UserError if it has no checkpoint or knows no tasks, and
    CheckpointError if none can be read.
    """
    from polyreach.runs.restore import newest_state
    from polyreach.runs.run import RunFolder, load_run_env_spec

    folder = RunFolder(Path(path))
    config = folder.read_config()
    env_spec = load_run_env_spec(config)
    if not env_spec.tasks:
        raise UserError(
            f"'{path}' is a run of {config.method}, which is not told its task: export it, and "
            "name the .onnx file instead"
        )
    state = newest_state(folder, config)
    # as it was written, for later versions may know more settings
    digest = hashlib.sha256(json.dumps(folder.stored_config(), sort_keys=True).encode())
    for part in ("actor", "critic"):
        for name, value in sorted(state.get(part, {}).items()):
            digest.update(f"{part}.{name}".encode() + value.contiguous().numpy().tobytes())
    return RunState(config, env_spec.tasks, state, digest.hexdigest())


def read_teacher(path: str, env: TaskEnv) -> Teacher:
    """The teacher at `path` for a student in `env`.

    Raises UserError for what cannot be read, or cannot teach there.
    """
    from polyreach.runs.restore import restored_learner

    if path.endswith(".onnx"):
        return _file_teacher(path, env)
    run = read_run(path)
    learner = restored_learner(run.config, run.state)
    actor = learner.actor.requires_grad_(False).to(env.device)
    rows = _rows(run.tasks, env.task_names)
    distribution, squashes = _distribution(actor)
    if not isinstance(env, TaskReachEnv):
        sizes, wanted = ((one.obs_size, one.action_size) for one in (learner.env, env))
        if sizes != wanted:
            raise UserError(
                f"teacher '{path}' is of '{run.config.env}' and has observations and actions of "
                f"sizes {sizes}, but the student's have {wanted}"
            )
        return Teacher(path, run.sha256, rows, actor.mean_action, distribution, squashes)
    view = _RobotView(path, run.config, env)

    def action(obs: Tensor, tasks: Tensor) -> Tensor:
        seen = view.seen(obs)
        return view.to_action(seen, actor.mean_action(seen, tasks))

    def seen_distribution(obs: Tensor, tasks: Tensor) -> Normal:
        assert distribution is not None
        return distribution(view.seen(obs), tasks)

    usable = distribution is not None and view.same_action
    return Teacher(path, run.sha256, rows, action, seen_distribution if usable else None, squashes)


def _rows(tasks: Sequence[str], wanted: Sequence[str]) -> tuple[int, ...]:
    """Which of its `tasks` a teacher does for each of those `wanted`: the one of the same name, or
    its only one; -1 for none.
    """
    if len(tasks) == 1:
        return (0,) * len(wanted)
    return tuple(tasks.index(name) if name in tasks else -1 for name in wanted)


def _distribution(actor: nn.Module) -> tuple[Distribution | None, bool]:
    """The distribution that an actor draws from, and whether it squashes what it draws."""
    if isinstance(actor, NormalPolicy):
        return actor.distribution, actor.squashes
    return None, False


class _RobotView:
    """How a teacher of a robot sees the student's observations, and what its actions are there."""

    def __init__(self, path: str, config: Any, env: TaskReachEnv) -> None:
        settings, student = config.env_config, env.robots.config
        assert isinstance(settings, TaskReachConfig) and isinstance(student, TaskReachConfig)
        _check_robot(path, config.robot_sha256, env)
        self.same_action = settings.action == student.action
        if not self.same_action and student.action != "velocity":
            raise UserError(
                f"teacher '{path}' gives action '{settings.action}', which cannot be made "
                f"'{student.action}': give the student --env-config.action "
                + " or ".join(sorted({settings.action, "velocity"}))
            )
        self.env = env
        self.features: Features | None = None
        if settings.features != student.features:
            self.features = FEATURES[settings.features](env.robots.robot).to(env.device)
        self._to_velocity = ACTIONS[settings.action]

    def seen(self, obs: Tensor) -> Tensor:
        """The teacher's features of the student's (T', B, O)."""
        if self.features is None:
            return obs
        parts = state_of(self.env.features, obs.flatten(0, 1))
        features, _ = self.features.compute(parts)
        return features.unflatten(0, obs.shape[:2])

    def to_action(self, seen: Tensor, own: Tensor) -> Tensor:
        """The student's actions that do what the teacher's own (T', B, A) do."""
        if self.same_action:
            return own
        velocity = self._to_velocity(seen.flatten(0, 1), own.flatten(0, 1))
        return velocity.clamp(-1.0, 1.0).unflatten(0, own.shape[:2])


def _check_robot(path: str, sha256: str, env: TaskReachEnv) -> None:
    robot = env.robots.robot
    if sha256 != robot.sha256:
        raise UserError(
            f"teacher '{path}' is of another robot than '{robot.name}' (robot_sha256 "
            f"{sha256[:12]}... there, {robot.sha256[:12]}... here)"
        )


def _file_teacher(path: str, env: TaskEnv) -> Teacher:
    """An exported policy; it finds out the task by itself."""
    from polyreach.robot.onnx_policy import PolicyFile

    if not isinstance(env, TaskReachEnv):
        raise UserError(
            f"teacher '{path}' is a policy of a robot, but the student's environment is none"
        )
    config = env.robots.config
    assert isinstance(config, TaskReachConfig)
    if config.action != "velocity":
        raise UserError(
            f"teacher '{path}' gives joint velocities, but the student's action is "
            f"'{config.action}': give the student --env-config.action velocity"
        )
    policy = PolicyFile(Path(path))
    _check_robot(path, str(policy.contract.get("robot_sha256", "")), env)
    speeds = torch.tensor(env.robots.robot.action_speeds).float()

    def action(obs: Tensor, tasks: Tensor) -> Tensor:
        parts = state_of(env.features, obs.flatten(0, 1))
        joint_vel = policy(PolicyInputs(*(part.float().cpu() for part in parts))).joint_vel
        return (joint_vel / speeds).clamp(-1.0, 1.0).unflatten(0, obs.shape[:2]).to(obs.device)

    sha256 = hashlib.sha256(Path(path).read_bytes()).hexdigest()
    return Teacher(path, sha256, tuple(range(env.tasks)), action, None, squashes=False)


def state_of(features: Features, x: Tensor) -> Observation:
    """The observation whose features are x (B, F), but for goals that are not active: those are
    zero.
    """
    nu, count = features.joints, features.effectors
    if isinstance(features, KinematicFeatures):
        place, pose, active, _ = x.split(
            [nu, 12 * count, count, features.size - nu - 13 * count], 1
        )
        joint_pos = (place - features.middle) / features.per_half_range.diagonal()
        goals = pose.unflatten(1, (4 * count, 3))[:, count : 2 * count]
    else:
        joint_pos, _, goals, active = x.split([nu, 3 * (nu + count), 3 * count, count], 1)
        goals = goals.unflatten(1, (count, 3))
    return Observation(joint_pos, goals, active)
