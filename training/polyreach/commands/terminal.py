"""Console and tables of the command line."""

from collections.abc import Sequence
from typing import Literal

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

MAX_NAME = 32  # characters

console = Console(highlight=False, markup=False, emoji=False)


def print_table(title: str, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print rows of text under a title; all columns but the first, which has names, are
    right-aligned.
    """
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    are_short_names = all(len(row[0]) <= MAX_NAME and " " not in row[0] for row in rows)
    for index, name in enumerate(header):
        justify: Literal["left", "right"] = "right" if index else "left"
        whole = not index and are_short_names  # not folded in a narrow terminal
        table.add_column(name, justify=justify, overflow="fold", no_wrap=whole)
    for row in rows:
        table.add_row(*row)
    console.print(table)
