"""Search for the single bit flip that makes a hash match again.

Bits are numbered from 0, the lowest bit of byte 0 first. A match is certain: a wrong flip does not
match a 64-bit hash by chance.
"""

from collections.abc import Iterator

from xxhash import xxh3_64, xxh3_64_intdigest

from journal.errors import FormatError
from journal.format import segment_header
from journal.format.block import BLOCK_HEADER_SIZE, BLOCK_MAGIC, BlockHeader, find_flaw, read_header
from journal.format.segment_header import SEGMENT_HEADER_SIZE, SEGMENT_MAGIC
from journal.fs.byte_source import Bytes

BODY_SIZE_MAX = 1 << 18
"""Default size limit of searched bodies. Time grows with the square of the size, to 4 s here."""
SEARCH_SIZE_MAX = 1 << 42
"""Total bytes that all searches of one repair may hash: some minutes."""

_CHUNK_SIZE = 1 << 12
_PREFIX_SIZE_MIN = 1 << 15
"""Below this size, hashing the whole body is cheaper than copying the hash state of its prefix."""
_HEADER_BITS = 8 * BLOCK_HEADER_SIZE
_HASH_SIZE = 8
OFFSET_AT = 64
"""Position in a block header of the block's own offset."""
_WINDOW_SIZE = 1 << 16
_HASH_COST = 1 << 12
"""Cost of one hash call, in bytes hashed in the same time."""
_BITS = (1, 2, 4, 8, 16, 32, 64, 128)
assert len(BLOCK_MAGIC) == len(SEGMENT_MAGIC) == 8


def search_cost(count: int, size: int) -> int:
    """Return the cost of ``count`` hashes of ``size`` bytes, in bytes."""
    return count * (size + _HASH_COST)


class SearchBudget:
    """Limit on the hashing of a repair, which deliberate damage could otherwise make very long."""

    def __init__(self, size: int = SEARCH_SIZE_MAX) -> None:
        self.remaining = size

    def spend(self, count: int, size: int) -> bool:
        """Subtract ``count`` hashes of ``size`` bytes. Returns False if the budget is too small."""
        cost = search_cost(count, size)
        if cost > self.remaining:
            return False
        self.remaining -= cost
        return True


def flip_bit(data: bytes, bit: int) -> bytes:
    """Return ``data`` with one bit inverted."""
    flipped = bytearray(data)
    flipped[bit >> 3] ^= 1 << (bit & 7)
    return bytes(flipped)


def repair_block_header(raw: bytes, salt: int, offset: int, work: SearchBudget) -> int | None:
    """Return the bit whose flip makes ``raw`` a valid block header at ``offset``.

    Returns None if there is no such bit, or if the header is already valid.
    """
    hashed = len(raw) - _HASH_SIZE
    if len(raw) != BLOCK_HEADER_SIZE or not work.spend(_HEADER_BITS, BLOCK_HEADER_SIZE):
        return None
    bit = _search_hash(raw, salt)
    if bit is None:
        digest = int.from_bytes(raw[hashed:], "little")
        bit = _search(bytearray(raw[:hashed]), digest, salt)
    return bit if bit is not None and _is_header(flip_bit(raw, bit), salt, offset) else None


def repair_block_body(
    body: bytes, header: BlockHeader, salt: int, work: SearchBudget, size_max: int = BODY_SIZE_MAX
) -> int | None:
    """Return the bit whose flip makes ``body`` match the hash in its header.

    Returns None if there is no such bit, if the body already matches or is cut short, or if it is
    larger than ``size_max``.
    """
    if len(body) != header.payload_size + header.columns_size or len(body) > size_max:
        return None
    if not work.spend(8 * len(body), len(body) >> (len(body) >= _PREFIX_SIZE_MIN)):
        return None
    if xxh3_64_intdigest(body, salt) == header.body_hash:
        return None
    return _search(bytearray(body), header.body_hash, salt)


def repair_segment_header(raw: bytes, work: SearchBudget) -> int | None:
    """Return the bit whose flip makes ``raw`` a valid segment header.

    Returns None if there is no such bit, or if the header is already valid.
    """
    if len(raw) != SEGMENT_HEADER_SIZE or not work.spend(8 * len(raw), len(raw)):
        return None
    if _bit_distance(raw[:8], SEGMENT_MAGIC) > 1 or _is_segment_header(raw):
        return None
    # The salt in the header seeds the header's own hash, so each flip needs a complete check.
    bits = range(8 * SEGMENT_HEADER_SIZE)
    return next((bit for bit in bits if _is_segment_header(flip_bit(raw, bit))), None)


