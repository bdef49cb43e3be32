"""Docstrings, which are plain text, as Markdown that shows the same text."""

import inspect
import re

GAPS = re.compile(r"\bWhat (the papers? leaves?|is left) open\b")


def as_markdown(docstring: str, gaps_heading: str = "") -> str:
    """A docstring as Markdown: indented lines are equations, everything else is text.

    gaps_heading: a heading to put before the sentence that begins with what the paper leaves open.
    """
    parts = []
    for paragraph in inspect.cleandoc(docstring).split("\n\n"):
        if paragraph.startswith("    "):
            parts.append(paragraph)
            continue
        text = escaped(paragraph)
        gap = GAPS.search(text) if gaps_heading else None
        if gap:
            parts += [text[: gap.start()].strip(), f"## {gaps_heading}"]
            text = text[gap.start() :]
        parts.append(text)
    return "\n\n".join(part for part in parts if part)


def escaped(text: str) -> str:
    """Plain text with code between backticks as Markdown."""
    words = [
        word if index % 2 else re.sub(r"([*_<|\[])", r"\\\1", word)
        for index, word in enumerate(text.split("`"))
    ]
    return re.sub(r"arXiv:(\d+\.\d+)", r"[arXiv:\1](https://arxiv.org/abs/\1)", "`".join(words))
