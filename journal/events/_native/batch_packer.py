"""Batch encoder of rows of values to payloads, used only in the compiled build.

The encoder handles plain values. A row with any other value is passed to the packer of its kind,
which encodes the row or raises, so that a single authority decides which values are valid.
"""

from collections.abc import Callable
from typing import Any, Final

from librt.strings import BytesWriter, write_i16_le, write_i32_le, write_i64_le
from mypy_extensions import i16, i32, i64

from journal.format.columns import BLOCK_SIZE_TARGET, COLUMNS_SIZE_PER_EVENT
from journal.format.frame import PAYLOAD_SIZE_MAX

ROW_CODES = "QLqlHB?st"
"""Codes of values in a row: ``struct`` codes of numbers and flags, ``s`` bytes, ``t`` text."""

_U64: Final = 0
_U32: Final = 1
_I64: Final = 2
_I32: Final = 3
_U16: Final = 4
_U8: Final = 5
_FLAG: Final = 6
_BYTES: Final = 7
_TEXT: Final = 8

_SIZE_MAX: Final = 1 << 24  # Repeated here because imported names are looked up at run time.
assert _SIZE_MAX == PAYLOAD_SIZE_MAX


class BatchPacker:
    """Encoder that collects payloads of one kind until they fill a block.

    It also collects their ends if the payloads differ in size. ``codes`` are the ``ROW_CODES`` of
    the values in a row; ``pack`` is the packer of the kind.
    """

    def __init__(self, codes: str, pack: Callable[..., bytes]) -> None:
        self._codes = bytes(map(ROW_CODES.index, codes))
        self._pack = pack
        self._raw = BytesWriter()
        self._ends = BytesWriter()
        self._count: i64 = 0
        self._even = True  # All payloads have one size so far, so no ends are stored.

    def add(self, rows: list[Any], start: int) -> int:
        """Encode rows from index ``start``; return the index after the row that fills the block."""
        raw, codes, even = self._raw, self._codes, self._even
        index: i64 = start
        stop: i64 = len(rows)
        count: i64 = self._count
        event_columns_size: i64 = COLUMNS_SIZE_PER_EVENT
        space: i64 = BLOCK_SIZE_TARGET - len(raw) - event_columns_size * count
        first: i64 = len(raw) // count if count else -1
        while index < stop and space > 0:
            before: i64 = len(raw)
            row = rows[index]
            if not _write_row(raw, codes, row) or len(raw) - before > _SIZE_MAX:
                raw.truncate(before)
                raw.write(self._pack(*row))
            end: i64 = len(raw)
            if even and end - before != first:
                if count:
                    even = False
                    self._write_equal_ends(first, count)
                first = end - before
            if not even:
                write_i32_le(self._ends, i32(end))
            space -= end - before + event_columns_size
            count += 1
            index += 1
        self._count, self._even = count, even
        return index

    def _write_equal_ends(self, size: i64, count: i64) -> None:
        """Write the ends of ``count`` payloads of one size."""
        number: i64 = 1
        while number <= count:
            write_i32_le(self._ends, i32(size * number))
            number += 1

    def is_empty(self) -> bool:
        """Return whether no payload has been collected."""
        return not self._count

    def is_full(self) -> bool:
        """Return whether the payloads fill a block."""
        return len(self._raw) + COLUMNS_SIZE_PER_EVENT * self._count >= BLOCK_SIZE_TARGET

    def take(self) -> tuple[bytes, bytes, int]:
        """Return and clear the collected payloads, their ends and their count."""
        batch = self._raw.getvalue(), self._ends.getvalue(), int(self._count)
        self._raw.truncate(0)  # The buffer keeps its allocated memory.
        self._ends.truncate(0)
        self._count, self._even = 0, True
        return batch


def _write_row(raw: BytesWriter, codes: bytes, row: Any) -> bool:
    """Write the payload of a row. Return False, perhaps after a part, if a value is not plain."""
    if not isinstance(row, tuple) or len(row) != len(codes):
        return False
    count: i64 = len(codes)
    index: i64 = 0
    try:
        while index < count:
            code: i64 = codes[index]
            value = row[index]
            if code < _FLAG:
                if not isinstance(value, int) or not _write_number(raw, code, value):
                    return False
            elif code == _BYTES:
                if type(value) is not bytes or not _write_bytes(raw, value):
                    return False
            elif code == _TEXT:
                if type(value) is not str or not _write_bytes(raw, value.encode()):
                    return False
            else:
                raw.append(1 if value else 0)
            index += 1
    except (OverflowError, TypeError, ValueError):
        return False
    return True


def _write_bytes(raw: BytesWriter, value: bytes) -> bool:
    size: i64 = len(value)
    if size > _SIZE_MAX:
        return False
    write_i32_le(raw, i32(size))
    raw.write(value)
    return True


def _write_number(raw: BytesWriter, code: i64, number: i64) -> bool:
    if code == _I64 or (code == _U64 and number >= 0):
        write_i64_le(raw, number)
    elif code == _U32 and 0 <= number <= 0xFFFF_FFFF:
        write_i32_le(raw, i32(number))
    elif code == _U16 and 0 <= number <= 0xFFFF:
        write_i16_le(raw, i16(number))
    elif code == _U8 and 0 <= number <= 0xFF:
        raw.append(int(number))
    elif code == _I32 and -0x8000_0000 <= number <= 0x7FFF_FFFF:
        write_i32_le(raw, i32(number))
    else:
        return False
    return True
