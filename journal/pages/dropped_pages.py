"""Leaving events of memory out of a journal: pages that others name are given where they are named.

> Why not refuse it? What is left is then as good as it would be without references, and only those
to what is gone are replaced.
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
    """The events of memory that are left out, in order: from where to where, others apart.

    ``floor`` is a number in front of which all are.
    """

    def __init__(self, floor: int = 0) -> None:
        self._floor = floor
        self._firsts = array("Q")
        self._lasts = array("Q")
        self._is_open = False

    def add(self, seq: int, *, is_kept: bool) -> None:
        """Take note of an event of memory."""
        if is_kept:
            self._is_open = False
        elif self._is_open:
            self._lasts[-1] = seq
        else:
            self._firsts.append(seq)
            self._lasts.append(seq)
            self._is_open = True

    def __contains__(self, seq: int) -> bool:
        at = bisect_right(self._firsts, seq) - 1
        return seq < self._floor or (at >= 0 and seq <= self._lasts[at])

    def __bool__(self) -> bool:
        return bool(self._floor or self._firsts)

    def is_referenced_by(self, seq: int, payload: bytes) -> bool:
        """Whether event number ``seq``, one of memory, names a page of what is left out."""
        if not self or not has_references(payload):
            return False
        event = codec.decode(_TAG, payload)
        assert isinstance(event, MemoryPages)
        return any(seq - reference.back in self for reference in get_references(event))

    def find_referring_events(self, block: Block, mask: bytes | None = None) -> frozenset[int]:
        """The numbers of the events of a block that name what is left out.

        Those with a 0 in ``mask`` are left out themselves.
        """
        found: set[int] = set()
        if _TAG not in block.tags:
            return frozenset()
        for index in block.select({_TAG}):
            seq, is_kept = block.seq(index), mask is None or bool(mask[index])
            if is_kept and self.is_referenced_by(seq, block.payload(index)):
                found.add(seq)
            self.add(seq, is_kept=is_kept)
        return frozenset(found)


class LazyPageResolver:
    """Looks up pages in a journal, which is opened when the first is asked for; a context manager.

    > Why a reader of its own? What copies a journal walks through its files, and finds no numbers.
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
