"""Recording of ROS 2 messages to an MCAP file in the layout of `ros2 bag record -s mcap`.

The caller serialises a message and puts the bytes into a queue; the recorder's thread writes them.
Once the file is made, a slow or broken disk neither delays the caller nor raises an exception. To
make the file takes a few milliseconds after `warm_up`.
"""

import os
import re
import sys
import threading
from collections import deque
from collections.abc import Iterable, Mapping
from contextlib import suppress
from functools import cache
from importlib import import_module
from pathlib import Path
from time import monotonic, sleep
from typing import Any, BinaryIO

from mcap.writer import Writer
from rclpy.serialization import serialize_message

from polyreach_nodes.recording.cdr import length_of

QUEUE_LENGTH = 20_000  # messages; those of ten seconds at 100 Hz, while a disk does not answer
POLL_S = 0.02  # [s] between two writes: small portions keep the control period even
FLUSH_S = 0.5  # [s] between two syncs to the disk
PART_S = 3600.0  # [s] in one file, whose index in memory grows to 11 MB
CLOSE_S = 5.0  # [s] to complete the file when a recording ends
_SEPARATOR = "=" * 80  # between the definitions of a message and of those in it
_NESTED = re.compile(r"([a-z]\w*)/([A-Z]\w*)")


class RecordingError(ValueError):
    """A recording cannot be started; the message names the file or message type, and the reason."""


class Recorder:
    """Writes messages of some topics to a file until close().

    An existing file is never written to: the recording then goes to `<stem>-2.mcap`, or the next
    free number; `path` is the file in use. After PART_S it continues in the next file. Every
    FLUSH_S the file is complete up to then and synced to the disk, so that a kill or a power cut
    costs a second of messages at most; `mcap recover` of the MCAP command line tool completes a
    file that was cut off.
    """

    def __init__(
        self, path: Path, topics: Mapping[str, type], queue_length: int = QUEUE_LENGTH
    ) -> None:
        """Make the file. topics: full topic names, as '/joint_states', and their message classes.

        Raises RecordingError if the path does not end in .mcap or cannot be written, or if the
        definition of a message is not installed.
        """
        warm_up(topics.values())
        definitions = {kind: message_definition(kind) for kind in topics.values()}
        self._topics, self._definitions, self._first_path = topics, definitions, path
        self._length = {topic: length_of(kind) for topic, kind in topics.items()}
        self._open()
        self._sequence = dict.fromkeys(topics, 0)
        self._queue: deque[tuple[str, int, int, bytes]] = deque()
        self._queue_length = queue_length
        self._dropped = 0
        self._error = ""
        self._closing = threading.Event()
        try:
            self._channels = self._begin()
        except OSError as error:
            self._abandon(error)
            raise RecordingError(self._error) from None
        self._thread = threading.Thread(target=self._run, daemon=True, name="recording")
        self._thread.start()

    @property
    def dropped(self) -> int:
        """Number of messages that were not written because the queue was full; their sequence
        numbers are missing in the file.
        """
        return self._dropped

    @property
    def error(self) -> str:
        """Why the recording ended early; '' if it did not."""
        return self._error

    def write(self, topic: str, message: Any, time_ns: int) -> None:
        """Record a message as it is now. To be called in one thread.

        time_ns: [ns since the epoch], when it was received or published. Raises KeyError for a
        topic that is not in `topics`.
        """
        number = self._sequence[topic]
        self._sequence[topic] = number + 1
        if self._error:
            return
        if len(self._queue) >= self._queue_length:
            self._dropped += 1
            return
        self._queue.append((topic, number, time_ns, serialize_message(message)))

    def close(self) -> None:
        """Write what is in the queue and complete the file; a second call does nothing."""
        self._closing.set()
        self._thread.join(CLOSE_S)
        if self._thread.is_alive():
            self._error = self._error or f"'{self.path}' was not completed within {CLOSE_S:g} s"

    def _open(self) -> None:
        """Make the next file. Raises RecordingError if it cannot be written."""
        self.path, self._file = _create(self._first_path)
        self._writer = Writer(self._file)

    def _begin(self) -> dict[str, int]:
        """Write the head of the file; returns the channels of the topics."""
        self._writer.start(profile="ros2")
        schemas = {
            kind: self._writer.register_schema(_type_name(kind), "ros2msg", text.encode())
            for kind, text in self._definitions.items()
        }
        channels = {
            topic: self._writer.register_channel(topic, "cdr", schemas[kind])
            for topic, kind in self._topics.items()
        }
        self._file.flush()
        return channels

    def _run(self) -> None:
        """Write until close(), or until the file cannot be written."""
        try:
            start_s = flushed_s = monotonic()
            while not self._closing.wait(POLL_S):
                self._write_queue()
                if monotonic() - flushed_s >= FLUSH_S:
                    self._writer.flush()
                    os.fdatasync(self._file.fileno())
                    flushed_s = monotonic()
                if monotonic() - start_s >= PART_S:
                    self._end()
                    self._open()
                    self._channels = self._begin()
                    start_s = monotonic()
            self._write_queue()
            self._end()
        except Exception as error:
            self._abandon(error)

    def _end(self) -> None:
        self._writer.finish()
        self._file.close()

    def _write_queue(self) -> None:
        while self._queue:
            topic, number, time_ns, data = self._queue.popleft()
            channel, data = self._channels[topic], data[: self._length[topic](data)]
            self._writer.add_message(channel, time_ns, data, publish_time=time_ns, sequence=number)
            sleep(0)  # let the control loop run if it waits for the interpreter

    def _abandon(self, error: Exception) -> None:
        reason = (error.strerror if isinstance(error, OSError) else None) or repr(error)
        self._error = f"'{self.path}' cannot be written: {reason}"
        self._queue.clear()
        with suppress(OSError):  # the same error again, for what is still in the buffer
            self._file.close()