def find_block_headers(data: Bytes, start: int, stop: int, base: int) -> Iterator[int]:
    """Yield the positions in a range of block headers with at most one flipped bit.

    ``base`` is the start of the segment: a header stores its offset relative to it.
    """
    for position in _find_magics(data, BLOCK_MAGIC, start, stop):
        raw = data[position : position + BLOCK_HEADER_SIZE]
        offset = int.from_bytes(raw[OFFSET_AT : OFFSET_AT + 8], "little")
        is_whole = len(raw) == BLOCK_HEADER_SIZE and (position - base) % 8 == 0
        if is_whole and (offset ^ (position - base)).bit_count() <= 1:
            yield position


def find_segment_headers(data: Bytes, start: int, stop: int) -> Iterator[int]:
    """Yield the positions in a range of segment magics with at most one flipped bit."""
    return _find_magics(data, SEGMENT_MAGIC, start, stop)


def _find_magics(data: Bytes, magic: bytes, start: int, stop: int) -> Iterator[int]:
    """Yield, in order, the positions of ``magic`` with at most one flipped bit.

    One half of the magic is then unchanged and can be searched at memory speed.
    """
    half = len(magic) // 2
    for begin in range(start, stop, _WINDOW_SIZE):
        window = data[begin : min(begin + _WINDOW_SIZE + len(magic) - 1, stop)]
        positions = {at for at in _find_all(window, magic[:half])}
        positions |= {at - half for at in _find_all(window, magic[half:])}
        for at in sorted(positions):
            is_near = (
                0 <= at < _WINDOW_SIZE and _bit_distance(window[at : at + len(magic)], magic) <= 1
            )
            if is_near:
                yield begin + at


def _find_all(data: bytes, needle: bytes) -> Iterator[int]:
    at = data.find(needle)
    while at >= 0:
        yield at
        at = data.find(needle, at + 1)


def _bit_distance(left: bytes, right: bytes) -> int:
    """Return the number of different bits; all bits if the lengths differ."""
    if len(left) != len(right):
        return 8 * len(right)
    return (int.from_bytes(left, "little") ^ int.from_bytes(right, "little")).bit_count()


def _search_hash(raw: bytes, salt: int) -> int | None:
    """Return the flipped bit if it is in the hash at the end of ``raw``."""
    hashed = len(raw) - _HASH_SIZE
    digest = int.from_bytes(raw[hashed:], "little")
    difference = digest ^ xxh3_64_intdigest(raw[:hashed], salt)
    return 8 * hashed + difference.bit_length() - 1 if difference.bit_count() == 1 else None


def _is_header(raw: bytes, salt: int, offset: int) -> bool:
    header = read_header(raw, 0, salt, offset)
    return header is not None and find_flaw(header, is_sealed=True) is None


def _is_segment_header(raw: bytes) -> bool:
    try:
        segment_header.read(raw, 0)
    except FormatError:
        return False
    return True


def _search(data: bytearray, digest: int, salt: int) -> int | None:
    """Flip each bit in turn until the hash of ``data`` is ``digest``."""
    if len(data) < _PREFIX_SIZE_MIN:
        return _search_whole(data, digest, salt)
    prefix = xxh3_64(seed=salt)
    view = memoryview(data)
    for start in range(0, len(data), _CHUNK_SIZE):
        stop = min(start + _CHUNK_SIZE, len(data))
        bit = _search_chunk(data, view[start:], start, stop, prefix, digest)
        if bit is not None:
            return bit
        prefix.update(view[start:stop])
    return None


def _search_whole(data: bytearray, digest: int, salt: int) -> int | None:
    for at, byte in enumerate(data):
        for bit, mask in enumerate(_BITS):
            data[at] = byte ^ mask
            if xxh3_64_intdigest(data, salt) == digest:
                return 8 * at + bit
        data[at] = byte
    return None


def _search_chunk(
    data: bytearray, rest: memoryview, start: int, stop: int, prefix: xxh3_64, digest: int
) -> int | None:
    """Search from ``start`` to ``stop``. ``prefix`` is the hash state of the data before them."""
    copy = prefix.copy
    for at in range(start, stop):
        byte = data[at]
        for bit, mask in enumerate(_BITS):
            data[at] = byte ^ mask
            state = copy()
            state.update(rest)
            if state.intdigest() == digest:
                return 8 * at + bit
        data[at] = byte
    return None
