"""Checked values of a YAML file; each function raises YamlError, which names what is wrong."""

from typing import Any

from polyreach_description.printable import MAX_SHOWN, printable
from polyreach_description.yaml_file import YamlError


def choice(value: Any, what: str, legal: tuple[str, ...]) -> str:
    """One of the legal texts."""
    if value not in legal:
        raise YamlError(f"{what} is {shown(value)}, but must be one of {', '.join(legal)}")
    return str(value)


def mapping(value: Any, what: str, legal: tuple[str, ...]) -> dict[str, Any]:
    """A mapping without keys other than the legal ones."""
    if not isinstance(value, dict):
        raise YamlError(
            f"{what} must be a mapping with the keys {', '.join(legal)}, not {shown(value)}"
        )
    for key in value:
        if key not in legal:
            raise YamlError(f"unknown key '{key}' in {what} (legal: {', '.join(legal)})")
    return value


def named(value: Any, what: str, empty: bool = False) -> dict[str, Any]:
    """A mapping of names; at least one, unless it may be empty."""
    if not isinstance(value, dict) or not (value or empty):
        raise YamlError(f"'{what}' must map at least one name to its entry, not {shown(value)}")
    for name in value:
        if not isinstance(name, str):
            raise YamlError(f"name {name!r} in '{what}' must be text (quote it)")
        text(name, f"name in '{what}'")
    return value


def text(value: Any, what: str) -> str:
    """A text that is not empty and has no control characters."""
    if not isinstance(value, str) or not value.strip():
        raise YamlError(f"{what} must be a non-empty text, not {shown(value)}")
    if not value.isprintable():
        raise YamlError(f"{what} must have no control characters, but is {shown(value)}")
    return value


def flag(value: Any, what: str) -> bool:
    """True or false."""
    if not isinstance(value, bool):
        raise YamlError(f"{what} must be true or false, not {shown(value)}")
    return value


def shown(value: Any) -> str:
    """A value as messages show it."""
    return printable(repr(value), MAX_SHOWN)


def number(value: Any, what: str, low: float, high: float, unit: str) -> float:
    """A number from low to high [unit]."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise YamlError(
            f"{what} is {shown(value)}, but must be a number from {low:g} to {high:g} [{unit}]"
        )
    return float(value)
