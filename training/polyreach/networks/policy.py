"""What every policy offers, whatever its networks are."""

from abc import ABC, abstractmethod

from torch import Tensor, nn


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
