"""Rows of values to payloads, many at once: made to be compiled, and of no use where it is not.

Only what is plain is done here, and what is not is left to the packer of the kind: it packs the
row after all, or raises. So there is one authority on what fits.
"""

from collections.abc import Callable
from typing import Any, Final

from librt.strings import BytesWriter, write_i16_le, write_i32_le, write_i64_le
from mypy_extensions import i16, i32, i64

from journal.format.columns import BLOCK_SIZE_TARGET, COLUMNS_SIZE_PER_EVENT
from journal.format.frame import PAYLOAD_SIZE_MAX

ROW_CODES = "QLqlHB?st"
"""What a row may hold: numbers and flags by their ``struct`` codes, ``s`` bytes, ``t`` text."""

_U64: Final = 0
_U32: Final = 1
_I64: Final = 2
_I32: Final = 3
_U16: Final = 4
_U8: Final = 5
_FLAG: Final = 6
_BYTES: Final = 7
_TEXT: Final = 8

_SIZE_MAX: Final = 1 << 24  # a constant for the compiler, which looks names of other modules up
assert _SIZE_MAX == PAYLOAD_SIZE_MAX


class BatchPacker:
    """Gathers payloads of one kind, and their ends if they differ in size, until they fill a block.

    ``codes`` are what its rows hold, of ``ROW_CODES``; ``pack`` is the packer of the kind.
    """

    def __init__(self, codes: str, pack: Callable[..., bytes]) -> None:
        self._codes = bytes(map(ROW_CODES.index, codes))
        self._pack = pack
        self._raw = BytesWriter()
        self._ends = BytesWriter()
        self._count: i64 = 0
        self._even = True  # all of one size so far: no ends are kept

    def add(self, rows: list[Any], start: int) -> int:
        """Pack rows from index ``start`` on; give the index behind the one that fills the block."""
        raw, codes, even = self._raw, self._codes, self._even
        index: i64 = start
        stop: i64 = len(rows)
        count: i64 = self._count
        each: i64 = COLUMNS_SIZE_PER_EVENT
        room: i64 = BLOCK_SIZE_TARGET - len(raw) - each * count
        first: i64 = len(raw) // count if count else -1
        while index < stop and room > 0:
            before: i64 = len(raw)
            row = rows[index]
            if not _write_row(raw, codes, row) or len(raw) - before > _SIZE_MAX:
                raw.truncate(before)
                raw.write(self._pack(*row))
            end: i64 = len(raw)
            if even and end - before != first:
                if count:
                    even = False
                    self._note_even_ends(first, count)
                first = end - before
            if not even:
                write_i32_le(self._ends, i32(end))
            room -= end - before + each
            count += 1
            index += 1
        self._count, self._even = count, even
        return index

    def _note_even_ends(self, size: i64, count: i64) -> None:
        """Keep the ends of ``count`` payloads that were of one size."""
        number: i64 = 1
        while number <= count:
            write_i32_le(self._ends, i32(size * number))
            number += 1

    def is_empty(self) -> bool:
        """Whether nothing has gathered."""
        return not self._count

    def is_full(self) -> bool:
        """Whether the payloads fill a block."""
        return len(self._raw) + COLUMNS_SIZE_PER_EVENT * self._count >= BLOCK_SIZE_TARGET

    def take(self) -> tuple[bytes, bytes, int]:
        """Give what has gathered, payloads and ends and how many, and begin anew."""
        found = self._raw.getvalue(), self._ends.getvalue(), int(self._count)
        self._raw.truncate(0)  # what has grown is kept
        self._ends.truncate(0)
        self._count, self._even = 0, True
        return found


def _write_row(raw: BytesWriter, codes: bytes, row: Any) -> bool:
    """Write the payload of a row; False, and perhaps a part of it, if something is not plain."""
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
