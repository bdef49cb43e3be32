"""Command lines as frozen dataclasses: tyro parses them, the docstrings are the help texts."""

import dataclasses
from collections.abc import Sequence
from types import MappingProxyType
from typing import Any, TypeVar

import docstring_parser
import tyro

Options = TypeVar("Options")


def parse_options(options: type[Options], words: Sequence[str], prog: str) -> Options:
    """Parse `words` into a dataclass; exits with the help text, or with a message and status 2.

    tyro breaks lines where the source does, and at every line that begins with a digit or a
    parenthesis; help texts are given to it as whole paragraphs instead.
    """
    _describe_fields(options)
    return tyro.cli(options, args=words, prog=prog, description=_paragraphs(options.__doc__ or ""))


def _describe_fields(options: type[Any]) -> None:
    """Make the docstring of every field, of nested dataclasses too, its help text."""
    texts: dict[str, str] = {}
    for owner in reversed(options.__mro__[:-1]):
        parsed = docstring_parser.parse_from_object(owner)
        texts |= {text.arg_name: text.description or "" for text in parsed.params}
    for field in dataclasses.fields(options):
        if field.name in texts:
            help_text = {"help": _paragraphs(texts[field.name])}
            field.metadata = MappingProxyType({**field.metadata, **help_text})
        if isinstance(field.type, type) and dataclasses.is_dataclass(field.type):
            _describe_fields(field.type)


def _paragraphs(docstring: str) -> str:
    """The text with a line for each paragraph, and an empty line between two of them."""
    lines = [line.strip() for line in docstring.splitlines()]
    paragraphs = "\n".join(lines).strip().split("\n\n")
    return "\n\n".join(paragraph.replace("\n", " ") for paragraph in paragraphs)
