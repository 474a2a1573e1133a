"""Native decoder for the columns of file writes, used only in the compiled build."""

from typing import Final

from librt.strings import BytesWriter, read_i32_le, read_i64_le, write_i64_le
from mypy_extensions import i64

from journal.replay.effects.descriptors import POSITION_MAX

# Repeated here because imported names are looked up at run time.
_HEAD_SIZE: Final = 17
_POSITION_MAX: Final = (1 << 63) - 1
assert _POSITION_MAX == POSITION_MAX

PackedColumns = tuple[list[int], bytes, bytes, bytes]
"""Descriptors; starts and stops, as native 8-byte integers; and the gap flags of WriteBatch."""


def decode_columns(raw: bytes, begins: list[int], ends: list[int]) -> PackedColumns | None:
    """Return the columns of FileDescriptorWrite events; None if an event has an uncommon property.

    The payloads are ``raw[begins[i]:ends[i]]``.
    """
    fds: list[int] = []
    starts, stops, gaps = BytesWriter(), BytesWriter(), BytesWriter()
    before: i64 = -1
    number: i64 = 0
    while number < len(begins):
        at: i64 = begins[number]
        size: i64 = ends[number] - at - _HEAD_SIZE
        if size < 1 or size != i64(read_i32_le(raw, at + 13)):
            return None
        start: i64 = read_i64_le(raw, at + 4)
        if raw[at + 12] > 1 or start < 0 or start > _POSITION_MAX - size:
            return None
        fds.append(i64(read_i32_le(raw, at)) & 0xFFFFFFFF)
        write_i64_le(starts, start)
        write_i64_le(stops, start + size)
        if before >= 0:
            gaps.append(1 if start != before else 0)
        before = start + size
        number += 1
    return fds, starts.getvalue(), stops.getvalue(), gaps.getvalue()
