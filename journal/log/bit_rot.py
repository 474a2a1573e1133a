"""Search for the flipped bit of a block that was written, to tell bit rot from a torn write.

A torn write lacks whole sectors, or its end: these bytes read as zeros, or the file ends before
them. A block that is whole but for one bit elsewhere was written, so no crash explains it. The
rules are those of spec/format.md, "What a reader concludes".
"""

from journal.format import bit_search
from journal.format.bit_search import SearchBudget
from journal.format.block import BLOCK_HEADER_SIZE, BlockHeader, read_header
from journal.fs.byte_source import Bytes

SECTOR_SIZE = 1 << 9
"""Bytes that a disk writes completely or not at all."""
TORN_BODY_SIZE_MAX = 1 << 12
"""Largest body that is searched although a sector of its block reads as zeros.

Such a sector is nearly always a torn write, and the search of a large body takes long.
"""


def repair_header(
    data: Bytes, position: int, salt: int, offset: int, budget: SearchBudget
) -> BlockHeader | None:
    """Return the block header at ``position`` without its flipped bit, or None.

    ``offset`` is the offset that the header must state.
    """
    stop = position + BLOCK_HEADER_SIZE
    candidates = bit_search.find_block_headers(data, position, stop, position - offset)
    if next(candidates, None) != position:
        return None
    raw = data[position:stop]
    bit = bit_search.repair_block_header(raw, salt, offset, budget)
    if bit is None:
        return None
    header = read_header(bit_search.flip_bit(raw, bit), 0, salt, offset)
    if header is None or _may_be_torn(data, position, header, position + (bit >> 3)):
        return None
    return header


def repair_body(
    data: Bytes, position: int, header: BlockHeader, salt: int, budget: SearchBudget
) -> bytes:
    """Return the body of the block at ``position`` without its flipped bit; empty if not found."""
    start, end = position + BLOCK_HEADER_SIZE, position + header.size
    sectors = range(position & -SECTOR_SIZE, end, SECTOR_SIZE)
    if end - start > TORN_BODY_SIZE_MAX and any(
        _is_unwritten(data, position, header, max(sector, position)) for sector in sectors
    ):
        return b""
    body = data[start:end]
    bit = bit_search.repair_block_body(body, header, salt, budget)
    if bit is None or _may_be_torn(data, position, header, start + (bit >> 3)):
        return b""
    return bit_search.flip_bit(body, bit)


def _may_be_torn(data: Bytes, position: int, header: BlockHeader, at: int) -> bool:
    """Return whether the byte ``at`` of a block may never have been written."""
    lacks_end = not data[at : position + header.size].strip(b"\0")
    return lacks_end or _is_unwritten(data, position, header, at)


def _is_unwritten(data: Bytes, position: int, header: BlockHeader, at: int) -> bool:
    """Return whether the part of a block in the sector of the byte ``at`` reads as zeros."""
    start = max(position, at & -SECTOR_SIZE)
    stop = min(position + header.size, (at | (SECTOR_SIZE - 1)) + 1)
    return not data[start:stop].strip(b"\0")
