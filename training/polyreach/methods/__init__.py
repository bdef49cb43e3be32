"""The methods, by name: what `polyreach train METHOD` can run."""

import sys
from functools import lru_cache
from importlib import import_module

from polyreach.errors import UserError
from polyreach.methods.method import Method

MODULES = (
    "ddpg",
    "digrad",
    "independent_sac",
    "mtsac",
    "mtmhsac",
    "dgrad_o",
    "dgrad_a",
    "soft_modularization",
    "ktm",
    "picor",
    "ars",
    "ppo",
    "specialization",
    "a2c",
    "distillation",
    "fine_tuning",
    "ppo_fine_tuning",
    "apg",
)
"""Modules of this package, one per method; METHOD in each is its record."""

_REGISTERED: tuple[Method, ...] = tuple(
    import_module(f"{__name__}.{module}").METHOD for module in MODULES
)
METHODS: dict[str, Method] = {method.name: method for method in _REGISTERED}
OLD_NAMES: dict[str, str] = {old: method.name for method in _REGISTERED for old in method.old_names}
"""Names of earlier versions, and the names of the same methods now."""


def is_method(word: str) -> bool:
    """Whether `word` is the name of a method, or was in an earlier version."""
    return word in METHODS or word in OLD_NAMES


def current_name(word: str) -> str:
    """The name of a method now, with a notice on stderr where an earlier version called it `word`;
    any other word as it is.
    """
    if word in OLD_NAMES:
        _note_old_name(word)
    return OLD_NAMES.get(word, word)


def get_method(name: str) -> Method:
    """The method called `name`, now or in an earlier version; UserError with the legal names
    otherwise.
    """
    name = current_name(name)
    if name not in METHODS:
        raise UserError(f"unknown method '{name}' (legal: {', '.join(METHODS)})")
    return METHODS[name]


@lru_cache
def _note_old_name(name: str) -> None:
    """Once in a process."""
    print(
        f"polyreach: method '{name}' is now called '{OLD_NAMES[name]}'; the old name is accepted "
        "in this version only",
        file=sys.stderr,
    )
