"""What a parameter of a node carries beside its value: range, unit, text, and when it can be set.

A class of parameters is a frozen dataclass whose fields are made by `parameter`.
"""

from dataclasses import dataclass, field, fields, replace
from enum import StrEnum
from typing import Any, TypeVar

Value = bool | int | float | str | tuple[float, ...]
T = TypeVar("T", bound=Value)


class Settable(StrEnum):
    """When a parameter can be set."""

    ALWAYS = "always"
    INACTIVE = "inactive"
    UNCONFIGURED = "unconfigured"
    START = "start"  # read-only from then on


@dataclass(frozen=True)
class ParameterSpec:
    """What is known of a parameter beside its type, which is that of its default.

    An empty tuple as the default leaves the parameter unset.
    """

    name: str
    default: Value
    text: str  # one or two sentences
    unit: str = ""
    range: tuple[float, float] | None = None  # of numbers, both ends legal
    choices: tuple[str, ...] = ()  # of words, if not any
    settable: Settable = Settable.ALWAYS
    periods: float = 0.0  # control periods that a value of 0 stands for, if not 0
    launch: bool = False  # a launch argument, too
    launch_default: str | None = None  # of that; None: the parameter file's value
    example: str = ""  # for a parameter file, where the default says little

    @property
    def description(self) -> str:
        """Unit and text."""
        return f"[{self.unit}] {self.text}" if self.unit else self.text


def parameter(default: T, text: str, **details: Any) -> T:
    """A field of a parameter class; details: fields of ParameterSpec."""
    spec = ParameterSpec("", default, text, **details)
    value: T = field(default=default, metadata={"spec": spec})
    return value


def specs(kind: type[Any]) -> tuple[ParameterSpec, ...]:
    """The parameters of a class, in the order of its fields."""
    return tuple(replace(f.metadata["spec"], name=f.name) for f in fields(kind))
