"""Fine-tuning (multitask-continuous-control-2018, section 4.2): A2C in another environment, from a
trained policy, of which only the last layers of actor and critic are trained.

What the paper leaves open, and what is done here: the optimiser starts new. The statistics of the
observations remain those of the first environment, as the frozen layers after them do, which were
trained on such inputs. All tasks of the environment start from the same policy and are trained side
by side. The text trains the output layer of each network; the authors' public code also trains the
actor's second hidden layer: `actor_layers` 2. The standard deviations, outputs of the actor, start
as those of the first policy; `initial_std` has no effect.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from polyreach.envs.reach.task_reach import TaskReachEnv
from polyreach.envs.task_env import TaskEnv
from polyreach.errors import UserError, check_range
from polyreach.methods.a2c import A2C, A2CConfig, tuned_a2c
from polyreach.methods.learner import Metrics
from polyreach.methods.method import BENCHMARKS, Method
from polyreach.methods.trained_policy import PolicyReader, RunPolicy
from polyreach.networks.multi_head import HeadSharing
from polyreach.networks.per_task_weights import Blocks, SplitMLP
from polyreach.storage.rollout import Rollout

PAPER = "Arora et al. 2018, Multi-task Learning for Continuous Control: fine-tuning"


class Startable(Protocol):
    """Settings of a method that starts from a run."""

    @property
    def start(self) -> str:
        """Its folder."""


@dataclass(frozen=True)
class FineTuningConfig(A2CConfig):
    """Settings of fine-tuning: those of A2C, and the run to start from."""

    sharing: HeadSharing = "none"
    """Must be none: the last layers of networks per task are trained."""
    start: str = ""
    """Run folder of a2c or fine-tuning whose newest policy is the start."""
    source_task: str = ""
    """Task of that run whose networks are used; optional if the run has one task."""
    actor_layers: int = 1
    """Number of last layers of the actor that are trained; 1: the output layer."""
    critic_layers: int = 1
    """Number of last layers of the critic that are trained; 1: the output layer."""

    def __post_init__(self) -> None:
        """Raise UserError for a value that no run can have."""
        super().__post_init__()
        if self.sharing != "none":
            raise UserError(f"sharing is '{self.sharing}', but must be none")
        for name, hidden in (("actor_layers", self.hidden), ("critic_layers", self.critic_hidden)):
            check_range(name, getattr(self, name), 1, len(hidden) + 1)


class FineTuning(A2C):
    """Networks per task, with all but the last layers frozen."""

    config: FineTuningConfig

    def __init__(self, config: FineTuningConfig, env: TaskEnv, total_steps: int, seed: int) -> None:
        super().__init__(config, env, total_steps, seed)
        self.trained = [
            net.last_layers(count)
            for net, count in zip(
                self.nets, (config.actor_layers, config.critic_layers), strict=True
            )
        ]
        self.start_sha256 = ""

    def prepare(self, read: PolicyReader) -> None:
        """Take over the networks of the start, which only a new run needs.

        Raises UserError if there are none, or if they were trained for something else.
        """
        path = self.config.start
        if not path:
            raise UserError("start is empty: name a run folder of a2c with --method-config.start")
        start = read(path)
        if not isinstance(start, RunPolicy) or not isinstance(start.config, A2CConfig):
            kind = f"a run of {start.method}" if isinstance(start, RunPolicy) else "a policy file"
            raise UserError(
                f"'{path}' is {kind}, but fine-tuning starts from a run of a2c or fine-tuning"
            )
        row = source_row(self.config, start)
        check_alike(("hidden", "critic_hidden", "reward_scale"), self.config, self.env, start)
        actor = start.actor.state_dict()
        for name, net, theta in (
            ("actor", self.actor.net, stored_weights(actor, "net.")[row]),
            ("critic", self.critic, stored_weights(start.critic)[row]),
        ):
            if theta.shape != net.shared.shape:
                raise UserError(
                    f"the {name} of '{path}' has {len(theta)} weights, but that of this run "
                    f"{len(net.shared)}: their environments must be alike"
                )
            adopt(net, theta)
        for name in ("count", "mean", "var"):
            stored = actor[f"normalizer.{name}"]
            stored = stored[row] if stored.dim() == 3 else stored
            getattr(self.actor.normalizer, name).copy_(stored)
        self.start_sha256 = start.sha256

    def step(self) -> Metrics:
        """One rollout of every task and the update on it."""
        assert self.start_sha256, "prepare or resume comes first"
        return super().step()

    def update_normalizer(self, rollout: Rollout) -> None:
        """The statistics of the observations stay."""

    def descend(self, gradients: Sequence[Blocks], tasks: list[int]) -> Tensor:
        """One step of the optimiser along the gradients of the weights that are trained; nothing is
        shared, so that all are in the rest of the blocks.
        """
        kept = [
            (trunk, rest * one) for (trunk, rest), one in zip(gradients, self.trained, strict=True)
        ]
        return super().descend(kept, tasks)

    def state_dict(self) -> dict[str, Any]:
        """Everything that the rest of the run depends on."""
        return {**super().state_dict(), "start_sha256": self.start_sha256}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what state_dict returned; the start is not needed any more."""
        super().load_state_dict(state)
        self.start_sha256 = state["start_sha256"]


def source_row(config: FineTuningConfig, start: RunPolicy) -> int:
    """The number of the task of `start` that `config` asks for. Raises UserError if it has none."""
    if config.source_task in start.tasks:
        return start.tasks.index(config.source_task)
    if not config.source_task and len(start.tasks) == 1:
        return 0
    raise UserError(
        f"source_task is '{config.source_task}', but '{config.start}' has: {', '.join(start.tasks)}"
    )


def check_alike(names: Iterable[str], config: Startable, env: TaskEnv, start: RunPolicy) -> None:
    """Raise UserError if the networks of `start` mean something else than those of `config`:
    the settings `names`, and what is observed and done.
    """
    settings: list[tuple[str, object, object]] = [
        (name, getattr(start.config, name), getattr(config, name)) for name in names
    ]
    settings.append(("the size of an observation", start.obs_size, env.obs_size))
    if isinstance(env, TaskReachEnv):
        robots = start.env_config, env.robots.config
        settings += [
            (name, *(getattr(one, name) for one in robots)) for name in ("features", "action")
        ]
    for name, there, here in settings:
        if there != here:
            raise UserError(
                f"{name} is {there} in '{config.start}' and {here} here, but must be the same"
            )


def stored_weights(state: Mapping[str, Tensor], prefix: str = "") -> Tensor:
    """theta of every task (T, P) of a SplitMLP that was saved under `prefix`."""
    split, own, shared = (state[prefix + name] for name in ("split", "own", "shared"))
    return torch.where(split, own, shared)


@torch.no_grad()
def adopt(net: SplitMLP, theta: Tensor) -> None:
    """Give all tasks of `net` the weights theta (P,)."""
    net.shared.copy_(theta)
    net.own.copy_(theta.expand_as(net.own))


METHOD = Method(
    name="fine-tuning",
    paper=PAPER,
    learner=FineTuning,
    settings=FineTuningConfig(),
    tuned={"robot": tuned_a2c(FineTuningConfig())} | dict.fromkeys(BENCHMARKS, FineTuningConfig()),
)
