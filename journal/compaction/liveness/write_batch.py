"""Writes to files, column by column."""

import struct
from array import array
from collections.abc import Iterable
from itertools import chain, repeat
from operator import add, ne, sub

from journal._compiled import ACCELERATED
from journal.compaction.liveness.dependency_graph import Ledger
from journal.replay.effects.descriptors import POSITION_MAX

try:
    from journal.compaction.liveness.write_columns import columns_of
except ImportError:  # without librt, which only the compiled build asks for
    NATIVE = False
else:
    NATIVE = ACCELERATED
"""Whether columns are read by compiled code; interpreted, that code would be slow."""

_WRITE = struct.Struct("<IQBI")

Columns = tuple[list[int], "array[int]", "array[int]", bytes]


class Writes:
    """Writes to files, in order; none is empty.

    They are written through ``fds``, from ``starts`` to before ``stops``, by the events ``seqs``;
    ``leaps`` has a 1 for each behind which the next does not begin where it stops.
    """

    __slots__ = ("fds", "leaps", "ledger", "seqs", "starts", "stops")

    def __init__(self, columns: Columns, seqs: Iterable[int], ledger: Ledger) -> None:
        self.fds, self.starts, self.stops, self.leaps = columns
        self.seqs = array("q", seqs)
        self.ledger = ledger

    def are_run(self, first: int, behind: int) -> bool:
        """Whether those from ``first`` to before ``behind`` leave nothing out."""
        return self.leaps.find(1, first, behind - 1) < 0

    def end(self, first: int, behind: int) -> int:
        """The furthest that they come."""
        found: int = self.stops[behind - 1]
        if self.are_run(first, behind):
            return found
        return max(self.stops[first:behind])


def columns(raw: bytes, begins: list[int], ends: list[int]) -> Columns | None:
    """What FileDescriptorWrites write; None where they have to be looked at one by one.

    Their payloads are in ``raw``, from ``begins`` to before ``ends``.
    """
    if not begins:
        return None
    if NATIVE:
        native = columns_of(raw, begins, ends)
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
    leaps = bytes(map(ne, stops, starts[1:]))
    return values[::4], array("q", starts), array("q", stops), leaps
