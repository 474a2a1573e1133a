"""Columns of writes out of their payloads: made to be compiled, and of no use where it is not."""

from typing import Final

from librt.strings import BytesWriter, read_i32_le, read_i64_le, write_i64_le
from mypy_extensions import i64

from journal.replay.descriptors import POSITION_MAX

_HEAD_SIZE: Final = 17  # constants for the compiler, which looks names of other modules up
_POSITION_MAX: Final = (1 << 63) - 1
assert _POSITION_MAX == POSITION_MAX

Columns = tuple[list[int], bytes, bytes, bytes]
"""Descriptors; where each write begins and stops, in 8 bytes of this machine; and a 1 for each
behind which the next does not begin where it stops."""


def columns_of(payloads: list[bytes]) -> Columns | None:
    """What these FileDescriptorWrites write; None where one of them is not as plain as most are."""
    fds: list[int] = []
    starts, stops, leaps = BytesWriter(), BytesWriter(), BytesWriter()
    before: i64 = -1
    for payload in payloads:
        size: i64 = len(payload) - _HEAD_SIZE
        if size < 1 or size != i64(read_i32_le(payload, 13)):
            return None
        start: i64 = read_i64_le(payload, 4)
        if payload[12] > 1 or start < 0 or start > _POSITION_MAX - size:
            return None
        fds.append(i64(read_i32_le(payload, 0)) & 0xFFFFFFFF)
        write_i64_le(starts, start)
        write_i64_le(stops, start + size)
        if before >= 0:
            leaps.append(1 if start != before else 0)
        before = start + size
    return fds, starts.getvalue(), stops.getvalue(), leaps.getvalue()
