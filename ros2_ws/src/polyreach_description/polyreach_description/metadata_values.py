"""Values of a policy's metadata: converted, or refused in one sentence.

A converter takes a value of JSON and returns it checked; it raises TypeError or ValueError that
says what is legal.
"""

import math
from collections.abc import Callable, Collection, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from polyreach_description.policy_file import ContractError, parse_value
from polyreach_description.printable import MAX_SHOWN, printable


def read_value(metadata: Mapping[str, str], key: str, convert: Callable[[Any], Any]) -> Any:
    """The converted value of a key. Raises ContractError that names the key and what is legal."""
    value = parse_value(metadata, key)
    try:
        return convert(value)
    except (ValueError, TypeError, OverflowError) as error:
        raise ContractError(mismatch(key, value, error)) from None


def text(value: Any) -> str:
    """A text that is not empty."""
    if not isinstance(value, str) or not value:
        raise TypeError("a text that is not empty")
    return value


def integer(value: Any) -> int:
    """An integer."""
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError("an integer")
    return value


def positive(value: Any) -> float:
    """A finite number above 0."""
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 < value < math.inf:
        raise TypeError("a number above 0")
    return float(value)


def names(value: Any) -> tuple[str, ...]:
    """Texts of which no two are equal, at least one."""
    if (
        not isinstance(value, list)
        or not value
        or not all(isinstance(name, str) and name for name in value)
    ):
        raise TypeError("a list of names")
    if len(set(value)) != len(value):
        raise ValueError("a list of names without duplicates")
    return tuple(value)


def choices(legal: Collection[str], count: int, what: str) -> Callable[[Any], tuple[str, ...]]:
    """A list of `count` of the legal words, one for each of `what`."""

    def convert(value: Any) -> tuple[str, ...]:
        if (
            not isinstance(value, list)
            or len(value) != count
            or any(word not in legal for word in value)
        ):
            raise TypeError(f"one of {', '.join(legal)} for each of {count} {what}")
        return tuple(value)

    return convert


def array(shape: tuple[int, ...]) -> Callable[[Any], NDArray[np.float64]]:
    """Finite numbers of a shape."""

    def convert(value: Any) -> NDArray[np.float64]:
        expected = f"finite numbers of shape {shape}"
        try:
            array = np.asarray(value)
        except ValueError:
            raise ValueError(expected) from None
        if array.shape != shape or array.dtype.kind not in "if" or not np.isfinite(array).all():
            raise ValueError(expected)
        return array.astype(np.float64)

    return convert


def mismatch(key: str, found: Any, expected: Any) -> str:
    """The sentence for a value that is not the expected one."""
    return f"policy metadata '{key}': found {_short(found)}, expected {_short(expected)}"


def _short(value: Any) -> str:
    return printable(value if isinstance(value, str) else str(value), MAX_SHOWN)
