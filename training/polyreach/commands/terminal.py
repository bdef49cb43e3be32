"""Console and tables of the command line."""

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

console = Console(highlight=False, markup=False, emoji=False)


def print_table(title: str, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print rows of text under a title; all columns but the first are right-aligned."""
    table = Table(title=title, title_justify="left")
    for index, name in enumerate(header):
        table.add_column(name, justify="right" if index else "left", overflow="fold")
    for row in rows:
        table.add_row(*row)
    console.print(table)
