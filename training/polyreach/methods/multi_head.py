"""What the methods of multitask-continuous-control-2018 share: settings, and training on short
rollouts of one task after the other, with a step of the optimiser after each.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeVar

import torch
from torch import Tensor

from polyreach.envs.task_env import TaskEnv
from polyreach.errors import check_choice, check_range, check_widths
from polyreach.methods.learner import Learner, NoisyAct
from polyreach.networks.multi_head import GaussianHeads, HeadSharing
from polyreach.networks.per_task_weights import Blocks, SplitMLP
from polyreach.storage.rollout import Rollout

Order = Literal["cycle", "random", "together"]

RMSPROP_ALPHA, RMSPROP_EPS = 0.99, 1e-5  # as in the authors' public code


@dataclass(frozen=True)
class HeadsConfig:
    """Settings that these methods have."""

    hidden: tuple[int, ...] = (64, 64)
    """Widths of the actor's hidden layers."""
    sharing: HeadSharing = "trunk"
    """trunk: the tasks share the hidden layers, and each task has a head. none: each task has a
    network, and all are trained side by side.
    """
    order: Order = "cycle"
    """cycle: an update on a rollout of the first task, then of the second, and so on. random: the
    same number of updates, each on a randomly drawn task (as in the authors' public code of
    distillation). together: one update on rollouts of all tasks; always used where nothing is
    shared.
    """
    t_max: int = 5
    """Steps of a rollout (the paper: 5)."""
    optimizer: Literal["rmsprop", "adam"] = "rmsprop"
    """Optimiser of all networks (the paper: RMSprop)."""
    lr: float = 7e-4
    """Learning rate (the paper: 7e-4)."""
    final_lr: float = 1.0
    """The learning rate falls linearly to this share of itself at the last step."""
    initial_std: float = 1.0
    """Standard deviation of the actions at the start."""
    grad_clip: float = 0.5
    """Norm at which the joint gradient of all networks is clipped."""

    def __post_init__(self) -> None:
        """Raise UserError for a value that no run can have."""
        check_choice(
            self,
            sharing=("trunk", "none"),
            order=("cycle", "random", "together"),
            optimizer=("rmsprop", "adam"),
        )
        check_widths("hidden", self.hidden)
        check_range("t_max", self.t_max, 1)
        for name in ("lr", "initial_std", "grad_clip"):
            check_range(name, getattr(self, name), 1e-12)
        check_range("final_lr", self.final_lr, 0.0, 1.0)


