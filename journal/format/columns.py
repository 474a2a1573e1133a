"""Columns of a block: conversion of many small values to bytes and back, without Python loops.

A property that all events of a block share takes no space per event: one value replaces a column
of equal values, and payloads of one size have no column of ends.
"""

import re
import struct
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from functools import lru_cache
from io import BytesIO
from itertools import accumulate, compress, repeat
from operator import itemgetter, sub
from typing import NamedTuple, TypeVar

from journal.errors import LimitExceeded, OptionError
from journal.format.frame import PAYLOAD_SIZE_MAX, TAG_MAX, TAG_MIN

BLOCK_SIZE_TARGET = 1 << 16
"""Size of payloads and columns at which a block is closed."""
PAGES_SIZE_TARGET = 240 << 10
"""Size at which a block is closed if many payloads of one large size (pages) are added at once.

It equals the largest body in which a repair searches for a flipped bit.
"""
_LARGE_SIZE = 1 << 12
COLUMNS_SIZE_PER_EVENT = 1 + 4
"""Bytes that one event usually takes in the columns: a tag, and an end or a time."""

COLUMNS_SIZE_PER_EVENT_MAX = 4 + 1 + 4
"""Bytes of one event in the columns if sizes and times differ, as with single appends."""

PENDING_COUNT_MAX = 1 << 8
"""Fewer events than this wait for the next block instead of filling a block of their own."""

_TAGS = bytes(range(TAG_MIN, TAG_MAX + 1))
_SIZE_UNPACKED_MAX = 1 << 10
_FILTER_COUNT_MAX = 32
_SPARSE_FACTOR = 30
"""Single searches are cheaper than a full scan if fewer than one in this many values match."""
_SHAPE_CACHE_SIZE = 8
EQUAL_PAYLOADS_COUNT_MAX = 1 << 12
"""Maximum payloads of one size whose slices in a block are cached for the next block."""

_pack_nothing = struct.Struct("0s" * PENDING_COUNT_MAX).pack
"""Function that accepts this many bytes or bytearrays, and no other values."""

T = TypeVar("T")


class Frames(NamedTuple):
    """Events of a block as columns; times never decrease.

    A single tag or a single time applies to all payloads.
    """

    tags: Sequence[int]
    payloads: Sequence[bytes]
    times: Sequence[int]


class PackedFrames(NamedTuple):
    """Frames as a block stores them: concatenated payloads, and columns.

    A single tag may apply to all payloads. ``ends`` is empty if all payloads have one size,
    ``times`` if all frames have ``time_first``.
    """

    frame_count: int
    raw: bytes
    ends: bytes
    tags: bytes
    times: bytes
    time_first: int
    time_last: int


def pack(frames: Frames, time: int = 0) -> PackedFrames:
    """Pack ``frames`` as a block stores them. ``time`` applies if there are no frames."""
    tags, payloads, times = frames
    first, last = (times[0], times[-1]) if times else (time, time)
    deltas = pack_u32(list(map(sub, times, repeat(first)))) if first != last else b""
    sizes = list(map(len, payloads))
    return PackedFrames(
        len(sizes), b"".join(payloads), pack_ends(sizes), bytes(tags), deltas, first, last
    )


def measure_payloads(payloads: Sequence[bytes]) -> list[int]:
    """Return the size of each payload, or one size if it is that of all.

    Raises LimitExceeded for a payload that is too large, and TypeError for one that is not bytes.
    Bytearrays may pass among ``PENDING_COUNT_MAX`` payloads or more: ``freeze`` converts them.
    """
    sizes = list(map(len, payloads))
    count = len(sizes)
    if count < PENDING_COUNT_MAX:
        if list(map(type, payloads)).count(bytes) != count:
            raise TypeError("a payload is not bytes")
    else:
        try:
            for start in range(0, count - PENDING_COUNT_MAX, PENDING_COUNT_MAX):
                _pack_nothing(*payloads[start : start + PENDING_COUNT_MAX])
            _pack_nothing(*payloads[-PENDING_COUNT_MAX:])
        except struct.error as error:
            raise TypeError("a payload is not bytes") from error
    if count and sizes.count(sizes[0]) == count:
        sizes = [sizes[0]]
    if sum(sizes) > PAYLOAD_SIZE_MAX and max(sizes) > PAYLOAD_SIZE_MAX:
        raise LimitExceeded(
            f"event payload has {max(sizes)} bytes, but the limit is {PAYLOAD_SIZE_MAX}", 0
        )
    return sizes


