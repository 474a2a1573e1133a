"""Columns of a block: many small values as one run of bytes, and back, without a loop in Python.

What is the same for all events of a block costs nothing per event: one value stands for a column
of equal ones, and payloads of one size have no ends.
"""

import re
import struct
from bisect import bisect_left
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
"""A block is closed when its payloads and columns reach this size."""
PAGES_SIZE_TARGET = 240 << 10
"""The same where many payloads of one large size, as pages are, are added at once.

As large as a body may be in which a repair looks for a flipped bit.
"""
_LARGE_SIZE = 1 << 12
COLUMNS_SIZE_PER_EVENT = 1 + 4
"""Bytes that one event usually takes in the columns: its tag, and its end or its time."""

COLUMNS_SIZE_PER_EVENT_MAX = 4 + 1 + 4
"""The same where sizes and times differ, as those of events that are added one by one may."""

_TAGS = bytes(range(TAG_MIN, TAG_MAX + 1))
_SIZE_UNPACKED_MAX = 1 << 10
_FILTER_COUNT_MAX = 32
_SPARSE_FACTOR = 30
"""A search for each costs less than a look at all where less than one in so many is wanted."""
_SHAPE_CACHE_SIZE = 8
EQUAL_PAYLOADS_COUNT_MAX = 1 << 12
"""Pieces of one size whose places in a block are kept for the next block."""

T = TypeVar("T")


class Frames(NamedTuple):
    """What gathers in a block, column by column; times never go back.

    Tags or times of one value hold for all payloads.
    """

    tags: Sequence[int]
    payloads: Sequence[bytes]
    times: Sequence[int]


class PackedFrames(NamedTuple):
    """Frames as a block stores them: payloads end to end, and columns.

    One tag may stand for all. ``ends`` is empty when all payloads have one size, ``times`` when
    all frames have ``time_first``.
    """

    frame_count: int
    raw: bytes
    ends: bytes
    tags: bytes
    times: bytes
    time_first: int
    time_last: int


def pack(frames: Frames, time: int = 0) -> PackedFrames:
    """Give ``frames`` as a block stores them; ``time`` is that of no frames."""
    tags, payloads, times = frames
    first, last = (times[0], times[-1]) if times else (time, time)
    deltas = pack_u32(list(map(sub, times, repeat(first)))) if first != last else b""
    sizes = list(map(len, payloads))
    return PackedFrames(
        len(sizes), b"".join(payloads), pack_ends(sizes), bytes(tags), deltas, first, last
    )


def pack_block(
    tags: bytes, payloads: Sequence[bytes], start: int, time: int
) -> tuple[PackedFrames, int]:
    """Pack the payloads from ``start`` on that fill a block; give the index behind them, too.

    ``tags`` are one for each of ``payloads``, or one for all. Raises as ``find_block_end`` does.
    """
    sizes = _measure_block(payloads, start)
    stop = start + len(sizes)
    raw = b"".join(payloads[start:stop])
    column = tags if len(tags) == 1 else tags[start:stop]
    return PackedFrames(len(sizes), raw, pack_ends(sizes), column, b"", time, time), stop


def find_block_end(payloads: Sequence[bytes], start: int = 0) -> int:
    """Give the index behind the payload that fills a block begun with ``payloads[start]``.

    At most the number of payloads: then the block is not filled. Raises LimitExceeded for a payload
    that no block takes.
    """
    return start + len(_measure_block(payloads, start))


