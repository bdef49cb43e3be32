"""Length of a serialised message.

rclpy.serialization returns a few bytes of memory more than a message has, when it holds empty
sequences of 8-byte numbers, as the joint states of a robot that does not measure efforts. Strict
readers refuse such a message, and the bytes may be private; so the recorder cuts them off.
"""

import re
from collections.abc import Callable
from functools import cache
from importlib import import_module
from struct import unpack_from

# reads one value that starts at or after a position, returns the position after it
_Skip = Callable[[bytes, int], int]

_HEADER = 4  # bytes that name the encoding; positions are counted from their end
_SIZES = (
    dict.fromkeys(("boolean", "octet", "byte", "char", "int8", "uint8"), 1)
    | dict.fromkeys(("int16", "uint16"), 2)
    | dict.fromkeys(("int32", "uint32", "float"), 4)
    | dict.fromkeys(("int64", "uint64", "double"), 8)
)
_SEQUENCE = re.compile(r"sequence<(.+?)(, \d+)?>")
_ARRAY = re.compile(r"(.+)\[(\d+)\]")


@cache
def length_of(kind: type) -> Callable[[bytes], int]:
    """A function that returns how many bytes of serialised data a message of this class takes.

    The data are CDR, little-endian, as rclpy makes them, and may be longer than the message.
    Raises ValueError for a field of a type that is not supported (wstring, long double).
    """
    skip = _skip_message(kind)
    return lambda data: _HEADER + skip(data[_HEADER:], 0)


def _skip_message(kind: type) -> _Skip:
    fields = kind.get_fields_and_field_types().values()  # type: ignore[attr-defined]
    skips = [_skip_field(field) for field in fields]

    def skip(data: bytes, at: int) -> int:
        for each in skips:
            at = each(data, at)
        return at

    return skip


def _skip_field(field: str) -> _Skip:
    if (sequence := _SEQUENCE.fullmatch(field)) is not None:
        many = _skip_many(sequence[1])
        return lambda data, at: many(data, _aligned(at, 4) + 4, _count(data, at))
    if (array := _ARRAY.fullmatch(field)) is not None:
        many, count = _skip_many(array[1]), int(array[2])
        return lambda data, at: many(data, at, count)
    if re.fullmatch(r"string(<\d+>)?", field):
        return lambda data, at: _aligned(at, 4) + 4 + _count(data, at)
    if "/" in field:
        package, name = field.split("/")
        return _skip_message(getattr(import_module(f"{package}.msg"), name))
    if field not in _SIZES:
        raise ValueError(f"field type '{field}' is not supported (legal: {', '.join(_SIZES)}, ...)")
    size = _SIZES[field]
    return lambda data, at: _aligned(at, size) + size


def _skip_many(item: str) -> Callable[[bytes, int, int], int]:
    """As a _Skip, but of `count` values, the last argument."""
    if item in _SIZES:
        size = _SIZES[item]
        return lambda data, at, count: _aligned(at, size) + size * count if count else at
    skip = _skip_field(item)

    def skip_each(data: bytes, at: int, count: int) -> int:
        for _ in range(count):
            at = skip(data, at)
        return at

    return skip_each


def _aligned(at: int, size: int) -> int:
    return -(-at // size) * size


def _count(data: bytes, at: int) -> int:
    count: int = unpack_from("<I", data, _aligned(at, 4))[0]
    return count