def pack_block(
    tags: bytes, payloads: Sequence[bytes], sizes: list[int], start: int, time: int
) -> tuple[PackedFrames, int]:
    """Pack the payloads from index ``start`` that fill a block; also return the index after them.

    ``tags`` and ``sizes`` have one value for each of ``payloads``, or one for all.
    """
    if len(sizes) == 1:
        count = min(_count_in_block(sizes[0]), len(payloads) - start)
        size, ends = count * sizes[0], b""
    else:
        own = _measure_block(sizes, start)
        count, ends = len(own), pack_ends(own)
        size = int.from_bytes(ends[-4:], "little") if ends else count * own[0]
    stop = start + count
    raw = b"".join(payloads[start:stop])
    if len(raw) != size:
        raise OptionError("a payload has changed while it was appended")
    column = tags if len(tags) == 1 else tags[start:stop]
    return PackedFrames(count, raw, ends, column, b"", time, time), stop


def find_block_end(payloads: Sequence[bytes], start: int = 0) -> int:
    """Return the index after the payload that fills a block that starts with ``payloads[start]``.

    The result is the number of payloads if they do not fill a block. Raises as
    ``measure_payloads``.
    """
    sizes = measure_payloads(payloads)
    if len(sizes) == 1:
        return min(start + _count_in_block(sizes[0]), len(payloads))
    return start + len(_measure_block(sizes, start))


