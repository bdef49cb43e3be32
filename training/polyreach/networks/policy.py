"""What every policy offers, whatever its networks are."""

from abc import ABC, abstractmethod

from torch import Tensor, nn

from polyreach.robot.features import Features


class Policy(nn.Module, ABC):
    """Acts in a batch of tasks (T', B, dim), each row as the policy of a task."""

    @abstractmethod
    def mean_action(self, obs: Tensor, tasks: Tensor | None = None) -> Tensor:
        """The action without noise (T', B, A) in [-1, 1], for observations (T', B, O) of the tasks
        listed, all in order if None.
        """


class NormalPolicy(Policy):
    """A policy that draws from a normal distribution."""

    @property
    def squashes(self) -> bool:
        """Whether actions are the tanh of what is drawn; otherwise the environment clips them."""
        return False

    @abstractmethod
    def distribution(self, obs: Tensor, tasks: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Mean and log standard deviation (T', B, A) of what is drawn, before any tanh, for
        observations (T', B, O) of the tasks listed, all in order if None.
        """


class RobotPolicy(nn.Module, ABC):
    """What drives a robot of E effectors, and what is exported: observation (B, O) (see
    polyreach.robot.features) -> action (B, nu) in [-1, 1], in units of largest_action there.
    """

    features: Features
    task_names: tuple[str, ...] = ()
    """Tasks that the active mask selects; empty for a policy that is not conditioned on the task.
    """

    def forward(self, obs: Tensor) -> Tensor:
        """obs: (B, O)."""
        features, _ = self.features(obs)
        return self.act(features, self.features.layout.split(obs).active)

    @abstractmethod
    def act(self, features: Tensor, active: Tensor) -> Tensor:
        """Action (B, nu) for features (B, F) and active goals (B, E); joints that serve no active
        effector do not move.
        """

    @property
    def names_configurations(self) -> bool:
        """Whether the policy names configurations; otherwise its actions are velocities."""
        return False

    def configurations(self, features: Tensor, active: Tensor) -> Tensor:
        """Configurations (B, k, nu) that the policy names for features (B, F) and active goals (B,
        E), joint positions as shares of half their range from its middle, in [-1, 1].
        """
        raise NotImplementedError("the actions of this policy are velocities")
