"""The table of a demo on the terminal."""

import numpy as np
from numpy.typing import NDArray
from rich.table import Table
from rich.text import Text

Vector = NDArray[np.float64]


class Board:
    """The table on the terminal: a row per goal set, errors in millimetres."""

    def __init__(self, effectors: tuple[str, ...], goal_sets: int, tolerance: float) -> None:
        self._effectors, self._goal_sets, self._tolerance = effectors, goal_sets, tolerance
        self._rows: list[tuple[Vector, float]] = []

    def finish(self, errors: Vector, seconds: float) -> None:
        """Add a set that is over, with its last errors (E,) [m]."""
        self._rows.append((errors, seconds))

    def table(
        self, number: int | None = None, errors: Vector | None = None, seconds: float = 0.0
    ) -> Table:
        """The sets that are over, and the one under way if its errors (E,) [m] are given."""
        table = Table(title="distance to goal [mm]", title_justify="left")
        table.add_column("set", justify="right")
        for effector in self._effectors:
            table.add_column(effector, justify="right")
        table.add_column("time [s]", justify="right")
        rows = (
            [*self._rows, (errors, seconds)]
            if errors is not None and number is not None
            else self._rows
        )
        for index, (row, elapsed_s) in enumerate(rows):
            cells = [
                Text(f"{error * 1e3:.1f}", "green" if error <= self._tolerance else "yellow")
                for error in row
            ]
            table.add_row(f"{index + 1}/{self._goal_sets}", *cells, f"{elapsed_s:.1f}")
        return table
