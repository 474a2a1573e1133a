"""Batch of file writes, in columns."""

import struct
from array import array
from collections.abc import Iterable
from itertools import chain, repeat
from operator import add, ne, sub

from journal._compiled import IS_COMPILED
from journal.compaction.liveness.dependency_graph import DependencyGraph
from journal.replay.effects.descriptors import POSITION_MAX

try:
    from journal.compaction.liveness.write_columns import decode_columns
except ImportError:  # Only the compiled build requires librt.
    NATIVE = False
else:
    NATIVE = IS_COMPILED
"""Whether compiled code decodes the columns; the same code would be slow if interpreted."""

_WRITE = struct.Struct("<IQBI")

Columns = tuple[list[int], "array[int]", "array[int]", bytes]


class WriteBatch:
    """File writes in order; none is empty.

    Write ``i`` is event ``seqs[i]``, through ``fds[i]``, from ``starts[i]`` to before ``stops[i]``;
    ``gaps[i]`` is 1 if the next write does not begin at ``stops[i]``.
    """

    __slots__ = ("fds", "gaps", "graph", "seqs", "starts", "stops")

    def __init__(self, columns: Columns, seqs: Iterable[int], graph: DependencyGraph) -> None:
        self.fds, self.starts, self.stops, self.gaps = columns
        self.seqs = array("q", seqs)
        self.graph = graph

    def is_contiguous(self, first: int, stop: int) -> bool:
        """Return whether the writes from ``first`` to before ``stop`` leave no gaps."""
        return self.gaps.find(1, first, stop - 1) < 0

    def max_stop(self, first: int, stop: int) -> int:
        """Return the largest stop offset of these writes."""
        last_stop: int = self.stops[stop - 1]
        if self.is_contiguous(first, stop):
            return last_stop
        return max(self.stops[first:stop])


def decode_writes(raw: bytes, begins: list[int], ends: list[int]) -> Columns | None:
    """Return the columns of FileDescriptorWrite events; None if they must be replayed one by one.

    The payloads are ``raw[begins[i]:ends[i]]``.
    """
    if not begins:
        return None
    if NATIVE:
        native = decode_columns(raw, begins, ends)
        if native is None:
            return None
        return native[0], array("q", native[1]), array("q", native[2]), native[3]
    try:
        # The list is flat, because many tuples would trigger Python's garbage collector.
        values = list(chain.from_iterable(map(_WRITE.unpack_from, repeat(raw), begins)))
    except struct.error:
        return None
    starts, sizes = values[1::4], values[3::4]
    if max(values[2::4]) > 1 or 0 in sizes:
        return None
    if list(map(add, sizes, repeat(_WRITE.size))) != list(map(sub, ends, begins)):
        return None
    stops = list(map(add, starts, sizes))
    if max(stops) > POSITION_MAX:
        return None
    gaps = bytes(map(ne, stops, starts[1:]))
    return values[::4], array("q", starts), array("q", stops), gaps
