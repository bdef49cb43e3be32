"""What an experiment is: variants of methods, as command lines of `polyreach train`."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Measure = Literal["score", "success", "return"]


@dataclass(frozen=True)
class Variant:
    """One line of a figure."""

    label: str
    method: str
    options: tuple[str, ...] = ()
    """Options of `polyreach train` that make this variant."""
    published: Mapping[str, float] = field(default_factory=dict)
    """The paper's figure for it on each environment, in units of the experiment's measure."""
    published_returns: Mapping[tuple[str, str], str] = field(default_factory=dict)
    """The paper's mean and standard deviation over episodes, after training on an environment, of a
    task.
    """
    env_options: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Options of its runs on an environment. In all options {runs} stands for the folder of the
    experiment's runs and {seed} for the seed: a run that names the folder of another waits for it.
    """
    steps: int = 0
    """Environment steps of its runs, the total over all tasks; 0 takes the experiment's."""


@dataclass(frozen=True)
class Column:
    """A further number of the table: the mean, or the median, over the last evaluations."""

    title: str
    key: str
    """In the records of a run's evaluations."""
    form: str
    """How it is written, as for str.format."""
    factor: float = 1.0
    median: bool = False


@dataclass(frozen=True)
class Experiment:
    """Variants, each trained on every environment with every seed."""

    name: str
    title: str
    paper: str
    envs: tuple[str, ...]
    variants: tuple[Variant, ...]
    options: tuple[str, ...]
    """Options that all variants share."""
    steps: int
    """Environment steps of a run, the total over all tasks, unless told otherwise."""
    seeds: int
    measure: Measure
    """What is compared: `<measure>_<task>` in the records of a run's evaluations."""
    curves_by_task: bool = False
    """Draw a panel for each task, against the steps of that task."""
    columns: tuple[Column, ...] = ()
    published: str = ""
    """Where the published figures are from, and how they were made."""
    device: str = "cpu"
    """Device of the runs, unless told otherwise."""
    env_options: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Options of the runs on an environment."""
    rollouts: int = 0
    """Episodes of every task, of all environments, that the last policy of every run plays for the
    report.
    """