def _count_in_block(size: int) -> int:
    """Return how many payloads of one size fill a block."""
    if size >= _LARGE_SIZE:
        return -(-PAGES_SIZE_TARGET // size)
    return -(-BLOCK_SIZE_TARGET // (size + COLUMNS_SIZE_PER_EVENT))


def _measure_block(all_sizes: list[int], start: int) -> list[int]:
    """Return the sizes of the payloads from index ``start`` that fill a block."""
    block_sizes: list[int] = []
    count = len(all_sizes)
    room = BLOCK_SIZE_TARGET
    if start < count and all_sizes[start] >= _LARGE_SIZE:
        size = all_sizes[start]
        sizes = all_sizes[start : start + _count_in_block(size)]
        if sizes.count(size) == len(sizes):
            return sizes
    while room > 0 and start < count:
        # Neighbouring payloads often have one size, so count first how many of this size fit.
        size = all_sizes[start] + COLUMNS_SIZE_PER_EVENT
        sizes = all_sizes[start : start + -(-room // size)]
        if sizes.count(sizes[0]) == len(sizes):
            used = len(sizes) * size
        else:
            fitting, used = _count_fitting(list(accumulate(sizes)), room)
            sizes = sizes[:fitting]
        block_sizes = block_sizes + sizes if block_sizes else sizes
        start, room = start + len(sizes), room - used
    return block_sizes


def _count_fitting(sums: list[int], room: int) -> tuple[int, int]:
    """Return how many payloads with these running sums of sizes fill ``room``, and what they use.

    A binary search adds the columns to a few sums only.
    """
    low, high = 0, len(sums) - 1
    while low < high:
        middle = (low + high) // 2
        if sums[middle] + COLUMNS_SIZE_PER_EVENT * (middle + 1) < room:
            low = middle + 1
        else:
            high = middle
    return low + 1, sums[low] + COLUMNS_SIZE_PER_EVENT * (low + 1)


def freeze(payloads: Sequence[bytes]) -> Sequence[bytes]:
    """Return payloads whose values cannot change: bytearrays become bytes."""
    if list(map(type, payloads)).count(bytes) == len(payloads):
        return payloads
    return list(map(bytes, payloads))


def pack_ends(sizes: Sequence[int]) -> bytes:
    """Pack the column of ends of payloads with these sizes; empty if all have one size."""
    if not sizes or sizes.count(sizes[0]) == len(sizes):
        return b""
    return pack_u32(list(accumulate(sizes)))


def pack_u32(values: Sequence[int]) -> bytes:
    """Pack a column of 32-bit values."""
    return struct.pack(f"<{len(values)}I", *values)


def read_u32(data: bytes, position: int, count: int) -> tuple[int, ...]:
    """Return the values of the column at ``position``."""
    return struct.unpack_from(f"<{count}I", data, position)


def is_rising(values: Iterable[int]) -> bool:
    """Return whether no value is below its predecessor."""
    values = list(values)
    return values == sorted(values)


def are_ends_valid(ends: bytes, size: int) -> bool:
    """Return whether the ends of payloads never decrease and the last end is ``size``.

    An empty column is valid: a block without events may have a payload, which is an index.
    """
    values = read_u32(ends, 0, len(ends) // 4)
    return not values or (values[-1] == size and is_rising(values))


def split_payloads(raw: bytes, size: int, ends: bytes, count: int) -> list[bytes]:
    """Split the first ``size`` bytes of ``raw`` into ``count`` payloads.

    ``ends`` is a valid column of ends; if it is empty, all payloads have one size.
    """
    if count < 2:
        return [raw[:size]] if count else []
    if ends:
        values = read_u32(ends, 0, count)
        sizes: Iterable[int] = map(sub, values, (0, *values))
    elif size <= _SIZE_UNPACKED_MAX * count:
        return list(_make_splitter(size // count, count)(raw))
    else:
        sizes = repeat(size // count, count)
    # A stream or a struct splits bytes without a slice object for each payload.
    return list(map(BytesIO(raw).read, sizes))


def pick(values: Sequence[T], indices: Sequence[int]) -> Sequence[T]:
    """Return the values at ``indices``."""
    if len(indices) < 2:
        return [values[index] for index in indices]
    values_at: Sequence[T] = itemgetter(*indices)(values)
    return values_at


def make_tag_finder(tags: Iterable[int]) -> Callable[[bytes], list[int]]:
    """Return a function from a column of tags to the indices of ``tags`` in it."""
    return _make_tag_finder(bytes(sorted(tags)))


@lru_cache(_FILTER_COUNT_MAX)
def _make_tag_finder(tags: bytes) -> Callable[[bytes], list[int]]:
    if not tags:
        return lambda column: []
    matches = re.compile(b"[%s]" % re.escape(tags), re.DOTALL).finditer
    return lambda column: [match.start() for match in matches(column)]


def find_ones(mask: bytes) -> list[int]:
    """Return the indices of 1 in a column of 0 and 1."""
    if mask.count(1) * _SPARSE_FACTOR > len(mask):
        return list(compress(range(len(mask)), mask))
    indices, index = [], mask.find(1)
    while index >= 0:
        indices.append(index)
        index = mask.find(1, index + 1)
    return indices


def make_tag_masker(tags: Iterable[int]) -> Callable[[bytes], bytes]:
    """Return a function from a column of tags to a mask: 1 for each of ``tags``, 0 otherwise."""
    return _make_tag_masker(bytes(sorted(tags)))


@lru_cache(_FILTER_COUNT_MAX)
def _make_tag_masker(tags: bytes) -> Callable[[bytes], bytes]:
    table = bytes(tag in tags for tag in range(256))
    return lambda column: column.translate(table)


def split_selected(raw: bytes, size: int, mask: bytes) -> list[bytes]:
    """Return the pieces of ``raw`` of one size for which ``mask`` is not 0.

    ``mask`` has at most ``EQUAL_PAYLOADS_COUNT_MAX`` bytes.
    """
    slices = tuple(compress(_equal_slices(size, len(mask)), mask))
    if not slices:
        return []
    # In compiled code, bytes cannot be indexed by a slice object.
    pieces = itemgetter(*slices)(raw)
    return list(pieces) if len(slices) > 1 else [pieces]


@lru_cache(_SHAPE_CACHE_SIZE)
def _equal_slices(size: int, count: int) -> list[slice]:
    return [slice(size * index, size * (index + 1)) for index in range(count)]


@lru_cache(_SHAPE_CACHE_SIZE)
def _make_splitter(size: int, count: int) -> Callable[[bytes], tuple[bytes, ...]]:
    return struct.Struct(f"{size}s" * count).unpack_from


def pack_tags(tags: Iterable[int]) -> bytes:
    """Pack a column of tags. Raises OptionError for a tag that no event can have."""
    with suppress(TypeError, ValueError):  # A tag that is no integer, or does not fit in a byte.
        # Other iterables may be buffers, whose bytes are not their values.
        values = tags if isinstance(tags, bytes | list | tuple) else list(tags)
        column = bytes(values)
        has_flag = 1 in column and any(tag is True for tag in values)
        if not has_flag and not column.translate(None, _TAGS):
            return column
    raise OptionError(f"event tags must be {TAG_MIN} to {TAG_MAX}")
