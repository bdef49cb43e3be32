"""PPO from a student: reinforcement learning goes on from a policy with a head per task, which
imitation or A2C has trained (multitask-continuous-control-2018, section 4.2, with PPO in the place
of A2C, and of all layers).

Every task starts from the head of the task of the same name, all from the shared layers, which stay
shared. The value function is new. Over the share `value_share` of the run it learns alone, and the
policy does not change: advantages of a value function that knows nothing lead a good policy astray
(on MT10, a student lost pick-place in 155 updates, from 96 to 2 % success). As in fine_tuning.py,
the statistics of the observations remain those of the start, since the layers after them were
trained on such inputs. The start's standard deviations are not taken over, for those of an
imitation are a choice and no result: `initial_std` is where they start.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from polyreach.envs.task_env import TaskEnv
from polyreach.errors import UserError, check_range
from polyreach.methods.fine_tuning import check_alike
from polyreach.methods.learner import Metrics
from polyreach.methods.method import BENCHMARKS, Method
from polyreach.methods.ppo import PPO, PPOConfig, tuned_ppo
from polyreach.methods.trained_policy import PolicyReader, RunPolicy
from polyreach.networks.multi_head import GaussianHeads
from polyreach.storage.rollout import Rollout

PAPER = "Schulman et al. 2017, Proximal Policy Optimization Algorithms; from a trained policy"


@dataclass(frozen=True)
class PPOFineTuningConfig(PPOConfig):
    """Settings of PPO from a student: those of PPO, and the run to start from."""

    start: str = ""
    """Run folder of distillation or a2c whose newest policy is the start."""
    value_share: float = 0.1
    """Share of the run's steps, at its start, in which the value function alone is trained."""
    batch_steps: int = 20_000
    """Environment steps of one iteration, the total over all tasks. Rounded down to whole steps of
    all environments.
    """
    epochs: int = 5
    """Passes over the batch in an iteration."""
    lr: float = 2e-5
    """Learning rate of policy and value function. On MT10, 1e-4 lost two tasks of a student in one
    run of two.
    """
    initial_std: float = 0.1
    """Standard deviation of the actions at the start."""
    popart: bool = True
    """Normalise the values of every task, which has a last layer of the value function; see PPO."""

    def __post_init__(self) -> None:
        """Raise UserError for a value that no run can have."""
        super().__post_init__()
        check_range("value_share", self.value_share, 0.0, 1.0)
        if self.one_hot or self.own_statistics:
            name = "one_hot" if self.one_hot else "own_statistics"
            raise UserError(f"{name} is on, but must be off: the start has no such inputs")


class PPOFineTuning(PPO):
    """PPO with shared hidden layers and a head per task."""

    config: PPOFineTuningConfig

    def __init__(
        self, config: PPOFineTuningConfig, env: TaskEnv, total_steps: int, seed: int
    ) -> None:
        super().__init__(config, env, total_steps, seed)
        self.actor.net.split_at_start(self.actor.net.last_layers(1))
        self.start_sha256 = ""

    def prepare(self, read: PolicyReader) -> None:
        """Take over the policy of the start, which only a new run needs.

        Raises UserError if there is none, or if it was trained for something else.
        """
        path = self.config.start
        if not path:
            raise UserError(
                "start is empty: name a run folder of distillation or a2c with "
                "--method-config.start"
            )
        start, student = read_student(path, read)
        check_alike(("hidden",), self.config, self.env, start)
        if missing := [name for name in self.env.task_names if name not in start.tasks]:
            raise UserError(
                f"'{path}' has no task '{missing[0]}' (it has: {', '.join(start.tasks)})"
            )
        rows = torch.tensor([start.tasks.index(name) for name in self.env.task_names])
        with torch.no_grad():
            theta = self.weights_of(student, rows)
            self.actor.net.own.copy_(theta)
            self.actor.net.shared.copy_(theta[0])
        self.actor.normalizer.load_state_dict(student.normalizer.state_dict())
        self.start_sha256 = start.sha256

    def weights_of(self, student: GaussianHeads, rows: Tensor) -> Tensor:
        """theta (T, P) of a student's `rows` (T,): its outputs without the log variances."""
        *layers, weight, bias, _ = student.net.layers(student.net.weights(rows))
        means = self.env.action_size
        parts = [*layers, weight[..., :means], bias[..., :means]]
        log_std = self.actor.net.layers(self.actor.net.weights())[-1]
        return torch.cat([*(part.flatten(1) for part in parts), log_std.cpu()], dim=1)

    def step(self) -> Metrics:
        """One iteration: a rollout of every task, and the epochs over it."""
        assert self.start_sha256, "prepare or resume comes first"
        return super().step()

    def descend(self, policy: Sequence[Tensor], value: Sequence[Tensor]) -> None:
        """One step of the optimiser; at first of the value function alone."""
        if self.env_steps > self.config.value_share * self.total_steps:
            super().descend(policy, value)
        else:  # weights without a gradient stay
            self.critic.set_gradients(*value)
            self.optimizer.step()

    def update_normalizer(self, rollout: Rollout) -> None:
        """The statistics of the observations stay."""

    def state_dict(self) -> dict[str, Any]:
        """Everything that the rest of the run depends on."""
        return {**super().state_dict(), "start_sha256": self.start_sha256}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what state_dict returned; the start is not needed any more."""
        super().load_state_dict(state)
        self.start_sha256 = state["start_sha256"]


def read_student(path: str, read: PolicyReader) -> tuple[RunPolicy, GaussianHeads]:
    """The run in the folder `path`, and its policy. Raises UserError unless its tasks share the
    hidden layers and its actions are what the environment takes.
    """
    start = read(path)
    if not isinstance(start, RunPolicy) or not isinstance(start.actor, GaussianHeads):
        kind = f"a run of {start.method}" if isinstance(start, RunPolicy) else "a policy file"
        raise UserError(f"'{path}' is {kind}, but must be a run of distillation or a2c")
    sharing = getattr(start.config, "sharing", "none")
    if sharing != "trunk":
        raise UserError(f"sharing is '{sharing}' in '{path}', but must be trunk")
    if start.actor.squashes:
        raise UserError(
            f"the actions of '{path}' are squashed by tanh, as those of its teachers, but PPO's "
            "are not: match actions instead (--method-config.match action)"
        )
    return start, start.actor


TUNED = replace(tuned_ppo(PPOFineTuningConfig()), lr=1e-4, initial_std=0.1)

METHOD = Method(
    name="ppo-fine-tuning",
    paper=PAPER,
    learner=PPOFineTuning,
    settings=PPOFineTuningConfig(),
    tuned={"robot": TUNED} | dict.fromkeys(BENCHMARKS, PPOFineTuningConfig()),
)
