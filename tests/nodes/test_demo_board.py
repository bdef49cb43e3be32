"""The demo's table of errors, as a terminal shows it."""

import numpy as np
from rich.console import Console

from polyreach_nodes.demo.board import Board


def test_errors_are_coloured_without_console_markup() -> None:
    board = Board(("left", "right"), goal_sets=2, tolerance=0.02)
    board.finish(np.array([0.0012, 0.034]), 1.5)
    console = Console(markup=False, force_terminal=True, color_system="standard", width=60)
    with console.capture() as capture:
        console.print(board.table())
    text = capture.get()
    assert "\x1b[32m 1.2\x1b[0m" in text
    assert "\x1b[33m 34.0\x1b[0m" in text
    assert "[green]" not in text
