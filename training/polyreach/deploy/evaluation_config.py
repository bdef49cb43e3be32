"""How controllers are measured."""

from dataclasses import dataclass

from polyreach.deploy.simulation import Drives
from polyreach.errors import check_range


@dataclass(frozen=True)
class EvaluationConfig:
    """How controllers are measured."""

    goals: int = 1000
    """Number of goal sets that stand still, each with a random start."""
    seconds: float = 5.0
    """Time from the start until the errors are measured [s]."""
    seed: int = 20_000
    """Seed of starts and goals."""
    threads: int = 1
    """CPU threads of the simulation."""
    delay: float = 0.0
    """Largest delay of the commands [s]; each episode has its own, drawn uniformly from zero."""
    lag: float = 0.0
    """Time constant of a first-order lag of the servos, besides their own [s]."""
    controlled: int = 100
    """Number of the goal sets for which the robot is also driven through the controller's limits
    and distances, of those that jump, and, a fifth of it, of those that move; 0: none.
    """
    starts: int = 20
    """Number of random starts of the multi-start planner; 0: without it."""

    def __post_init__(self) -> None:
        """Raise UserError for a value that no evaluation can have."""
        check_range("goals", self.goals, 1)
        check_range("seconds", self.seconds, 0.1)
        check_range("threads", self.threads, 1)
        check_range("controlled", self.controlled, 0)
        check_range("starts", self.starts, 0)
        Drives(self.delay, self.lag)

    @property
    def drives(self) -> Drives:
        """What lies between commands and servos."""
        return Drives(self.delay, self.lag)
