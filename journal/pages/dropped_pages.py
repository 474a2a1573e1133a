"""Resolution of references to pages of dropped events.

> Why not refuse to drop such events? The result is as usable as a journal without references, and
only the references to dropped events are replaced by the bytes.
"""

import os
from array import array
from bisect import bisect_right
from typing import Self

from journal.events import codec
from journal.events.memory import MemoryPages
from journal.format.block import Block
from journal.format.frame import Frame
from journal.log.reader import Reader
from journal.pages.resolver import PageResolver, get_references, has_references

_TAG = MemoryPages.tag


class DroppedPages:
    """Set of the MemoryPages events that are dropped, stored as sequence number ranges.

    Events are added in order. All events below ``floor`` are dropped.
    """

    def __init__(self, floor: int = 0) -> None:
        self._floor = floor
        self._firsts = array("Q")
        self._lasts = array("Q")
        self._is_open = False

    def add(self, seq: int, *, is_kept: bool) -> None:
        """Record whether a MemoryPages event is kept. Events come in order."""
        if is_kept:
            self._is_open = False
        elif self._is_open:
            self._lasts[-1] = seq
        else:
            self._firsts.append(seq)
            self._lasts.append(seq)
            self._is_open = True

    def __contains__(self, seq: int) -> bool:
        index = bisect_right(self._firsts, seq) - 1
        return seq < self._floor or (index >= 0 and seq <= self._lasts[index])

    def __bool__(self) -> bool:
        return bool(self._floor or self._firsts)

    def is_referenced_by(self, seq: int, payload: bytes) -> bool:
        """Return whether MemoryPages event ``seq`` refers to a page of a dropped event."""
        if not self or not has_references(payload):
            return False
        event = codec.decode(_TAG, payload)
        assert isinstance(event, MemoryPages)
        return any(seq - reference.back in self for reference in get_references(event))

    def find_referring_events(self, block: Block, mask: bytes | None = None) -> frozenset[int]:
        """Return the sequence numbers of the kept events of a block that refer to dropped pages.

        Record all MemoryPages events of the block. An event with a 0 in ``mask`` is dropped.
        """
        referring: set[int] = set()
        if _TAG not in block.tags:
            return frozenset()
        for index in block.select({_TAG}):
            seq, is_kept = block.seq(index), mask is None or bool(mask[index])
            if is_kept and self.is_referenced_by(seq, block.payload(index)):
                referring.add(seq)
            self.add(seq, is_kept=is_kept)
        return frozenset(referring)


class LazyPageResolver:
    """Page resolver of a journal that is opened at the first look-up; a context manager.

    > Why a reader of its own? An operation that copies a journal scans its files in order, and
    cannot look up an event by its sequence number.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path = path
        self._reader: Reader | None = None
        self.resolver = PageResolver(self._find)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._reader is not None:
            self._reader.close()

    def _find(self, seq: int) -> Frame:
        if self._reader is None:
            self._reader = Reader(self._path)
        return self._reader.frame(seq)