class HeadsLearner(Learner):
    """Trains the networks in turns: each is a rollout of some tasks and an update on it."""

    actor: GaussianHeads
    nets: tuple[SplitMLP, ...]
    """The actor's first."""

    def __init__(self, config: HeadsConfig, env: TaskEnv, total_steps: int, seed: int) -> None:
        super().__init__(config, env, total_steps, seed)
        self.t_max, self.grad_clip = config.t_max, config.grad_clip
        self.uses_adam = config.optimizer == "adam"
        self.order: Order = config.order if config.sharing == "trunk" else "together"
        self.reduce, self.norm = SHARING[config.sharing]
        self.all_tasks = list(range(env.tasks))

    def optimize(self, *nets: SplitMLP, lr: float) -> None:
        """Create the optimiser of `nets`. The weights of each task after the trunk are separate
        parameters, so that their moments do not change in the turns of other tasks.
        """
        self.nets = nets
        # views: steps change the weights of the networks
        self.shared = [net.shared.detach() for net in nets]
        self.per_task = [net.own.detach()[:, net.trunk :].unbind(0) for net in nets]
        parameters = [row for rows in self.per_task for row in rows] + self.shared
        if self.uses_adam:
            self.optimizer = self.adam(parameters, lr)
        else:
            self.optimizer = torch.optim.RMSprop(
                parameters, lr=lr, alpha=RMSPROP_ALPHA, eps=RMSPROP_EPS, foreach=True
            )
            self.rates[self.optimizer] = lr
        self.parts["optimizer"] = self.optimizer

    def turns(self) -> list[list[int]]:
        """The tasks of each update of one step, in order."""
        if self.order == "together":
            return [self.all_tasks]
        if self.order == "cycle":
            return [[task] for task in self.all_tasks]
        count = self.env.tasks
        drawn = torch.randint(count, (count,), generator=self.generator, device=self.device)
        return [[task] for task in drawn.tolist()]

    def collect(self, tasks: list[int], act: NoisyAct | None = None) -> Rollout:
        """A rollout (S, T', n, .) of `tasks` with `act`, by default with the learner's actor."""
        all_tasks = len(tasks) == self.env.tasks
        act = act or self.actor_act(tasks)
        return self.roll_out(act, self.t_max, None if all_tasks else tasks)

    @torch.no_grad()
    def actor_act(self, tasks: list[int]) -> NoisyAct:
        """The learner's actor with its current weights."""
        actor, index = self.actor, self.index(tasks)
        layers, normalize = (
            actor.net.layers(actor.net.blocks(index)),
            actor.normalizer.of_rows(index),
        )

        def act(obs: Tensor, noise: Tensor) -> Tensor:
            mean, log_std = actor.outputs(layers, normalize(obs))
            return actor.to_action(torch.addcmul(mean, log_std.exp(), noise))

        return act

    def index(self, tasks: list[int]) -> Tensor | None:
        """`tasks` as an argument of the networks: None for all."""
        if len(tasks) == self.env.tasks:
            return None
        return torch.tensor(tasks, device=self.device)

    def descend_on(self, loss: Tensor, blocks: Sequence[Blocks], tasks: list[int]) -> Tensor:
        """One step of the optimiser down a loss (), a function of `blocks`; returns the mean norm
        of the gradient.
        """
        flat = [block for pair in blocks for block in pair]
        found = torch.autograd.grad(loss, flat, materialize_grads=True)
        return self.descend(list(zip(found[::2], found[1::2], strict=True)), tasks)

    def descend(self, gradients: Sequence[Blocks], tasks: list[int]) -> Tensor:
        """One step of the optimiser along the gradients of the blocks of every network; returns the
        mean norm.
        """
        parts = []
        for net, (trunk, rest) in zip(self.nets, gradients, strict=True):
            split = net.split[net.trunk :]
            parts.append((torch.cat([trunk[0], rest.sum(dim=0) * ~split]), rest * split))
        norm = self.norm(parts)  # () or (T', 1)
        scale = (self.grad_clip / (norm + 1e-6)).clamp(max=1.0)
        self.optimizer.zero_grad()
        for (shared, per_task), shared_weights, task_weights in zip(
            parts, self.shared, self.per_task, strict=True
        ):
            shared_weights.grad = shared * scale.amin()
            for task, gradient in zip(tasks, per_task * scale, strict=True):
                task_weights[task].grad = gradient
        self.schedule_rates()
        self.optimizer.step()
        self.updates += 1
        return norm.mean()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what state_dict returned."""
        parameters = self.optimizer.param_groups[0]["params"]
        moments = {
            index: {
                # earlier versions also had some of the trunk for each task
                name: value[-len(parameters[index]) :] if value.dim() else value
                for name, value in each.items()
            }
            for index, each in state["optimizer"]["state"].items()
        }
        optimizer = {**state["optimizer"], "state": moments}
        super().load_state_dict({**state, "optimizer": optimizer})


Parts = Sequence[tuple[Tensor, Tensor]]
"""Gradients of the shared weights (P,) and of those after the trunk per task (T', P - trunk), of
every network.
"""


def norm_together(parts: Parts) -> Tensor:
    """The norm () of all gradients together."""
    return torch.stack([part.square().sum() for pair in parts for part in pair]).sum().sqrt()


def norm_apart(parts: Parts) -> Tensor:
    """The norm of the gradients of each task (T', 1), where nothing is shared."""
    squares = torch.stack([per_task.square().sum(dim=1, keepdim=True) for _, per_task in parts])
    return squares.sum(dim=0).sqrt()


SHARING: dict[HeadSharing, tuple[Callable[[Tensor], Tensor], Callable[[Parts], Tensor]]] = {
    "trunk": (torch.mean, norm_together),
    "none": (torch.sum, norm_apart),
}
"""How the losses of the tasks (T',) are reduced, and the norm that is clipped."""


HeadsConfigT = TypeVar("HeadsConfigT", bound=HeadsConfig)


def tuned_heads(config: HeadsConfigT) -> HeadsConfigT:
    """`config` with the settings that these methods share on robots: updates of all tasks at once,
    larger networks and rates that fall.
    """
    return replace(config, hidden=(256, 256), order="together", lr=1e-3, final_lr=0.05)
