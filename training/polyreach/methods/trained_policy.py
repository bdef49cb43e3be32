"""Trained policies as a method sees them: those of earlier runs, on robots exported files, and in
their place the scripted policies of an environment.

A trained policy is adapted to an environment before it acts there: it is asked for the normal
distribution of its actions, or for its action without noise. On robots it may observe other
features than the environment gives: both are functions of the same state, which is computed from
the environment's features.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from polyreach.envs.env_spec import EnvConfig
from polyreach.envs.reach.actions import ACTIONS
from polyreach.envs.reach.task_reach import TaskReachConfig, TaskReachEnv
from polyreach.envs.task_env import TaskEnv
from polyreach.errors import UserError
from polyreach.networks.policy import NormalPolicy, Policy
from polyreach.robot.features import (
    FEATURES,
    Features,
    KinematicFeatures,
    Observation,
    largest_action,
)
from polyreach.robot.onnx_policy import PolicyFile

SCRIPTED = "scripted"
"""Stands for the path of the environment's scripted policies."""

Normal = tuple[Tensor, Tensor]  # mean and log standard deviation, (T', B, A) each
Distribution = Callable[[Tensor, Tensor], Normal]
MeanAction = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class AdaptedPolicy:
    """A trained policy as it acts in an environment."""

    path: str
    sha256: str
    """Digest as of the TrainedPolicy."""
    rows: tuple[int, ...]
    """Its number of each task of the environment; -1 for a task that it does not know."""
    action: MeanAction
    """Observations of the environment (T', B, O), and the policy's numbers of their tasks (T',) ->
    the action without noise (T', B, A) in [-1, 1], as the environment takes it.
    """
    distribution: Distribution | None
    """Of the same, the distribution of its actions, before tanh if it squashes them. None if it
    draws no actions, or if they are not what the environment takes.
    """
    squashes: bool
    """Whether its actions are the tanh of what it draws."""


@dataclass(frozen=True)
class TrainedPolicy(ABC):
    """What was trained before."""

    path: str
    """Of the run folder, or of the file."""
    sha256: str
    """Digest of its weights and its configuration, or of its file."""
    robot_sha256: str
    """Digest of its robot; empty if it drives none."""

    @abstractmethod
    def adapt(self, env: TaskEnv) -> AdaptedPolicy:
        """The policy as it acts in `env`. Raises UserError if it cannot act there."""


PolicyReader = Callable[[str], TrainedPolicy]
"""From the path of a run folder or of an .onnx file, or SCRIPTED. Raises UserError for what cannot
be read.
"""


@dataclass(frozen=True)
class ScriptedPolicy(TrainedPolicy):
    """What is there without training: the scripted policies of any environment that has them."""

    path: str = SCRIPTED
    sha256: str = ""
    robot_sha256: str = ""

    def adapt(self, env: TaskEnv) -> AdaptedPolicy:
        """The policies of the tasks of `env`. Raises UserError if it has none."""
        sha256, action = env.scripted()
        return AdaptedPolicy(self.path, sha256, tuple(range(env.tasks)), action, None, False)


@dataclass(frozen=True)
class RunPolicy(TrainedPolicy):
    """The newest policy of a run of a task-conditioned method."""

    method: str
    config: object
    """Settings of the method."""
    env: str
    env_config: EnvConfig
    tasks: tuple[str, ...]
    obs_size: int
    action_size: int
    actor: Policy
    critic: Mapping[str, Tensor]
    """State of the critic; empty for a method without one."""

    def adapt(self, env: TaskEnv) -> AdaptedPolicy:
        """The policy as it acts in `env`, in the tasks whose names it knows; the policy of one task
        does all.

        Raises UserError for other sizes, and on robots for another robot or kind of action.
        """
        actor, rows = self.actor.to(env.device), _rows(self.tasks, env.task_names)
        distribution, squashes = None, False
        if isinstance(actor, NormalPolicy):
            distribution, squashes = actor.distribution, actor.squashes
        if not isinstance(env, TaskReachEnv):
            sizes, wanted = ((one.obs_size, one.action_size) for one in (self, env))
            if sizes != wanted:
                raise UserError(
                    f"teacher '{self.path}' is of '{self.env}' and has observations and actions of "
                    f"sizes {sizes}, but the student's have {wanted}"
                )
            return AdaptedPolicy(
                self.path, self.sha256, rows, actor.mean_action, distribution, squashes
            )
        _check_robot(self, env)
        view = _RobotView(self.path, self.env_config, env)

        def action(obs: Tensor, tasks: Tensor) -> Tensor:
            features = view.features_of(obs)
            return view.to_action(features, actor.mean_action(features, tasks))

        def adapted_distribution(obs: Tensor, tasks: Tensor) -> Normal:
            assert distribution is not None
            return distribution(view.features_of(obs), tasks)

        usable = distribution is not None and view.same_action
        return AdaptedPolicy(
            self.path, self.sha256, rows, action, adapted_distribution if usable else None, squashes
        )


def _rows(tasks: Sequence[str], wanted: Sequence[str]) -> tuple[int, ...]:
    """Which of its `tasks` a policy does for each of those `wanted`: the one of the same name, or
    its only one; -1 for none.
    """
    if len(tasks) == 1:
        return (0,) * len(wanted)
    return tuple(tasks.index(name) if name in tasks else -1 for name in wanted)


