"""What the command watchdog reads from serialised messages, bounds checked first.

Commands stay serialised: converting one to a message object and back takes longer than all checks,
and a message that cannot be converted would end the process. Encoding: CDR, little-endian.
"""

import json
from collections.abc import Sequence
from struct import Struct, pack, unpack_from
from typing import TypeGuard

ENCODING = b"\x00\x01"  # of CDR, little-endian: the first two bytes; the next two are options
VALUES_AT = 20  # bytes before the values of a Float64MultiArray with an empty layout
MAX_METADATA_BYTES = 100_000  # 25 times those of the shipped policies
MAX = 1e6  # [rad/s, m/s or Hz] of a limit or a rate


class CommandCodec:
    """Float64MultiArrays of `count` values and an empty layout."""

    def __init__(self, count: int) -> None:
        self._values = Struct(f"<{count}d")
        self._size = VALUES_AT + self._values.size
        self._head = pack("<III", 0, 0, count)  # dimensions, offset, values; then 4 bytes are free
        self.zero = ENCODING + bytes(2) + self._head + bytes(4 + self._values.size)

    def read(self, data: bytes) -> Sequence[float] | None:
        """The values (count,); None for a message of another length or with a layout."""
        if len(data) != self._size or data[:2] != ENCODING or data[4:16] != self._head:
            return None
        return self._values.unpack_from(data, VALUES_AT)


def read_limits(data: bytes) -> tuple[tuple[float, ...], float]:
    """Velocity limits (nu,) [rad/s or m/s] and control rate [Hz] of a controller's metadata.

    data: a serialised std_msgs/String. Raises ValueError that names what is wrong.
    """
    if len(data) > MAX_METADATA_BYTES:
        raise ValueError(f"metadata of {len(data)} bytes: expected at most {MAX_METADATA_BYTES}")
    if len(data) < 9 or data[:2] != ENCODING:
        raise ValueError("metadata: expected little-endian CDR of a std_msgs/String")
    (length,) = unpack_from("<I", data, 4)
    try:
        metadata = json.loads(data[8 : 7 + length].decode())
    except (ValueError, RecursionError) as error:
        raise ValueError(f"metadata: expected JSON ({error})") from None
    if not isinstance(metadata, dict):
        raise ValueError("metadata: expected a JSON object")
    names, limits, rate = map(metadata.get, ("joint_names", "joint_vel_limits", "update_rate"))
    if not isinstance(names, list) or not isinstance(limits, list) or len(names) != len(limits):
        raise ValueError("metadata: expected lists joint_names and joint_vel_limits of one length")
    if not limits or not all(map(_is_in_range, limits)):
        raise ValueError(f"metadata 'joint_vel_limits': expected numbers above 0, below {MAX:g}")
    if not _is_in_range(rate):
        raise ValueError(f"metadata 'update_rate': expected a number above 0, below {MAX:g}")
    return tuple(map(float, limits)), float(rate)


def _is_in_range(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < MAX
