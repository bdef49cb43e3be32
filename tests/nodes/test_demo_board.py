"""The demo's table of errors, as a terminal shows it."""

import numpy as np
from rich.console import Console

from polyreach_nodes.demo.board import Board


def test_errors_are_coloured_without_console_markup() -> None:
    board = Board(("left", "right"), 2, (0.02, 0.05), oriented=(False, False))
    board.finish(np.array([[0.0012, 0.034], [0.0, 0.0]]), 1.5)
    console = Console(markup=False, force_terminal=True, color_system="standard", width=60)
    with console.capture() as capture:
        console.print(board.table())
    text = capture.get()
    assert "\x1b[32m   1.2\x1b[0m" in text
    assert "\x1b[33m  34.0\x1b[0m" in text
    assert "[green]" not in text


def test_goals_with_an_orientation_show_their_angles() -> None:
    board = Board(("left", "right", "tip"), 1, (0.02, 0.05), oriented=(True, True, False))
    board.finish(np.array([[0.0012, 0.0013, 0.0014], np.radians([2.8, 2.9, 0.0])]), 1.5)
    console = Console(markup=False, force_terminal=True, color_system="standard", width=60)
    with console.capture() as capture:
        console.print(board.table())
    text = capture.get()
    assert "angle [deg]" in text
    assert "\x1b[32m     1.2, 2.8\x1b[0m" in text
    assert "\x1b[33m     1.3, 2.9\x1b[0m" in text  # 0.05 rad are 2.86 degrees
    assert "1.4\x1b[0m" in text


def test_columns_do_not_move_while_errors_shrink() -> None:
    board = Board(("left", "tip"), 1, (0.02, 0.05), oriented=(False, True))
    console = Console(width=80)
    lines = []
    for error, angle in ((1.9, 3.1), (0.0004, 0.001)):
        errors = np.array([[error, error], [0.0, angle]])
        with console.capture() as capture:
            console.print(board.table(0, errors, 0.1))
        lines.append(capture.get().splitlines()[1])
    assert lines[0] == lines[1]