def _measure_block(payloads: Sequence[bytes], start: int) -> list[int]:
    found: list[int] = []
    count = len(payloads)
    room = BLOCK_SIZE_TARGET
    if start < count and len(payloads[start]) >= _LARGE_SIZE:
        size = len(payloads[start])
        sizes = list(map(len, payloads[start : start + -(-PAGES_SIZE_TARGET // size)]))
        if size <= PAYLOAD_SIZE_MAX and sizes.count(size) == len(sizes):
            return sizes
    while room > 0 and start < count:
        # most payloads are like their neighbours: see first how many of this size there is room for
        size = len(payloads[start]) + COLUMNS_SIZE_PER_EVENT
        sizes = list(map(len, payloads[start : start + -(-room // size)]))
        if sizes.count(sizes[0]) == len(sizes):
            spent = len(sizes) * size
        else:
            sums = list(accumulate(map(COLUMNS_SIZE_PER_EVENT.__add__, sizes)))
            taken = bisect_left(sums, room) + 1
            sizes, spent = sizes[:taken], sums[min(taken, len(sums)) - 1]
        if spent > PAYLOAD_SIZE_MAX and max(sizes) > PAYLOAD_SIZE_MAX:
            raise LimitExceeded(f"a payload of {max(sizes)} bytes cannot be written", 0)
        found = found + sizes if found else sizes
        start, room = start + len(sizes), room - spent
    return found


def pack_ends(sizes: Sequence[int]) -> bytes:
    """The column of ends of payloads of these sizes; empty when it is one size."""
    if not sizes or sizes.count(sizes[0]) == len(sizes):
        return b""
    return pack_u32(list(accumulate(sizes)))


def pack_u32(values: Sequence[int]) -> bytes:
    """A column of these values."""
    return struct.pack(f"<{len(values)}I", *values)


def read_u32(data: bytes, position: int, count: int) -> tuple[int, ...]:
    """The values of the column at ``position``."""
    return struct.unpack_from(f"<{count}I", data, position)


def is_rising(values: Iterable[int]) -> bool:
    """Whether no value is below the one before it."""
    values = list(values)
    return values == sorted(values)


def are_ends_valid(ends: bytes, size: int) -> bool:
    """Whether the ends of payloads never go back, and the last is ``size``.

    What no event has (the payload of an index) has no ends to fit.
    """
    values = read_u32(ends, 0, len(ends) // 4)
    return not values or (values[-1] == size and is_rising(values))


def split_payloads(raw: bytes, size: int, ends: bytes, count: int) -> list[bytes]:
    """Cut ``count`` payloads at their ends, which fit, or into pieces of one size.

    They are the first ``size`` bytes of ``raw``.
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
    # a stream and a struct cut without making a slice object for each
    return list(map(BytesIO(raw).read, sizes))


def pick(values: Sequence[T], indices: Sequence[int]) -> Sequence[T]:
    """The values at ``indices``."""
    if len(indices) < 2:
        return [values[index] for index in indices]
    found: Sequence[T] = itemgetter(*indices)(values)
    return found


def make_tag_finder(tags: Iterable[int]) -> Callable[[bytes], list[int]]:
    """A function of a column of tags to the indices where one of ``tags`` stands."""
    return _make_tag_finder(bytes(sorted(tags)))


@lru_cache(_FILTER_COUNT_MAX)
def _make_tag_finder(tags: bytes) -> Callable[[bytes], list[int]]:
    if not tags:
        return lambda column: []
    matches = re.compile(b"[%s]" % re.escape(tags), re.DOTALL).finditer
    return lambda column: [match.start() for match in matches(column)]


def find_ones(mask: bytes) -> list[int]:
    """The indices where a column of 0 and 1 has 1."""
    if mask.count(1) * _SPARSE_FACTOR > len(mask):
        return list(compress(range(len(mask)), mask))
    found, at = [], mask.find(1)
    while at >= 0:
        found.append(at)
        at = mask.find(1, at + 1)
    return found


def make_tag_masker(tags: Iterable[int]) -> Callable[[bytes], bytes]:
    """A function of a column of tags to one of 1 where one of ``tags`` stands, and 0 elsewhere."""
    return _make_tag_masker(bytes(sorted(tags)))


@lru_cache(_FILTER_COUNT_MAX)
def _make_tag_masker(tags: bytes) -> Callable[[bytes], bytes]:
    table = bytes(tag in tags for tag in range(256))
    return lambda column: column.translate(table)


def split_selected(raw: bytes, size: int, mask: bytes) -> list[bytes]:
    """The pieces of one size, up to ``EQUAL_PAYLOADS_COUNT_MAX``, for which ``mask`` has no 0."""
    places = tuple(compress(_equal_slices(size, len(mask)), mask))
    if not places:
        return []
    found = itemgetter(*places)(raw)  # compiled, bytes take no slice that is a value
    return list(found) if len(places) > 1 else [found]


@lru_cache(_SHAPE_CACHE_SIZE)
def _equal_slices(size: int, count: int) -> list[slice]:
    return [slice(size * index, size * (index + 1)) for index in range(count)]


@lru_cache(_SHAPE_CACHE_SIZE)
def _make_splitter(size: int, count: int) -> Callable[[bytes], tuple[bytes, ...]]:
    return struct.Struct(f"{size}s" * count).unpack_from


def pack_tags(tags: Iterable[int]) -> bytes:
    """Give a column of tags that events may have."""
    with suppress(ValueError):  # what no byte holds
        # what is no list may be a buffer, whose bytes are not its values
        column = bytes(tags if isinstance(tags, bytes | list | tuple) else iter(tags))
        if not column.translate(None, _TAGS):
            return column
    raise OptionError(f"an event's tag is 1 to {TAG_MAX}")
