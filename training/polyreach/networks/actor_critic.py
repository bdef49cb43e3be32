"""Actors and critics."""

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from polyreach.networks.policy import Policy, RobotPolicy
from polyreach.robot.features import Features, served_joints

APPROACH_GAIN = 2.0  # full speed where a joint is more than a quarter of its range away

Activation = Literal["relu", "crelu", "silu"]
CriticKind = Literal["single", "multi", "masked"]


def crelu(x: Tensor) -> Tensor:
    """Concatenated ReLU (Shang et al. 2016, definition 2.1): twice as wide as x."""
    return functional.relu(torch.cat([x, -x], dim=-1))


_ACTIVATIONS: dict[Activation, tuple[Callable[[Tensor], Tensor], int]] = {
    "relu": (functional.relu, 1),
    "crelu": (crelu, 2),
    "silu": (functional.silu, 1),
}


class EnsembleLinear(nn.Module):
    """`members` linear layers evaluated in one batched product: (M, B, in) -> (M, B, out)."""

    def __init__(self, members: int, inputs: int, outputs: int) -> None:
        super().__init__()
        bound = inputs**-0.5  # as torch.nn.Linear
        self.weight = nn.Parameter(torch.empty(members, inputs, outputs).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(members, 1, outputs).uniform_(-bound, bound))

    def forward(self, x: Tensor) -> Tensor:
        """x: (m, B, in), for the first m members."""
        count = len(x)
        return torch.baddbmm(self.bias[:count], x, self.weight[:count])

    def first(self, x: Tensor) -> Tensor:
        """(B, in) -> (B, out) of the first member."""
        return torch.addmm(self.bias[0], x, self.weight[0])


class EnsembleMLP(nn.Module):
    """`members` multilayer perceptrons side by side; with `layer_norm`, a LayerNorm after each
    hidden layer, without a scale, because the next layer has one.
    """

    def __init__(
        self,
        members: int,
        inputs: int,
        hidden: tuple[int, ...],
        outputs: int,
        activation: Activation,
        layer_norm: bool = False,
    ) -> None:
        super().__init__()
        self.activation, growth = _ACTIVATIONS[activation]
        widths = [inputs]
        layers: list[nn.Module] = []
        norms: list[nn.Module] = []
        for width in hidden:
            layers.append(EnsembleLinear(members, widths[-1], width))
            norms.append(
                nn.LayerNorm(width, elementwise_affine=False) if layer_norm else nn.Identity()
            )
            widths.append(width * growth)
        self.layers = nn.ModuleList(layers)
        self.norms = nn.ModuleList(norms)
        self.head = EnsembleLinear(members, widths[-1], outputs)
        self.members = members

    def forward(self, x: Tensor) -> Tensor:
        """x: (B, in) for all members, or (m, B, in) for the first m -> (M or m, B, out)."""
        if x.dim() == 2:
            x = x.expand(self.members, *x.shape)
        for layer, norm in zip(self.layers, self.norms, strict=True):
            x = self.activation(norm(layer(x)))
        return self.head(x)

    def first(self, x: Tensor) -> Tensor:
        """(B, in) -> (B, out) of the first member."""
        for layer, norm in zip(self.layers, self.norms, strict=True):
            assert isinstance(layer, EnsembleLinear)
            x = self.activation(norm(layer.first(x)))
        return self.head.first(x)


class Actor(nn.Module):
    """mu(s): features (B, F) -> action (B, nu) in [-1, 1], in units of the largest action.

    With `handover` (needs kinematic features) the network names a configuration, to which the
    action leads, and the action blends into the least-squares velocity as the goals come near:
    residual learning in the sense of Silver et al. 2018.
    """

    def __init__(
        self,
        inputs: int,
        hidden: tuple[int, ...],
        actions: int,
        activation: Activation,
        handover: bool = False,
    ) -> None:
        super().__init__()
        self.net = EnsembleMLP(1, inputs, hidden, actions, activation)
        self.handover = handover
        with torch.no_grad():
            self.net.head.weight.mul_(0.1)
            self.net.head.bias.zero_()

    def named(self, features: Tensor) -> Tensor:
        """What the network names (B, nu): a configuration with `handover`, else an action."""
        return torch.tanh(self.net.first(features))

    def forward(self, features: Tensor) -> Tensor:
        """features: (B, F)."""
        action = self.named(features)
        return blend_into_least_squares(features, action) if self.handover else action


