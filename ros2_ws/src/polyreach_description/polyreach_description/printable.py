"""Text of files and of the network, made fit for a terminal."""

MAX_SHOWN = 300  # characters of a value that a message repeats


class PrintableError(Exception):
    """An error whose message has no control characters, whatever was put into it."""

    def __init__(self, text: str) -> None:
        super().__init__(printable(text))


def printable(text: str, most: int = 2000) -> str:
    """`text` in one line of at most `most` characters, control characters as escapes.

    A terminal obeys control characters: they move its cursor, hide text, and set its title. Where
    rich prints the text, markup must be off too.
    """
    text = text if len(text) <= most else f"{text[:most]}..."
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
