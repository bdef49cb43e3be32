"""The error that a user can mend: the command line prints it as one line, without a traceback."""

import math


class UserError(ValueError):
    """Something asked for is not possible; the message names the value and the legal choices."""


def check_range(name: str, value: float, low: float, high: float = math.inf) -> None:
    """Raise UserError unless low <= value <= high; an infinite value is never legal."""
    if not (low <= value <= high and math.isfinite(value)):
        legal = f"at least {low:g}" if high == math.inf else f"from {low:g} to {high:g}"
        raise UserError(f"{name} is {value:g}, but must be {legal}")
