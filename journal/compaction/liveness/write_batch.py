"""WriteBatch to files, column by column."""

import struct
from array import array
from collections.abc import Iterable
from itertools import chain, repeat
from operator import add, ne, sub

from journal._compiled import ACCELERATED
from journal.compaction.liveness.dependency_graph import DependencyGraph
from journal.replay.effects.descriptors import POSITION_MAX

try:
    from journal.compaction.liveness.write_columns import decode_columns
except ImportError:  # without librt, which only the compiled build asks for
    NATIVE = False
else:
    NATIVE = ACCELERATED
"""Whether columns are read by compiled code; interpreted, that code would be slow."""

_WRITE = struct.Struct("<IQBI")

Columns = tuple[list[int], "array[int]", "array[int]", bytes]


class WriteBatch:
    """WriteBatch to files, in order; none is empty.

    They are written through ``fds``, from ``starts`` to before ``stops``, by the events ``seqs``;
    ``gaps`` has a 1 for each behind which the next does not begin where it stops.
    """

    __slots__ = ("fds", "gaps", "graph", "seqs", "starts", "stops")

    def __init__(self, columns: Columns, seqs: Iterable[int], graph: DependencyGraph) -> None:
        self.fds, self.starts, self.stops, self.gaps = columns
        self.seqs = array("q", seqs)
        self.graph = graph

    def is_contiguous(self, first: int, stop: int) -> bool:
        """Whether those from ``first`` to before ``behind`` leave nothing out."""
        return self.gaps.find(1, first, stop - 1) < 0

    def max_stop(self, first: int, stop: int) -> int:
        """The furthest that they come."""
        found: int = self.stops[stop - 1]
        if self.is_contiguous(first, stop):
            return found
        return max(self.stops[first:stop])


def decode_writes(raw: bytes, begins: list[int], ends: list[int]) -> Columns | None:
    """What FileDescriptorWrites write; None where they have to be looked at one by one.

    Their payloads are in ``raw``, from ``begins`` to before ``ends``.
    """
    if not begins:
        return None
    if NATIVE:
        native = decode_columns(raw, begins, ends)
        if native is None:
            return None
        return native[0], array("q", native[1]), array("q", native[2]), native[3]
    try:
        # as one list: of so many tuples that are there at once the collector would take notice
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