class _RobotView:
    """How a policy of a robot observes the states of `env`, and what its actions are there."""

    def __init__(self, path: str, settings: EnvConfig, env: TaskReachEnv) -> None:
        student = env.robots.config
        assert isinstance(settings, TaskReachConfig) and isinstance(student, TaskReachConfig)
        self.same_action = settings.action == student.action
        if not self.same_action and student.action != "velocity":
            raise UserError(
                f"teacher '{path}' gives action '{settings.action}', which cannot be made "
                f"'{student.action}': give the student --env-config.action "
                + " or ".join(sorted({settings.action, "velocity"}))
            )
        layout = env.robots.layout
        if settings.observe_velocity != student.observe_velocity:
            observes, option = (
                ("observes", "observe-velocity")
                if settings.observe_velocity
                else ("does not observe", "no-observe-velocity")
            )
            raise UserError(
                f"teacher '{path}' {observes} the command before, otherwise than the student: give "
                f"the student --env-config.{option}"
            )
        self.env = env
        self.features: Features | None = None
        if settings.features != student.features:
            features = FEATURES[settings.features](env.robots.robot, inputs=layout.inputs)
            self.features = features.to(env.device)
        self._to_velocity = ACTIONS[settings.action]

    def features_of(self, obs: Tensor) -> Tensor:
        """The policy's features of the environment's (T', B, O)."""
        if self.features is None:
            return obs
        parts = state_of(self.env.features, obs.flatten(0, 1))
        features, _ = self.features.compute(parts)
        return features.unflatten(0, obs.shape[:2])

    def to_action(self, features: Tensor, action: Tensor) -> Tensor:
        """The environment's actions that do what the policy's (T', B, A) do."""
        if self.same_action:
            return action
        velocity = self._to_velocity(features.flatten(0, 1), action.flatten(0, 1))
        return velocity.clamp(-1.0, 1.0).unflatten(0, action.shape[:2])


@dataclass(frozen=True)
class FilePolicy(TrainedPolicy):
    """An exported policy, in which the active goals select the task."""

    file: PolicyFile

    def adapt(self, env: TaskEnv) -> AdaptedPolicy:
        """The policy as it acts in `env`. Raises UserError unless `env` is of its robot and its
        actions are velocities.
        """
        if not isinstance(env, TaskReachEnv):
            raise UserError(
                f"teacher '{self.path}' is a policy of a robot, but the student's environment is "
                "none"
            )
        config, file, reach = env.robots.config, self.file, env
        assert isinstance(config, TaskReachConfig)
        if config.action != "velocity":
            raise UserError(
                f"teacher '{self.path}' gives joint velocities, but the student's action is "
                f"'{config.action}': give the student --env-config.action velocity"
            )
        _check_robot(self, env)
        inputs = env.robots.layout.inputs
        if missing := [name for name in file.inputs if name not in (*inputs, "memory")]:
            raise UserError(
                f"teacher '{self.path}' has the input '{missing[0]}', which the student's "
                f"environment does not give (it gives: {', '.join(inputs)})"
            )
        speeds = torch.tensor(largest_action(env.robots.robot, inputs)).float()

        def action(obs: Tensor, tasks: Tensor) -> Tensor:
            parts = state_of(reach.features, obs.flatten(0, 1))
            joint_vel = file(parts.map(lambda part: part.float().cpu())).joint_vel
            return (joint_vel / speeds).clamp(-1.0, 1.0).unflatten(0, obs.shape[:2]).to(obs.device)

        rows = tuple(range(env.tasks))
        return AdaptedPolicy(self.path, self.sha256, rows, action, None, squashes=False)


def _check_robot(policy: TrainedPolicy, env: TaskReachEnv) -> None:
    robot = env.robots.robot
    if policy.robot_sha256 != robot.sha256:
        raise UserError(
            f"teacher '{policy.path}' is of another robot than '{robot.name}' (robot_sha256 "
            f"{policy.robot_sha256[:12]}... there, {robot.sha256[:12]}... here)"
        )


def state_of(features: Features, x: Tensor) -> Observation:
    """The observation whose features are x (B, F), except goals that are not active: those are
    zero.
    """
    if features.errors.turning:
        raise UserError(
            "a teacher that observes other features than the student, or is a policy file, needs a "
            "robot whose goals are positions, but this one has goals of axes or poses"
        )
    nu, count = features.joints, features.effectors
    moves = nu if features.observes_velocity else 0
    if isinstance(features, KinematicFeatures):
        widths = [nu, 12 * count, count, moves]
        place, pose, active, velocity, _ = x.split([*widths, features.size - sum(widths)], 1)
        joint_pos = (place - features.middle) / features.per_half_range.diagonal()
        goals = pose.unflatten(1, (4 * count, 3))[:, count : 2 * count]
    else:
        widths = [nu, 3 * (nu + count), 3 * count, count, moves]
        joint_pos, _, goals, active, velocity = x.split(widths, 1)
        goals = goals.unflatten(1, (count, 3))
    previous_joint_vel = velocity * features.joint_vel_limits if moves else None
    return Observation(joint_pos, goals, active, previous_joint_vel)