def warm_up(kinds: Iterable[type]) -> None:
    """Read the definitions of these message classes and load the code that serialises them, which
    takes long the first time. A definition that is not installed is an error of the recording.
    """
    with suppress(RecordingError):
        for kind in kinds:
            message_definition(kind)
            serialize_message(kind())


@cache
def message_definition(kind: type) -> str:
    """The .msg definition of a message class, followed by those of all messages in it.

    Raises RecordingError if one of them is not installed.
    """
    files = {_type_name(kind): _definition_file(kind)}
    waiting = [kind]
    while waiting:
        fields = waiting.pop().get_fields_and_field_types()  # type: ignore[attr-defined]
        for package, name in _NESTED.findall(" ".join(fields.values())):
            nested = getattr(import_module(f"{package}.msg"), name)
            if _type_name(nested) not in files:
                files[_type_name(nested)] = _definition_file(nested)
                waiting.append(nested)
    texts = [path.read_text(encoding="utf-8").rstrip() for path in files.values()]
    heads = [f"\n{_SEPARATOR}\nMSG: {name.replace('/msg/', '/')}\n" for name in files]
    return (
        texts[0]
        + "".join(head + text for head, text in zip(heads[1:], texts[1:], strict=True))
        + "\n"
    )


def _type_name(kind: type) -> str:
    return f"{kind.__module__.split('.')[0]}/msg/{kind.__name__}"


def _definition_file(kind: type) -> Path:
    """share/<package>/msg/<name>.msg of the installation that the class is from."""
    package = kind.__module__.split(".")[0]
    module = sys.modules[kind.__module__].__file__ or ""
    for prefix in Path(module).parents:
        path = prefix / "share" / package / "msg" / f"{kind.__name__}.msg"
        if path.is_file():
            return path
    raise RecordingError(
        f"no definition of message '{_type_name(kind)}': share/{package}/msg/{kind.__name__}.msg "
        f"is in no folder above '{module}'"
    )


def _create(path: Path) -> tuple[Path, BinaryIO]:
    """A new file at `path`, or at the first free number after it."""
    if path.suffix != ".mcap":
        raise RecordingError(f"a recording ends in .mcap, but the path is '{path}'")
    candidate, number = path, 1
    while True:
        try:
            return candidate, candidate.open("xb")
        except FileExistsError:
            number += 1
            candidate = path.with_stem(f"{path.stem}-{number}")
        except OSError as error:
            raise RecordingError(f"'{candidate}' cannot be written: {error.strerror}") from None
