"""Names of frames in messages."""

from collections.abc import Iterable

MAX_NAME = 100  # characters of a frame, and of a name that a message repeats
MAX_LISTED = 8  # frames in a message


def shortened(names: Iterable[str]) -> str:
    """The first names, and how many more there are."""
    names = [name[:MAX_NAME] for name in names]
    more = f" and {len(names) - MAX_LISTED} more" if len(names) > MAX_LISTED else ""
    return ", ".join(names[:MAX_LISTED]) + more
