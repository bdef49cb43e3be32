"""Standard output and error whose reader has gone: `polyreach list | head -1`, a closed terminal.

A program whose result is its output then ends quietly, with CLOSED_OUTPUT; a program whose result
is elsewhere (a run folder, a page) continues without output.
"""

import errno
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO, cast

CLOSED_OUTPUT = 128 + signal.SIGPIPE
"""Exit status 141, which a shell reports for a program ended by SIGPIPE, such as `cat` or `ls`."""
GONE = (errno.EPIPE, errno.EIO)  # of a pipe without a reader, of a terminal that was closed


class OutputClosed(SystemExit):
    """Ends the program with CLOSED_OUTPUT; raised outside the main thread, it ends that thread."""

    def __init__(self) -> None:
        super().__init__(CLOSED_OUTPUT)


@contextmanager
def end_with_output() -> Iterator[None]:
    """Raise OutputClosed at the first text after the reader has gone, here or in the body."""
    with _watched(lasting=False):
        yield


@contextmanager
def outlast_output() -> Iterator[None]:
    """Drop text that is written after the reader has gone; nothing is raised."""
    with _watched(lasting=True):
        yield


@contextmanager
def _watched(lasting: bool) -> Iterator[None]:
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = (_watch(stream, lasting) for stream in before)
    try:
        yield
        _flush(before, lasting)
    except SystemExit:
        _flush(before, lasting)
        raise
    except BaseException:
        _flush(before, lasting=True)  # an error is shown in any case
        raise
    finally:
        sys.stdout, sys.stderr = before


def _flush(streams: tuple[TextIO, TextIO], lasting: bool) -> None:
    """Write what is in the buffers; it would fail, with a message, when the interpreter ends."""
    for stream in streams:
        if stream is not None:
            _watch(stream, lasting).flush()


def _watch(stream: TextIO, lasting: bool) -> TextIO:
    if stream is None:  # the program was started with this descriptor closed
        return stream
    inner = stream.stream if isinstance(stream, _Watched) else stream
    return cast(TextIO, _Watched(inner, lasting))


class _Watched:
    """A text stream that writes to another stream until its reader has gone."""

    def __init__(self, stream: TextIO, lasting: bool) -> None:
        self.stream = stream
        self._lasting = lasting

    def write(self, text: str) -> int:
        try:
            return self.stream.write(text)
        except OSError as error:
            self._on_error(error)
            return len(text)

    def flush(self) -> None:
        try:
            self.stream.flush()
        except OSError as error:
            self._on_error(error)

    def _on_error(self, error: OSError) -> None:
        if error.errno not in GONE:
            raise error
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, self.stream.fileno())  # takes what is still in the buffer
        os.close(null)
        if not self._lasting:
            raise OutputClosed from None

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)
