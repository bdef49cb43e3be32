"""The table of a demo on the terminal."""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from rich.table import Table
from rich.text import Text

DISTANCE = "distance to goal [mm]"
WIDEST, WIDEST_POSE = "1000.0", "1000.0, 180.0"

Vector = NDArray[np.float64]


class Board:
    """The table on the terminal: a row per goal set, errors in millimetres and degrees.

    Errors are (2, E): distances [m] and angles [rad], 0 for goals without an orientation.
    """

    def __init__(
        self,
        effectors: tuple[str, ...],
        goal_sets: int,
        tolerances: tuple[float, float],
        oriented: Sequence[bool],
    ) -> None:
        """tolerances: [m], [rad]; oriented: (E,) whether goals have an orientation."""
        self._effectors, self._goal_sets, self._tolerances = effectors, goal_sets, tolerances
        self._oriented = oriented
        self._rows: list[tuple[Vector, float]] = []

    def finish(self, errors: Vector, seconds: float) -> None:
        """Add a set that is over, with its last errors."""
        self._rows.append((errors, seconds))

    def table(
        self, number: int | None = None, errors: Vector | None = None, seconds: float = 0.0
    ) -> Table:
        """The sets that are over, and the one under way if its errors are given."""
        units = "distance [mm], angle [deg] to goal" if any(self._oriented) else DISTANCE
        table = Table(title=units, title_justify="left")
        table.add_column("set", justify="right")
        for effector, oriented in zip(self._effectors, self._oriented, strict=True):
            width = len(WIDEST_POSE if oriented else WIDEST)  # columns do not move
            table.add_column(effector, justify="right", min_width=width)
        table.add_column("time [s]", justify="right")
        rows = (
            [*self._rows, (errors, seconds)]
            if errors is not None and number is not None
            else self._rows
        )
        distance, turn = self._tolerances
        for index, (row, elapsed_s) in enumerate(rows):
            cells = [
                Text(
                    f"{1e3 * error:.1f}" + (f", {math.degrees(angle):.1f}" if oriented else ""),
                    "green" if error <= distance and angle <= turn else "yellow",
                )
                for error, angle, oriented in zip(*row, self._oriented, strict=True)
            ]
            table.add_row(f"{index + 1}/{self._goal_sets}", *cells, f"{elapsed_s:.1f}")
        return table
