"""Matplotlib as the package draws with it: into files, with no display."""

from typing import Any


def file_pyplot() -> Any:
    """matplotlib.pyplot; only imported where something is drawn, for it takes its time."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    return pyplot
