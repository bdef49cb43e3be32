"""The error that a user can mend: the command line prints it as one line, without a traceback."""

import math
from collections.abc import Iterable
from typing import Any

from polyreach_description.printable import printable


class UserError(ValueError):
    """Something asked for is not possible; the message names the value and the legal choices.

    The message has no control characters but ends of lines, whatever a file holds.
    """

    def __init__(self, text: str) -> None:
        super().__init__("\n".join(map(printable, text.splitlines())))


def check_range(name: str, value: float, low: float, high: float = math.inf) -> None:
    """Raise UserError unless low <= value <= high; an infinite value is never legal."""
    if not (low <= value <= high and math.isfinite(value)):
        legal = f"at least {low:g}" if high == math.inf else f"from {low:g} to {high:g}"
        raise UserError(f"{name} is {value:g}, but must be {legal}")


def check_choice(config: object, **choices: Iterable[str]) -> None:
    """Raise UserError unless each setting of `config` that is named has one of its legal values."""
    for name, legal in choices.items():
        value: Any = getattr(config, name)
        if value not in legal:
            raise UserError(f"{name} is '{value}', but must be one of {', '.join(legal)}")


def check_widths(name: str, widths: tuple[int, ...]) -> None:
    """Raise UserError for what cannot be the widths of hidden layers."""
    if not widths or min(widths) < 1:
        raise UserError(f"{name} is {widths}, but must be widths of at least 1")