def blend_into_least_squares(features: Tensor, configuration: Tensor) -> Tensor:
    """The action (B, nu) that leads to `configuration` (B, nu), joint positions in [-1, 1], and
    blends into the least-squares velocity as the goals come near.

    features: (B, F), kinematic.
    """
    joints = configuration.shape[1]
    # joint positions in [-1, 1], the least-squares velocity, and how far the goals are
    between = features.shape[1] - 2 * joints - 1
    place, _, least_squares, far = features.split([joints, between, joints, 1], 1)
    approach = _clip(APPROACH_GAIN * (configuration - place))
    return least_squares + far * (approach - least_squares)


def _clip(action: Tensor) -> Tensor:
    """Clip to [-1, 1], with the gradient passed straight through."""
    if not action.requires_grad:
        return action.clamp(-1.0, 1.0)
    return action + (action.clamp(-1.0, 1.0) - action).detach()


class ReachPolicy(RobotPolicy, Policy):
    """Features and actor together, for a robot with all tasks at once: observation (B, O) ->
    action (B, nu) in [-1, 1].
    """

    def __init__(self, features: Features, mu: Actor, action_sets: Tensor) -> None:
        super().__init__()
        self.features, self.mu = features, mu
        self.action_sets: Tensor
        self.register_buffer("action_sets", action_sets.float())

    def mean_action(self, obs: Tensor, tasks: Tensor | None = None) -> Tensor:
        """obs: (1, B, O) -> (1, B, nu)."""
        action: Tensor = self(obs[0])
        return action[None]

    def act(self, features: Tensor, active: Tensor, mu: Actor | None = None) -> Tensor:
        """Action (B, nu) of `mu`, by default of the policy itself; joints that serve no active
        effector do not move.
        """
        action: Tensor = (mu or self.mu)(features)
        return action * served_joints(active, self.action_sets)

    @property
    def names_configurations(self) -> bool:
        """With `handover`."""
        return self.mu.handover

    def configurations(self, features: Tensor, active: Tensor) -> Tensor:
        """One configuration (B, 1, nu)."""
        return self.mu.named(features)[:, None]


class Critic(nn.Module):
    """Q_i(s, a) for T tasks: (B, F), (B, nu) -> (M, B, T).

    single: one network with T outputs per member (digrad-2018, eq. 5). multi: T networks per
    member, the i-th on (s, a_i), that is, with the joints outside a_i at zero (eq. 7). masked: the
    network of `single` on the inputs of `multi`; output i is that on (s, a_i). Not in the paper.
    """

    def __init__(
        self,
        members: int,
        inputs: int,
        hidden: tuple[int, ...],
        action_sets: Tensor,
        kind: CriticKind,
        activation: Activation,
        layer_norm: bool = False,
    ) -> None:
        super().__init__()
        tasks, actions = action_sets.shape
        self.action_sets: Tensor
        self.register_buffer("action_sets", action_sets.float())
        self.members, self.tasks, self.kind = members, tasks, kind
        stack, outputs = (members * tasks, 1) if kind == "multi" else (members, tasks)
        self.net = EnsembleMLP(stack, inputs + actions, hidden, outputs, activation, layer_norm)

    def forward(self, features: Tensor, action: Tensor, members: int | None = None) -> Tensor:
        """features: (B, F), action: (B, nu) -> (M, B, T), or only the first `members` of M."""
        members = members or self.members
        if self.kind == "single":
            x = torch.cat([features, action], dim=-1)
            return self.net(x.expand(members, *x.shape))
        task_action = action * self.action_sets[:, None]  # (T, B, nu): a_i
        x = torch.cat([features.expand(self.tasks, *features.shape), task_action], dim=-1)
        if self.kind == "masked":
            q = self.net(x.flatten(0, 1).expand(members, -1, -1))  # (M, T B, T)
            return q.unflatten(1, (self.tasks, -1)).diagonal(dim1=1, dim2=3)
        q = self.net(x.repeat(members, 1, 1))  # (M T, B, 1)
        return q.reshape(members, self.tasks, -1).mT
